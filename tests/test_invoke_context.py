"""The Context: every method of FunctionGraph's guide, its value and its type."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import pytest

from engine import Credentials, Engine

if TYPE_CHECKING:
    from tests.conftest import FunctionMaker, Invoker

ASK = """
    def handler(event, context):
        answers = {}
        for name in event:
            value = getattr(context, name)()
            # 2.7 has two kinds of text; either is text to a function.
            answers[name] = [type(value).__name__.replace("unicode", "str"), value]
        return answers
"""

GETTERS: dict[str, tuple[str, Any]] = {
    "getFunctionName": ("str", "shop"),
    "getPackage": ("str", "web"),
    "getVersion": ("str", "v3"),
    "getAlias": ("str", "stable"),
    "getProjectID": ("str", "9f2c"),
    "getMemorySize": ("int", 256),
    "getCPUNumber": ("int", 400),
    "getRunningTimeInSeconds": ("int", 7),
    "getAccessKey": ("str", "the access key"),
    "getSecretKey": ("str", "the secret key"),
    "getSecurityAccessKey": ("str", "the security access key"),
    "getSecuritySecretKey": ("str", "the security secret key"),
    "getSecurityToken": ("str", "the security token"),
    "getToken": ("str", "the token"),
}


def test_context_getters_give_what_the_function_describes(invoke: Invoker) -> None:
    """Each getter returns its field, with the type that the platform's kernel gives it."""
    result = invoke(
        ASK,
        list(GETTERS),
        name="shop",
        package="web",
        version="v3",
        alias="stable",
        project_id="9f2c",
        memory_mb=256,
        timeout_s=7.0,
        credentials=Credentials(
            access_key="the access key",
            secret_key="the secret key",
            security_access_key="the security access key",
            security_secret_key="the security secret key",
            security_token="the security token",
            token="the token",
        ),
    )

    assert {name: list(expected) for name, expected in GETTERS.items()} == result.value


def test_context_defaults_are_those_of_the_platform(invoke: Invoker) -> None:
    """A bare description is version latest in package default, 128 MB and 3 s; secrets are empty text, never None."""
    result = invoke(ASK, list(GETTERS))

    expected = {
        **{name: ["str", ""] for name in GETTERS if name.endswith(("Key", "Token"))},
        "getAlias": ["str", ""],
        "getProjectID": ["str", ""],
        "getFunctionName": ["str", "function"],
        "getPackage": ["str", "default"],
        "getVersion": ["str", "latest"],
        "getMemorySize": ["int", 128],
        "getCPUNumber": ["int", 300],
        "getRunningTimeInSeconds": ["int", 3],
    }
    assert expected == result.value


@pytest.mark.parametrize(("memory_mb", "millicores"), [(128, 300), (512, 600), (1792, 1600), (10240, 8200)])
def test_cpu_number_follows_the_memory(invoke: Invoker, memory_mb: int, millicores: int) -> None:
    """200 millicores, and 100 more for each 128 MB."""
    result = invoke("def handler(event, context):\n    return context.getCPUNumber()\n", memory_mb=memory_mb)

    assert millicores == result.value


def test_context_text_beyond_ascii_arrives(invoke: Invoker) -> None:
    """Names, user data and tokens are text of any language."""
    source = """
        def handler(event, context):
            return [context.getUserData("GRUSS"), context.getToken(), context.getAlias()]
    """
    result = invoke(source, user_data={"GRUSS": "grüß 你好 🎉"}, credentials=Credentials(token="schlüssel"), alias="ü")

    assert ["grüß 你好 🎉", "schlüssel", "ü"] == result.value


def test_request_id_is_the_given_one(engine: Engine, make_function: FunctionMaker) -> None:
    """The caller's id reaches the function and the summary unchanged."""
    function = make_function("def handler(event, context):\n    return context.getRequestID()\n")

    result = engine.invoke(function, None, request_id="my-own-id")

    assert ("my-own-id", "my-own-id") == (result.value, result.summary.request_id)


def test_request_id_is_a_new_uuid_each_time(engine: Engine, make_function: FunctionMaker) -> None:
    """Without one given, every invocation has an id of its own, the same inside and outside."""
    function = make_function("def handler(event, context):\n    return context.getRequestID()\n")

    first, second = engine.invoke(function, None), engine.invoke(function, None)

    assert not second.cold_start
    assert first.value != second.value
    assert first.value == first.summary.request_id == str(uuid.UUID(first.value))
    assert second.value == second.summary.request_id


