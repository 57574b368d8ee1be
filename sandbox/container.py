"""The house that containers stand in: a root of its own for a zygote, with nothing of the host that is not needed.

Theory of operation
-------------------
A zygote of the container level moves into namespaces of its own before it is one: a user namespace, in which it may
mount, and a mount namespace, whose root is a small tmpfs with read-only binds of the interpreter, the libraries and
a few files of /etc. The host's root stays reachable as /.host, which only our own code sees: it is unmounted before
there is an instance (see ``cell``). The zygote stays in the host's pid namespace, so the numbers
that it tells the engine are the engine's.

Then it starts its interpreter anew. From there on nothing of the process is the host's: not the program that it
runs, not a library, not a path in its arguments, no descriptor of a folder. What /proc/self/exe leads to is a
read-only mount.

Root maps every number there is, so that it can read whose code it likes, and gives instances the number of nobody
in particular. Everybody else maps their own number alone, to 0 for the zygote and to 1003 for the function.
"""

import json
import os
import stat
import sys

from sandbox import namespaces as ns
from sandbox.wire import write_frame

MYPY = False  # mypy takes it for True; 2.7 has no typing to import
if MYPY:
    from typing import Any

HOST = "/.host"
TMP = "/tmp"  # noqa: S108  # covered here, and in each cell again
SANDBOX = "/run/sandbox"
"""Where this package is inside: a neutral place, which names nothing of the engine's installation."""

_PREFERRED_ID = 1879048192 + 1003
"""Host number of functions under root: from a range that neither people, packages nor systemd give to anybody."""

_SYSTEM_FOLDERS = ("bin", "sbin", "lib", "lib32", "lib64", "libx32", "usr")
_ETC = (
    "alternatives", "ca-certificates", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "localtime", "mime.types",
    "protocols", "services", "timezone",
    # Not the whole of ssl and pki: who may read the keys in there may read them in here.
    "pki/ca-trust", "pki/tls/cert.pem", "pki/tls/certs", "pki/tls/openssl.cnf", "ssl/ca-bundle.pem", "ssl/cert.pem",
    "ssl/certs", "ssl/openssl.cnf",
)  # fmt: skip
_ETC_WITH_NETWORK = ("gai.conf", "host.conf", "resolv.conf")
_DEVICES = ("full", "null", "random", "urandom", "zero")
_FILES = {
    "passwd": "root:x:0:0:root:/:/sbin/nologin\nsnuser:x:1003:1003::/opt/function:/sbin/nologin\n",
    "group": "root:x:0:\nsnuser:x:1003:\n",
    "hosts": "127.0.0.1 localhost\n::1 localhost\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\nservices: files\nprotocols: files\n",
}
_FOLDERS = ("dev", "etc", "opt", "opt/function", "proc", "run", "tmp", "var", "var/tmp", "dev/shm")


def move_in(here, numbers, options):
    # type: (str, list[int], dict[str, Any]) -> None
    """Make the house, move in, and start this interpreter anew as its zygote. Returns when that is not to be had.

    Args:
        here: The folder of this package.
        numbers: What the zygote is given; the first is the descriptor that the engine listens at.
        options: The zygote's, and ``house``: ``network``, and ``hidden``, folders that no function is to see.
    """
    wishes = options.pop("house")
    # The host's may be 077, and root's functions are another user.
    os.umask(0o022)
    try:
        function_id = _become_root_of_a_namespace()
        builder = _Builder(here, bool(wishes["network"]))
        builder.build(wishes["hidden"])
    except (OSError, IOError) as error:
        what = getattr(error, "what", "")
        write_frame(numbers[0], {"type": "unavailable", "serial": 0, "what": what, "error": str(error)})
        return
    os.chdir("/")
    options["cells"] = [function_id, wishes["network"], builder.covered]
    arguments = [str(each) for each in numbers] + [json.dumps(options)]
    main = SANDBOX + "/__main__.py"
    try:
        os.execv(sys.executable, [sys.executable, "-s", "-u", main, "zygote"] + arguments)
    except OSError as error:  # in a folder that only a capability on the host opens, for example
        what = "start of %s in a user namespace" % sys.executable
        write_frame(numbers[0], {"type": "unavailable", "serial": 0, "what": what, "error": str(error)})


