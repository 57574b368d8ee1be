# -*- coding: utf-8 -*-
"""Greets whoever the event names. The greeting is user data of the function: GREETING."""
import sys


def handler(event, context):
    name = event.get("name", "world")
    context.getLogger().info("greeting %s", name)
    print("print() goes to the log as well")
    return {
        "message": "%s, %s!" % (context.getUserData("GREETING", "Hello"), name),
        "python": "%d.%d.%d" % sys.version_info[:3],
    }
