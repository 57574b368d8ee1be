"""The echo for servers that hand over a web request in the place of an event."""

import index


def echo_request(request):
    """Flask turns the dictionary into JSON, as it does for its users."""
    return index.echo(request.get_json(), None)
