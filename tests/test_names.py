"""Request ids and tokens: well-formed, random, and never twice."""

from __future__ import annotations

import threading
import uuid
from typing import TYPE_CHECKING

from engine.names import request_ids, tokens

if TYPE_CHECKING:
    from engine import Engine


def test_request_ids_are_random_uuids() -> None:
    """Of version 4 and the variant of RFC 4122, in lower case with dashes."""
    names = request_ids(500)

    assert 500 == len(set(names))
    assert {(4, uuid.RFC_4122)} == {(uuid.UUID(name).version, uuid.UUID(name).variant) for name in names}
    assert names == [str(uuid.UUID(name)) for name in names]


def test_tokens_are_64_random_bits() -> None:
    """As 16 digits; every bit is one and zero often enough."""
    drawn = tokens(2000)
    ones = [sum(int(token, 16) >> bit & 1 for token in drawn) for bit in range(64)]

    assert 2000 == len(set(drawn))
    assert {16} == {len(token) for token in drawn}
    assert all(700 < count < 1300 for count in ones)


def test_request_ids_of_many_threads_are_their_own(own_engine: Engine) -> None:
    """Threads that draw at once get different ones."""
    found: list[str] = []

    def draw() -> None:
        found.extend([own_engine._new_request_id() for _ in range(3000)])

    threads = [threading.Thread(target=draw) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert 12_000 == len(set(found))
