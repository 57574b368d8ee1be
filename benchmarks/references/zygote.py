"""Bare zygote, the floor of a cold start by fork: fork, two pipes, import of the module, JSON, nothing else.

``python zygote.py FOLDER MODULE FUNCTION``: each line on descriptor 0 is ``PID REQUEST REPLY``, and asks for a
child that serves the pipes which process PID holds under those two numbers. The child takes them through
/proc, because 2.7 cannot receive descriptors over a socket. It has no deadline, no log, no figures, and its
death goes unseen. Runs on 2.7 and 3.x.
"""

import json
import os
import signal
import sys


def serve(request, reply, handler):
    """Answer one event a read until the request pipe ends."""
    data = os.read(request, 65536)
    while data:
        os.write(reply, json.dumps(handler(json.loads(data.decode("utf-8")), None)).encode("ascii"))
        data = os.read(request, 65536)


def become_child(pid, request, reply):
    """Open the pipes, import the module, serve."""
    request_fd = os.open("/proc/%s/fd/%s" % (pid, request), os.O_RDONLY)
    reply_fd = os.open("/proc/%s/fd/%s" % (pid, reply), os.O_WRONLY)
    sys.path.insert(0, sys.argv[1])
    serve(request_fd, reply_fd, getattr(__import__(sys.argv[2]), sys.argv[3]))


def main():
    """Fork a child for each line."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps
    line = os.read(0, 256)
    while line:
        if os.fork() == 0:
            os.close(0)
            become_child(*line.decode("ascii").split())
            os._exit(0)
        line = os.read(0, 256)


main()
