"""Frames, without I/O: bytes in, frames out, and the sizes that are believed.

A frame is two big-endian 32-bit lengths, a small header, and the payload's JSON bytes as they are. The payload is
never JSON inside JSON, and this module never looks into it. A header is a JSON object, but for the one that goes
with every invocation (``encode_call``), which the child reads without a JSON parser.

What comes from a child is not trusted. Lengths are checked before memory is given for them; a header must be a
JSON object with a ``type`` and a ``token``. Whose token it is, and whether the frame was due, is for the reader.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import orjson

from engine.errors import ProtocolError
from engine.model import MAX_PAYLOAD_BYTES

_LENGTHS: Final = struct.Struct(">II")
PREFIX_BYTES: Final = _LENGTHS.size

_CALL: Final = struct.Struct(">IIc16sq")
"""The lengths of a frame, and the header of an invocation: a kind, the token, a time; behind it the request id."""

_CALL_BYTES: Final = _CALL.size - PREFIX_BYTES

_RESULT_HEAD: Final = b'{"type":"result","token":"%b"}'
_RESULT_BYTES: Final = PREFIX_BYTES + len(_RESULT_HEAD % bytes(16))

MAX_HEADER_BYTES: Final = 4096
"""A child's header holds a type and a token; this leaves room to spare."""

MAX_REPLY_PAYLOAD_BYTES: Final = 6 * MAX_PAYLOAD_BYTES + 2
"""The limit of 6 MiB counts a returned string as UTF-8; its JSON has at most six bytes for one, and two quotes."""


class Frame(NamedTuple):
    """One frame as it came: its header's two words, its payload, and how long the child claims that it took."""

    type: str
    token: str
    payload: bytes
    claimed_ns: int = 0


def encode(header: Mapping[str, Any], payload: bytes = b"") -> bytes:
    """Return the frame of *header* and *payload*."""
    head = orjson.dumps(header)
    return _LENGTHS.pack(len(head), len(payload)) + head + payload


def encode_call(token: str, deadline_ns: int, request_id: str, event: bytes) -> bytes:
    """Return the frame that has the handler called with the JSON text *event*.

    Args:
        token: 16 characters of ASCII that the reply must carry.
        deadline_ns: When time is up, on the monotonic clock.
        request_id: What the context tells of.
        event: JSON text.
    """
    name = request_id.encode()
    lengths = _CALL_BYTES + len(name), len(event)
    return b"".join((_CALL.pack(*lengths, b"I", token.encode(), deadline_ns), name, event))


def encode_call_ahead(token: str, timeout_ns: int, request_id: str, event: bytes) -> bytes:
    """Return the frame of a request that may have to wait behind others in the pipe.

    Its time is how long it may run. Before its reply the child ends its part of the log with ``end_of_log(token)``, and
    the reply's header claims how long it ran.
    """
    name = request_id.encode()
    lengths = _CALL_BYTES + len(name), len(event)
    return b"".join((_CALL.pack(*lengths, b"A", token.encode(), timeout_ns), name, event))


def end_of_log(token: str) -> bytes:
    """Return what stands in the log pipe behind the output of the request with *token*."""
    return b"\0%b\0" % token.encode()


def result_in(data: bytes, token: str) -> bytes | None:
    """Return the payload when *data* is the frame of a result with *token*, byte for byte as the sandbox writes it.

    None for everything else, legal or not: a Decoder tells.
    """
    payload_bytes = len(data) - _RESULT_BYTES
    if payload_bytes < 0 or payload_bytes > MAX_REPLY_PAYLOAD_BYTES:
        return None
    head = _LENGTHS.pack(_RESULT_BYTES - PREFIX_BYTES, payload_bytes) + _RESULT_HEAD % token.encode()
    return data[_RESULT_BYTES:] if data.startswith(head) else None


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
            ProtocolError: The bytes are no legal frame; those before them are lost.
        """
        if not self._buffer:
            frame = self._whole(data)
            if frame is not None:
                return [frame]
        frames: list[Frame] = []
        self.feed_into(frames, data)
        return frames

    def feed_into(self, frames: list[Frame], data: bytes) -> None:
        """Append the frames that *data* completes to *frames*, those before an illegal one as well.

        Raises:
            ProtocolError: The bytes are no legal frame.
        """
        buffer = self._buffer
        buffer += data
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

    def _whole(self, data: bytes) -> Frame | None:
        """Return the frame that *data* is, without a copy of it: what nearly every read gives. None: not one frame."""
        if len(data) < PREFIX_BYTES:
            return None
        header_bytes, payload_bytes = _LENGTHS.unpack_from(data)
        payload = PREFIX_BYTES + header_bytes
        if payload + payload_bytes != len(data) or not 0 < header_bytes <= MAX_HEADER_BYTES:
            return None
        if payload_bytes > self._max_payload_bytes:
            return None
        return _frame(data[PREFIX_BYTES:payload], data[payload:])

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
    claimed_ns = header.get("duration_ns", 0)
    return Frame(kind, token, payload, claimed_ns if isinstance(claimed_ns, int) and claimed_ns > 0 else 0)
