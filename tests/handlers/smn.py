"""An SMN trigger: the list is called record, singular."""


def handler(event, context):
    notification = event["record"][0]["smn"]
    if notification["subject"].startswith("[ALARM]"):
        context.getLogger().warn("alarm from %s", notification["topic_urn"].rsplit(":", 1)[-1])
    return notification["subject"] + ": " + notification["message"]
