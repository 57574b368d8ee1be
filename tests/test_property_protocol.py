"""Whatever a child writes, in whatever pieces it comes: frames or a ProtocolError, and memory within its bound."""

from __future__ import annotations

import json
import struct
import tracemalloc

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from engine import protocol
from engine.errors import ProtocolError
from engine.protocol import MAX_HEADER_BYTES, PREFIX_BYTES, Decoder, Frame, encode
from tests.fuzz.model import check, pieces_of, read

LIMIT = 200
"""A small limit for payloads: both sides of it are met often."""

HEADER = {"type": "result", "token": "t"}

_WORDS = st.one_of(st.text(max_size=8), st.none(), st.integers(), st.lists(st.just("result"), max_size=1))
_HEADS = st.one_of(
    st.just(json.dumps(HEADER).encode()),
    st.fixed_dictionaries({}, optional={"type": _WORDS, "token": _WORDS, "more": _WORDS}).map(
        lambda header: json.dumps(header).encode()
    ),
    st.sampled_from([b"[]", b"1", b"null", b'"type"', b"[" * 200, b'{"type":"result","token":"t"}x']),
    st.binary(max_size=40),
)
_FRAMES = st.builds(
    lambda head, payload: struct.pack(">II", len(head), len(payload)) + head + payload,
    _HEADS,
    st.one_of(st.binary(max_size=40), st.sampled_from([bytes(LIMIT - 1), bytes(LIMIT), bytes(LIMIT + 1)])),
)
_LENGTHS = st.one_of(st.integers(0, 300), st.integers(0, 2**32 - 1))
_LIES = st.builds(
    lambda lengths, rest: struct.pack(">II", *lengths) + rest, st.tuples(_LENGTHS, _LENGTHS), st.binary(max_size=60)
)
STREAMS = st.one_of(st.binary(max_size=60), st.lists(st.one_of(_FRAMES, _FRAMES, _LIES), max_size=4).map(b"".join))
CUTS = st.lists(st.integers(0, 600), max_size=12)


@pytest.mark.slow
@settings(deadline=None, print_blob=True)
@given(stream=STREAMS, cuts=CUTS)
@example(stream=encode(HEADER, bytes(LIMIT)), cuts=[0, 0, 7, 8, 9])
@example(stream=encode(HEADER, bytes(LIMIT + 1)), cuts=[8])
@example(stream=encode({**HEADER, "more": "x" * 4000}, b"[]") * 2, cuts=[4000])
@example(stream=encode({**HEADER, "more": "x" * MAX_HEADER_BYTES}, b"[]"), cuts=[8])
def test_any_bytes_in_any_pieces_are_frames_or_a_protocol_error(stream: bytes, cuts: list[int]) -> None:
    """Beside a decoder of twenty lines: the same frames after every piece, the same refusals, no other exception."""
    check(pieces_of(stream, cuts), LIMIT)


@pytest.mark.slow
@settings(deadline=None, print_blob=True)
@given(stream=STREAMS, cuts=CUTS, other_cuts=CUTS)
def test_where_the_pieces_were_cut_makes_no_difference(stream: bytes, cuts: list[int], other_cuts: list[int]) -> None:
    """A pipe cuts as it likes: the same frames and the same end. What is refused is refused in any pieces."""

    def decode(pieces: list[bytes]) -> tuple[list[Frame], bool]:
        decoder, frames = Decoder(LIMIT), []
        try:
            for piece in pieces:
                frames += decoder.feed(piece)
        except ProtocolError:
            return frames, False
        return frames, True

    frames, is_legal = decode(pieces_of(stream, cuts))
    other_frames, is_other_legal = decode(pieces_of(stream, other_cuts))

    assert is_legal is is_other_legal
    # A piece that ends in what is refused gives none of its frames: the one list is the start of the other.
    shorter, longer = sorted((frames, other_frames), key=len)
    assert shorter == longer[: len(shorter)]
    assert not is_legal or frames == other_frames


@settings(deadline=None)
@given(head_bytes=st.integers(0, 2**32 - 1), payload_bytes=st.integers(0, 2**32 - 1))
@example(head_bytes=0, payload_bytes=0)
@example(head_bytes=0, payload_bytes=1)
@example(head_bytes=1, payload_bytes=0)
@example(head_bytes=MAX_HEADER_BYTES, payload_bytes=LIMIT)
@example(head_bytes=MAX_HEADER_BYTES + 1, payload_bytes=LIMIT)
@example(head_bytes=MAX_HEADER_BYTES, payload_bytes=LIMIT + 1)
def test_lengths_are_judged_by_the_prefix_alone(head_bytes: int, payload_bytes: int) -> None:
    """Eight bytes decide whether anything more is waited for, and so given memory."""
    is_legal = 0 < head_bytes <= MAX_HEADER_BYTES and payload_bytes <= LIMIT
    decoder = Decoder(LIMIT)
    prefix = struct.pack(">II", head_bytes, payload_bytes)
    if is_legal:
        assert [] == decoder.feed(prefix)
        assert PREFIX_BYTES == decoder.held_bytes
    else:
        with pytest.raises(ProtocolError):
            decoder.feed(prefix)


@settings(deadline=None)
@given(payload=st.binary(max_size=LIMIT), words=st.fixed_dictionaries({"type": st.text(), "token": st.text()}))
def test_what_is_encoded_is_decoded(payload: bytes, words: dict[str, str]) -> None:
    """Round trip, words of any text included."""
    assert [Frame(words["type"], words["token"], payload)] == read(encode(words, payload), LIMIT).frames
    check([encode(words, payload)], LIMIT)


@pytest.mark.slow
@pytest.mark.parametrize("piece_bytes", [1, 2, 100, 65536])
def test_memory_is_what_was_sent_however_small_the_pieces(piece_bytes: int) -> None:
    """A child that writes two bytes at a time makes the engine hold those two bytes, and no object for them."""
    payload_bytes = 200_000
    frame = encode(HEADER, bytes(payload_bytes))[:-1]
    decoder = Decoder()
    pieces = (frame[at : at + piece_bytes] for at in range(0, len(frame), piece_bytes))
    tracemalloc.start()
    try:
        for piece in pieces:
            decoder.feed(piece)
        del piece
        # Of the decoder's own file: threads of other tests' engines allocate as well.
        own = tracemalloc.take_snapshot().filter_traces(
            [tracemalloc.Filter(inclusive=True, filename_pattern=protocol.__file__)]
        )
    finally:
        tracemalloc.stop()

    assert len(frame) == decoder.held_bytes
    held_bytes = sum(trace.size for trace in own.traces)
    assert len(frame) <= held_bytes < 2 * len(frame) + 4096
