"""Errors of the function: three keys, its own frames, and the whole story in the log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from engine import Status

if TYPE_CHECKING:
    from engine import Engine, Result
    from tests.conftest import FunctionMaker, Invoker

LOAD_PREFIX = "function entry exception, error: "
INVOKE_PREFIX = "function invocation exception, error: "
OK = "def handler(event, context):\n    return 'fine'\n"


def _error(result: Result, status: Status, code: int) -> dict[str, Any]:
    """The error of *result*, after a check of what is the same for every failure."""
    assert (status, code, False) == (result.status, result.error_code, result.ok)
    assert result.error is not None
    assert ["errorMessage", "errorType", "stackTrace"] == list(result.error)
    assert all(isinstance(line, str) for line in result.error["stackTrace"])
    return dict(result.error)


def test_handler_exception_has_message_class_and_frames(invoke: Invoker) -> None:
    """The three keys, exactly; paths start at the code's own folder."""
    source = """
        def check(amount):
            if amount < 0:
                raise ValueError("no such amount: %d" % amount)

        def handler(event, context):
            check(event["amount"])
    """
    error = _error(invoke(source, {"amount": -3}), Status.FUNCTION_ERROR, 4002)

    assert {
        "errorMessage": INVOKE_PREFIX + "no such amount: -3",
        "errorType": "ValueError",
        "stackTrace": [
            'File "./index.py", line 7, in handler',
            '    check(event["amount"])',
            'File "./index.py", line 4, in check',
            '    raise ValueError("no such amount: %d" % amount)',
        ],
    } == error


def test_stack_trace_has_only_the_functions_own_frames(invoke: Invoker) -> None:
    """What the standard library did in between is in the log, and not in the error."""
    source = """
        import json

        def handler(event, context):
            return json.loads("{")
    """
    result = invoke(source)
    error = _error(result, Status.FUNCTION_ERROR, 4002)

    assert ['File "./index.py", line 5, in handler', '    return json.loads("{")'] == error["stackTrace"]
    assert "json/decoder.py" in result.log
    assert "sandbox" not in result.log


def test_stack_trace_shows_frames_on_both_sides_of_a_library(invoke: Invoker) -> None:
    """A callback that the library called is the function's own again."""
    source = """
        import re

        def replace(match):
            return match.group(5)

        def handler(event, context):
            return re.sub("a", replace, "banana")
    """
    trace = _error(invoke(source), Status.FUNCTION_ERROR, 4002)["stackTrace"]

    assert ['File "./index.py", line 8, in handler', 'File "./index.py", line 5, in replace'] == trace[::2]


def test_stack_trace_reaches_into_modules_of_the_function(invoke: Invoker) -> None:
    """Helpers in folders keep their place below the code."""
    error = _error(
        invoke(
            "from lib import helper\n\n\ndef handler(event, context):\n    helper.work()\n",
            handler="src/index.handler",
            files={"lib/__init__.py": "", "lib/helper.py": "def work():\n    raise KeyError('tea')\n"},
        ),
        Status.FUNCTION_ERROR,
        4002,
    )

    assert ("KeyError", INVOKE_PREFIX + "'tea'") == (error["errorType"], error["errorMessage"])
    assert [
        'File "./src/index.py", line 5, in handler',
        "    helper.work()",
        'File "./lib/helper.py", line 2, in work',
        "    raise KeyError('tea')",
    ] == error["stackTrace"]


def test_full_traceback_is_in_the_log(invoke: Invoker) -> None:
    """With the real path, as the interpreter itself prints it, and nothing of the engine's frames."""
    result = invoke("def handler(event, context):\n    raise ValueError('bad')\n")
    lines = result.log.splitlines()

    assert "Traceback (most recent call last):" == lines[0]
    assert lines[1].startswith('  File "/')
    assert lines[1].endswith('/index.py", line 2, in handler')
    assert ["    raise ValueError('bad')", "ValueError: bad"] == lines[2:]


