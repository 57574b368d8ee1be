"""The life of an instance: claim descriptors -> stdio -> limits -> load -> initialize -> serve.

Theory of operation
-------------------
The engine writes requests on one pipe and reads replies from another; both were made private before any code
of the function could run. Each request carries a token that nobody else knows, and its reply must carry the
same: a frame that a function forges ahead of time, or a second reply, is told apart by it.

The thread that reads a request runs it and writes the reply: no hand-over between threads is in the way of an
invocation. By default that thread is not the main one, as in production; the main thread only waits for it.
Deadlines, memory and exit are the engine's business: nothing here has a timer.

Everything that this side needs was imported, and is held by name in default arguments or in this module's
globals, before the function's code is imported: a function may patch json, os, sys, time or builtins. Builtins
are found in our modules' globals as well (``compat.hold_builtins``).
"""

import os
import sys
import threading
import time
import types

from sandbox import confine, failures, results, stdio
from sandbox.compat import PY2, as_native, forget_exception, hold_builtins, monotonic_ns, to_text, write_all
from sandbox.context import Context, FunctionSettings
from sandbox.loader import Loader, LoadError, module_name
from sandbox.wire import AHEAD_KIND, CALL, CALL_KIND, FrameReader, loads, write_reply, write_reply_with_duration

MYPY = False  # mypy takes it for True; 2.7 has no typing to import
if MYPY:
    from typing import Any

_EX_SOFTWARE = 70  # sysexits.h: internal software error

LOAD_PREFIX = "function entry exception, error: "
INITIALIZE_PREFIX = "function initialization exception, error: "
INVOKE_PREFIX = "function invocation exception, error: "
RESULT_PREFIX = "function result is invalid, error: "


class Prepared(object):
    """What an instance needs and a zygote makes once for all of its own: each saves copying shared pages."""

    def __init__(self):
        # type: () -> None
        self.streams = stdio.open_streams()  # they know the numbers 1 and 2, whatever those are a moment later
        self.our_modules = [name for name in sys.modules if name == "sandbox" or name.startswith("sandbox.")]
        for name in self.our_modules:
            if sys.modules[name] is not None:  # 2.7 notes "not relative" like this: sandbox.os, sandbox.sys
                hold_builtins(sys.modules[name])


def run(request_fd, reply_fd, prepared, rehearse=None, door=None, _sleep=time.sleep):
    # type: (int, int, Prepared, Any, Any, Any) -> None
    """Serve one function until the engine closes the request pipe. Never returns.

    Args:
        request_fd: Where requests come from.
        reply_fd: Where replies go.
        prepared: Made in this process, or in the zygote before it forked this one.
        rehearse: Called first when nobody waits for this one yet.
        door: In a container, by which its files come when it is known which (see ``door``).
    """
    try:
        request_fd, reply_fd = stdio.claim_fd(request_fd), stdio.claim_fd(reply_fd)
        reader = FrameReader(request_fd)
        thread = _ServingThread()
        if rehearse is not None:
            thread.start()
            rehearse(prepared)
        frame = reader.read()
        if frame is None:
            os._exit(0)
        settings = as_native(loads(frame[0]))
        if door is not None:
            door.fetch(settings["place"])
        confine.apply_limits(settings["limits"])
        _move_in(settings)
        instance = Instance(settings, reader, reply_fd, prepared.streams)
        # Held: 2.7 empties the globals of a module that nothing refers to any more.
        ours = _leave_no_names(prepared.our_modules)
        if settings["main_thread"]:
            thread.dismiss()
            instance.serve()
        else:
            thread.serve(instance)
            # serve() ends the process. Not a join: 2.7 cannot be interrupted in one without a timeout, and one with
            # a timeout polls 20 times a second. A sleeping main thread still runs the signal handlers of Python.
            while ours:
                _sleep(3600)
    except BaseException:  # noqa: BLE001  # no caller is left; descriptor 2 is the log
        failures.print_to_log(prepared.streams[1], [])
        os._exit(_EX_SOFTWARE)


