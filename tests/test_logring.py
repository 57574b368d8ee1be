"""The newest bytes of a log: how many, cut where, and in how much memory."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.logring import LogCutter, LogRing


def tail_of(*pieces: bytes, capacity: int = 8) -> tuple[str, int]:
    ring = LogRing(capacity)
    for piece in pieces:
        ring.feed(piece)
    return ring.take()


@pytest.mark.parametrize(
    ("pieces", "text", "dropped"),
    [
        ([], "", 0),
        ([b""], "", 0),
        ([b"12345678"], "12345678", 0),
        ([b"123456789"], "23456789", 1),
        ([b"1234", b"5678"], "12345678", 0),
        ([b"1234", b"56789"], "23456789", 1),
        ([b"x" * 1000, b"12345678"], "12345678", 1000),
        ([b"12345678", b"x" * 1000], "xxxxxxxx", 1000),
        ([b"1234567", b"8", b"9"], "23456789", 1),
        ([b"12345678", b""], "12345678", 0),
    ],
)
def test_newest_bytes_are_kept_and_the_others_counted(pieces: list[bytes], text: str, dropped: int) -> None:
    """The tail, not the head, whatever pieces it came in."""
    assert (text, dropped) == tail_of(*pieces)


@given(pieces=st.lists(st.binary(max_size=30).map(lambda data: data.translate(bytes(b % 95 + 32 for b in range(256))))))
def test_tail_is_that_of_everything_fed(pieces: list[bytes]) -> None:
    """For any pieces, with dropped and kept bytes adding up."""
    everything = b"".join(pieces)

    assert (everything[-8:].decode(), max(0, len(everything) - 8)) == tail_of(*pieces)


@pytest.mark.parametrize(
    ("text", "capacity", "kept"),
    [
        ("aäb", 3, "äb"),
        ("aäb", 2, "b"),
        ("a界b", 4, "界b"),
        ("a界b", 3, "b"),
        ("a界b", 2, "b"),
        ("a😀b", 5, "😀b"),
        ("a😀b", 4, "b"),
        ("a😀b", 2, "b"),
        ("😀", 3, ""),
    ],
)
def test_character_that_the_cut_went_through_is_dropped_whole(text: str, capacity: int, kept: str) -> None:
    """No half of a Chinese character at the start of a log; its bytes count as dropped."""
    data = text.encode()

    assert (kept, len(data) - len(kept.encode())) == tail_of(data, capacity=capacity)


def test_character_in_two_pieces_is_one_character() -> None:
    """A pipe may be read in the middle of one."""
    data = "界".encode()

    assert ("界", 0) == tail_of(data[:1], data[1:])


@pytest.mark.parametrize(
    ("data", "text", "dropped"),
    [
        (b"\xff\xfeab", "\ufffd\ufffdab", 0),
        (b"ab\xe7\x95", "ab\ufffd", 0),
        (b"\x80\x80ab", "\ufffd\ufffdab", 0),
        (b"x" + b"\x80" * 8, "\ufffd" * 8, 1),
        (b"x\x80\x80\x80\x80abcd", "\ufffd" * 4 + "abcd", 1),
        (b"a\0b", "a\0b", 0),
    ],
)
def test_bytes_that_are_no_text_do_no_harm(data: bytes, text: str, dropped: int) -> None:
    """Each becomes U+FFFD; nothing is taken for a cut character where nothing was cut."""
    assert (text, dropped) == tail_of(data)


def test_four_continuation_bytes_are_no_cut_character() -> None:
    """No character is that long: they are shown as what they are, also when nothing else fits."""
    assert ("\ufffd" * 4, 1) == tail_of(b"x" + b"\x80" * 4, capacity=4)


def test_take_starts_over() -> None:
    """The next invocation's log has nothing of this one's, and counts from zero."""
    ring = LogRing(8)
    ring.feed(b"x" * 20)
    ring.take()
    ring.feed(b"next")

    assert ("next", 0) == ring.take()
    assert ("", 0) == ring.take()


def test_clear_forgets_what_was_kept_and_what_was_counted() -> None:
    """Output that nobody asked for does not show up as dropped either."""
    ring = LogRing(8)
    ring.feed(b"x" * 20)
    ring.clear()
    ring.feed(b"asked for")

    assert ("sked for", 1) == ring.take()


def test_memory_is_bounded() -> None:
    """Whether output comes in one piece or byte by byte, no more than twice the capacity is held."""
    ring = LogRing(100)
    held = []
    for size in [1] * 1000 + [99] * 20 + [100, 101, 100_000]:
        ring.feed(b"x" * size)
        held.append(len(ring._kept))

    assert max(held) <= 200


MARK = b"\0mark\0"


@pytest.mark.parametrize("size", [1, 2, 5, 6, 7, 100])
def test_cutter_cuts_at_marks_however_the_pieces_come(size: int) -> None:
    """Each part by itself, the mark in none of them; a part may be empty."""
    parts = [b"first", b"", b"third \xc3\xa9"]
    cutter = LogCutter(100)
    stream = b"".join(part + MARK for part in parts) + b"rest"
    for at in range(0, len(stream), size):
        cutter.feed(stream[at : at + size])

    assert [("first", 0), ("", 0), ("third é", 0)] == [cutter.take_until(MARK) for _ in parts]
    assert ("rest", 0) == cutter.take()
    assert 0 == cutter.fed_bytes


def test_cutter_keeps_little_while_a_part_goes_on() -> None:
    """Megabytes without a mark: the newest bytes, and a mark that is cut in two is found all the same."""
    cutter = LogCutter(10)
    for _ in range(1000):
        cutter.feed(b"x" * 1000)
        cutter.flow(MARK)
        assert len(cutter._unseen) < len(MARK)
    cutter.feed(b"end" + MARK[:3])
    cutter.flow(MARK)
    cutter.feed(MARK[3:] + b"next")

    assert 1_000_003 + len(MARK) + 4 == cutter.fed_bytes
    assert ("xxxxxxxend", 1_000_003 - 10) == cutter.take_until(MARK)
    assert ("next", 0) == cutter.take()


def test_cutter_without_a_mark_gives_what_there_is() -> None:
    """Whoever closed the log wrote none."""
    cutter = LogCutter(100)
    cutter.feed(b"no mark")

    assert ("no mark", 0) == cutter.take_until(MARK)
    assert ("", 0) == cutter.take_until(MARK)


def test_cleared_cutter_is_empty() -> None:
    """Also of what it had let go of already."""
    cutter = LogCutter(100)
    cutter.feed(b"x" * 50)
    cutter.flow(MARK)
    cutter.clear()

    assert (0, ("", 0)) == (cutter.fed_bytes, cutter.take())
