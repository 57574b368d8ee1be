"""context.getLogger(): a real logging.Logger that writes one line a message and leaves logging itself alone."""

from __future__ import annotations

import datetime
import re
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from engine import Engine, Result
    from tests.conftest import FunctionMaker, Invoker

HEAD = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ "


def _messages(result: Result) -> list[str]:
    """Lines of the log without the time and this invocation's id; other lines stay as they are."""
    head = re.compile(HEAD + re.escape(result.summary.request_id) + " ")
    return [head.sub("", line, count=1) for line in result.log.splitlines()]


def test_logger_line_is_time_request_id_level_message(invoke: Invoker) -> None:
    """The whole line, end to end, in UTC and whole seconds."""
    result = invoke("def handler(event, context):\n    context.getLogger().info('ready')\n")

    assert re.fullmatch(HEAD + re.escape(result.summary.request_id) + r" INFO ready\n", result.log)


def test_logger_is_a_logging_logger_at_info(invoke: Invoker) -> None:
    """Whatever is written for logging.Logger works with it."""
    source = """
        import logging

        def handler(event, context):
            logger = context.getLogger()
            return [isinstance(logger, logging.Logger), logger.getEffectiveLevel() == logging.INFO,
                    logger is context.getLogger()]
    """
    assert [True, True, True] == invoke(source).value


def test_logger_knows_all_levels(invoke: Invoker) -> None:
    """DEBUG is hidden, warn is warning, log takes a level."""
    source = """
        import logging

        def handler(event, context):
            logger = context.getLogger()
            logger.debug("hidden")
            logger.info("a")
            logger.warning("b")
            logger.warn("c")
            logger.error("d")
            logger.critical("e")
            logger.log(logging.ERROR, "f")
    """
    assert ["INFO a", "WARNING b", "WARNING c", "ERROR d", "CRITICAL e", "ERROR f"] == _messages(invoke(source))


def test_logger_formats_arguments(invoke: Invoker) -> None:
    """%-arguments, positional and by name, and a percent sign that is none."""
    source = """
        def handler(event, context):
            logger = context.getLogger()
            logger.info("%s has %d of %.1f", "tea", 3, 2.5)
            logger.info("%(a)s", {"a": 1})
            logger.info("100 %")
    """
    assert ["INFO tea has 3 of 2.5", "INFO 1", "INFO 100 %"] == _messages(invoke(source))


def test_logger_takes_any_object_as_message(invoke: Invoker) -> None:
    """Deployed functions log numbers, exceptions, None and whole events."""
    source = """
        def handler(event, context):
            logger = context.getLogger()
            for message in (42, None, 1.5, ["a"], {"k": 1}, ValueError("bad")):
                logger.info(message)
    """
    assert ["INFO 42", "INFO None", "INFO 1.5", "INFO ['a']", "INFO {'k': 1}", "INFO bad"] == _messages(invoke(source))


def test_logger_survives_an_argument_without_a_place(invoke: Invoker) -> None:
    """The platform's own initializer sample does it: logging complains in the log, the function goes on."""
    source = """
        def handler(event, context):
            context.getLogger().info("Initializing:", "shop")
            context.getLogger().info("next")
            return "done"
    """
    result = invoke(source)

    assert "done" == result.value
    assert "not all arguments converted" in result.log
    assert "INFO next" == _messages(result)[-1]


@pytest.mark.parametrize("level", ["logging.DEBUG", "'DEBUG'"])
def test_logger_set_level_shows_more(invoke: Invoker, level: str) -> None:
    """setLevel takes logging's numbers and names."""
    source = f"""
        import logging

        def handler(event, context):
            logger = context.getLogger()
            logger.setLevel({level})
            logger.debug("shown")
    """
    assert ["DEBUG shown"] == _messages(invoke(source))


def test_logger_set_level_shows_less(invoke: Invoker) -> None:
    """setLevel hides what is below."""
    source = """
        def handler(event, context):
            logger = context.getLogger()
            logger.setLevel("ERROR")
            logger.warning("hidden")
            logger.error("shown")
    """
    assert ["ERROR shown"] == _messages(invoke(source))


def test_logger_exception_adds_the_traceback(invoke: Invoker) -> None:
    """The message line has the prefix; the traceback follows as logging writes it."""
    source = """
        def handler(event, context):
            try:
                {}["tea"]
            except KeyError:
                context.getLogger().exception("no %s", "tea")
    """
    messages = _messages(invoke(source))

    assert ["ERROR no tea", "Traceback (most recent call last):"] == messages[:2]
    assert "KeyError: 'tea'" == messages[-1]


