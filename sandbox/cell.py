"""The namespaces of one instance: made before it is forked into them, and gone with their first process.

Theory of operation
-------------------
A cell is a process that does next to nothing, the first of a pid namespace, in mount, ipc, uts and network namespaces
of its own. The zygote forks the instance into that pid namespace as its second process, so signals mean there what
they mean everywhere (the first process of a namespace ignores what it has no handler for), and the instance enters
the other namespaces and gives up every privilege: a user namespace in which it is 1003 and nobody else, no
capability, and a filter on system calls. When it knows what it serves it asks the cell for its files (see ``door``):
the cell copies their mounts in the house's namespace, where /.host is, and attaches them in its own, where it is not
any more. All that is slow, the network namespace above all, is done before the function is known: an engine that
keeps a spare instance pays for it while nobody waits.

The zygote cannot make cells itself. A process that forks into another pid namespace cannot come back to its own,
unless it is root where that was made; so it goes from cell to cell, and a child that never left makes them: the maker.

When the instance has ended the zygote kills the cell. The kernel then kills everything that is left in the pid
namespace, and the cell has not ended before all of that is dead. Maker and cells die with the zygote as well.
"""

import errno
import fcntl
import os
import select
import signal
import socket
import struct

from sandbox import barred, container, door
from sandbox import namespaces as ns
from sandbox.compat import as_native, read_some
from sandbox.container import HOST, TMP
from sandbox.kernel import PR_SET_PDEATHSIG, die_with_parent, prctl
from sandbox.stdio import set_close_on_exec

MYPY = False  # mypy takes it for True; 2.7 has no typing to import
if MYPY:
    from typing import Any

HOME = "/opt/function"
CODE = HOME + "/code"
DEPENDENCIES = HOME + "/dependencies"
FUNCTION_ID = 1003

_SHM_OPTIONS = "mode=1777,size=64m,nr_inodes=4k"
_TMP_OPTIONS = "mode=1777,size=%dm,nr_inodes=64k"
_READY = b"R"
_SLACK_MB = 1
"""A function must be able to pass its limit: what is over it is told as DISK_FULL, as at the process level."""

_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1


class Cell(object):
    """The namespaces of one instance, by the process that holds them."""

    def __init__(self, pid):
        # type: (int) -> None
        self._pid = pid
        self.pidfd = ns.pidfd_open(pid)

    def end(self):
        # type: () -> None
        """Kill it, and wait until everything in its pid namespace is dead."""
        ns.kill(self._pid, self.pidfd)
        _await_end(self.pidfd)
        os.close(self.pidfd)


