"""The kinds of invocations in a storm: what each does, how often it comes, and how a truthful result of it ends."""

from __future__ import annotations

import functools
import hashlib
import operator
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from engine import Status

_MAX_RESULT_BYTES: Final = 6 * 1024 * 1024

Texts = Mapping[Status, str]
"""For each status that a kind may end with, a text that the error's message must then contain."""


@dataclass
class Draft:
    """What a kind decides; the rest is the same for all of them."""

    do: str
    family: str
    allowed: Texts
    event: dict[str, Any] = field(default_factory=dict)
    more: dict[str, Any] = field(default_factory=dict)


_SUCCESS: Final[Texts] = {Status.SUCCESS: ""}
_BROKEN: Final[Texts] = {Status.INVALID_RESULT: "function result is invalid, error: the instance sent "}


def _text(numbers: random.Random, most_chars: int) -> str:
    return "".join(numbers.choice('abc "\\\n\u00e9\u20ac\U0001f600') for _ in range(numbers.randrange(most_chars)))


def _any_json(numbers: random.Random) -> Any:
    return {"a": _text(numbers, 40), "b": [numbers.randrange(2**70), numbers.random(), None, True, {"": [[]]}]}


def _echo(numbers: random.Random) -> Draft:
    value = _any_json(numbers)
    return Draft("echo", "calm", _SUCCESS, {"value": value}, {"value": value})


def _echo_big(numbers: random.Random) -> Draft:
    # Made when it is needed: a plan that keeps it would grow with it, and orjson leaves its UTF-8 in every text.
    value = functools.partial(operator.mul, _text(numbers, 12), numbers.randrange(1, 30_000))
    return Draft("echo", "calm", _SUCCESS, {"value": value}, {"value": value})


def _big_result(numbers: random.Random) -> Draft:
    size = numbers.randrange(100_000, _MAX_RESULT_BYTES - 1000)
    return Draft("big_result", "calm", _SUCCESS, {"size": size}, {"value": functools.partial(operator.mul, "r", size)})


def _too_big_result(numbers: random.Random) -> Draft:
    size = _MAX_RESULT_BYTES + numbers.randrange(1000)
    return Draft("big_result", "calm", {Status.INVALID_RESULT: "exceeds the maximum allowed limit"}, {"size": size})


def _digest(numbers: random.Random) -> Draft:
    size = numbers.randrange(500_000)
    value = hashlib.md5(b"x" * size).hexdigest()
    return Draft("digest", "calm", _SUCCESS, {"size": size}, {"value": value})


def _print_much(numbers: random.Random) -> Draft:
    lines = numbers.randrange(1, 20_000)
    return Draft("print_much", "calm", _SUCCESS, {"lines": lines}, {"value": lines, "printed_bytes": 64 * lines})


def leave_helpers(numbers: random.Random) -> list[str]:
    """Return which helpers an invocation leaves behind."""
    return numbers.choices(("child", "orphan", "daemon"), k=numbers.randrange(1, 4))


def _helpers(numbers: random.Random) -> Draft:
    draft = _echo(numbers)
    draft.event["helpers"] = leave_helpers(numbers)
    draft.more["printed_bytes"] = None
    return draft


def _nap(numbers: random.Random) -> Draft:
    nap_s = numbers.randrange(1, 60) / 1000
    return Draft("nap", "calm", _SUCCESS, {"nap_s": nap_s}, {"value": nap_s, "least_ms": nap_s * 1000})


def _thread(numbers: random.Random) -> Draft:
    nap_s = numbers.randrange(1, 60) / 1000
    return Draft("thread", "calm", _SUCCESS, {"nap_s": nap_s}, {"value": nap_s})


def _temporary_file(numbers: random.Random) -> Draft:
    size = numbers.randrange(100_000)
    return Draft("temporary_file", "calm", _SUCCESS, {"size": size}, {"value": size})


def _fail(numbers: random.Random) -> Draft:
    do, text = numbers.choice((
        ("fail", "function invocation exception, error: "),
        ("fail_unprintably", "<unprintable Unprintable object>"),
        ("recurse", "recursion"),
    ))  # fmt: skip
    return Draft(do, "calm", {Status.FUNCTION_ERROR: text})


def _sys_exit(numbers: random.Random) -> Draft:
    status = numbers.randrange(256)
    text = f"user code called sys.exit({status})"
    return Draft("sys_exit", "calm", {Status.FUNCTION_ERROR: text}, {"status": status})


def _unserialisable(numbers: random.Random) -> Draft:
    return Draft("unserialisable", "calm", {Status.INVALID_RESULT: "at $.value.part[0]"})


def _exit_now(numbers: random.Random) -> Draft:
    status = numbers.randrange(256)
    return Draft(
        "exit_now", "calm", {Status.EXITED: f"runtime process is exited, exit status {status}"}, {"status": status}
    )


