"""A warmed interpreter that starts instances, reaps them, and takes everything with it when the engine ends.

Theory of operation
-------------------
The engine talks to a zygote over one stream socket, in frames: commands one way, answers and reports of exits the
other. The zygote makes an instance's pipes and sends the engine its ends: a frame that says how many descriptors
follow, then one byte with each. Not the other way round, because the kernel lets no user have more descriptors under
way than the sender may open (unix(7), ETOOMANYREFS): a function could use that up for the engine, whose limit is the
host's, and not for the zygote, which has raised its own. A command is taken as it comes: the rest of one whose sender
was interrupted never does, and instances that end must be reaped all the same.

The zygote stays single-threaded, because fork copies only the thread that calls it, and imports nothing of any
function. It waits for three things: the socket, the engine's pidfd and the wake-up pipe of SIGCHLD. The pidfd,
not the end of the socket, is what tells that the engine died: a host that forks leaves copies of the socket.

Every instance is a session of its own and a child subreaper, and so is the zygote. Whatever an instance starts
stays below it; when it ends, what is left below becomes a child of the zygote, which kills and reaps it, and what
comes to it by that, until there is nothing; only then it reports the exit. A child of its own can be killed by
number: nobody else reaps it, so the number cannot have a new owner. Something that forks without end is caught
because killing one takes some microseconds and forking some hundred.
"""

import errno
import fcntl
import gc
import os
import resource
import select
import signal
import socket
import sys

from sandbox import bootstrap, failures, randomness, stdio
from sandbox.compat import PY2, as_native, prepare_clock, read_some
from sandbox.logger import prepare_logger
from sandbox.pipes import Pipes, send_descriptor
from sandbox.rehearsal import rehearse
from sandbox.wire import LENGTHS, loads, write_frame

MYPY = False  # mypy takes it for True; 2.7 has no typing to import
if MYPY:
    from typing import Any

_READ_BYTES = 65536
_STRAY_WAIT_S = 0.01  # a death that is not told by SIGCHLD is looked for this often
_SHORT_BYTES = 4000
_WAITS_A_ROUND = 8  # a process takes a third of a millisecond to die


def move_in(here, numbers, options):
    # type: (str, list[int], str) -> None
    """Become a zygote of the container level (see ``container``)."""
    from sandbox import container

    container.move_in(here, numbers, as_native(loads(options.encode("ascii"))))


def serve(here, control_fd, engine_pidfd, engine_pid, options):
    # type: (str, int, int, int, str) -> None
    """Obey the engine until it ends, then kill everything below and exit."""
    from sandbox import kernel, shield  # import ctypes: not for an instance that was started by exec

    prepare_clock()
    prepare_logger()
    kernel.share_one_arena()
    kernel.adopt_orphans()
    kernel.renounce_privileges()
    kernel.unblock_signals()
    os.umask(0o022)  # the usual one, whatever the host's: functions make files
    _heed_signals()
    _allow_descriptors()
    randomness.forget_descriptor()
    os.environ.clear()  # so that an instance has nothing to clear, and copies no page for it
    zygote = _Zygote(here, control_fd, engine_pidfd, kernel, shield)
    try:
        # Else the engine ended before its pidfd could tell us.
        if os.getppid() == engine_pid and zygote.prepare(**as_native(loads(options.encode("ascii")))):
            _settle()
            zygote.run()
    finally:  # also when the engine ended while it was being told something
        zygote.kill_everything()
    os._exit(0)


def _allow_descriptors():
    # type: () -> None
    """Raise the soft limit to the hard one: private descriptors are from 64 on, whatever the host makes do with."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _heed_signals():
    # type: () -> None
    """Undo what the host ignores: that, and what it blocks, is kept across an exec.

    A blocked SIGCHLD would keep a zygote from reaping, and an ignored SIGTERM is nothing that a function expects.
    """
    for number in range(1, signal.NSIG):
        # The interpreter itself ignores these two, and so does every function's.
        if number not in (signal.SIGPIPE, signal.SIGXFSZ) and signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


def _settle():
    # type: () -> None
    """Put what is there now out of the garbage collector's sight, so that its pages stay shared."""
    gc.collect()
    if hasattr(gc, "freeze"):  # 3.7
        gc.freeze()


