# -*- coding: utf-8 -*-
"""Written long ago: a print statement, urlparse, iteritems and integer division. On Python 3 it does not even compile."""
from urlparse import parse_qs


def handler(event, context):
    query = parse_qs(event["query"])
    for key, values in sorted(query.iteritems()):
        print key, "=", values
    return {"half": event["number"] / 2, "keys": sorted(query.keys())}