def _abort(numbers: random.Random) -> Draft:
    return Draft("abort", "calm", {Status.EXITED: "runtime process is exited, signal SIGABRT"})


def _brief(numbers: random.Random) -> tuple[str, Texts, float]:
    limit_ms = numbers.choice((20, 50, 100))
    return f"brief{limit_ms}", {Status.TIMEOUT: f"call invoke timeout {limit_ms / 1000:.9g}s"}, limit_ms


def _hang(numbers: random.Random) -> Draft:
    family, timeout, _ = _brief(numbers)
    hows = ("sleep", "spin", "swallow", "backtrack", "stop", "read", "subprocess", "print")
    return Draft("hang", family, timeout, {"how": numbers.choice(hows)})


def _near_deadline(numbers: random.Random) -> Draft:
    family, timeout, limit_ms = _brief(numbers)
    nap_s = (limit_ms + numbers.uniform(-15, 3)) / 1000
    return Draft("nap", family, {**timeout, **_SUCCESS}, {"nap_s": nap_s}, {"value": nap_s, "least_ms": nap_s * 1000})


def _echo_in_time(numbers: random.Random) -> Draft:
    family, timeout, _ = _brief(numbers)
    value = _any_json(numbers)
    # Twenty milliseconds is little where other programs run: late is truthful, wrong is not.
    return Draft("echo", family, {**timeout, **_SUCCESS}, {"value": value}, {"value": value})


def _within_memory(numbers: random.Random) -> Draft:
    mb = numbers.randrange(5, 35)
    amount = numbers.choice(({"mb": mb}, {"to_mb": 60}))  # of 64 MB
    value = next(iter(amount.values()))
    return Draft("touch", "small", _SUCCESS, amount, {"value": value, "least_mb": value})


_OVER_MEMORY: Final[Texts] = {Status.OUT_OF_MEMORY: "runtime memory limit exceeded"}


def _over_memory(numbers: random.Random) -> Draft:
    # Beside the interpreter's own 10 MB; or 2 MB over the limit and not for longer than it takes to touch them.
    amount = numbers.choice(({"mb": numbers.randrange(60, 120)}, {"to_mb": 66}))
    return Draft("touch", "small", _OVER_MEMORY, {**amount, "nap_s": numbers.choice((0, 30))})


def _children_over_memory(numbers: random.Random) -> Draft:
    event = {"children": numbers.randrange(1, 5), "mb": numbers.randrange(80, 120)}
    return Draft("children_use_memory", "small", _OVER_MEMORY, event)


def _over_disk(numbers: random.Random) -> Draft:
    event = {"size": numbers.randrange(2, 4) * 1024 * 1024, "nap_s": 30}
    return Draft("temporary_file", "tiny_disk", {Status.DISK_FULL: "disk usage exceed limit"}, event)


def _over_processes(numbers: random.Random) -> Draft:
    # Where the kernel counts (a pids group), the fork fails in the function; elsewhere the engine counts, and kills.
    allowed = {
        Status.EXITED: "killed for too many processes and threads",
        Status.FUNCTION_ERROR: "Resource temporarily unavailable",
    }
    return Draft("start_processes", "few_processes", allowed, {"count": numbers.randrange(20, 40)})


def _attack_broken(numbers: random.Random) -> Draft:
    own = ("own_reply_no_json", "own_error_no_error", "own_unknown_type")
    hows = ("garbage", "flood", "long_header", "long_payload", *own)
    event = {"how": numbers.choice(hows), "then": numbers.choice(("return", "exit", "hang")), "quiet": True}
    return Draft("attack", "hostile", _BROKEN, {**event, "size": numbers.randrange(8, 4000)})


def _attack_half_frame(numbers: random.Random) -> Draft:
    then, allowed = numbers.choice((
        ("return", _BROKEN),  # what the sandbox writes behind it completes the frame, and makes no sense there
        ("exit", {Status.EXITED: "exit status 9"}),
    ))  # fmt: skip
    return Draft("attack", "hostile", allowed, {"how": "half_frame", "then": then, "quiet": True})


def _attack_in_vain(numbers: random.Random) -> Draft:
    return Draft("attack", "hostile", _SUCCESS, {"how": "forged_token", "then": "return"}, {"value": "unharmed"})


def _attack_and_hang(numbers: random.Random) -> Draft:
    timeout = {Status.TIMEOUT: "call invoke timeout 0.1s"}
    how = numbers.choice(("half_frame", "forged_token"))
    return Draft("attack", "hostile_brief", timeout, {"how": how, "then": "hang"})


