"""A function that imports numpy."""

import numpy  # noqa: F401


def echo(event, context):
    """Give back the event; the import is what is measured."""
    return event