class Cells(object):
    """The cells of a zygote.

    Args:
        function_id: The number that functions run under in the zygote's user namespace.
        network: Whether they have the host's network.
        covered: What of the interpreter is below /tmp, where it is to be shown once more: (on the host, here), or to
            be hidden, where the first of the two is empty.

    Raises:
        Refused: The kernel refused something: found out by a rehearsal, before the first function needs it.
    """

    def __init__(self, function_id, network, covered):
        # type: (int, bool, list[list[str]]) -> None
        self._function_id = function_id
        self._network = network
        self._covered = covered
        self._own_pidfd = ns.pidfd_open(os.getpid())
        self._of_instance = {}  # type: dict[int, Cell]
        self._rehearse()
        self.maker, self._orders, self._answers = self._start_maker()
        self._make().end()

    def fork(self):
        # type: () -> tuple[int, Cell]
        """Fork a process into the pid namespace of a new cell; as os.fork(), with the cell."""
        cell = self._make()
        try:
            # Not undone: the namespace that we are in is the host's, and only its root may choose it. From here on our
            # children are born into this cell, and then into the next one.
            ns.join(cell.pidfd, ns.NEWPID)
            pid = os.fork()
        except BaseException:
            cell.end()
            raise
        if pid:
            self._of_instance[pid] = cell
        else:
            self.die_with_zygote()
        return pid, cell

    def _make(self):
        # type: () -> Cell
        """A new cell, once everything is mounted in it; raise what the kernel refused."""
        os.write(self._orders, b"!")
        pid, outcome = 0, b""
        while not (pid and outcome):  # from the maker and from the cell itself, whoever is first
            line = _read_line(self._answers)
            if line[:1] == b"P":
                pid = int(line[1:])
            elif line[:1] == b"X":  # not even a process
                raise _refusal(line)
            else:
                outcome = line
        if outcome != _READY:
            raise _refusal(outcome)  # it has ended by itself
        return Cell(pid)

    def enter(self, cell):
        # type: (Cell) -> door.Door
        """In a process forked by fork(): enter the other namespaces, and give up everything for good.

        Returns:
            The door by which the function's files come.
        """
        ns.join(cell.pidfd, ns.NEWNS | ns.NEWIPC | ns.NEWUTS | (0 if self._network else ns.NEWNET))
        for other in self._of_instance.values():
            os.close(other.pidfd)
        for fd in (cell.pidfd, self._orders, self._answers):
            os.close(fd)
        entered = door.enter()
        self._give_up_everything()
        os.close(self._own_pidfd)
        return entered

    def _give_up_everything(self):
        # type: () -> None
        ns.leave_keyring()
        if self._function_id:
            os.setgroups([])
            os.setresgid(self._function_id, self._function_id, self._function_id)
            os.setresuid(self._function_id, self._function_id, self._function_id)
            ns.allow_inspection()  # else the maps below are root's to write
        ns.unshare(ns.NEWUSER, "user namespace in a user namespace")
        for name, text in (
            ("setgroups", "deny"),
            ("uid_map", "%d %d 1" % (FUNCTION_ID, self._function_id)),
            ("gid_map", "%d %d 1" % (FUNCTION_ID, self._function_id)),
        ):
            fd = os.open("/proc/self/" + name, os.O_WRONLY)
            os.write(fd, text.encode("ascii"))
            os.close(fd)
        ns.drop_capabilities()
        ns.allow_inspection()
        self.die_with_zygote()  # a change of credentials makes the kernel forget it
        barred.bar()

    def end(self, pid):
        # type: (int) -> None
        """Kill whatever the instance *pid*, which was reaped, left in its cell."""
        cell = self._of_instance.pop(pid, None)
        if cell is not None:
            cell.end()

    def die_with_zygote(self):
        # type: () -> None
        """As kernel.die_with_parent(): the parent is in another pid namespace, and has no number here."""
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if select.select([self._own_pidfd], [], [], 0)[0]:
            os._exit(1)

    def _rehearse(self):
        # type: () -> None
        """Give up everything in a process of its own, once: what the kernel refuses is told before it matters."""
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            _answer(write, self._give_up_everything)
            os._exit(0)
        os.close(write)
        outcome = _read_line(read)
        os.close(read)
        _reap(pid)
        if outcome != _READY:
            raise _refusal(outcome)

    def _start_maker(self):
        # type: () -> tuple[int, int, int]
        """Start the process that makes the cells: our own children are born into the cell that was joined last."""
        take_order, give_order = os.pipe()
        take_answer, give_answer = os.pipe()
        zygote_pid = os.getpid()
        pid = os.fork()
        if pid == 0:
            try:
                die_with_parent(zygote_pid)
                os.setsid()
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for a cell: a pidfd tells its end
                _close_all_but((take_order, give_answer, self._own_pidfd))
                while os.read(take_order, 1):
                    self._start_cell(give_answer)
            finally:
                os._exit(0)
        for fd in (take_order, give_answer):
            os.close(fd)
        for fd in (give_order, take_answer, self._own_pidfd):
            set_close_on_exec(fd)
        return pid, give_order, take_answer

    def _start_cell(self, answers):
        # type: (int) -> None
        """In the maker: start the first process of a cell, and tell its number; it tells how it got on itself."""
        try:
            pid = ns.fork_first()
        except OSError as error:
            os.write(answers, b"X" + _story(error)[1:])
            return
        if pid:
            os.write(answers, ("P%d\n" % pid).encode("ascii"))
            return
        try:
            self.die_with_zygote()
            house = os.open("/proc/self/ns/mnt", os.O_RDONLY)
            is_ready = _answer(answers, self._build)
            cell = os.open("/proc/self/ns/mnt", os.O_RDONLY)
            _close_all_but((house, cell))
            if is_ready:
                door.serve(lambda place: _put(as_native(place), house, cell))
            _close_all_but(())
            while is_ready:
                signal.pause()
        finally:
            os._exit(1)

    def _build(self):
        # type: () -> None
        """In the first process of a cell: make the namespaces, and mount what every function needs."""
        kinds = ns.NEWNS | ns.NEWIPC | ns.NEWUTS | (0 if self._network else ns.NEWNET)
        ns.unshare(kinds, "mount, ipc, uts and network namespaces")
        flags = ns.MS_NOSUID | ns.MS_NODEV
        ns.detach("/proc")
        ns.mount("proc", "/proc", "proc", flags | ns.MS_NOEXEC)  # refused where /.host/proc is covered in part
        ns.bind("/proc/sys", "/proc/sys")
        ns.mount("tmpfs", TMP, "tmpfs", flags, _TMP_OPTIONS % 1)  # its size comes with the function
        for real, target in self._covered:
            container.show(real, target) if real else container.hide(target)
        ns.mount("tmpfs", "/dev/shm", "tmpfs", flags, _SHM_OPTIONS)  # noqa: S108  # the cell's own
        ns.mount("tmpfs", HOME, "tmpfs", flags, "mode=755,size=1m,nr_inodes=4k")
        os.mkdir(DEPENDENCIES)
        door.make()
        ns.detach(HOST)
        ns.restrict("/", ns.RDONLY)
        ns.set_hostname("function")
        if not self._network:
            _raise_loopback()