def test_chained_causes_are_in_the_log(invoke: Invoker, runtime: str) -> None:
    """The error is the outermost one; what caused it is told in the log."""
    if runtime == "python2.7":
        pytest.skip("2.7 has no chained exceptions")
    source = """
        def handler(event, context):
            try:
                try:
                    {}["tea"]
                except KeyError as error:
                    raise ValueError("no tea") from error
            except ValueError:
                raise RuntimeError("no breakfast")
    """
    result = invoke(source)

    assert "RuntimeError" == _error(result, Status.FUNCTION_ERROR, 4002)["errorType"]
    told = [
        "KeyError: 'tea'",
        "direct cause of the following exception",
        "ValueError: no tea",
        "During handling of the above exception",
        "RuntimeError: no breakfast",
    ]
    assert sorted(result.log.index(part) for part in told) == [result.log.index(part) for part in told]


@pytest.mark.parametrize(
    ("raising", "kind", "message"),
    [
        ("raise ValueError", "ValueError", ""),
        ("raise ValueError('a', 2)", "ValueError", "('a', 2)"),
        ("raise KeyError('k')", "KeyError", "'k'"),
        ("raise Shop.Closed('till nine')", "Closed", "till nine"),
        ("1 / 0", "ZeroDivisionError", "division"),
        ("assert False, 'never'", "AssertionError", "never"),
        ("raise KeyboardInterrupt('now')", "KeyboardInterrupt", "now"),
        ("raise StopIteration", "StopIteration", ""),
        ("raise GeneratorExit", "GeneratorExit", ""),
        ("raise MemoryError", "MemoryError", ""),
        ("raise ValueError(u'gr\\u00fc\\u00df')", "ValueError", "grüß"),
        ("raise ValueError(u'gr\\u00fc\\u00df'.encode('utf-8').decode('utf-8') + '!')", "ValueError", "grüß!"),
        ("raise ValueError('line one\\nline two')", "ValueError", "line one\nline two"),
    ],
)
def test_any_exception_is_told_by_class_and_message(invoke: Invoker, raising: str, kind: str, message: str) -> None:
    """BaseExceptions and classes of the function's own included; the instance lives on after each."""
    source = f"""
        class Shop(object):
            class Closed(Exception):
                pass

        def handler(event, context):
            {raising}
    """
    error = _error(invoke(source), Status.FUNCTION_ERROR, 4002)

    assert kind == error["errorType"]
    assert error["errorMessage"].startswith(INVOKE_PREFIX)
    assert message in error["errorMessage"]


def test_message_of_bytes_is_readable_on_python2(invoke: Invoker, runtime: str) -> None:
    """2.7 functions raise with UTF-8 bytes; a message that is no text at all does no harm."""
    if runtime != "python2.7":
        pytest.skip("messages of bytes are a thing of 2.7")
    source = """
        # -*- coding: utf-8 -*-
        def handler(event, context):
            raise ValueError("grüß" if event else "\\xff!")
    """

    assert INVOKE_PREFIX + "grüß" == _error(invoke(source, 1), Status.FUNCTION_ERROR, 4002)["errorMessage"]
    assert _error(invoke(source, 0), Status.FUNCTION_ERROR, 4002)["errorMessage"].endswith("!")


def test_endless_recursion_is_an_error_with_a_bounded_trace(invoke: Invoker, runtime: str) -> None:
    """A thousand frames are not a thousand lines of JSON."""
    source = """
        def handler(event, context):
            return handler(event, context)
    """
    error = _error(invoke(source), Status.FUNCTION_ERROR, 4002)

    assert ("RuntimeError" if runtime == "python2.7" else "RecursionError") == error["errorType"]
    assert 2 <= len(error["stackTrace"]) <= 250


def test_syntax_error_names_file_and_line(invoke: Invoker) -> None:
    """In the platform's words, with the line that does not compile."""
    result = invoke("import os\n\ndef handler(event, context):\n    for i in range(3) print(i)\n")
    error = _error(result, Status.LOAD_ERROR, 4001)

    assert "SyntaxError" == error["errorType"]
    assert error["errorMessage"].startswith(LOAD_PREFIX + "Syntax error in module 'index'(")
    assert "index.py, line 4" in error["errorMessage"]
    assert ['File "./index.py", line 4', "    for i in range(3) print(i)"] == error["stackTrace"]
    assert "SyntaxError: " in result.log


