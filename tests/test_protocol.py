"""Frames without I/O: how they may be cut, what is refused before memory is given for it, and what is believed."""

from __future__ import annotations

import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import ProtocolError
from engine.model import MAX_PAYLOAD_BYTES
from engine.protocol import (
    MAX_HEADER_BYTES,
    MAX_REPLY_PAYLOAD_BYTES,
    Decoder,
    Frame,
    encode,
    encode_call,
    result_in,
)

HEADER = {"type": "result", "token": "t"}
SMALL = encode(HEADER, b"[1]")


def raw(head: bytes, payload: bytes = b"") -> bytes:
    """A frame of any header bytes, legal or not."""
    return struct.pack(">II", len(head), len(payload)) + head + payload


def test_frame_is_two_big_endian_lengths_header_and_payload() -> None:
    """The wire is a contract with the sandbox, which has its own implementation: pinned byte for byte."""
    assert b"\0\0\0\x1d\0\0\0\x02" + b'{"type":"result","token":"t"}' + b"{}" == encode(HEADER, b"{}")


def test_payload_is_sent_as_it_is() -> None:
    """The payload is never JSON inside JSON: bytes that are no JSON at all travel unchanged."""
    payload = bytes(range(256))

    assert [Frame("result", "t", payload)] == Decoder().feed(encode(HEADER, payload))


def test_empty_payload_is_a_payload() -> None:
    """A phase that has nothing to tell sends a header alone."""
    assert [Frame("result", "t", b"")] == Decoder().feed(encode(HEADER))


@given(
    payloads=st.lists(st.binary(max_size=40), min_size=1, max_size=5), cuts=st.lists(st.integers(1, 30), max_size=200)
)
def test_frames_come_out_however_the_bytes_were_cut(payloads: list[bytes], cuts: list[int]) -> None:
    """A pipe gives bytes in any pieces; frames come in order, and nothing is held afterwards."""
    stream = b"".join(encode({"type": "result", "token": str(n)}, each) for n, each in enumerate(payloads))
    decoder = Decoder()
    frames: list[Frame] = []
    for cut in cuts:
        frames += decoder.feed(stream[:cut])
        stream = stream[cut:]
    frames += decoder.feed(stream)

    assert [Frame("result", str(n), each) for n, each in enumerate(payloads)] == frames
    assert 0 == decoder.held_bytes


def test_frame_is_given_with_its_last_byte_and_not_before() -> None:
    """One byte at a time: only the last one completes it."""
    decoder = Decoder()
    given_at = [at for at in range(len(SMALL)) if decoder.feed(SMALL[at : at + 1])]

    assert [len(SMALL) - 1] == given_at


def test_start_of_the_next_frame_is_kept() -> None:
    """A read that takes a frame may take the beginning of what follows it."""
    decoder = Decoder()

    assert 1 == len(decoder.feed(SMALL + SMALL[:7]))
    assert 7 == decoder.held_bytes
    assert 1 == len(decoder.feed(SMALL[7:]))


def test_feeding_nothing_changes_nothing() -> None:
    """An empty piece is legal, in the middle of a frame as well."""
    decoder = Decoder()
    decoder.feed(SMALL[:10])

    assert [] == decoder.feed(b"")
    assert 1 == len(decoder.feed(SMALL[10:]))


@pytest.mark.parametrize("header_bytes", [0, MAX_HEADER_BYTES + 1, 2**32 - 1])
def test_header_length_is_judged_before_the_header_comes(header_bytes: int) -> None:
    """Eight bytes are enough to refuse a frame; no memory is given for what it promises."""
    with pytest.raises(ProtocolError, match=f"header of {header_bytes} bytes"):
        Decoder().feed(struct.pack(">II", header_bytes, 0))


def test_longest_legal_header_is_taken() -> None:
    """The limit itself is legal."""
    head = json.dumps({**HEADER, "pad": ""}).encode()
    head = json.dumps({**HEADER, "pad": "x" * (MAX_HEADER_BYTES - len(head))}).encode()

    assert MAX_HEADER_BYTES == len(head)
    assert [Frame("result", "t", b"")] == Decoder().feed(raw(head))


@pytest.mark.parametrize(
    ("limit", "payload_bytes"),
    [(10, 11), (MAX_REPLY_PAYLOAD_BYTES, MAX_REPLY_PAYLOAD_BYTES + 1), (MAX_REPLY_PAYLOAD_BYTES, 2**32 - 1)],
)
def test_payload_length_is_judged_before_the_payload_comes(limit: int, payload_bytes: int) -> None:
    """A child cannot make the engine hold more than a reply may have."""
    with pytest.raises(ProtocolError, match=f"payload of {payload_bytes} bytes"):
        Decoder(limit).feed(struct.pack(">II", 20, payload_bytes))