def _become_root_of_a_namespace():
    # type: () -> int
    """Enter a user and a mount namespace, and return the number that functions have in it."""
    user, group = os.geteuid(), os.getegid()
    maps = [_identity(name) for name in ("uid_map", "gid_map")]
    if user != 0 or any(sum(count for _, count in each) == 1 for each in maps):
        ns.unshare(ns.NEWUSER | ns.NEWNS, "user namespace")
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", "0 %d 1" % user)
        _write("/proc/self/gid_map", "0 %d 1" % group)
        function_id = 0
    else:
        function_id = _unused_id(maps)
        _unshare_and_have_mapped(maps)
    ns.mount("none", "/", None, ns.MS_REC | ns.MS_SLAVE)  # what the host mounts later is seen, and nothing goes back
    return function_id


def _identity(name):
    # type: (str) -> list[tuple[int, int]]
    """The ranges of numbers that exist here: (first, count)."""
    with open("/proc/self/" + name) as ranges:
        rows = [[int(each) for each in line.split()] for line in ranges]
    return [(row[0], row[2]) for row in rows]


def _unused_id(maps):
    # type: (list[list[tuple[int, int]]]) -> int
    for candidate in (_PREFERRED_ID, maps[0][-1][0] + maps[0][-1][1] - 1):
        if all(any(first <= candidate < first + count for first, count in each) for each in maps):
            return candidate
    raise ns.Refused(1, "no unprivileged user and group of the same number")


def _unshare_and_have_mapped(maps):
    # type: (list[list[tuple[int, int]]]) -> None
    """Enter the namespaces, with the numbers mapped from outside: only there is the privilege for more than one."""
    pid = os.getpid()
    ask_read, ask_write = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(ask_write)
            if os.read(ask_read, 1):
                for name, ranges in zip(("uid_map", "gid_map"), maps):
                    _write("/proc/%d/%s" % (pid, name), "".join("%d %d %d\n" % (f, f, count) for f, count in ranges))
                status = 0
        finally:
            os._exit(status)
    try:
        os.close(ask_read)
        ns.unshare(ns.NEWUSER | ns.NEWNS, "user namespace")
        os.write(ask_write, b"!")
    finally:
        os.close(ask_write)
        status = os.waitpid(child, 0)[1]
    if status != 0:
        raise ns.Refused(1, "map of users and groups")
    os.setgroups([])
    os.setgid(0)
    os.setuid(0)


def _write(path, text):
    # type: (str, str) -> None
    """Write a file of /proc in one go."""
    fd = os.open(path, os.O_WRONLY)
    try:
        os.write(fd, text.encode("ascii"))
    except OSError as error:
        raise ns.Refused(error.errno or 0, "map of users and groups")
    finally:
        os.close(fd)


