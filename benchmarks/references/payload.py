"""json.loads and json.dumps of one text, timed where they run: ``python payload.py FILE``.

Each byte on descriptor 0 is answered with the nanoseconds that both took together, one number a line.
Runs on 2.7 and 3.x.
"""

import io
import json
import os
import sys
import time

# 2.7 has wall time alone; its steps of a microsecond are small beside tens of milliseconds.
clock = getattr(time, "perf_counter", time.time)

with io.open(sys.argv[1], "rb") as file:
    text = file.read()
if sys.version_info[0] > 2:
    text = text.decode("utf-8")

while os.read(0, 1):
    started = clock()
    json.dumps(json.loads(text))
    os.write(1, ("%d\n" % int((clock() - started) * 1e9)).encode("ascii"))