def test_payload_at_its_limit_is_taken() -> None:
    """The limit itself is legal."""
    assert [Frame("result", "t", b"x" * 10)] == Decoder(10).feed(encode(HEADER, b"x" * 10))


def test_reply_has_room_for_six_mib_of_any_text() -> None:
    """A returned string of 6 MiB may be all control characters, each of them six bytes in JSON."""
    assert len(json.dumps("\0" * MAX_PAYLOAD_BYTES)) == MAX_REPLY_PAYLOAD_BYTES


def test_second_frame_is_judged_like_the_first() -> None:
    """What comes behind a good frame in the same piece is not trusted more."""
    with pytest.raises(ProtocolError):
        Decoder().feed(SMALL + struct.pack(">II", 0, 0))


@pytest.mark.parametrize(
    "head",
    [
        b"not json",
        b"[]",
        b'"type"',
        b"null",
        b"{}",
        b'{"type":"result"}',
        b'{"token":"t"}',
        b'{"type":1,"token":"t"}',
        b'{"type":"result","token":null}',
        b'{"type":["result"],"token":"t"}',
        b'{"type":"result","token":"t"}trailing',
        b'\xff\xfe{"type":"result"}',
        b"[" * 4000,
    ],
)
def test_header_that_is_no_object_with_two_strings_is_refused(head: bytes) -> None:
    """Whatever a child writes there is a ProtocolError, and never another exception."""
    with pytest.raises(ProtocolError, match="a frame header"):
        Decoder().feed(raw(head))


def test_refusal_quotes_no_more_than_the_start_of_a_header() -> None:
    """The message goes into a result: it is bounded whatever was sent."""
    with pytest.raises(ProtocolError) as caught:
        Decoder().feed(raw(b"x" * MAX_HEADER_BYTES))

    assert len(str(caught.value)) < 200


def test_unknown_words_in_a_header_are_ignored() -> None:
    """A sandbox may say more than this engine reads."""
    assert [Frame("result", "t", b"")] == Decoder().feed(encode({**HEADER, "more": [1]}))


def test_unfinished_frame_is_held_whole() -> None:
    """A large payload comes in many pieces: all of them held, and no frame before its end."""
    decoder = Decoder()
    frame = encode(HEADER, b"x" * 300_000)
    for at in range(0, len(frame) - 1, 1000):
        assert [] == decoder.feed(frame[at : min(at + 1000, len(frame) - 1)])

    assert len(frame) - 1 == decoder.held_bytes
    assert [300_000] == [len(each.payload) for each in decoder.feed(frame[-1:])]


TOKEN = "0123456789abcdef"
RESULT = raw(b'{"type":"result","token":"0123456789abcdef"}', b"[1]")


def test_call_is_pinned_byte_for_byte() -> None:
    """Lengths, a kind, the token, the deadline in 64 bits, the request id and the event: the sandbox unpacks them."""
    expected = b"\0\0\0\x1c\0\0\0\x03" + b"I" + TOKEN.encode() + b"\0\0\0\0\0\0\x01\0" + "né".encode() + b"[1]"

    assert expected == encode_call(TOKEN, 256, "né", b"[1]")


def test_result_is_known_by_its_bytes() -> None:
    """The usual reply needs no decoder; an empty payload is one."""
    assert b"[1]" == result_in(RESULT, TOKEN)
    assert b"" == result_in(raw(b'{"type":"result","token":"0123456789abcdef"}'), TOKEN)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        RESULT[:-1],
        RESULT + b"x",
        RESULT + RESULT,
        RESULT.replace(b"0", b"1", 1),
        RESULT.replace(b"cdef", b"cdeg"),
        RESULT.replace(b"result", b"resul7"),
        raw(b'{"type":"result", "token":"0123456789abcdef"}', b"[1]"),
        raw(b'{"token":"0123456789abcdef","type":"result"}', b"[1]"),
    ],
)
def test_what_is_no_plain_result_is_left_to_the_decoder(data: bytes) -> None:
    """A part of one, more than one, another token, another spelling: not an error, and no result either."""
    assert result_in(data, TOKEN) is None


def test_payload_over_its_limit_is_no_result() -> None:
    """What the decoder would refuse is not let in beside it."""
    head = b'{"type":"result","token":"0123456789abcdef"}'

    assert result_in(raw(head, bytes(MAX_REPLY_PAYLOAD_BYTES)), TOKEN) is not None
    assert result_in(raw(head, bytes(MAX_REPLY_PAYLOAD_BYTES + 1)), TOKEN) is None
