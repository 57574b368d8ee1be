"""What was random in a zygote is random anew in each of its instances.

2.7 and 3.6 do not reseed by themselves after a fork, numpy never does; and whoever has the key of another one's
multiprocessing.current_process() may talk to what that listens with. Each instance draws for itself: what the zygote
knew, later instances could read. Not by os.urandom(), which on 2.7 keeps a descriptor that no fresh interpreter has.
"""

import binascii
import os
import sys

_SEEDS = {"random": 1 << 128, "numpy.random": 1 << 32}  # how many each of them takes
_RANDOM_BYTES = 48  # 32 for a key of multiprocessing, 16 for the seeds


def forget_descriptor():
    # type: () -> None
    """Close what 2.7 opened for os.urandom, for a key of multiprocessing.

    It opens another one when it finds this one gone, or its number taken by somebody else.
    """
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.readlink("/proc/self/fd/" + name) == "/dev/urandom":
                os.close(int(name))
        except OSError:
            pass  # the descriptor of the listing itself


def renew():
    # type: () -> None
    """Do it, in an instance that was just forked."""
    fd = os.open("/dev/urandom", os.O_RDONLY)
    try:
        fresh = os.read(fd, _RANDOM_BYTES)
    finally:
        os.close(fd)
    for name, seeds in _SEEDS.items():
        if name in sys.modules:
            sys.modules[name].seed(int(binascii.hexlify(fresh), 16) % seeds)
    process = sys.modules.get("multiprocessing.process")
    if process is not None:
        process.current_process().authkey = fresh[:32]
