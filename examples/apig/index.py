# -*- coding: utf-8 -*-
"""Behind an API Gateway trigger: answers a request. The gateway wants exactly these four keys, the body a string."""
import base64
import json


def handler(event, context):
    body = event.get("body") or ""
    if event.get("isBase64Encoded"):
        body = base64.b64decode(body).decode("utf-8")
    who = json.loads(body).get("name") if body else None
    context.getLogger().info("%s %s", event["httpMethod"], event["path"])

    if not who:
        return answer(400, {"error": "the body must be a JSON object with a name"})
    return answer(200, {"greeting": "Hello, " + who, "stage": event["requestContext"]["stage"]})


def answer(status, content):
    return {
        "statusCode": status,
        "headers": {"Content-Type": "application/json"},
        "body": json.dumps(content, sort_keys=True),
        "isBase64Encoded": False,
    }
