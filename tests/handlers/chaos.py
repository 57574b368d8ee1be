# -*- coding:utf-8 -*-
"""A function that does what its event says: good things, bad things, and hostile ones. For 2.7 and every 3.x.

Every attack touches this process, what it started and the descriptors it has, and is bounded in count, size and time.
"""
import hashlib
import json
import mmap
import os
import random
import re
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time

MB = 1024 * 1024
LONGEST_LIFE_S = 30
MOST_HELPERS = 4

_helpers = []


def initializer(context):
    _go_wrong(context.getUserData("CHAOS_INITIALIZER"))


def handler(event, context):
    nonce = event["nonce"]
    _tell(nonce, "begin", os.getpid())
    if event.get("helpers"):
        _help(event)
    value = DEEDS[event["do"]](event)
    answer = {"nonce": nonce, "request_id": context.getRequestID(), "value": value}
    if not event.get("quiet"):
        _tell(nonce, "end", os.getpid())
    return answer


def _tell(nonce, what, pid):
    """Say who we are, in one write: the log shows whose invocation this was, and which processes belong to it."""
    os.write(1, ("<<%s %s %d %s>>\n" % (nonce, what, pid, _start_time(pid))).encode("ascii"))


def _start_time(pid):
    """With the number it names a process for good: a number alone may get a new owner."""
    with open("/proc/%d/stat" % pid) as stat:
        return stat.read().rpartition(")")[2].split()[19]


def _go_wrong(how):
    if how == "raise":
        raise RuntimeError("chaos")
    if how == "sys.exit":
        sys.exit(7)
    if how == "exit":
        os._exit(7)
    if how == "hang":
        time.sleep(LONGEST_LIFE_S)


# Deeds that end well -------------------------------------------------------------------------------------------------


def echo(event):
    return event["value"]


def digest(event):
    return hashlib.md5(("x" * event["size"]).encode("ascii")).hexdigest()


def big_result(event):
    return "r" * event["size"]


def print_much(event):
    """Lines that tell which one is the last: what is kept of them is known to the byte."""
    for number in range(event["lines"]):
        os.write(1 + number % 2, ("%07d%s\n" % (number, "." * 56)).encode("ascii"))
    return event["lines"]


def touch(event):
    """Have so many MB in use, ours before included with to_mb: for a moment, or until we are killed."""
    size = event["mb"] * MB if "mb" in event else event["to_mb"] * MB - _resident_bytes()
    # Pages of its own: malloc may have some left that are in use by our count already.
    held = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    held[::4096] = b"\1" * len(held[::4096])
    held.close()
    time.sleep(event.get("nap_s", 0))
    return event.get("mb", event.get("to_mb"))


def _resident_bytes():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * 4096


def temporary_file(event):
    with tempfile.NamedTemporaryFile(delete=False) as out:
        out.write(b"\1" * event["size"])
    time.sleep(event.get("nap_s", 0))
    return os.path.getsize(out.name)


def nap(event):
    time.sleep(event["nap_s"])
    return event["nap_s"]


def thread(event):
    started = threading.Thread(target=time.sleep, args=(event["nap_s"],))
    started.daemon = True
    started.start()
    return event["nap_s"]


def report(event):
    """Tell the host who we are, over a pipe that it made; then be there to be struck."""
    pipe = os.open(event["pipe"], os.O_WRONLY | os.O_NONBLOCK)
    os.write(pipe, ("%d %s" % (os.getpid(), _start_time(os.getpid()))).encode("ascii"))
    os.close(pipe)
    return nap(event)


# What stays behind ---------------------------------------------------------------------------------------------------


def _help(event):
    """Leave processes behind: a child, a daemon with a session of its own, an orphan of a shell. Not too many."""
    while len(_helpers) >= MOST_HELPERS:
        # Below us, and reaped by nobody but us: the number cannot have a new owner.
        os.kill(_helpers[0], signal.SIGKILL)
        os.waitpid(_helpers.pop(0), 0)
    for kind in event["helpers"]:
        pid = HELPERS[kind]()
        _helpers.append(pid)
        _tell(event["nonce"], "helper", pid)


def _child():
    with open(os.devnull, "w") as null:
        return subprocess.Popen(["sleep", str(LONGEST_LIFE_S)], stdout=null, stderr=null).pid


def _orphan():
    shell = subprocess.Popen(
        ["sh", "-c", "sleep %d >/dev/null 2>&1 & echo $!" % LONGEST_LIFE_S], stdout=subprocess.PIPE
    )
    with shell.stdout as out:
        pid = int(out.read())
    shell.wait()
    return pid


def _daemon():
    reading, writing = os.pipe()
    first = os.fork()
    if first == 0:
        os.setsid()
        pid = os.fork()
        if pid == 0:
            time.sleep(LONGEST_LIFE_S)
        else:
            os.write(writing, str(pid).encode("ascii"))
        os._exit(0)
    os.close(writing)
    os.waitpid(first, 0)
    pid = int(os.read(reading, 20))
    os.close(reading)
    return pid


HELPERS = {"child": _child, "orphan": _orphan, "daemon": _daemon}


# Deeds that end badly ------------------------------------------------------------------------------------------------


class Unprintable(Exception):
    def __str__(self):
        raise RuntimeError("no text")

    __repr__ = __str__


def fail(event):
    raise ValueError(event["nonce"])


def fail_unprintably(event):
    raise Unprintable()


def recurse(event):
    return recurse(event)