def _forge_own(numbers: random.Random) -> Draft:
    """The one lie that a function is free to tell: its own return. Nothing is printed once it was told."""
    event = {"how": "own_reply", "then": numbers.choice(("return", "exit")), "quiet": True}
    # One that says it is done and exits then may have got its next request already: that one's instance has exited.
    allowed = {**_SUCCESS, Status.EXITED: "runtime process is exited, exit status 9"}
    return Draft("attack", "forger", allowed, event, {"marks_end": False})


def _attack_later(numbers: random.Random) -> Draft:
    how = numbers.choice(("garbage", "half_frame", "long_header", "forged_token"))
    event = {"how": how, "nap_s": numbers.randrange(30) / 1000, "size": 100}
    # Another one's helper may write while this one runs: it is the same function's doing, and told as what it is.
    allowed = {**_SUCCESS, **_BROKEN, Status.TIMEOUT: "call invoke timeout 1s"}
    return Draft("attack_later", "hostile_later", allowed, event, {"value": "unharmed"})


def _close_everything(numbers: random.Random) -> Draft:
    return Draft("close_everything", "hostile", {Status.EXITED: "runtime process is exited, "}, {"quiet": True})


_STRUCK: Final[Texts] = {
    **_SUCCESS,
    Status.EXITED: "runtime process is exited, signal ",
    Status.TIMEOUT: "call invoke timeout 1s",
}


def _struck(numbers: random.Random) -> Draft:
    nap_s = numbers.randrange(1, 40) / 1000
    signals = numbers.choice(
        (("SIGKILL",), ("SIGKILL",), ("SIGTERM",), ("SIGSEGV",), ("SIGSTOP",), ("SIGSTOP", "SIGCONT"))
    )
    more = {
        "value": nap_s,
        "least_ms": nap_s * 1000,
        "signals": signals,
        "strike_after_s": numbers.randrange(45) / 1000,
    }
    return Draft("report", "target", _STRUCK, {"nap_s": nap_s}, more)


def _struck_before(numbers: random.Random) -> Draft:
    """Somebody who finished is struck while idle, or while it is handed out: the next one is told the truth."""
    signals = numbers.choice((("SIGKILL",), ("SIGKILL",), ("SIGTERM",), ("SIGSTOP",)))
    more = {"value": 0.001, "least_ms": 1.0, "signals": signals, "before": "strike"}
    return Draft("report", "target", _STRUCK, {"nap_s": 0.001}, more)


def _never_ready(numbers: random.Random) -> Draft:
    return numbers.choice((
        Draft("echo", "load_raise", {Status.LOAD_ERROR: "chaos"}),
        Draft("echo", "load_sys.exit", {Status.LOAD_ERROR: "user code called sys.exit(7)"}),
        Draft("echo", "load_exit", {Status.EXITED: "exit status 7"}),
        Draft("echo", "load_hang", {Status.LOAD_TIMEOUT: "load function timed out after 0.1s"}),
        Draft("echo", "initializer_raise", {Status.INITIALIZER_ERROR: "chaos"}),
        Draft("echo", "initializer_exit", {Status.EXITED: "exit status 7"}),
        Draft("echo", "initializer_hang", {Status.INITIALIZER_TIMEOUT: "initialization timed out after 0.05s"}),
    ))  # fmt: skip


KINDS: Final[Mapping[str, tuple[float, Callable[[random.Random], Draft]]]] = {
    "echo": (24, _echo),
    "echo_big": (3, _echo_big),
    "big_result": (1, _big_result),
    "too_big_result": (0.5, _too_big_result),
    "digest": (5, _digest),
    "print_much": (3, _print_much),
    "helpers": (4, _helpers),
    "nap": (3, _nap),
    "thread": (2, _thread),
    "temporary_file": (2, _temporary_file),
    "fail": (6, _fail),
    "sys_exit": (2, _sys_exit),
    "unserialisable": (2, _unserialisable),
    "exit_now": (4, _exit_now),
    "abort": (1, _abort),
    "hang": (6, _hang),
    "near_deadline": (4, _near_deadline),
    "echo_in_time": (4, _echo_in_time),
    "within_memory": (2, _within_memory),
    "over_memory": (2, _over_memory),
    "children_over_memory": (0.5, _children_over_memory),
    "over_disk": (0.4, _over_disk),
    "over_processes": (0.4, _over_processes),
    "attack_broken": (4, _attack_broken),
    "attack_half_frame": (1, _attack_half_frame),
    "attack_in_vain": (2, _attack_in_vain),
    "attack_and_hang": (1, _attack_and_hang),
    "forge_own": (2, _forge_own),
    "attack_later": (2, _attack_later),
    "close_everything": (1, _close_everything),
    "struck": (6, _struck),
    "struck_before": (4, _struck_before),
    "never_ready": (3, _never_ready),
}
"""Name -> (how often, in parts of about a hundred; what it is)."""
