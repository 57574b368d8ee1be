"""An LTS trigger: base64 of JSON, whose "logs" is JSON text again."""
import base64
import json


def handler(event, context):
    data = json.loads(base64.b64decode(event["lts"]["data"]).decode("utf-8"))
    logs = json.loads(data["logs"])
    warnings = [entry for entry in logs if "[WARN]" in entry["message"]]
    for entry in warnings:
        print("%s line %d: %s" % (entry["host_name"], entry["line_no"], entry["message"]))
    return {"owner": data["owner"], "seen": len(logs), "warnings": len(warnings)}
