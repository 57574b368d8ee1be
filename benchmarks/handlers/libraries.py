"""A function whose imports take longer than its work; it runs on 2.7 and on 3.x."""

# ruff: noqa: F401  # to be imported is all that they are for

import decimal
import email.message
import json
import logging.handlers
import sqlite3
import unittest
import xml.dom.minidom


def echo(event, context):
    """Give back the event; the modules are what is measured."""
    return event