def unserialisable(event):
    return {"part": [object()]}


def sys_exit(event):
    sys.exit(event["status"])


def exit_now(event):
    os._exit(event["status"])


def abort(event):
    os.abort()


def hang(event):
    HANGS[event["how"]]()


def _spin():
    until = time.time() + LONGEST_LIFE_S
    while time.time() < until:
        pass


def _swallow():
    until = time.time() + LONGEST_LIFE_S
    while time.time() < until:
        try:
            time.sleep(1)
        except BaseException:
            pass


def _backtrack():
    re.match(r"(a+)+$", "a" * 28 + "b")  # holds the interpreter's lock, for several seconds


def _stop():
    for _ in range(1000):
        os.kill(os.getpid(), signal.SIGSTOP)
    time.sleep(LONGEST_LIFE_S)  # the signal may come to another thread first, and this one goes on for a moment


def _print_without_end():
    for _ in range(20000):
        os.write(1, b"." * 65536)


HANGS = {
    "sleep": lambda: time.sleep(LONGEST_LIFE_S),
    "spin": _spin,
    "swallow": _swallow,
    "backtrack": _backtrack,
    "stop": _stop,
    "read": lambda: os.read(os.pipe()[0], 1),
    "subprocess": lambda: subprocess.call(["sleep", str(LONGEST_LIFE_S)]),
    "print": _print_without_end,
}


def children_use_memory(event):
    """Processes that hold so many MB together, until somebody ends them or half a minute is over."""
    for _ in range(event["children"]):
        if os.fork() == 0:
            held = bytearray(event["mb"] * MB // event["children"])
            held[::4096] = b"\1" * len(held[::4096])
            time.sleep(LONGEST_LIFE_S)
            os._exit(0)
    time.sleep(LONGEST_LIFE_S)


def start_processes(event):
    for _ in range(event["count"]):
        if os.fork() == 0:
            time.sleep(5)
            os._exit(0)
    time.sleep(5)


# Attacks on the engine's own pipes -----------------------------------------------------------------------------------


def attack(event):
    for data in ATTACKS[event["how"]](event):
        _write_everywhere(data)
    if event["then"] == "exit":
        os._exit(9)
    if event["then"] == "hang":
        time.sleep(LONGEST_LIFE_S)
    return "unharmed"


def attack_later(event):
    """Return, and let a helper write when the next invocation may run already."""
    if os.fork() == 0:
        time.sleep(event["nap_s"])
        for data in ATTACKS[event["how"]](event):
            _write_everywhere(data)
        os._exit(0)
    return "unharmed"


def close_everything(event):
    os.closerange(0, 256)
    return "unharmed"


def _write_everywhere(data):
    """Into the engine's pipes; not into the log, of which there is a private duplicate: that would be output."""
    log = os.fstat(2).st_ino
    for fd in range(3, 256):
        try:
            if os.fstat(fd).st_ino != log:
                os.write(fd, data)
        except OSError:
            pass


def _garbage(event):
    numbers = random.Random(event["nonce"])
    # A first byte that is not zero: the length of a header that is too long in any case.
    yield b"\xff" + b"".join(struct.pack("B", numbers.randrange(256)) for _ in range(event["size"]))


def _flood(event):
    for _ in range(16):
        yield b"\0" * 65536


def _half_frame(event):
    yield struct.pack(">II", 30, 100) + b'{"type": "re'


def _long_header(event):
    yield struct.pack(">II", 2 ** 32 - 1, 2 ** 32 - 1)


def _long_payload(event):
    yield struct.pack(">II", 29, 2 ** 32 - 1) + b'{"type":"result","token":"x"}'


def _frame(kind, token, payload):
    head = json.dumps({"type": kind, "token": token}).encode("ascii")
    return struct.pack(">II", len(head), len(payload)) + head + payload


def _forged_token(event):
    for token in ("", "0" * 16, event["nonce"]):
        yield _frame("result", token, b'{"value": "forged"}')


def _own_token():
    """The token of this very request, from the frames of the caller: the one thing that a function can find out."""
    frame = sys._getframe()
    while frame is not None:
        token = frame.f_locals.get("token")
        if token is not None and "header" in frame.f_locals:
            return token
        frame = frame.f_back
    raise LookupError("no token")


def _own_reply(event):
    yield _frame("result", _own_token(), json.dumps({"forged": event["nonce"]}).encode("ascii"))


def _own_reply_no_json(event):
    yield _frame("result", _own_token(), b"\xff\xfe")


def _own_error_no_error(event):
    yield _frame("error", _own_token(), b'{"errorMessage": 1}')


def _own_unknown_type(event):
    yield _frame("done", _own_token(), b"")


ATTACKS = {
    "garbage": _garbage,
    "flood": _flood,
    "half_frame": _half_frame,
    "long_header": _long_header,
    "long_payload": _long_payload,
    "forged_token": _forged_token,
    "own_reply": _own_reply,
    "own_reply_no_json": _own_reply_no_json,
    "own_error_no_error": _own_error_no_error,
    "own_unknown_type": _own_unknown_type,
}

DEEDS = {
    each.__name__: each
    for each in (
        echo, digest, big_result, print_much, touch, temporary_file, nap, thread, report, fail, fail_unprintably,
        recurse, unserialisable, sys_exit, exit_now, abort, hang, children_use_memory, start_processes, attack,
        attack_later, close_everything,
    )
}

_go_wrong(os.environ.get("CHAOS_LOAD"))
