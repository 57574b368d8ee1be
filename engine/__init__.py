"""Run FunctionGraph-style Python functions on this machine, each in a real interpreter of its own."""

from engine.engine import Engine
from engine.errors import (
    EngineClosedError,
    EngineError,
    IllegalTransitionError,
    InstanceError,
    InstanceStartError,
    InvalidEventError,
    InvalidFunctionError,
    IsolationUnavailableError,
    ProtocolError,
    RuntimeNotFoundError,
    UnsupportedPlatformError,
)
from engine.model import Credentials, Function, Status, Summary
from engine.result import Result

__all__ = [
    "Credentials",
    "Engine",
    "EngineClosedError",
    "EngineError",
    "Function",
    "IllegalTransitionError",
    "InstanceError",
    "InstanceStartError",
    "InvalidEventError",
    "InvalidFunctionError",
    "IsolationUnavailableError",
    "ProtocolError",
    "Result",
    "RuntimeNotFoundError",
    "Status",
    "Summary",
    "UnsupportedPlatformError",
]
