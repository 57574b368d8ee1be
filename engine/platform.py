"""What the platform gives a function besides its code: the environment, the share of CPU, the limits."""

from __future__ import annotations

import json
from typing import Final

from engine.model import MAX_PAYLOAD_BYTES, Function

BARE_ENVIRONMENT: Final = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/", "LANG": "C.UTF-8"}
"""What every interpreter starts with, whatever it will serve; 2.7 imports pwd where there is no HOME."""

_START_PREFIXES: Final = ("PYTHON", "LD_", "MALLOC_", "GLIBC_", "LANG", "LC_")
"""Read by the loader, the C library or the interpreter before any code of ours runs."""


def cpu_millicores(memory_mb: int) -> int:
    """Return the CPU share that goes with *memory_mb*: 200 and 100 more for each 128 MB (section 6.3)."""
    return 200 + memory_mb * 100 // 128


def environment(function: Function, *, code_root: str, home: str, scratch: str) -> dict[str, str]:
    """Return the environment variables of an instance: the documented RUNTIME_*, the user's own, and a bare system.

    Nothing of the host's environment is in it, and none of the credentials.
    """
    initializer = (
        {
            "RUNTIME_INITIALIZER_HANDLER": function.initializer,
            "RUNTIME_INITIALIZER_TIMEOUT": _seconds(function.initializer_timeout_s),
        }
        if function.initializer
        else {}
    )
    return {
        **BARE_ENVIRONMENT,
        "HOME": home,
        "TMPDIR": scratch,
        **function.user_data,
        "RUNTIME_PROJECT_ID": function.project_id,
        "RUNTIME_FUNC_NAME": function.name,
        "RUNTIME_FUNC_VERSION": function.version,
        "RUNTIME_PACKAGE": function.package,
        "RUNTIME_HANDLER": function.handler,
        "RUNTIME_TIMEOUT": _seconds(function.timeout_s),
        "RUNTIME_USERDATA": json.dumps(dict(function.user_data)),
        "RUNTIME_CPU": str(cpu_millicores(function.memory_mb)),
        "RUNTIME_MEMORY": str(function.memory_mb),
        "RUNTIME_MAX_RESP_BODY_SIZE": str(MAX_PAYLOAD_BYTES),
        "RUNTIME_CODE_ROOT": code_root,
        **initializer,
    }


def variables_acting_at_start(function: Function) -> list[str]:
    """Return which of the user's variables act when an interpreter starts: a fork would come too late for them."""
    return [name for name in function.user_data if name.startswith(_START_PREFIXES)]


def _seconds(value: float) -> str:
    return f"{value:g}"
