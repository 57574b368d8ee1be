# -*- coding: utf-8 -*-
"""Asks for more and more memory, until the limit of the function ends it. It stops by itself at 512 MB."""


def handler(event, context):
    kept = []
    for megabytes in range(16, 513, 16):
        kept.append(bytearray(16 * 1024 * 1024))
        print("holding %d of %d MB" % (megabytes, context.getMemorySize()))
    return "nobody stopped it"
