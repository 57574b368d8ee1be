"""Functions that outlive their deadline, each in another way; they run on 2.7 and on 3.x.

All of them end by themselves, should nobody kill them; the stopped one when its parent ends, because the kernel
wakes and hangs up a stopped process group that was orphaned.
"""

import os
import re
import signal
import threading
import time

LONGEST_S = 20
FIRST_PID = os.getpid()


def busy_loop():
    """Python code that never leaves the interpreter."""
    end = time.time() + LONGEST_S
    while time.time() < end:
        pass


def ignore_sigterm():
    """Politeness does not help."""
    # Off the main thread only the kernel's own interface is left: a handler cannot be set from Python there.
    try:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    except ValueError:
        pass
    busy_loop()


def blocked_read():
    """A system call that does not come back; the writing end is held open here."""
    reading, writing = os.pipe()
    timer = threading.Timer(LONGEST_S, os.close, [writing])
    timer.daemon = True
    timer.start()
    os.read(reading, 1)


def c_call():
    """One C call that holds the GIL, for longer with each letter."""
    re.match("(a+)+b", "a" * 26)


def stopped():
    """A process that no longer runs at all; the signal may take the main thread first, so this one waits for it."""
    os.kill(os.getpid(), signal.SIGSTOP)
    time.sleep(LONGEST_S)


def endless_thread():
    """A thread that is no daemon, while the handler sleeps."""
    threading.Thread(target=busy_loop).start()
    time.sleep(LONGEST_S)


def fork_bomb():
    """Every process forks for as long as it is let, and sleeps; 64 of them at most, should nobody stop them."""
    for _ in range(6):
        try:
            os.fork()
        except OSError:
            break  # the limit
    time.sleep(LONGEST_S)
    if os.getpid() != FIRST_PID:
        os._exit(0)


WAYS = {
    "busy loop": busy_loop,
    "sleep": lambda: time.sleep(LONGEST_S),
    "blocked read": blocked_read,
    "C call": c_call,
    "SIGTERM ignored": ignore_sigterm,
    "stopped": stopped,
    "endless thread": endless_thread,
    "fork bomb": fork_bomb,
}


def handler(event, context):
    """Misbehave in the way that the event names; give back anything else at once."""
    way = WAYS.get(event)
    if way is not None:
        way()
    return event
