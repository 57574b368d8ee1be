"""A function that imports numpy."""

import numpy  # noqa: F401  # to be imported is all that it is for


def echo(event, context):
    """Give back the event; the import is what is measured."""
    return event
