"""Secrets reach the Context and nothing else: no repr, no environment, no command line, no log event."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import psutil
import pytest
import structlog

from engine import Credentials, Engine, InvalidFunctionError

if TYPE_CHECKING:
    from tests.conftest import FunctionMaker

FIELDS = ("access_key", "secret_key", "security_access_key", "security_secret_key", "security_token", "token")
SECRET = "s3cr3t-of-"
ALL = Credentials(**{name: SECRET + name for name in FIELDS})

ASK = """
    import os
    import subprocess

    def handler(event, context):
        if event == "fail":
            raise ValueError("no")
        with open("/proc/self/environ") as environ, open("/proc/self/cmdline") as cmdline:
            seen = environ.read() + cmdline.read() + repr(dict(os.environ))
        return seen + subprocess.Popen(["env"], stdout=subprocess.PIPE).communicate()[0].decode()
"""


def test_secrets_are_absent_from_every_repr(make_function: FunctionMaker) -> None:
    """Of the credentials, of the function that carries them, and of its mistakes."""
    function = make_function(ASK, credentials=ALL)

    assert SECRET not in repr(ALL) + str(ALL) + f"{ALL}" + repr(function) + str(function) + repr([function])


@pytest.mark.parametrize("field", FIELDS)
def test_secret_of_a_wrong_type_is_refused_without_showing_it(field: str) -> None:
    """The message names the field and the type."""
    with pytest.raises(InvalidFunctionError) as caught:
        Credentials(**{field: SECRET.encode()})  # type: ignore[arg-type]  # what is tested

    assert f"credentials.{field}" in str(caught.value)
    assert SECRET not in str(caught.value) + repr(caught.value)


@pytest.mark.parametrize("start_method", ["fork", "spawn"])
def test_secrets_are_absent_from_environments_and_command_lines(
    make_function: FunctionMaker, start_method: Literal["fork", "spawn"]
) -> None:
    """Of the instance and its subprocesses as they see themselves, and of every process that the engine started."""
    function = make_function(ASK, credentials=ALL)
    outside = ""
    with Engine(start_method=start_method) as engine:
        inside = engine.invoke(function, None).value
        for process in psutil.Process().children(recursive=True):
            outside += repr(process.environ()) + repr(process.cmdline())

    assert outside
    assert SECRET not in inside + outside


def test_secrets_are_absent_from_results_and_log_events(make_function: FunctionMaker) -> None:
    """Whatever happens to the function, nothing that the engine writes has them."""
    captured = structlog.testing.CapturingLogger()
    function = make_function(ASK, credentials=ALL, timeout_s=0.2)
    hanging = make_function("def handler(event, context):\n    while True: pass\n", credentials=ALL, timeout_s=0.1)
    with Engine(logger=structlog.wrap_logger(captured, processors=[])) as engine:
        results = [engine.invoke(function, None), engine.invoke(function, "fail"), engine.invoke(hanging, None)]
        text = repr(engine)
    text += "".join(repr(result) + repr(result.to_dict()) + result.render() for result in results)

    assert captured.calls
    assert SECRET not in text + repr(captured.calls)
