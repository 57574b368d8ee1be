"""``python -m tests.fuzz [-runs=N] [-seed=N] [-max_total_time=S] [CORPUS]``: the decoder under atheris.

The bytes of the fuzzer are turned into a stream of chunks: bytes as they are, whole legal frames, and frames whose
header is any bytes. So a second frame behind a first one is met, and not only what a first prefix is refused for.
The promises are those of ``tests.fuzz.model.check``; one that is broken ends the run with status 77 and the input
in a file ``crash-...``. Options are libFuzzer's (``-help=1`` lists them).
"""

from __future__ import annotations

import struct
import sys
from typing import Final

import atheris

with atheris.instrument_imports(include=["engine.protocol"]):
    import engine.protocol  # before anybody else imports it: only what is instrumented guides the fuzzer

from tests.fuzz.model import check, pieces_of

_HEAD: Final = b'{"type":"result","token":"0123456789abcdef"}'
_MOST_CUTS: Final = 16
_MOST_CHUNKS: Final = 8
_MOST_CHUNK_BYTES: Final = 300  # a byte more than the largest limit, and then some


def feed(data: bytes) -> None:
    """Make a limit, a stream and its cuts of *data*, and check what the decoder does with them."""
    source = atheris.FuzzedDataProvider(data)
    max_payload_bytes = source.ConsumeIntInRange(0, 256)
    cuts = [source.ConsumeIntInRange(0, 1024) for _ in range(source.ConsumeIntInRange(0, _MOST_CUTS))]
    stream = b"".join(_chunk(source) for _ in range(source.ConsumeIntInRange(1, _MOST_CHUNKS)))
    check(pieces_of(stream, cuts), max_payload_bytes)


def _chunk(source: atheris.FuzzedDataProvider) -> bytes:
    kind = source.ConsumeIntInRange(0, 2)
    body = source.ConsumeBytes(source.ConsumeIntInRange(0, _MOST_CHUNK_BYTES))
    if kind == 0:
        return body
    head, payload = (_HEAD, body) if kind == 1 else (body, b"")
    return struct.pack(">II", len(head), len(payload)) + head + payload


if __name__ == "__main__":
    sys.stderr.write(f"fuzzing {engine.protocol.__file__}\n")
    atheris.Setup([*sys.argv, "-max_len=4096"], feed)
    atheris.Fuzz()
