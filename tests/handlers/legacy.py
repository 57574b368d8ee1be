# -*- coding:utf-8 -*-
# Python 2.7 and nothing newer: print statement, except with a comma, urllib2, long, unicode, backticks.
import sys
import urllib2


def handler (event, context):
    print "event has", `sorted(event.keys())`
    try:
        urllib2.urlopen("nosuchscheme://example")
    except urllib2.URLError, e:
        print >>sys.stderr, "refused:", e.reason
    if event.has_key("name") and isinstance(event["name"], unicode):
        return {"name": event["name"].encode("utf-8"), "big": 2L ** 70, "query": urllib2.quote("a b")}
