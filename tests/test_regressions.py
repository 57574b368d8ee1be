"""Mistakes that a review found, each with the promise that it broke: none of them comes back."""

from __future__ import annotations

import enum
import gc
import logging
import os
import socket
import sys
import threading
import time
import types
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import psutil
import pytest

from engine import (
    Engine,
    EngineClosedError,
    Function,
    InvalidEventError,
    InvalidFunctionError,
    Result,
    Status,
    fleet,
    launch,
)
from engine.clock import NS_PER_S
from engine.control import Control
from engine.events import EventLog
from engine.instance import Instance
from engine.invocation import Invocation
from engine.launch import Zygote, ZygoteSpec
from engine.payload import encode_event
from engine.pool import Pool
from tests.conftest import Holdings

if TYPE_CHECKING:
    from tests.conftest import DeathWatch, FunctionMaker, Invoker

PATIENCE_S = 20
LATER_NS = 2**62
"""On the monotonic clock: every instance and every pool is older."""

on_one_runtime = pytest.mark.parametrize("runtime", ["python3.9"], indirect=True)
"""For promises that the child has no part in."""

ECHO = """
    import os

    def handler(event, context):
        if event == "exit":
            os._exit(3)
        return [event, os.getpid()]
"""


# Interrupts in the middle of a start


def interrupted(*_: object, **__: object) -> Any:
    raise KeyboardInterrupt


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_answer_to_an_interrupted_start_is_nobodys(
    make_function: FunctionMaker, monkeypatch: pytest.MonkeyPatch, runtime: str, method: Any
) -> None:
    """The next start gets its own process, and not the one that answers late to the one before."""
    function = make_function(ECHO)
    with Engine(start_method=method, spare_instances=0) as engine:
        engine.warm_up([runtime])
        for _ in range(2):
            with monkeypatch.context() as patch:
                patch.setattr(Control, "_answer", interrupted)
                with pytest.raises(KeyboardInterrupt):
                    engine.invoke(function, 1)
        first, second = engine.invoke(function, 2), engine.invoke(function, 3)
        pids = [instance.pid for instance in engine._fleet._pools[function]._idle]
        zygotes = engine._fleet._starter.zygotes.everything()

    assert [(True, [2, *pids]), (False, [3, *pids])] == [(each.cold_start, each.value) for each in (first, second)]
    assert 1 == len(zygotes)


@on_one_runtime
@pytest.mark.parametrize("place", ["Instance.is_usable", "EventLog.instance_started", "Invocation.__init__"])
def test_instance_is_not_lost_to_an_interrupt_before_its_invocation(
    make_function: FunctionMaker, monkeypatch: pytest.MonkeyPatch, wait_until_dead: DeathWatch, place: str
) -> None:
    """One in 75 of those that came in a loop of warm calls: close() waited 10 s for who never had it."""
    owner, name = place.split(".")
    classes: dict[str, type] = {"Instance": Instance, "EventLog": EventLog, "Invocation": Invocation}
    function = make_function(ECHO)
    with Engine(max_instances=1) as engine:
        pid = engine.invoke(function, 1).value[1]
        if owner == "EventLog":
            engine.release_idle()
        with monkeypatch.context() as patch:
            patch.setattr(classes[owner], name, interrupted)
            with pytest.raises(KeyboardInterrupt):
                engine.invoke(function, 2)
        wait_until_dead(pid)
        pool = engine._fleet._pools[function]
        counted = (len(pool._idle), len(pool._busy), pool._starting)

        assert ((0, 0, 0), [3, True]) == (counted, [(third := engine.invoke(function, 3)).value[0], third.cold_start])


