"""System calls for namespaces, mounts and privileges, by ctypes: what the container level is made of.

Only a container zygote imports this module. The numbers are those of x86-64 and of the architectures that share the
generic table; from 424 on all architectures count alike.
"""

import ctypes
import errno
import os
import platform
import signal

from sandbox.compat import text_type
from sandbox.kernel import prctl

MYPY = False  # mypy takes it for True; 2.7 has no typing to import
if MYPY:
    from typing import Any, Optional, Union

    Path = Union[str, bytes]

NEWNS, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET = 0x20000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT = 1, 2, 4, 8, 32
MS_BIND, MS_REC, MS_PRIVATE, MS_SLAVE = 4096, 16384, 1 << 18, 1 << 19
MNT_DETACH = 2

RDONLY, NOSUID, NODEV = 1, 2, 4
"""Attributes of a mount for restrict(), as in mount_setattr(2)."""

_AT_FDCWD, _AT_EMPTY_PATH, _AT_RECURSIVE = -100, 0x1000, 0x8000
_OPEN_TREE_CLONE, _MOVE_MOUNT_F_EMPTY_PATH = 1, 4
_IS_X86 = platform.machine() == "x86_64"
_CLONE, _PIVOT_ROOT, _KEYCTL = (56, 155, 250) if _IS_X86 else (220, 41, 219)
_PIDFD_SEND_SIGNAL, _OPEN_TREE, _MOVE_MOUNT, _PIDFD_OPEN, _MOUNT_SETATTR = 424, 428, 429, 434, 442

_O_CLOEXEC = 0o2000000  # 2.7 has no name for it

_PR_SET_DUMPABLE, _PR_CAPBSET_READ, _PR_CAPBSET_DROP, _PR_SET_SECUREBITS = 4, 23, 24, 28
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
_SECUREBITS = 0x01 | 0x02 | 0x04 | 0x08 | 0x20 | 0x40 | 0x80
"""Root's number gives no capability, keeping or raising them is off, and all of that is locked (capabilities(7))."""

_KEYCTL_JOIN_SESSION_KEYRING = 1
_CAPABILITY_VERSION_3 = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)
_long = ctypes.c_long


class Refused(OSError):  # noqa: N818  # it says what happened
    """The kernel refused something. ``what`` names it in words that an advice can be chosen by."""

    def __init__(self, number, what):
        # type: (int, str) -> None
        OSError.__init__(self, number, "%s: %s" % (what, os.strerror(number)))
        self.what = what


def _checked(outcome, what):
    # type: (int, str) -> int
    if outcome < 0:
        raise Refused(ctypes.get_errno(), what)
    return outcome


def _path(path):
    # type: (Path) -> bytes
    if isinstance(path, text_type):
        return path.encode("utf-8", "surrogateescape") if text_type is str else path.encode("utf-8")
    return path


def shown(path):
    # type: (Path) -> str
    """A path for a message."""
    return path if isinstance(path, str) else repr(path)


def _syscall(number, *arguments):
    # type: (int, *Any) -> int
    return int(_libc.syscall(_long(number), *arguments))


def unshare(flags, what):
    # type: (int, str) -> None
    """Leave the namespaces of these kinds for new ones."""
    _checked(_libc.unshare(ctypes.c_int(flags)), what)


def fork_first():
    # type: () -> int
    """As os.fork(), but the child is the first process of a pid namespace of its own.

    By clone(2), because unshare(2) would put all later children of ours into it. The interpreter is not told: the
    child must not use threads.
    """
    return _checked(_syscall(_CLONE, _long(NEWPID | signal.SIGCHLD), None, None, None, None), "pid namespace")


def join(fd, flags):
    # type: (int, int) -> None
    """Enter the namespaces of these kinds that a pidfd or a namespace's descriptor stands for (setns(2))."""
    _checked(_libc.setns(ctypes.c_int(fd), ctypes.c_int(flags)), "setns")


def pidfd_open(pid):
    # type: (int) -> int
    """A descriptor of the process *pid*, close-on-exec; 2.7 and 3.6 have no word for it."""
    return _checked(_syscall(_PIDFD_OPEN, _long(pid), _long(0)), "pidfd_open")


def kill(pid, pidfd):
    # type: (int, int) -> None
    """Kill the process *pid*, which its pidfd stands for; nothing when it is dead."""
    if _syscall(_PIDFD_SEND_SIGNAL, _long(pidfd), _long(signal.SIGKILL), None, _long(0)) < 0:
        number = ctypes.get_errno()
        if number == errno.ENOSYS:  # refused to all of us where a filter is all that there is (see ``shield``)
            os.kill(pid, signal.SIGKILL)
        elif number != errno.ESRCH:
            raise Refused(number, "pidfd_send_signal")


