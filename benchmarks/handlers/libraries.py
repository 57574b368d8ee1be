"""A function whose imports take longer than its work; it runs on 2.7 and on 3.x."""

import decimal  # noqa: F401
import email.message  # noqa: F401
import json  # noqa: F401
import logging.handlers  # noqa: F401
import sqlite3  # noqa: F401
import unittest  # noqa: F401
import xml.dom.minidom  # noqa: F401


def echo(event, context):
    """Give back the event; the modules are what is measured."""
    return event