@pytest.mark.parametrize("sent", [0, 5, 40])
def test_zygote_that_was_cut_off_in_a_command_serves_on_and_starts_no_more(
    make_function: FunctionMaker, runtime: str, monkeypatch: pytest.MonkeyPatch, sent: int
) -> None:
    """*sent* of the command's bytes had gone out: whatever would follow them is misread.

    How an instance ends that it started before is told as ever, and at once.
    """
    function, other = make_function(ECHO), make_function(ECHO)
    send = socket.socket.send

    def cut_off(control: socket.socket, command: bytes, *flags: int) -> int:
        send(control, command[:sent], *flags)
        return interrupted()

    with Engine(spare_instances=0) as engine:
        before = engine.invoke(function, 1)
        with monkeypatch.context() as patch:
            patch.setattr(socket.socket, "send", cut_off)
            with pytest.raises(KeyboardInterrupt):
                engine.invoke(other, 2)
        warm, cold = engine.invoke(function, 3), engine.invoke(other, 4)
        cut, started = engine._fleet._starter.zygotes.everything()
        parents = [psutil.Process(each.value[1]).ppid() for each in (warm, cold)]
        # What is waited for in vain need not be waited for so long.
        monkeypatch.setattr(launch, "START_TIMEOUT_NS", NS_PER_S)
        ended = engine.invoke(function, "exit")

    assert [cut.pid, started.pid] == parents
    assert ([3, before.value[1]], False) == (warm.value, warm.cold_start)
    assert (4, True) == (cold.value[0], cold.cold_start)
    assert ended.error is not None
    assert "runtime process is exited, exit status 3" == ended.error["errorMessage"]


def test_start_that_cannot_be_told_cuts_nothing_off(engine: Engine, runtime: str) -> None:
    """The folder of temporary files may have a name that JSON cannot express: nothing is sent, no zygote is lost."""
    with closing(Zygote(ZygoteSpec(engine.runtimes.find(runtime)))) as zygote:
        with pytest.raises(TypeError, match="not valid UTF-8"):
            zygote.start("spawn", {"TMPDIR": "\udcff"}, 4096)
        can_start = zygote.can_start()
        process = zygote.start("spawn", {"TMPDIR": "/tmp"}, 4096)
        process.channel.close()

        assert can_start
        assert "exit status 0" == zygote.wait_exit(process.pid).describe()


def test_zygote_can_be_closed_twice(engine: Engine, runtime: str) -> None:
    """By a thread that found it dead and by the engine's end; its descriptors may be another's by then."""
    zygote = Zygote(ZygoteSpec(engine.runtimes.find(runtime)))
    zygote.close()
    zygote.close()

    assert (False, False) == (zygote.is_alive(), zygote.can_start())


# A log that cannot be written


@dataclass
class BrokenLogger:
    """Fails at one kind of event, and keeps all of them."""

    breaks_at: str
    told: list[str] = field(default_factory=list)
    broke: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def info(self, event: str, **_: object) -> None:
        self.told.append(event)
        if event == self.breaks_at:
            self.broke.release()
            raise OSError(28, "No space left on device")


@on_one_runtime
@pytest.mark.parametrize("event", ["instance_started", "instance_killed", "invocation_finished"])
def test_log_that_cannot_be_written_changes_nothing(make_function: FunctionMaker, event: str) -> None:
    """Results come back, instances are killed and counted right, and the engine can be closed."""
    function = make_function(ECHO)
    logger = BrokenLogger(event)
    with Engine(logger=logger, max_instances=1) as engine:
        results = [engine.invoke(function, n) for n in range(2)]
        engine.release_idle()
        results.append(engine.invoke(function, 2))
    started = ["instance_started", "invocation_finished"]

    assert [(0, True), (1, False), (2, True)] == [(each.value[0], each.cold_start) for each in results]
    assert [*started, "invocation_finished", "instance_killed", *started, "instance_killed"] == logger.told


@on_one_runtime
def test_idle_thread_outlives_a_log_that_cannot_be_written(make_function: FunctionMaker) -> None:
    """The second idle instance is released as the first one was."""
    function = make_function(ECHO)
    logger = BrokenLogger("instance_killed")
    with Engine(logger=logger, idle_timeout_s=0.01) as engine:
        for n in range(2):
            assert engine.invoke(function, n).cold_start
            assert logger.broke.acquire(timeout=PATIENCE_S)