def test_remaining_time_counts_down_in_whole_milliseconds(invoke: Invoker) -> None:
    """It starts at the timeout at most, is an int, and never grows."""
    source = """
        import time

        def handler(event, context):
            first = context.getRemainingTimeInMilliSeconds()
            time.sleep(0.02)
            second = context.getRemainingTimeInMilliSeconds()
            return [type(first).__name__, first, second]
    """
    kind, first, second = invoke(source, timeout_s=30.0).value

    assert "int" == kind
    assert 0 < second <= first - 20 < first <= 30_000


@pytest.mark.slow
def test_remaining_time_is_never_below_zero(engine: Engine, make_function: FunctionMaker) -> None:
    """A Context that the function kept past its deadline says 0."""
    function = make_function(
        """
        import time

        kept = []

        def handler(event, context):
            kept.append(context)
            time.sleep(event)
            return [each.getRemainingTimeInMilliSeconds() for each in kept]
        """,
        timeout_s=1.2,
    )
    for seconds in (0, 0.65, 0.6):
        result = engine.invoke(function, seconds)

    assert not result.cold_start
    assert 0 == result.value[0]
    assert 0 < result.value[2] <= 600


def test_user_data_is_read_by_key(invoke: Invoker) -> None:
    """A missing key is None, or the default that was asked for."""
    source = """
        def handler(event, context):
            return [
                context.getUserData("GREETING"),
                context.getUserData("EMPTY", "unused"),
                context.getUserData("missing"),
                context.getUserData("missing", ""),
                context.getUserData("missing", 5),
            ]
    """
    result = invoke(source, user_data={"GREETING": "hi", "EMPTY": ""})

    assert ["hi", "", None, "", 5] == result.value


def test_each_invocation_has_a_context_of_its_own(engine: Engine, make_function: FunctionMaker) -> None:
    """A Context that a function kept goes on naming the request that it belonged to."""
    function = make_function(
        """
        kept = []

        def handler(event, context):
            kept.append(context)
            return [each.getRequestID() for each in kept]
        """
    )
    engine.invoke(function, None, request_id="first")

    assert ["first", "second"] == engine.invoke(function, None, request_id="second").value


def test_initializer_gets_a_context_too(invoke: Invoker) -> None:
    """The initializer reads the same description as the handler, and has a deadline of its own."""
    source = """
        seen = {}

        def initializer(context):
            seen["name"] = context.getFunctionName()
            seen["data"] = context.getUserData("K")
            seen["token"] = context.getToken()
            seen["request id is text"] = context.getRequestID() == str(context.getRequestID())
            seen["remaining"] = context.getRemainingTimeInMilliSeconds()
            context.getLogger().info("initializing %s", context.getPackage())

        def handler(event, context):
            return seen
    """
    result = invoke(
        source,
        name="shop",
        user_data={"K": "v"},
        credentials=Credentials(token="t"),
        initializer="index.initializer",
        initializer_timeout_s=20.0,
        timeout_s=3.0,
    )

    remaining = result.value.pop("remaining")
    assert 3_000 < remaining <= 20_000
    assert {"name": "shop", "data": "v", "token": "t", "request id is text": True} == result.value
    assert " INFO initializing default\n" in result.log


@pytest.mark.parametrize("getter", ["getAccessKey", "getSecretKey"])
def test_deprecated_key_getters_warn_once(invoke: Invoker, getter: str) -> None:
    """The two getters that the platform no longer maintains work, and say so in one line of the log."""
    result = invoke(f"def handler(event, context):\n    return [context.{getter}(), context.{getter}()]\n")

    assert ["", ""] == result.value
    (line,) = result.log.splitlines()
    assert f"{result.summary.request_id} WARNING " in line
    assert getter in line


@pytest.mark.parametrize("getter", ["getSecurityAccessKey", "getSecuritySecretKey", "getSecurityToken", "getToken"])
def test_maintained_getters_do_not_warn(invoke: Invoker, getter: str) -> None:
    """Only what is deprecated leaves a trace in the log."""
    assert "" == invoke(f"def handler(event, context):\n    return context.{getter}()\n").log