def _put(place, house, cell):
    # type: (dict[str, Any], int, int) -> None
    """In the first process of a cell: put the function's files in their places.

    The host's root is in the house's mount namespace alone: to unmount it here and now would take a millisecond, for
    which the kernel waits until no processor looks at it any more.
    """
    ns.join(house, ns.NEWNS)
    try:
        sources = [(CODE, place["code"])]
        sources += [("%s/%d" % (DEPENDENCIES, number), path) for number, path in enumerate(place["dependencies"])]
        trees = [(target, ns.copy_tree(HOST + source)) for target, source in sources]
    finally:
        ns.join(cell, ns.NEWNS)
    flags = ns.MS_REMOUNT | ns.MS_NOSUID | ns.MS_NODEV
    ns.mount("tmpfs", TMP, None, flags, _TMP_OPTIONS % (place["tmp_mb"] + _SLACK_MB))
    for target, fd in trees:
        os.mkdir(target)
        ns.attach(fd, target)
    ns.restrict(HOME, ns.RDONLY)


def _answer(fd, act):
    # type: (int, Any) -> bool
    """Do it, write to *fd* how that went, and return whether it went well."""
    try:
        act()
    except (OSError, IOError) as error:
        os.write(fd, _story(error))
        return False
    os.write(fd, _READY + b"\n")
    return True


def _story(error):
    # type: (Any) -> bytes
    """What was refused, as one line."""
    words = u"E%d %s|%s" % (error.errno or 0, getattr(error, "what", "a cell"), error.strerror)
    return words.replace(u"\n", u" ").encode("utf-8", "replace") + b"\n"


def _refusal(line):
    # type: (bytes) -> ns.Refused
    number, _, story = line[1:].decode("utf-8", "replace").partition(u" ")
    what, _, words = story.partition(u"|")
    refused = ns.Refused(int(number or 0), str(what or "a cell"))
    refused.strerror = str(words or "it ended without a word")
    return refused


def _read_line(fd):
    # type: (int) -> bytes
    """One line without its end; empty when nobody is left to write one."""
    line = b""
    while line[-1:] != b"\n":
        more = read_some(fd, 1)
        if not more:
            return b"X"
        line += more
    return line[:-1]


def _close_all_but(kept):
    # type: (tuple[int, ...]) -> None
    """Close every descriptor but 0 to 2 and those *kept*."""
    for fd in range(3, 256):
        if fd not in kept:
            try:
                os.close(fd)
            except OSError:
                pass


def _await_end(pidfd):
    # type: (int) -> None
    """Wait until a process has ended; that of a pid namespace's first is after that of all others in it."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    while True:
        try:
            poll.poll()
        except (OSError, select.error) as error:
            if error.args[0] != errno.EINTR:  # 2.7 is interrupted by SIGCHLD
                raise
        else:
            return


def _reap(pid):
    # type: (int) -> None
    while True:
        try:
            os.waitpid(pid, 0)
        except OSError as error:
            if error.errno != errno.EINTR:
                return
        else:
            return


def _raise_loopback():
    # type: () -> None
    """Switch the loopback device of a new network namespace on: a function may talk to itself."""
    control = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        flags = struct.unpack("16sh", fcntl.ioctl(control.fileno(), _SIOCGIFFLAGS, struct.pack("16sh", b"lo", 0)))[1]
        fcntl.ioctl(control.fileno(), _SIOCSIFFLAGS, struct.pack("16sh", b"lo", flags | _IFF_UP))
    finally:
        control.close()
