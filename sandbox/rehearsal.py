"""What an instance does that was started ahead: it serves a function of our own, with nobody at the other end.

A forked process copies each page that it writes to, and an interpreter writes to a page whenever it counts a reference
on it. Of the 620 copies that a cold start made on 3.9, up to its first reply, 250 came after it knew its function. One
that has rehearsed finds most of what it needs copied already. Nothing of the rehearsal is left but that.
"""

import os
import sys

from sandbox.bootstrap import Instance
from sandbox.wire import CALL, CALL_KIND, FrameReader

MYPY = False  # mypy takes it for True; 2.7 has no typing to import
if MYPY:
    from typing import Any

    from sandbox.bootstrap import Prepared

_VARIABLE = "FGENGINE_REHEARSAL"
_LOAD = {"type": "load", "token": "0" * 16, "request_id": "0" * 36, "deadline_ns": 1 << 62}
_CALL = CALL.pack(CALL_KIND, b"0" * 16, 1 << 62) + b"0" * 36
_SETTINGS = {
    "handler": "rehearsed.handler",
    "initializer": None,
    "import_path": [],
    "name": "",
    "package": "",
    "version": "",
    "alias": "",
    "project_id": "",
    "memory_mb": 1,
    "cpu_millicores": 1,
    "timeout_s": 1,
    "user_data": {},
    "credentials": {},
}  # type: dict[str, Any]


def rehearse(prepared):
    # type: (Prepared) -> None
    """Load and invoke once, and forget it. Where our files cannot be read any more there is nothing to rehearse."""
    here = os.path.dirname(os.path.abspath(__file__))
    modules, importers = set(sys.modules), set(sys.path_importer_cache)
    reply_fd = os.open(os.devnull, os.O_WRONLY)
    try:
        nobody = FrameReader(-1)
        instance = Instance(dict(_SETTINGS, code_root=here), nobody, reply_fd, prepared.streams)
        instance.rehearse(_LOAD, _CALL, b'{"a": [1, 0.5, "b", null]}')
        os.environ[_VARIABLE] = ""
        del os.environ[_VARIABLE]
    finally:
        os.close(reply_fd)
        for name in set(sys.modules) - modules:
            del sys.modules[name]
        for path in set(sys.path_importer_cache) - importers:
            del sys.path_importer_cache[path]
