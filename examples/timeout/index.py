# -*- coding: utf-8 -*-
"""Never returns, and ignores every exception: only a kill ends it."""


def handler(event, context):
    print("%d ms left, and counting" % context.getRemainingTimeInMilliSeconds())
    number = 0
    while True:
        try:
            number += 1
        except BaseException:
            pass