def test_syntax_error_in_an_imported_module_names_that_module(invoke: Invoker) -> None:
    """The file at fault is the one that is named."""
    result = invoke(f"import helper\n\n\n{OK}", files={"helper.py": "x = 1\ny = = 2\n"})
    error = _error(result, Status.LOAD_ERROR, 4001)

    assert "SyntaxError" == error["errorType"]
    assert "helper.py, line 2" in error["errorMessage"]
    assert 'File "./helper.py", line 2' in error["stackTrace"]


def test_indentation_error_is_told_by_its_own_name(invoke: Invoker) -> None:
    """Subclasses of SyntaxError keep their name."""
    error = _error(invoke("def handler(event, context):\nreturn 1\n"), Status.LOAD_ERROR, 4001)

    assert "IndentationError" == error["errorType"]
    assert "index.py, line 2" in error["errorMessage"]


def test_missing_file_is_named(engine: Engine, make_function: FunctionMaker) -> None:
    """With the path at which it was looked for."""
    function = make_function(OK, files={"other.py": OK})
    wrong = type(function)(code=function.code, handler="src/nothere.handler", runtime=function.runtime)
    result = engine.invoke(wrong, None)
    error = _error(result, Status.LOAD_ERROR, 4001)

    assert {
        "errorMessage": LOAD_PREFIX + "not found module './src/nothere.py'",
        "errorType": "FunctionLoadError",
        "stackTrace": [],
    } == error


def test_missing_attribute_is_named_with_its_file(engine: Engine, make_function: FunctionMaker) -> None:
    """Which name was looked for, and where."""
    function = make_function(OK, handler="src/index.handler")
    wrong = type(function)(code=function.code, handler="src/index.run", runtime=function.runtime)
    error = _error(engine.invoke(wrong, None), Status.LOAD_ERROR, 4001)

    assert {
        "errorMessage": LOAD_PREFIX + "handler 'run' not found in module './src/index.py'",
        "errorType": "FunctionConfigError",
        "stackTrace": [],
    } == error


def test_import_error_is_pythons_own(invoke: Invoker, runtime: str) -> None:
    """What is missing, and which line of the function wanted it."""
    result = invoke(f"import os\nimport nosuchmodule\n\n\n{OK}")
    error = _error(result, Status.LOAD_ERROR, 4001)

    assert ("ImportError" if runtime == "python2.7" else "ModuleNotFoundError") == error["errorType"]
    assert "nosuchmodule" in error["errorMessage"]
    assert ['File "./index.py", line 2, in <module>', "    import nosuchmodule"] == error["stackTrace"]
    assert "nosuchmodule" in result.log


def test_exception_at_import_is_a_load_error(invoke: Invoker) -> None:
    """Any exception of the module's own, with its frames."""
    error = _error(invoke(f"TABLE = {{}}\nTEA = TABLE['tea']\n\n\n{OK}"), Status.LOAD_ERROR, 4001)

    assert ("KeyError", LOAD_PREFIX + "'tea'") == (error["errorType"], error["errorMessage"])
    assert ['File "./index.py", line 2, in <module>', "    TEA = TABLE['tea']"] == error["stackTrace"]


def test_exit_at_import_is_a_load_error(invoke: Invoker) -> None:
    """A module that calls sys.exit() when imported ends nothing but itself."""
    error = _error(invoke(f"import sys\n\nsys.exit(3)\n\n\n{OK}"), Status.LOAD_ERROR, 4001)

    assert "SystemExit" == error["errorType"]
    assert "sys.exit(3)" in error["errorMessage"]


def test_load_error_is_not_kept(engine: Engine, make_function: FunctionMaker) -> None:
    """The next invocation starts over: what failed to import may do better now."""
    function = make_function(
        """
        import os

        FLAG = os.path.join(os.path.dirname(os.path.abspath(__file__)), "flag")
        if not os.path.exists(FLAG):
            open(FLAG, "w").close()
            raise RuntimeError("first time")

        def handler(event, context):
            return "fine"
        """
    )

    assert Status.LOAD_ERROR is engine.invoke(function, None).status
    second = engine.invoke(function, None)
    assert ("fine", True) == (second.value, second.cold_start)


