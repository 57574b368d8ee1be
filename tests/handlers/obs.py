"""An OBS trigger: some regions say s3, others obs; keys arrive URL-quoted."""
try:
    from urllib import unquote_plus
except ImportError:
    from urllib.parse import unquote_plus


def handler(event, context):
    log = context.getLogger()
    found = []
    for record in event["Records"]:
        storage = record["s3"] if "s3" in record else record["obs"]
        bucket = storage["bucket"]["name"]
        key = unquote_plus(storage["object"]["key"])
        log.info("%s: %s/%s", record["eventName"], bucket, key)
        found.append({"bucket": bucket, "key": key, "size": storage["object"].get("size", 0)})
    return found