def mount(source, target, kind=None, flags=0, options=None):
    # type: (Path, Path, Optional[str], int, Optional[str]) -> None
    """Mount a file system, or change or move a mount (mount(2))."""
    arguments = [_path(each) if each is not None else None for each in (source, target, kind)]  # type: list[Any]
    arguments += [ctypes.c_ulong(flags), _path(options) if options is not None else None]
    _checked(_libc.mount(*arguments), "mount %s on %s" % (kind or shown(source), shown(target)))


def bind(source, target, attributes=RDONLY | NOSUID | NODEV):
    # type: (Path, Path, int) -> None
    """Show *source*, with what is mounted below it, as *target* as well, restricted by *attributes*."""
    mount(source, target, None, MS_BIND | MS_REC)
    restrict(target, attributes, recursive=True)


def restrict(target, attributes, recursive=False):
    # type: (Path, int, bool) -> None
    """Take rights away from a mount, and cut it off from the host's (mount_setattr(2), Linux 5.12).

    What the host mounts there later would come with the rights that it has on the host: to write, with devices.
    """
    _set_attributes(_AT_FDCWD, target, _AT_RECURSIVE if recursive else 0, attributes)


def _set_attributes(fd, path, flags, attributes):
    # type: (int, Path, int, int) -> None
    held = (ctypes.c_uint64 * 4)(attributes, 0, MS_PRIVATE, 0)
    size = ctypes.c_size_t(ctypes.sizeof(held))
    outcome = _syscall(_MOUNT_SETATTR, _long(fd), _path(path), ctypes.c_uint(flags), held, size)
    _checked(outcome, "mount_setattr %s" % shown(path))


def copy_tree(source):
    # type: (Path) -> int
    """A descriptor of a copy of the mounts at *source*, to be read only, for whichever namespace it is attached in."""
    flags = ctypes.c_uint(_OPEN_TREE_CLONE | _AT_RECURSIVE | _O_CLOEXEC)
    fd = _checked(_syscall(_OPEN_TREE, _long(_AT_FDCWD), _path(source), flags), "open_tree %s" % shown(source))
    _set_attributes(fd, "", _AT_EMPTY_PATH | _AT_RECURSIVE, RDONLY | NOSUID | NODEV)
    return fd


def attach(fd, target):
    # type: (int, Path) -> None
    """Mount a copied tree at *target*, and close its descriptor."""
    flags = ctypes.c_uint(_MOVE_MOUNT_F_EMPTY_PATH)
    outcome = _syscall(_MOVE_MOUNT, _long(fd), _path(""), _long(_AT_FDCWD), _path(target), flags)
    _checked(outcome, "move_mount %s" % shown(target))
    os.close(fd)


def detach(target):
    # type: (Path) -> None
    """Unmount *target* with everything below it; open files in it stay usable."""
    _checked(_libc.umount2(_path(target), ctypes.c_int(MNT_DETACH)), "umount %s" % shown(target))


def pivot_root(new_root, old_root):
    # type: (str, str) -> None
    """Make *new_root* the root, and the root that was *old_root*, which is below it."""
    _checked(_syscall(_PIVOT_ROOT, _path(new_root), _path(old_root)), "pivot_root")


def set_hostname(name):
    # type: (str) -> None
    """Name the machine, as this UTS namespace sees it."""
    _checked(_libc.sethostname(_path(name), ctypes.c_size_t(len(name))), "sethostname")


def leave_keyring():
    # type: () -> None
    """Have a session keyring of one's own, and no more the host's; a kernel without keys has nothing to leave."""
    _syscall(_KEYCTL, _long(_KEYCTL_JOIN_SESSION_KEYRING), None)


def allow_inspection():
    # type: () -> None
    """Let the engine of an ordinary user read and reset our memory figures: a change of credentials forbids it."""
    prctl(_PR_SET_DUMPABLE, 1)


def drop_capabilities():
    # type: () -> None
    """Give up every capability for good, and every way to one."""
    prctl(_PR_SET_SECUREBITS, _SECUREBITS)
    for number in range(64):
        if _libc.prctl(_PR_CAPBSET_READ, ctypes.c_ulong(number), 0, 0, 0) < 0:
            break  # the kernel's last one was before it
        prctl(_PR_CAPBSET_DROP, number)
    prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    nothing = (ctypes.c_uint32 * 6)()
    _checked(_libc.capset(header, nothing), "capset")
