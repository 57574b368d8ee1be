# -*- coding:utf-8 -*-
"""An APIG trigger: greets by the name in a JSON body, a query parameter, or not at all."""
import base64
import json


def handler(event, context):
    logger = context.getLogger()
    body = event.get("body") or ""
    if event.get("isBase64Encoded") and body:
        body = base64.b64decode(body).decode("utf-8")
    query = event.get("queryStringParameters") or {}
    try:
        name = json.loads(body)["name"] if body else query.get("name", "nobody")
    except ValueError as e:
        logger.error("bad body: %s", e)
        return _response(400, {"error": "body is not JSON"})
    logger.info("%s %s for %s", event["httpMethod"], event["path"], event["requestContext"]["requestId"])
    return _response(200, {"message": u"hello, %s" % name, "greeting": context.getUserData("GREETING", "hi")})


def _response(status_code, content):
    return {
        "statusCode": status_code,
        "isBase64Encoded": False,
        "headers": {"Content-Type": "application/json"},
        "body": json.dumps(content, sort_keys=True),
    }