def test_logger_writes_text_beyond_ascii(invoke: Invoker) -> None:
    """Also on 2.7, where text and bytes meet, and whatever the host's locale is."""
    source = """
        # -*- coding: utf-8 -*-
        def handler(event, context):
            logger = context.getLogger()
            logger.info(event)
            logger.info(u"%s!", event)
            logger.info("schön")
    """
    result = invoke(source, "grüß 你好 🎉")

    assert ["INFO grüß 你好 🎉", "INFO grüß 你好 🎉!", "INFO schön"] == _messages(result)


def test_logger_does_not_prefix_further_lines(invoke: Invoker) -> None:
    """A message of several lines has one prefix, as in the platform's own samples."""
    result = invoke("def handler(event, context):\n    context.getLogger().info('{\\n  1\\n}')\n")

    assert ["INFO {", "  1", "}"] == _messages(result)


def test_logger_leaves_the_root_logger_alone(invoke: Invoker) -> None:
    """No handler, no level, nothing: logging belongs to the function."""
    source = """
        import logging

        def handler(event, context):
            context.getLogger().info("x")
            root = logging.getLogger()
            return [len(root.handlers), root.level == logging.WARNING, logging.root.manager.disable]
    """
    assert [0, True, 0] == invoke(source).value


def test_logger_and_the_functions_own_logging_go_separate_ways(invoke: Invoker) -> None:
    """basicConfig still works, writes its own lines, and does not repeat those of the context's logger."""
    source = """
        import logging
        import sys

        def handler(event, context):
            logging.basicConfig(stream=sys.stdout, format="mine %(message)s", level=logging.INFO)
            logging.info("one")
            context.getLogger().info("two")
            logging.getLogger("lib").warning("three")
    """
    assert ["mine one", "INFO two", "mine three"] == _messages(invoke(source))


def test_logger_never_doubles_a_line(engine: Engine, make_function: FunctionMaker) -> None:
    """The second and third invocation of an instance write each line once, with their own id."""
    function = make_function(
        """
        def handler(event, context):
            context.getLogger().info("n %d", event)
        """
    )
    results = [engine.invoke(function, n) for n in range(3)]

    assert [False, False] == [result.cold_start for result in results[1:]]
    assert [["INFO n 0"], ["INFO n 1"], ["INFO n 2"]] == [_messages(result) for result in results]


def test_logger_and_print_share_one_order(invoke: Invoker) -> None:
    """Lines of the logger stand between the prints around them."""
    source = """
        from __future__ import print_function

        def handler(event, context):
            print("a")
            context.getLogger().info("b")
            print("c", end="|")
            context.getLogger().info("d")
            print("e")
    """
    result = invoke(source)

    stamp = re.compile(HEAD + re.escape(result.summary.request_id))
    assert "a\n@ INFO b\nc|@ INFO d\ne\n" == stamp.sub("@", result.log)


def test_logger_time_is_utc_wherever_the_function_believes_to_be(invoke: Invoker) -> None:
    """A TZ of the function's own changes its local time, and not the log's."""
    source = "def handler(event, context):\n    context.getLogger().info('now')\n"
    result = invoke(source, user_data={"TZ": "Asia/Shanghai"})

    told = datetime.datetime.strptime(result.log.split(" ")[0], "%Y-%m-%dT%H:%M:%S%z").timestamp()
    assert abs(told - result.started_at_s) < 1800


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_function_may_have_modules_of_the_names_that_the_logger_and_the_clock_need(
    engine: Engine, make_function: FunctionMaker, method: Any
) -> None:
    """A spawned interpreter imports logging, and on 2.7 ctypes, when asked for them: its own and not the function's."""
    source = """
        def handler(event, context):
            left_ms = context.getRemainingTimeInMilliSeconds()
            context.getLogger().info("written by the real one")
            return [0 < left_ms <= 3000, context.getLogger() is context.getLogger()]
    """
    names = ("logging", "string", "ctypes", "traceback", "weakref", "atexit")
    files = {f"{name}.py": "WHOSE = 'mine'\n" for name in names}
    result = engine.invoke(make_function(source, files=files, start_method=method), None)

    assert [True, True] == result.value, result.render()
    assert " INFO written by the real one\n" in result.log


def test_child_of_the_logger_is_one_and_the_same(invoke: Invoker) -> None:
    """As in the tree: a level that was set on it stays."""
    source = """
        def handler(event, context):
            logger = context.getLogger()
            return [logger.getChild("a") is logger.getChild("a"), logger.getChild("a") is logger.getChild("b")]
    """
    assert [True, False] == invoke(source).value