@on_one_runtime
def test_structlog_that_is_being_imported_is_not_asked(
    make_function: FunctionMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another thread of the host is in the middle of it: the module is there, and empty."""
    monkeypatch.setitem(sys.modules, "structlog", types.ModuleType("structlog"))
    with Engine() as engine:
        result = engine.invoke(make_function(ECHO), 1)

    assert 1 == result.value[0]


# Closing


@on_one_runtime
def test_close_does_not_wait_for_a_thread_that_is_no_more(
    make_function: FunctionMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was interrupted between being allowed to start an instance and starting it: nobody gives that back."""
    monkeypatch.setattr(fleet, "_RETURN_TIMEOUT_S", 0.05)
    function = make_function(ECHO)
    engine = Engine()
    engine.invoke(function, 1)
    engine.release_idle()
    engine._fleet._pools[function].acquire()
    with ThreadPoolExecutor(1) as elsewhere:
        closing_it = elsewhere.submit(engine.close)
        try:
            closing_it.result(PATIENCE_S)
        finally:
            engine._fleet._pools[function].given_up()


@on_one_runtime
def test_second_thread_that_closes_waits_until_all_is_gone(make_function: FunctionMaker) -> None:
    """Whoever called close() may remove the code or fork, whether somebody else was first or not."""
    told: list[str] = []

    def close_as_well() -> None:
        engine.close()
        told.append("second close() returned")

    class Logger:
        def info(self, event: str, **_: object) -> None:
            if event == "instance_killed":
                second.start()
                second.join(0.1)  # far more than it takes to return too early
                told.append("the first one still kills")

    engine = Engine(logger=Logger())
    second = threading.Thread(target=close_as_well)
    engine.invoke(make_function(ECHO), 1)
    engine.close()
    second.join(PATIENCE_S)

    assert ["the first one still kills", "second close() returned"] == told


def test_close_ends_a_function_that_is_being_started(make_function: FunctionMaker, tmp_path: Path) -> None:
    """In the middle of its import, which does not get to its end."""
    fifo, survived = tmp_path / "fifo", tmp_path / "survived"
    os.mkfifo(fifo)
    function = make_function(
        f"""
        import time

        with open({str(fifo)!r}, "w") as fifo:
            fifo.write("importing")
        time.sleep(3)
        open({str(survived)!r}, "w").close()

        def handler(event, context):
            pass
        """
    )
    with Engine() as engine:
        starting = engine.submit(function, None)
        told = fifo.read_text()

    assert "importing" == told
    assert isinstance(starting.exception(PATIENCE_S), EngineClosedError)
    assert not survived.exists()


@on_one_runtime
def test_forgotten_engine_leaves_no_descriptor(make_function: FunctionMaker) -> None:
    """Those of its idle instances are closed with it, though nobody called close()."""
    functions = [make_function(ECHO), make_function(ECHO)]
    before = Holdings.now().descriptors
    engine = Engine()
    for function in functions:
        assert engine.invoke(function, 1).ok
    during = Holdings.now().descriptors
    del engine
    gc.collect()

    assert before < during
    assert before == Holdings.now().descriptors


@pytest.fixture(name="acting_on_its_own_thread")
def _acting_on_its_own_thread(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], None]], None]:
    """Has something done while an engine's own thread holds a lock: garbage is collected wherever it is due."""
    acts: list[Callable[[], None]] = []
    inspect_idle = Instance.inspect_idle

    def act_and_inspect(instance: Instance) -> Any:
        if acts:
            acts.pop()()
        return inspect_idle(instance)

    monkeypatch.setattr(Instance, "inspect_idle", act_and_inspect)
    return acts.append


@on_one_runtime
@pytest.mark.slow
@pytest.mark.parametrize("is_closed", [False, True], ids=["forgotten", "closed by a finalizer"])
def test_engine_that_is_garbage_on_its_own_thread_ends(
    make_function: FunctionMaker,
    wait_until_dead: DeathWatch,
    acting_on_its_own_thread: Callable[[Callable[[], None]], None],
    *,
    is_closed: bool,
) -> None:
    """It stood still for ever when that thread looked at an idle instance: all of this needs the lock that it held."""
    held = [Engine()]
    pid = held[0].invoke(make_function(ECHO), 1).value[1]
    root = held[0]._fleet._workspace.root
    janitor = held[0]._fleet._janitor._thread
    assert janitor is not None
    acting_on_its_own_thread(held[0].close if is_closed else held.clear)
    wait_until_dead(pid)
    janitor.join(PATIENCE_S)

    assert (False, False) == (janitor.is_alive(), os.path.exists(root))
    for engine in held:
        with pytest.raises(EngineClosedError):
            engine.invoke(make_function(ECHO), 1)


