"""Bare JSON echo, the floor of a warm invocation: json.loads, json.dumps, two pipes, nothing else.

One read is one event and one write is its reply: there are no frames, so an event must fit into what a
pipe takes at once. Runs on 2.7 and 3.x: ``python echo.py``, requests on descriptor 0, replies on 1.
"""

import json
import os
import sys


def serve_native_strings(read=os.read, write=os.write, loads=json.loads, dumps=json.dumps):
    """2.7: JSON text is bytes already."""
    data = read(0, 65536)
    while data:
        write(1, dumps(loads(data)))
        data = read(0, 65536)


def serve_text(read=os.read, write=os.write, loads=json.loads, dumps=json.dumps):
    """3.x: the decode is cheaper than letting json.loads guess the encoding of bytes."""
    data = read(0, 65536)
    while data:
        write(1, dumps(loads(data.decode("utf-8"))).encode("ascii"))
        data = read(0, 65536)


serve_native_strings() if sys.version_info[0] == 2 else serve_text()