class _Zygote(object):
    def __init__(self, here, control_fd, engine_pidfd, kernel, shield):
        # type: (str, int, int, Any, Any) -> None
        self._here = here
        self._kernel = kernel
        self._shield = shield
        self._ruleset = shield.raise_shield()
        self._prepared = bootstrap.Prepared()
        self._control = socket.fromfd(control_fd, socket.AF_UNIX, socket.SOCK_STREAM)
        os.close(control_fd)
        self._engine_pidfd = engine_pidfd
        self._wake_read, self._wake_write = os.pipe()
        for fd in (self._control.fileno(), self._engine_pidfd, self._wake_read, self._wake_write):
            stdio.set_close_on_exec(fd)
        for fd in (self._wake_read, self._wake_write):
            fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_NONBLOCK)
        self._commands = b""  # what has come of the next ones
        self._instances = set()  # type: set[int]
        self._cells = None  # type: Any
        self._servants = set()  # type: set[int]  # children of ours that are no instances, and no strays
        # A handler must be there for the wake-up pipe to be written to; SIGCHLD is ignored by default.
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        signal.set_wakeup_fd(self._wake_write)

    def prepare(self, preload, search_path, cells=None):
        # type: (list[str], list[str], Any) -> bool
        """Do what was asked for when this zygote was started; False when the engine was told that it cannot be."""
        return (cells is None or self._open_cells(*cells)) and self._preload(preload, search_path)

    def _open_cells(self, function_id, network, covered):
        # type: (int, int, list[list[str]]) -> bool
        """Start instances in cells from now on: this is a zygote of the container level (see ``cell``)."""
        from sandbox import cell

        try:
            self._cells = cell.Cells(function_id, bool(network), covered)
        except OSError as error:
            refused = {"type": "unavailable", "serial": 0, "what": getattr(error, "what", ""), "error": str(error)}
            write_frame(self._control.fileno(), refused)
            return False
        self._servants.add(self._cells.maker)
        if network and self._ruleset is not None:
            # The host's abstract sockets are in its network namespace, and some of them give root away.
            os.close(self._ruleset)
            scopes = self._shield.SCOPE_SIGNAL | self._shield.SCOPE_ABSTRACT_UNIX_SOCKET
            self._ruleset = self._shield.make_ruleset(self._shield.landlock_abi(), scopes)
        return True

    def _preload(self, preload, search_path):
        # type: (list[str], list[str]) -> bool
        """Import the modules that all instances of this zygote want; tell the engine when one cannot be had.

        Libraries run here with the zygote's own rights, before there is any function: that is what was asked for.
        """
        before = sys.path[:]
        sys.path[0:0] = search_path
        for name in preload:
            try:
                __import__(name)
            except BaseException as error:  # noqa: BLE001  # whatever a library raises at import
                words = "%s: %s" % (type(error).__name__, error)
                told = {"type": "unloadable", "serial": 0, "module": name, "error": words}
                write_frame(self._control.fileno(), told)
                return False
        sys.path[:] = before
        return True

    def run(self):
        # type: () -> None
        """Wait and obey until the engine has ended or closed its end of the socket."""
        write_frame(self._control.fileno(), {"type": "ready", "serial": 0})
        poll = select.poll()
        for fd in (self._control.fileno(), self._engine_pidfd, self._wake_read):
            poll.register(fd, select.POLLIN)
        while True:
            try:
                ready = [fd for fd, _ in poll.poll()]
            except (OSError, select.error) as error:
                if error.args[0] != errno.EINTR:  # 2.7 is interrupted by the SIGCHLD itself
                    raise
                continue
            if self._wake_read in ready:
                self._reap()
            if self._engine_pidfd in ready:
                return
            if self._control.fileno() in ready and not self._obey():
                return

    def _obey(self):
        # type: () -> bool
        """Read what has come, and carry out each command that is whole; False at the end of them."""
        data = read_some(self._control.fileno(), _READ_BYTES)
        self._commands += data
        while len(self._commands) >= LENGTHS.size:
            end = LENGTHS.size + LENGTHS.unpack_from(self._commands)[0]
            if len(self._commands) < end:
                break
            command = as_native(loads(self._commands[LENGTHS.size : end]))
            self._commands = self._commands[end:]
            self._carry_out(command)
        return bool(data)

    def _carry_out(self, command):
        # type: (dict[str, Any]) -> None
        """Start an instance, and tell the engine of it."""
        control_fd, pipes = self._control.fileno(), Pipes()
        try:
            pipes.open()
            answer = {"type": "started", "pid": self._start(command, pipes)}  # type: dict[str, Any]
            write_frame(control_fd, {"type": "descriptors", "count": len(pipes.engines)})
            for fd in pipes.engines:
                send_descriptor(self._control, fd)
        except OSError as error:
            answer = {"type": "failed", "error": str(error)}
        pipes.close(pipes.engines + pipes.instances)
        answer["serial"] = command["serial"]
        write_frame(control_fd, answer)

    def _start(self, command, pipes):
        # type: (dict[str, Any], Pipes) -> int
        zygote_pid = os.getpid()
        pid, cell = (os.fork(), None) if self._cells is None else self._cells.fork()
        if pid == 0:
            try:
                self._be_born(zygote_pid, command, pipes, cell)
            except BaseException:  # noqa: BLE001  # descriptor 2 is the log, if it came that far
                failures.print_to_log(self._prepared.streams[1], [])
            finally:
                os._exit(1)
        self._instances.add(pid)
        return pid

    def _be_born(self, zygote_pid, command, pipes, cell):
        # type: (int, dict[str, Any], Pipes, Any) -> None
        """Become a session of its own with nothing of the zygote left, then the instance."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        if cell is None:  # else it is in another pid namespace, and told already
            self._kernel.die_with_parent(zygote_pid)
        os.setsid()
        self._kernel.adopt_orphans()
        pipes.close(pipes.engines)
        request_fd, reply_fd, log_fd = pipes.instances
        stdio.give_output_to(log_fd)
        door = None if cell is None else self._cells.enter(cell)
        if self._ruleset is not None:  # not before: from within, a cell's first process cannot be reached any more
            self._shield.enter(self._ruleset)
        if command["method"] == "spawn":
            own = _read_alone(request_fd)
            if door is not None and own["place"] is not None:
                door.fetch(own["place"])  # the function's variables act when the interpreter starts
                door = None
            self._exec(own["environment"], (request_fd, reply_fd) + (door.fds if door is not None else ()))
        self._control.close()
        for fd in (self._engine_pidfd, self._wake_read, self._wake_write):
            os.close(fd)
        randomness.renew()
        bootstrap.run(request_fd, reply_fd, self._prepared, rehearse if command["ahead"] else None, door)

    def _exec(self, environment, fds):
        # type: (dict[str, str], tuple[int, ...]) -> None
        for fd in fds:
            fcntl.fcntl(fd, fcntl.F_SETFD, fcntl.fcntl(fd, fcntl.F_GETFD) & ~fcntl.FD_CLOEXEC)
        if PY2:  # no other way to a standard output of UTF-8; the instance forgets the variable
            environment.setdefault("PYTHONIOENCODING", "utf-8:backslashreplace")
        main = os.path.join(self._here, "__main__.py")  # the folder would cost 10 ms: runpy imports half a library
        arguments = [sys.executable, "-s", "-u", main, "instance"] + [str(fd) for fd in fds]
        os.execve(sys.executable, arguments, environment)

    def _reap(self):
        # type: () -> None
        """Collect everybody who ended; report instances once nothing that they started is alive."""
        _drain(self._wake_read)
        ended = []  # type: list[tuple[int, int, Any]]
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except OSError as error:
                if error.errno == errno.EINTR:
                    continue
                break  # ECHILD: nobody is left
            if pid == 0:
                break
            if os.WIFSTOPPED(status):
                # No end: it made us its tracer (ptrace(2), PTRACE_TRACEME), and would stay stopped for good.
                os.kill(pid, signal.SIGKILL)
            elif pid in self._instances:
                self._instances.discard(pid)
                ended.append((pid, status, usage))
            self._mourn(pid)
        for pid, _, _ in ended:
            self._end_cell(pid)
        # Also when no instance has ended: one that is traced (ptrace(2)) by what it started cannot be reaped before
        # that is dead. It is a stray by then, and the engine, tired of waiting, sends a SIGCHLD.
        if self._kill_strays():
            os.write(self._wake_write, b"\0")  # it may have taken the word of another instance's end: look again
        for pid, status, usage in ended:
            report = {"type": "exited", "pid": pid, "status": status, "peak_kb": usage.ru_maxrss}
            write_frame(self._control.fileno(), report)

    def _mourn(self, pid):
        # type: (int) -> None
        """End with the process that makes cells: all of them ended with it."""
        if pid in self._servants and not os.path.exists("/proc/%d" % pid):
            self.kill_everything()
            os._exit(1)

    def _end_cell(self, pid):
        # type: (int) -> None
        """Kill what an instance that was reaped left in its container, if it was in one."""
        if self._cells is not None:
            self._cells.end(pid)

    def _kill_strays(self):
        # type: () -> bool
        """Kill what dead instances left behind, and what that leaves behind; return whether there was anything."""
        found = False
        while True:
            strays = [pid for pid in _children() if pid not in self._instances and pid not in self._servants]
            if not strays:
                return found
            found = True
            for pid in strays:
                # Our own child, and not reaped by anybody but us: the number cannot have a new owner.
                os.kill(pid, signal.SIGKILL)
            # A wait for one of them at a time: each that dies wakes us, and asking for all of them, and for a new list,
            # took longer than dying. But only a few waits: one that is traced (ptrace(2)) cannot be reaped before its
            # tracer is dead, which may become a stray only now; and so may what forks without end.
            waits = 0
            while strays and waits < _WAITS_A_ROUND:
                if _is_reaped(strays[-1]):
                    strays.pop()
                else:
                    waits += 1
                    self._wait_for_a_death()
            for pid in strays:  # the first of a pid namespace is not dead before we have reaped the others in it
                _is_reaped(pid)

    def _wait_for_a_death(self):
        # type: () -> None
        try:
            select.select([self._wake_read], [], [], _STRAY_WAIT_S)
        except (OSError, select.error):  # noqa: B014  # EINTR: 2.7 is interrupted by the SIGCHLD itself
            pass
        _drain(self._wake_read)

    def kill_everything(self):
        # type: () -> None
        """End every instance and everything below, without a word to an engine that is no more."""
        self._instances.clear()  # so that they are strays, like everything below them
        self._servants.clear()
        self._kill_strays()


def _drain(fd):
    # type: (int) -> None
    """Read a descriptor that does not block until there is nothing."""
    try:
        while os.read(fd, 4096):
            pass
    except OSError as error:
        if error.errno not in (errno.EAGAIN, errno.EINTR):
            raise


def _is_reaped(pid):
    # type: (int) -> bool
    """Reap the child *pid* if it is dead."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except OSError as error:
        return error.errno != errno.EINTR  # ECHILD: reaped already


def _read_alone(fd):
    # type: (int) -> dict[str, Any]
    """The header of the next frame, and not a byte of what is behind it: a program that is executed reads on."""
    lengths = LENGTHS.unpack(_read_exactly(fd, LENGTHS.size))
    return dict(as_native(loads(_read_exactly(fd, lengths[0]))))


def _read_exactly(fd, size):
    # type: (int, int) -> bytes
    data = b""
    while len(data) < size:
        more = read_some(fd, size - len(data))
        if not more:
            os._exit(0)  # nobody wants us any more
        data += more
    return data


def _children():
    # type: () -> list[int]
    pid = os.getpid()
    listing = os.open("/proc/%d/task/%d/children" % (pid, pid), os.O_RDONLY)  # a file object costs three times as much
    try:
        text = part = os.read(listing, 4096)
        while len(part) > _SHORT_BYTES:  # the kernel gives a page at a time, less the number that did not fit
            part = os.read(listing, 4096)
            text += part
    finally:
        os.close(listing)
    return [int(each) for each in text.split()]
