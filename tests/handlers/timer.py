"""A timer trigger: user_event is what the user typed, JSON or not."""
import json


def handler(event, context):
    user_event = event.get("user_event", "")
    try:
        task = json.loads(user_event)
    except ValueError:
        task = {"action": user_event}
    print("timer %s fired at %s" % (event["trigger_name"], event["time"]))
    return {"action": task["action"], "days": task.get("days", 7)}