class _Builder(object):
    """Builds the root. Everything that must be known of the host's root is asked before it is left."""

    def __init__(self, here, network):
        # type: (str, bool) -> None
        self._here = os.path.realpath(here)
        self._shown = ["/" + name for name in _SYSTEM_FOLDERS]
        self.covered = []  # type: list[tuple[str, str]]  # shown below /tmp, which each container has of its own
        self._interpreter = os.path.abspath(sys.executable)
        self._executable = os.path.realpath(sys.executable)
        self._real = {path: os.path.realpath(path) for path in _interpreter_folders() + _mapped_files()}
        # /etc/localtime, /etc/resolv.conf, /etc/ssl/certs: what they mean, not what they say.
        paths = ["/etc/" + name for name in _ETC + (_ETC_WITH_NETWORK if network else ())]
        self._etc = {path: os.path.realpath(path) for path in paths}

    def build(self, hidden):
        # type: (list[str]) -> None
        """Mount everything, and make the new root the root."""
        real_hidden = [os.path.realpath(path) for path in hidden]
        base = TMP  # any folder does: it is covered for a moment, and in this namespace alone
        ns.mount("tmpfs", base, "tmpfs", ns.MS_NOSUID | ns.MS_NODEV, "mode=755,size=1m,nr_inodes=2k")
        os.mkdir(base + HOST)
        ns.pivot_root(base, base + HOST)
        os.chdir("/")
        self._put_system()
        for path in sorted(self._real):
            self._show(path)
        self._show_executable()
        self._put_etc()
        self._put_devices()
        os.makedirs(SANDBOX)
        ns.bind(HOST + self._here, SANDBOX)
        for path in hidden + real_hidden:
            if self._is_shown(path) and os.path.isdir(path):
                hide(path)
                self.covered += [("", path)] if path.startswith(TMP + "/") else []
        ns.mount(HOST + "/proc", "/proc", None, ns.MS_BIND | ns.MS_REC)  # a zygote looks for its children there

    def _put_system(self):
        # type: () -> None
        for name in _FOLDERS:
            os.mkdir("/" + name)
        os.chmod(TMP, 0o1777)  # noqa: S103  # the mode of every /tmp
        for name in _SYSTEM_FOLDERS:
            path = "/" + name
            if os.path.islink(HOST + path):
                os.symlink(os.readlink(HOST + path), path)
            elif os.path.isdir(HOST + path):
                os.mkdir(path)
                ns.bind(HOST + path, path)

    def _is_shown(self, path):
        # type: (str) -> bool
        return any(path == each or path.startswith(each + "/") for each in self._shown)

    def _show(self, path):
        # type: (str) -> None
        """Bind what is at *path* on the host to *path* here, and to its real path."""
        real = self._real.get(path, path)
        for target in (path, real):
            if not self._is_shown(target) and os.path.exists(HOST + real):
                show(real, target)
                self._shown.append(target)
                if target.startswith(TMP + "/"):
                    self.covered.append((real, target))

    def _show_executable(self):
        # type: () -> None
        """Make the path that the interpreter was started by lead to it: the interpreter finds its home by that."""
        if not os.path.exists(self._interpreter):
            self._show(self._executable)
            _make_place(os.path.dirname(self._interpreter), True)
            os.symlink(self._executable, self._interpreter)

    def _put_etc(self):
        # type: () -> None
        for name, text in _FILES.items():
            with open("/etc/" + name, "w") as file:
                file.write(text)
        for path, real in sorted(self._etc.items()):
            if os.path.exists(HOST + real):
                show(real, path)

    def _put_devices(self):
        # type: () -> None
        for name in _DEVICES:
            _make_place("/dev/" + name, False)
            ns.bind(HOST + "/dev/" + name, "/dev/" + name, ns.NOSUID)
        for name, target in (("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")):
            os.symlink("/proc/self/fd" + target, "/dev/" + name)


def _interpreter_folders():
    # type: () -> list[str]
    """Where this interpreter has its standard library and the packages that were installed for it."""
    names = ("prefix", "exec_prefix", "base_prefix", "base_exec_prefix", "real_prefix")
    found = [getattr(sys, name) for name in names if hasattr(sys, name)]
    found += [path for path in sys.path if os.path.isabs(path) and os.path.isdir(path)]
    return [os.path.abspath(path) for path in found if os.path.abspath(path) != "/"]


def _mapped_files():
    # type: () -> list[str]
    """The files that this process runs from: libraries may be anywhere."""
    with open("/proc/self/maps") as maps:
        # Five fields, and the path where there is one.
        paths = {line.split(None, 5)[-1].strip() for line in maps}
    return [path for path in paths if path.startswith("/") and os.path.isfile(path)]


def show(real, target):
    # type: (str, str) -> None
    """Show what is at *real* on the host as *target*."""
    _make_place(target, os.path.isdir(HOST + real))
    ns.bind(HOST + real, target)


def hide(path):
    # type: (str) -> None
    """Cover a folder with an empty one."""
    ns.mount("tmpfs", path, "tmpfs", ns.MS_RDONLY | ns.MS_NOSUID | ns.MS_NODEV, "size=4k,nr_inodes=1")


def _make_place(path, is_folder):
    # type: (str, bool) -> None
    """Make an empty folder or file to mount on, with the folders above it."""
    folder = path if is_folder else os.path.dirname(path)
    if not os.path.isdir(folder):
        os.makedirs(folder)
    if not is_folder and not os.path.exists(path):
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH))
