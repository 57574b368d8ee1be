"""A second decoder, as plain as can be, and the promises that the engine's one must keep beside it.

The plain one has the whole stream at once, so it has no pieces, no bookkeeping and nothing to hold.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterable
from dataclasses import dataclass

import orjson

from engine.errors import ProtocolError
from engine.protocol import MAX_HEADER_BYTES, PREFIX_BYTES, Decoder, Frame

MAX_MESSAGE_CHARS = 600
"""A refusal goes into a result: it quotes 80 bytes at most, and repr() makes four characters of one."""


@dataclass(frozen=True)
class Reading:
    """What is in a stream: its frames, and then a part of one, or bytes that are no legal frame."""

    frames: list[Frame]
    rest_bytes: int
    is_legal: bool


def read(stream: bytes, max_payload_bytes: int) -> Reading:
    """Read *stream* from its beginning up to its end, or up to what is no legal frame."""
    frames: list[Frame] = []
    at = 0
    while len(stream) - at >= PREFIX_BYTES:
        header_bytes, payload_bytes = struct.unpack(">II", stream[at : at + 8])
        if not 1 <= header_bytes <= MAX_HEADER_BYTES or payload_bytes > max_payload_bytes:
            return Reading(frames, len(stream) - at, is_legal=False)
        payload_at = at + 8 + header_bytes
        end = payload_at + payload_bytes
        if end > len(stream):
            break
        frame = _frame(stream[at + 8 : payload_at], stream[payload_at:end])
        if frame is None:
            return Reading(frames, len(stream) - at, is_legal=False)
        frames.append(frame)
        at = end
    return Reading(frames, len(stream) - at, is_legal=True)


def _frame(head: bytes, payload: bytes) -> Frame | None:
    try:
        header = orjson.loads(head)
    except ValueError:
        return None
    if not isinstance(header, dict):
        return None
    words = header.get("type"), header.get("token")
    return Frame(*words, payload) if all(isinstance(word, str) for word in words) else None


def pieces_of(stream: bytes, cuts: Iterable[int]) -> list[bytes]:
    """Cut *stream* at the offsets *cuts*, in any order and with repetitions."""
    edges = [0, *sorted(min(max(cut, 0), len(stream)) for cut in cuts), len(stream)]
    return [stream[start:end] for start, end in itertools.pairwise(edges)]


def check(pieces: Iterable[bytes], max_payload_bytes: int) -> None:
    """Feed *pieces* to the engine's decoder and hold it against the plain one.

    Raises:
        AssertionError: It gave other frames, refused what is legal or took what is not, or held too much.
        Exception: Whatever it raised that is no ProtocolError.
    """
    decoder, frames, fed = Decoder(max_payload_bytes), [], b""
    for piece in pieces:
        fed += piece
        expected = read(fed, max_payload_bytes)
        refusal = None
        try:
            frames += decoder.feed(piece)
        except ProtocolError as error:
            refusal = str(error)
        assert expected.is_legal is (refusal is None), f"refused what is legal, or took what is not: {refusal}"
        if refusal is not None:
            assert len(refusal) <= MAX_MESSAGE_CHARS
            assert expected.frames[: len(frames)] == frames
            return
        assert expected.frames == frames
        assert expected.rest_bytes == decoder.held_bytes
        assert decoder.held_bytes < PREFIX_BYTES + MAX_HEADER_BYTES + max_payload_bytes