@on_one_runtime
@pytest.mark.slow
def test_engine_is_forgotten_by_who_holds_what_its_thread_waits_for(
    make_function: FunctionMaker, monkeypatch: pytest.MonkeyPatch, wait_until_dead: DeathWatch
) -> None:
    """The garbage collector may come in the middle of writing a log, which the engine's thread is about to write to."""
    monkeypatch.setattr(fleet, "_RETURN_TIMEOUT_S", 0.05)
    is_waiting, lock = threading.Event(), threading.Lock()

    class Logger:
        def info(self, event: str, **_: object) -> None:
            if event == "instance_killed":
                is_waiting.set()
                with lock:
                    pass

    engine = Engine(idle_timeout_s=0.05, logger=Logger())
    pid = engine.invoke(make_function(ECHO), 1).value[1]
    with lock:
        assert is_waiting.wait(PATIENCE_S)
        del engine
    wait_until_dead(pid)


# Functions that nobody calls any more


@on_one_runtime
@pytest.mark.parametrize("source", [ECHO, "not Python"], ids=["healthy", "broken"])
def test_function_that_nobody_calls_any_more_is_forgotten(make_function: FunctionMaker, source: str) -> None:
    """Its description, secrets among it, is let go after idle_timeout_s; when it is called again it works as ever."""
    function = make_function(source)
    with Engine(idle_timeout_s=0.02) as engine:
        first = engine.invoke(function, 1)
        deadline = time.monotonic() + PATIENCE_S
        while engine._fleet._pools and time.monotonic() < deadline:
            time.sleep(0.005)  # the engine tells nobody
        forgotten = not engine._fleet._pools
        second = engine.invoke(function, 1)

    assert forgotten
    assert (first.status, True) == (second.status, second.cold_start)