class _ServingThread(object):
    """The thread that serves; it may be started before there is anything to serve."""

    def __init__(self):
        # type: () -> None
        self._instance = None  # type: Instance | None
        self._thread = None  # type: threading.Thread | None
        self._go = threading.Lock()

    def start(self):
        # type: () -> None
        """Start it, and let it wait."""
        self._go.acquire()
        self._thread = threading.Thread(target=self._run)
        self._thread.daemon = True
        self._thread.start()

    def serve(self, instance):
        # type: (Instance) -> None
        """Have it serve *instance*."""
        if self._thread is None:
            self.start()
        self._instance = instance
        self._go.release()

    def dismiss(self):
        # type: () -> None
        """Have it end, if it was started: the main thread serves."""
        if self._thread is not None:
            self._go.release()
            self._thread.join()

    def _run(self):
        # type: () -> None
        self._go.acquire()
        if self._instance is not None:
            self._instance.serve()


def _move_in(settings):
    # type: (dict[str, Any]) -> None
    """Make environment, import path, arguments and working directory those of the function."""
    environment = settings["environment"]
    for name in [name for name in os.environ if name not in environment]:
        del os.environ[name]
    os.environ.update(environment)
    if "TZ" in environment:
        time.tzset()  # a forked instance read it long before it was its own
    sys.path[0:0] = settings["import_path"]
    sys.argv[:] = [os.path.join(str(settings["code_root"]), *module_name(str(settings["handler"])).split(".")) + ".py"]
    sys.dont_write_bytecode = True  # the code folder is the user's, and read-only on the platform
    os.chdir(str(settings["working_directory"]))


def _leave_no_names(names):
    # type: (list[str]) -> list[types.ModuleType]
    """Take our modules out of ``sys.modules``: a function may have a sandbox or a bootstrap of its own."""
    ours = [sys.modules.pop(name) for name in names]
    ours.append(sys.modules["__main__"])
    sys.modules["__main__"] = types.ModuleType("__main__")
    return ours


