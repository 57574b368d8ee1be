"""Frames, without I/O: bytes in, frames out, and the sizes that are believed.

A frame is two big-endian 32-bit lengths, a small JSON header, and the payload's JSON bytes as they are. The
payload is never JSON inside JSON, and this module never looks into it.

What comes from a child is not trusted. Lengths are checked before memory is given for them; a header must be a
JSON object with a ``type`` and a ``token``. Whose token it is, and whether the frame was due, is for the reader.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from engine.errors import ProtocolError
from engine.model import MAX_PAYLOAD_BYTES

_LENGTHS: Final = struct.Struct(">II")
PREFIX_BYTES: Final = _LENGTHS.size

MAX_HEADER_BYTES: Final = 4096
"""A child's header holds a type and a token; this leaves room to spare."""

MAX_REPLY_PAYLOAD_BYTES: Final = 6 * MAX_PAYLOAD_BYTES + 2
"""The limit of 6 MiB counts a returned string as UTF-8; its JSON has at most six bytes for one, and two quotes."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame as it came: its header's two words, and its payload."""

    type: str
    token: str
    payload: bytes


def encode(header: Mapping[str, Any], payload: bytes = b"") -> bytes:
    """Return the frame of *header* and *payload*."""
    head = orjson.dumps(header)
    return _LENGTHS.pack(len(head), len(payload)) + head + payload


class Decoder:
    """Takes bytes as they come and gives whole frames.

    Holds at most one frame's legal size and what was fed last. After a ProtocolError it is of no more use.
    """

    def __init__(self, max_payload_bytes: int = MAX_REPLY_PAYLOAD_BYTES) -> None:
        self._max_payload_bytes = max_payload_bytes
        # One buffer, not a list of pieces: a child that writes single bytes would make an object of each.
        self._buffer = bytearray()

    @property
    def held_bytes(self) -> int:
        """How many bytes of an unfinished frame are held."""
        return len(self._buffer)

    def forget(self) -> None:
        """Drop an unfinished frame: what is fed next is the start of one."""
        self._buffer.clear()

    def feed(self, data: bytes) -> list[Frame]:
        """Return the frames that *data* completes, in order.

        Raises:
            ProtocolError: The bytes are no legal frame.
        """
        buffer = self._buffer
        buffer += data
        frames: list[Frame] = []
        start = 0
        while len(buffer) - start >= PREFIX_BYTES:
            header_bytes, payload_bytes = self._checked_lengths(start)
            payload = start + PREFIX_BYTES + header_bytes
            end = payload + payload_bytes
            if len(buffer) < end:
                break
            with memoryview(buffer) as view:
                frames.append(_frame(bytes(view[start + PREFIX_BYTES : payload]), bytes(view[payload:end])))
            start = end
        del buffer[:start]  # once, and not after each frame: a pipe holds two thousand of the smallest ones
        return frames

    def _checked_lengths(self, start: int) -> tuple[int, int]:
        header_bytes, payload_bytes = _LENGTHS.unpack_from(self._buffer, start)
        if not 0 < header_bytes <= MAX_HEADER_BYTES:
            raise ProtocolError(f"a frame header of {header_bytes} bytes (at most {MAX_HEADER_BYTES})")
        if payload_bytes > self._max_payload_bytes:
            raise ProtocolError(f"a payload of {payload_bytes} bytes (at most {self._max_payload_bytes})")
        return header_bytes, payload_bytes


def _frame(head: bytes, payload: bytes) -> Frame:
    try:
        header = orjson.loads(head)
        kind, token = header["type"], header["token"]
    except (ValueError, TypeError, KeyError):
        raise ProtocolError(f"a frame header that is no JSON object with type and token: {head[:80]!r}") from None
    if not isinstance(kind, str) or not isinstance(token, str):
        raise ProtocolError(f"a frame header whose type or token is no string: {head[:80]!r}")
    return Frame(kind, token, payload)
