"""The newest bytes of a log, in bounded memory."""

from __future__ import annotations

from typing import Final, NamedTuple

_CONTINUATION_MASK: Final = 0b1100_0000
_CONTINUATION: Final = 0b1000_0000
_LONGEST_CHARACTER_BYTES: Final = 4


class LogTail(NamedTuple):
    """The newest part of a log as text, and how many bytes before it were dropped."""

    text: str
    dropped_bytes: int


EMPTY: Final = LogTail("", 0)


class LogRing:
    """Keeps the newest *capacity_bytes* of what it is fed.

    Attributes:
        fed_bytes: How much that was since the last take.
    """

    def __init__(self, capacity_bytes: int) -> None:
        self._capacity_bytes = capacity_bytes
        # Twice the capacity before the old half goes: each byte is copied once or twice, however small the pieces.
        self._kept = bytearray()
        self.fed_bytes = 0

    def feed(self, data: bytes | memoryview) -> None:
        """Append *data*, dropping the oldest bytes that no longer fit."""
        self.fed_bytes += len(data)
        if len(data) >= self._capacity_bytes:
            self._kept[:] = data[len(data) - self._capacity_bytes :]
            return
        self._kept += data
        if len(self._kept) > 2 * self._capacity_bytes:
            del self._kept[: len(self._kept) - self._capacity_bytes]

    def take(self) -> LogTail:
        """Return what is kept and start over.

        A character that the cut went through is dropped as a whole; bytes that are not UTF-8 become U+FFFD.
        """
        if not self.fed_bytes:
            return EMPTY
        tail = bytes(self._kept[max(0, len(self._kept) - self._capacity_bytes) :])
        if len(tail) < self.fed_bytes:
            tail = tail[_start_of_character(tail) :]
        taken = LogTail(tail.decode("utf-8", "replace"), self.fed_bytes - len(tail))
        self.clear()
        return taken

    def clear(self) -> None:
        """Forget everything that was fed."""
        if self.fed_bytes:
            self._kept.clear()
            self.fed_bytes = 0


class LogCutter:
    """A log in which marks end the parts; in bounded memory, however much comes between two of them.

    Args:
        capacity_bytes: How much of each part is kept.
    """

    def __init__(self, capacity_bytes: int) -> None:
        self._ring = LogRing(capacity_bytes)
        self._unseen = bytearray()  # fed, and not yet searched for the next mark

    @property
    def fed_bytes(self) -> int:
        """How much was fed and not taken."""
        return self._ring.fed_bytes + len(self._unseen)

    def feed(self, data: bytes | memoryview) -> None:
        """Append *data*."""
        self._unseen += data

    def flow(self, mark: bytes) -> None:
        """Keep the newest bytes only of what was fed before *mark*, which has not come yet: call it now and then."""
        if self._unseen and self._unseen.find(mark) < 0:
            self._let_go(len(self._unseen) - len(mark) + 1)

    def take_until(self, mark: bytes) -> LogTail:
        """Return what was fed before *mark* and drop the mark; everything when the mark is not there."""
        if self._unseen.startswith(mark) and not self._ring.fed_bytes:
            del self._unseen[: len(mark)]
            return EMPTY
        at = self._unseen.find(mark)
        self._let_go(len(self._unseen) if at < 0 else at)
        if at >= 0:
            del self._unseen[: len(mark)]
        return self._ring.take()

    def take(self) -> LogTail:
        """Return everything and start over."""
        self._let_go(len(self._unseen))
        return self._ring.take()

    def clear(self) -> None:
        """Forget everything that was fed."""
        self._unseen.clear()
        self._ring.clear()

    def _let_go(self, size: int) -> None:
        if size > 0:
            self._ring.feed(bytes(self._unseen[:size]))
            del self._unseen[:size]


def _start_of_character(tail: bytes) -> int:
    for at, byte in enumerate(tail[:_LONGEST_CHARACTER_BYTES]):
        if byte & _CONTINUATION_MASK != _CONTINUATION:
            return at
    # Four continuation bytes in a row are no UTF-8 at all: nothing was cut in two. Fewer are all that fits.
    return 0 if len(tail) >= _LONGEST_CHARACTER_BYTES else len(tail)