class Instance(object):
    """Serves the requests of one function, one after the other, on the thread that calls serve()."""

    def __init__(self, settings, reader, reply_fd, streams):
        # type: (dict[str, Any], FrameReader, int, tuple[Any, Any]) -> None
        self._settings = FunctionSettings(settings)
        self._entries = {"handler": str(settings["handler"]), "initializer": settings["initializer"]}
        self._roots = [to_text(path) for path in settings["import_path"]]  # as text: 2.7 has bytes for paths
        self._loader = Loader(str(settings["code_root"]))
        self._reader = reader
        self._reply_fd = reply_fd
        self._streams = streams
        self._handler = None  # type: Any
        self._log_fd = -1
        self._free_at_ns = 0
        self._pid = os.getpid()

    def serve(self, _exit=os._exit):
        # type: (Any) -> None
        """Answer requests until the pipe ends, then end the process."""
        try:
            self._log_fd = stdio.duplicate_log()
            read, phases = self._reader.read, {"load": self._load, "initialize": self._initialize}
            while True:
                frame = read()
                if frame is None:
                    break
                kind = frame[0][:1]
                if kind == CALL_KIND:
                    self._invoke(*frame)
                elif kind == AHEAD_KIND:
                    self._invoke_ahead(*frame)
                else:
                    header = loads(frame[0])
                    self._answer(header, phases[header["type"]])
                del frame  # a 6 MiB event must not live on in an idle instance
        except BaseException:  # noqa: BLE001  # ours, or a closed reply pipe: say so in the log
            failures.print_to_log(self._streams[1], [])
            _exit(_EX_SOFTWARE)
        _exit(0)

    def rehearse(self, header, call, payload):
        # type: (dict[str, Any], bytes, bytes) -> None
        """Go the way of a first request once."""
        try:
            self._load(header)
        except LoadError:
            return
        self._invoke(call, payload)

    def _invoke(self, header, payload, _unpack=CALL.unpack_from):
        # type: (bytes, bytes, Any) -> None
        _, token, deadline_ns = _unpack(header)
        if not PY2:
            token = token.decode("ascii")
        kind, body = self._run(header, payload, deadline_ns)
        self._reply(kind, token, body)

    def _invoke_ahead(self, header, payload, _unpack=CALL.unpack_from, _now_ns=monotonic_ns, _getpid=os.getpid):
        # type: (bytes, bytes, Any, Any, Any) -> None
        """Answer one of several requests that were written at once: it begins when the one before has its reply."""
        _, token, timeout_ns = _unpack(header)
        if not PY2:
            token = token.decode("ascii")
        started_ns = _now_ns() if self._reader.has_waited else self._free_at_ns
        kind, body = self._run(header, payload, started_ns + timeout_ns)
        if _getpid() == self._pid:
            mark_end_of_log(self._log_fd, token)
        self._free_at_ns = _now_ns()
        self._reply(kind, token, body, self._free_at_ns - started_ns)

    def _run(self, header, payload, deadline_ns, _loads=loads, _encode=results.encode, _after=CALL.size):
        # type: (bytes, bytes, int, Any, Any, int) -> tuple[str, bytes]
        """Call the handler; return the kind and the payload of the reply."""
        settings = self._settings
        request_id = header[_after:]  # type: Any
        if not PY2:
            request_id = request_id.decode("utf-8")
        settings.request_id = request_id
        context = Context(settings, request_id, deadline_ns)
        kind, body = "result", b""
        try:
            body = _encode(self._handler(_loads(payload), context))
        except results.InvalidResult as error:
            kind = "too_large" if error.too_large else "invalid"
            prefix = "" if error.too_large else RESULT_PREFIX
            body = results.encode(failures.Failure(error.message, error.type_name).to_dict(prefix))
        except:  # noqa: E722  # sys.exit() too is the function's failure; and 2.7 raises instances of old-style classes
            kind, body = "error", self._failure(INVOKE_PREFIX)
            forget_exception()
        stdio.flush(self._streams)
        return kind, body

    def _answer(self, header, act, _write=os.write):
        # type: (dict[str, Any], Any, Any) -> None
        """Run a phase that has no result of its own, and reply how it ended."""
        kind, body = "done", b""
        self._settings.request_id = as_native(header["request_id"])
        prefix = LOAD_PREFIX if header["type"] == "load" else INITIALIZE_PREFIX
        try:
            act(header)
        except LoadError as error:
            kind = "error"
            body = results.encode(failures.Failure(error.message, error.type_name).to_dict(prefix))
            _write(2, (to_text(error.message) + u"\n").encode("utf-8"))
        except:  # noqa: E722  # as above
            kind, body = "error", self._failure(prefix)
            forget_exception()
        stdio.flush(self._streams)
        self._reply(kind, header["token"], body)

    def _load(self, _header):
        # type: (dict[str, Any]) -> None
        self._handler = self._loader.load(self._entries["handler"], "handler", 2)

    def _initialize(self, header):
        # type: (dict[str, Any]) -> None
        initializer = self._loader.load(self._entries["initializer"], "initializer", 1)
        initializer(Context(self._settings, self._settings.request_id, header["deadline_ns"]))

    def _failure(self, prefix, _exc_info=sys.exc_info):
        # type: (str, Any) -> bytes
        """Tell of the exception that is being handled, whatever its class does against that."""
        kind, error, trace = _exc_info()
        try:
            if prefix != INVOKE_PREFIX and issubclass(kind, SyntaxError):
                failure = failures.describe_syntax_error(error, self._roots)
            else:
                failure = failures.describe(kind, error, trace, self._roots)
        except BaseException:  # noqa: BLE001  # attributes of the function's own making
            failure = failures.indescribable(kind)
        failures.print_to_log(self._streams[1], self._roots)
        return results.encode(failure.to_dict(prefix))

    def _reply(self, kind, token, body, duration_ns=None, _getpid=os.getpid, _exit=os._exit):
        # type: (str, str, bytes, int | None, Any, Any) -> None
        if _getpid() != self._pid:
            _exit(0)  # a copy that the function forked and forgot to end: it answers nobody, and serves nobody
        if duration_ns is None:
            write_reply(self._reply_fd, kind, token, body)
        else:
            write_reply_with_duration(self._reply_fd, kind, token, body, duration_ns)


def mark_end_of_log(log_fd, token):
    # type: (int, str) -> None
    """Write where the output of the request with *token* ends."""
    try:
        write_all(log_fd, ("\0%s\0" % token).encode("ascii"))
    except (IOError, OSError):
        pass  # closed by the function: the engine takes what there is
