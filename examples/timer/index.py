# -*- coding: utf-8 -*-
"""Fired by a timer. The initializer runs once for each instance, and a warm start finds the module's globals as they were."""
import json

counts = {}


def initializer(context):
    counts["fired"] = 0
    context.getLogger().info("the instance starts")


def handler(event, context):
    counts["fired"] += 1
    job = json.loads(event["user_event"])
    context.getLogger().info("%s fired %s", event["trigger_name"], job["report"])
    return {"report": job["report"], "fired": counts["fired"]}