@pytest.mark.parametrize(
    ("signature", "received"),
    [
        ("def handler(event):", 1),
        ("def handler():", 0),
        ("def handler(event, context, extra):", 3),
        ("handler = lambda event:", 1),
    ],
)
def test_wrong_number_of_parameters_is_told_before_the_call(invoke: Invoker, signature: str, received: int) -> None:
    """A message about the handler, not a TypeError from inside the engine."""
    body = " 1\n" if signature.startswith("handler") else "\n    return 1\n"
    error = _error(invoke(signature + body), Status.LOAD_ERROR, 4001)

    assert LOAD_PREFIX + f"handler expect to have 2 parameters, but received {received}" == error["errorMessage"]
    assert ("FunctionLoadError", []) == (error["errorType"], error["stackTrace"])


@pytest.mark.parametrize(
    "definition",
    [
        "def handler(*args):\n    return len(args)\n",
        "def handler(event, *rest):\n    return 1 + len(rest)\n",
        "def handler(event, context, extra=None, **more):\n    return 2\n",
        "def handler(event, context=None):\n    return 2\n",
        "handler = lambda event, context: 2\n",
        "class Two(object):\n    def __call__(self, event, context):\n        return 2\n\nhandler = Two()\n",
        "class Two(object):\n    def run(self, event, context):\n        return 2\n\nhandler = Two().run\n",
        "class Two(object):\n    @classmethod\n    def f(cls, event, context):\n        return 2\n\nhandler = Two.f\n",
        "import functools\n\nhandler = functools.partial(lambda two, event, context: two, 2)\n",
        "def handler(e, c):\n    return 2\n",
    ],
)
def test_anything_callable_with_two_arguments_is_a_handler(invoke: Invoker, definition: str) -> None:
    """Functions, lambdas, methods, partials and callable objects."""
    assert 2 == invoke(definition).value


def test_handler_that_is_not_callable_is_named(invoke: Invoker) -> None:
    """A name that is there and is no function."""
    error = _error(invoke("handler = 5\n"), Status.LOAD_ERROR, 4001)

    assert LOAD_PREFIX + "handler 'handler' in module './index.py' is not callable" == error["errorMessage"]


def test_a_type_error_inside_the_handler_is_the_handlers(invoke: Invoker) -> None:
    """A wrong call that the function itself makes is not mistaken for a wrong handler."""
    source = """
        def helper(a):
            return a

        def handler(event, context):
            return helper()
    """
    error = _error(invoke(source), Status.FUNCTION_ERROR, 4002)

    assert "TypeError" == error["errorType"]
    assert ['File "./index.py", line 6, in handler', "    return helper()"] == error["stackTrace"]


@pytest.mark.parametrize("call", ["sys.exit()", "sys.exit(0)", "sys.exit(3)", "sys.exit('bye')", "raise SystemExit"])
def test_sys_exit_in_a_handler_is_an_error_and_the_instance_lives_on(
    engine: Engine, make_function: FunctionMaker, call: str
) -> None:
    """As on the platform: the process is not lost, nor what it keeps in its globals."""
    function = make_function(
        f"""
        import os
        import sys

        def handler(event, context):
            if event == "exit":
                {call}
            return os.getpid()
        """
    )
    before = engine.invoke(function, None)
    error = _error(engine.invoke(function, "exit"), Status.FUNCTION_ERROR, 4002)
    after = engine.invoke(function, None)

    assert "SystemExit" == error["errorType"]
    assert "sys.exit(" in error["errorMessage"]
    assert (before.value, False) == (after.value, after.cold_start)


def test_instance_lives_on_after_an_exception(engine: Engine, make_function: FunctionMaker) -> None:
    """An error of one invocation costs the next one nothing."""
    function = make_function(
        """
        import os

        def handler(event, context):
            if event:
                raise ValueError(event)
            return os.getpid()
        """
    )
    first, _, third = (engine.invoke(function, event) for event in (None, "bad", None))

    assert (first.value, False) == (third.value, third.cold_start)


def test_error_appears_in_what_machines_and_people_read(invoke: Invoker) -> None:
    """to_dict() and render() tell the same story as the attributes."""
    result = invoke("def handler(event, context):\n    raise ValueError('bad')\n")
    told, text = result.to_dict(), result.render()

    assert ("function_error", result.error) == (told["status"], told["error"])
    assert f"Start invoke request '{result.summary.request_id}', version: latest" in text
    assert f"Finish invoke request '{result.summary.request_id}'(invoke Failed), duration: " in text
    assert '"errorType": "ValueError"' in text
