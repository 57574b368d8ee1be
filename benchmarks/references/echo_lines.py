"""Bare JSON echo for a caller that writes ahead: one JSON text a line, one reply a line, in order.

Requests are read through a buffer, so that many written ahead cost one read; each reply is written when it
is ready, because its caller may wait for that one. Runs on 2.7 and 3.x.
"""

import io
import json
import os
import sys

if sys.version_info[0] == 2:

    def answer(line, write=os.write, loads=json.loads, dumps=json.dumps):
        """JSON text is bytes already."""
        write(1, dumps(loads(line)) + "\n")

else:

    def answer(line, write=os.write, loads=json.loads, dumps=json.dumps):
        """Decode, echo, encode."""
        write(1, (dumps(loads(line.decode("utf-8"))) + "\n").encode("ascii"))


for request in iter(io.open(0, "rb").readline, b""):
    answer(request)