def test_function_that_is_forgotten_while_it_is_called_works(
    engine: Engine, make_function: FunctionMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller holds a pool that is retired a moment before it asks it for an instance: it gets a new one."""
    function = make_function(ECHO)
    acquire = Pool.acquire
    retired: list[Pool] = []

    def acquire_late(pool: Pool) -> Any:
        if not retired:
            engine._fleet._upkeep.forget_unused(LATER_NS)
            retired.append(pool)
        return acquire(pool)

    engine.invoke(function, 1)
    engine.release_idle()
    monkeypatch.setattr(Pool, "acquire", acquire_late)
    results = [engine.invoke(function, n) for n in range(2)]

    assert [(0, True), (1, False)] == [(each.value[0], each.cold_start) for each in results]
    assert retired != [engine._fleet._pools[function]]


# Names beyond ASCII


NAMED = """
    # coding: utf-8
    {at_import}

    def handler(event, context):
        {in_handler}

    globals()["händler"] = handler
    globals()["zu_wenig_ä"] = lambda: None
    globals()["nichts_ä"] = None
"""
FINE = {"at_import": "pass", "in_handler": "return __name__"}
FAILURES: dict[str, tuple[dict[str, str], dict[str, str], Status, str]] = {
    "nothing": ({}, {}, Status.SUCCESS, ""),
    "exception": (
        {"in_handler": "raise ValueError(u'grüß')"},
        {},
        Status.FUNCTION_ERROR,
        "function invocation exception, error: grüß",
    ),
    "exception of bytes": (
        {"in_handler": "raise ValueError('grüß')"},
        {},
        Status.FUNCTION_ERROR,
        "function invocation exception, error: grüß",
    ),
    "invalid result": (
        {"in_handler": "return {'ä': object()}"},
        {},
        Status.INVALID_RESULT,
        "function result is invalid, error: Object of type object is not JSON serializable (at $",
    ),
    "import-time error": (
        {"at_import": "raise KeyError(u'x')"},
        {},
        Status.LOAD_ERROR,
        "function entry exception, error: ",
    ),
    "syntax error": (
        {"at_import": "1 +"},
        {},
        Status.LOAD_ERROR,
        "function entry exception, error: Syntax error in module 'paket_ä.modül'(",
    ),
    "missing file": (
        {},
        {"handler": "paket_ä/fehlt_ü.handler"},
        Status.LOAD_ERROR,
        "function entry exception, error: not found module './paket_ä/fehlt_ü.py'",
    ),
    "missing attribute": (
        {},
        {"handler": "paket_ä/modül.fehlt_ü"},
        Status.LOAD_ERROR,
        "function entry exception, error: handler 'fehlt_ü' not found in module './paket_ä/modül.py'",
    ),
    "not callable": (
        {},
        {"handler": "paket_ä/modül.nichts_ä"},
        Status.LOAD_ERROR,
        "function entry exception, error: handler 'nichts_ä' in module './paket_ä/modül.py' is not callable",
    ),
    "too few parameters": (
        {},
        {"handler": "paket_ä/modül.zu_wenig_ä"},
        Status.LOAD_ERROR,
        "function entry exception, error: handler expect to have 2 parameters, but received 0",
    ),
    "initializer": (
        {},
        {"initializer": "paket_ä/modül.fehlt_ü"},
        Status.INITIALIZER_ERROR,
        "function initialization exception, error: initializer 'fehlt_ü' not found in module './paket_ä/modül.py'",
    ),
}


@pytest.mark.parametrize("how", FAILURES)
def test_names_beyond_ascii_change_no_status(
    engine: Engine, make_function: FunctionMaker, tmp_path: Path, how: str
) -> None:
    """Of folders, files and functions: on 2.7 they are bytes, and meet the text of messages."""
    lines, description, status, message = FAILURES[how]
    made = make_function(NAMED.format(**{**FINE, **lines}), "paket_ä/modül.handler")
    folder = tmp_path / "ordner grüß 你好"
    os.rename(made.code, folder)
    given: dict[str, Any] = {"handler": "paket_ä/modül.händler", "runtime": made.runtime, **description}
    result = engine.invoke(Function(code=folder, **given), None)

    assert (status, message) == (result.status, (result.error or {"errorMessage": ""})["errorMessage"][: len(message)])
    if how == "nothing":
        assert "paket_ä.modül" == result.value
    if how in ("exception", "exception of bytes", "import-time error"):
        assert result.error is not None
        assert result.error["stackTrace"][-2].startswith('File "./paket_ä/modül.py", line ')
        assert result.error["stackTrace"][-1].startswith("    raise ")
        assert 'ordner grüß 你好/paket_ä/modül.py", line ' in result.log


# The logger of the context


def messages(result: Result) -> list[str]:
    """The log's lines without time and request id; a line that is not stamped is marked."""
    stamp = f" {result.summary.request_id} "
    lines = [line.partition(stamp) for line in result.log.splitlines()]
    return [message if found else f"not stamped: {line}" for line, found, message in lines]


def test_level_counts_from_when_it_is_set(engine: Engine, make_function: FunctionMaker) -> None:
    """Both ways, also for levels that were asked for before, and also in the invocations that follow (3.7: a cache)."""
    function = make_function(
        """
        import logging

        def handler(level, context):
            logger = context.getLogger()
            before = [logger.isEnabledFor(each) for each in (10, 20, 40)]
            logger.debug("before")
            logger.setLevel(level)
            for each in (10, 20, 40):
                logger.log(each, "%d of %d", each, level)
            return before
        """
    )
    results = [engine.invoke(function, level) for level in (logging.DEBUG, logging.ERROR, logging.INFO)]

    assert [[False, True, True], [True, True, True], [False, False, True]] == [result.value for result in results]
    assert ["DEBUG 10 of 10", "INFO 20 of 10", "ERROR 40 of 10"] == messages(results[0])
    assert ["DEBUG before", "ERROR 40 of 40"] == messages(results[1])
    assert ["INFO 20 of 20", "ERROR 40 of 20"] == messages(results[2])


def test_logging_can_be_disabled_and_enabled(engine: Engine, make_function: FunctionMaker) -> None:
    """logging.disable() and a logger's own *disabled* reach it as they reach every other logger, at any time."""
    function = make_function(
        """
        import logging

        def handler(event, context):
            logger = context.getLogger()
            logger.info("as left")
            logging.disable(logging.INFO)
            logger.info("hidden")
            logger.error("shown")
            logging.disable(logging.NOTSET)
            logger.info("enabled")
            logger.disabled = True
            logger.critical("hidden")
            logger.disabled = False
            logging.disable(event)
        """
    )
    results = [engine.invoke(function, level) for level in (logging.CRITICAL, logging.NOTSET, logging.NOTSET)]
    always = ["ERROR shown", "INFO enabled"]

    assert [["INFO as left", *always], always, ["INFO as left", *always]] == [messages(each) for each in results]


def test_child_of_the_logger_writes_as_it_does(invoke: Invoker) -> None:
    """With its stamp and its level; no handler of the root logger hears of it."""
    result = invoke(
        """
        import logging
        import sys

        def handler(event, context):
            logging.basicConfig(stream=sys.stdout, level=logging.DEBUG, format="root: %(message)s")
            logger = context.getLogger()
            child = logger.getChild("shop")
            grandchild = child.getChild("cart")
            for each in (child, grandchild):
                each.info("info")
                each.debug("hidden")
            logger.setLevel(logging.DEBUG)
            grandchild.debug("debug")
            grandchild.warn("warn")
            child.setLevel(logging.ERROR)
            grandchild.info("hidden")
            logger.info("parent")
            return [child.name, grandchild.name]
        """
    )

    assert ["INFO info", "INFO info", "DEBUG debug", "WARNING warn", "INFO parent"] == messages(result)
    assert ["context.shop", "context.shop.cart"] == result.value


REQUEST_IDS = """
    # coding: utf-8
    seen = []

    def note(context):
        request_id = context.getRequestID()
        assert type(request_id) is str
        assert "schön: " + request_id == "schön: %s" % request_id
        seen.append(request_id)
        context.getLogger().info("schön: %s", request_id)

    def handler(event, context):
        note(context)
        return seen
"""


@pytest.mark.parametrize("request_id", ["960d089c-c812-4fe7-9997-a72f773e4bcb", "für 你好"])
def test_request_id_is_the_str_of_the_runtime(engine: Engine, make_function: FunctionMaker, request_id: str) -> None:
    """On 2.7 that is bytes: a unicode would turn every text that it is put into to unicode, or fail."""
    function = make_function(REQUEST_IDS, initializer="index.note")
    result = engine.invoke(function, None, request_id=request_id)

    assert [request_id, request_id] == result.value, result
    assert [f"INFO schön: {request_id}"] * 2 == messages(result)


# Events and request ids


class Size(enum.Enum):
    SMALL = 1
    NAMED = "s"
    NESTED = (1, [2])


class Colour(str, enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


@pytest.mark.parametrize("value", [*Size, *Colour, *Level, uuid.UUID(int=7)], ids=repr)
@pytest.mark.parametrize(
    "company", [lambda value: [value], lambda value: {"a": [value]}, lambda value: [[value], 1.5]], ids=[0, 1, 2]
)
def test_value_is_accepted_in_any_company(value: object, company: Callable[[object], Any]) -> None:
    """A None beside it has the event encoded by another encoder, which must say the same."""
    alone = encode_event([company(value)])

    assert alone[:-1] + b",null]" == encode_event([company(value), None])


@pytest.mark.parametrize("value", [{1}, object(), b"bytes", 1j, Size], ids=repr)
def test_value_is_refused_in_any_company(value: object) -> None:
    """And by the same error."""
    for event in (value, [value], [value, None]):
        with pytest.raises(InvalidEventError, match="the event is not JSON"):
            encode_event(event)


@on_one_runtime
def test_wrong_request_id_is_refused_before_it_costs_an_instance(engine: Engine, make_function: FunctionMaker) -> None:
    """The idle instance is still there afterwards, and none was started for it."""
    function = make_function(ECHO)
    before = engine.invoke(function, 1)
    wrong: Sequence[Any] = ("\ud800", "", "two\nlines", 7, "x" * 129)
    for request_id in wrong:
        with pytest.raises(InvalidEventError, match="request_id must be 1 to 128 printable characters"):
            engine.invoke(function, 2, request_id=request_id)
    pool = engine._fleet._pools[function]
    counted = (len(pool._idle), len(pool._busy), pool._starting)
    after = engine.invoke(function, 3, request_id="x" * 128)

    assert (1, 0, 0) == counted
    assert [3, before.value[1]] == after.value


# What is told of a failure


@pytest.mark.parametrize(
    "body",
    [
        "raise ValueError(u'\\ud800 \\U0001f600')",
        "raise type('Error', (Exception,), {'__str__': lambda self: u'\\udfff'})()",
    ],
)
def test_error_can_be_printed_and_sent_whatever_it_says(invoke: Invoker, body: str) -> None:
    """Lone surrogates are spelt out: no UTF-8 has them, and orjson refuses them."""
    result = invoke(f"def handler(event, context):\n    {body}\n")
    text = result.render() + repr(result.error)

    assert Status.FUNCTION_ERROR is result.status
    assert result.to_dict() == orjson.loads(orjson.dumps(result.to_dict()))
    assert "\\ud" in text
    text.encode("utf-8")


def test_syntax_error_names_the_module_that_has_it(engine: Engine, make_function: FunctionMaker) -> None:
    """Imported by the handler's, or the initializer's own: not always the handler's."""
    fine = "def handler(event, context):\n    return 1\n"
    wrong = {"src/helper.py": "x = 1\ny = = 2\n", "src/__init__.py": ""}
    importing = make_function(f"import src.helper\n{fine}", files=wrong)
    beside = make_function(fine, files=wrong, initializer="src/helper.initializer")
    results = [engine.invoke(each, None) for each in (importing, beside)]

    assert [Status.LOAD_ERROR, Status.INITIALIZER_ERROR] == [result.status for result in results]
    for result in results:
        assert result.error is not None
        assert "error: Syntax error in module 'src.helper'(" in result.error["errorMessage"]
        assert ['File "./src/helper.py", line 2', "    y = = 2"] == result.error["stackTrace"]


def test_keyword_only_parameter_is_told_as_that(engine: Engine, make_function: FunctionMaker, runtime: str) -> None:
    """To have received 2 of 2 helps nobody; with a default it is no hindrance."""
    if runtime == "python2.7":
        pytest.skip("2.7 has no keyword-only parameters")
    source = """
        def handler(event, context, *, more):
            pass

        def with_default(event, context, *, more=1):
            return more

        def initializer(context, *, more):
            pass
    """
    told = "has keyword-only parameters that nobody gives it"
    wrong = engine.invoke(make_function(source), None)
    right = engine.invoke(make_function(source, "index.with_default"), None)
    started = engine.invoke(make_function(source, "index.with_default", initializer="index.initializer"), None)

    assert (Status.SUCCESS, 1) == (right.status, right.value)
    assert [Status.LOAD_ERROR, Status.INITIALIZER_ERROR] == [wrong.status, started.status]
    assert [
        (f"function entry exception, error: handler 'handler' {told}", "FunctionLoadError"),
        (f"function initialization exception, error: initializer 'initializer' {told}", "FunctionConfigError"),
    ] == [(each.error["errorMessage"], each.error["errorType"]) for each in (wrong, started) if each.error is not None]


@pytest.mark.parametrize(
    ("value", "place"), [("{nan: 1}", "$"), ("{'a': [0, {-inf: 1}]}", "$.a[1]"), ("{'a': {1.5: nan}}", '$.a["1.5"]')]
)
def test_key_that_is_no_number_is_an_invalid_result_with_its_place(invoke: Invoker, value: str, place: str) -> None:
    """NaN and Infinity are no JSON, as keys no more than as values."""
    result = invoke(f"nan, inf = float('nan'), float('inf')\ndef handler(event, context):\n    return {value}\n")

    assert Status.INVALID_RESULT is result.status
    assert result.error is not None
    assert result.error["errorMessage"].endswith(f" (at {place})"), result.error


@on_one_runtime
def test_values_of_user_data_are_not_told(make_function: FunctionMaker) -> None:
    """People keep passwords in variables: neither a mistake beside one nor a repr shows it."""
    secret = "s3cr3t"
    wrong: list[Any] = [
        {"PASSWORD": secret.encode()},
        {"PASS=WORD": secret},
        {"PASSWORD": f"{secret}\0"},
        {"PASSWORD": f"{secret}\ud800"},
        {"RUNTIME_PASSWORD": secret},
        {7: secret},
    ]
    function = make_function(ECHO, user_data={"PASSWORD": secret})
    told = repr(function) + str(function) + f"{function}"
    for user_data in wrong:
        with pytest.raises(InvalidFunctionError) as caught:
            make_function(ECHO, user_data=user_data)
        told += str(caught.value) + repr(caught.value)

    assert secret not in told
    assert "PASSWORD" in told
