"""When idle instances are looked at, and when they and their pools are let go."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import cast

import pytest

from engine import pool as pool_module
from engine import upkeep as upkeep_module
from engine.clock import NS_PER_MS, NS_PER_S
from engine.enforcement import Enforcement
from engine.instance import Instance
from engine.model import Function
from engine.pool import Pool
from engine.staging import StagedFunction
from engine.upkeep import Upkeep
from engine.verdict import Ended

STAGED = StagedFunction("/code", (), ())
IDLE_TIMEOUT_NS = 60 * NS_PER_S
REST_FACTOR = 300


@dataclass(eq=False)
class FakeInstance:
    """One that takes *look_ns* of a processor to look at, and is seen whole after so many looks."""

    look_ns: int = 0
    looks_needed: int = 1
    outgrown: Ended | None = None
    looks: int = 0
    staged: StagedFunction = STAGED
    idle_since_ns: int = 0

    def inspect_idle(self) -> Ended | None:
        until_ns = time.thread_time_ns() + self.look_ns
        while time.thread_time_ns() < until_ns:
            pass
        self.looks += 1
        return self.outgrown

    def has_more_to_see(self) -> bool:
        return self.looks < self.looks_needed


class NothingToSweep:
    def sweep(self) -> None:
        pass


@dataclass
class House:
    """Pools with one idle instance each, and what became of them."""

    now_ns: int = 0
    idle_timeout_ns: int = IDLE_TIMEOUT_NS
    pools: dict[Function, Pool] = field(default_factory=dict)
    ended: list[tuple[Instance, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        enforcement = cast("Enforcement", NothingToSweep())
        self.upkeep = Upkeep(self.pools, threading.Lock(), enforcement, self.end, self.idle_timeout_ns)

    def end(self, pool: Pool, instance: Instance, reason: str) -> None:
        pool.remove(instance)
        self.ended.append((instance, reason))

    def add(self, fake: FakeInstance) -> Instance:
        pool, instance = Pool(STAGED, 1), cast("Instance", fake)
        pool.acquire()
        pool.added(instance)
        pool.release(instance)
        self.pools[Function(code="/", handler=f"index.handler{len(self.pools)}", runtime="python3.9")] = pool
        return instance


@pytest.fixture(name="house")
def _house(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> House:
    house = House(idle_timeout_ns=getattr(request, "param", IDLE_TIMEOUT_NS))
    for module in (pool_module, upkeep_module):
        monkeypatch.setattr(module, "monotonic_ns", lambda: house.now_ns)
    return house


def test_few_instances_are_looked_at_at_once(house: House) -> None:
    """Each of them once a second."""
    fakes = [FakeInstance() for _ in range(20)]
    for each in fakes:
        house.add(each)

    assert NS_PER_S == house.upkeep.do_what_is_due()
    assert [1] * 20 == [each.looks for each in fakes]


def test_many_instances_are_looked_at_a_few_at_a_time(house: House) -> None:
    """With pauses between them, so that all looks take a small part of a core and nobody is held up by them."""
    fakes = [FakeInstance(look_ns=NS_PER_MS) for _ in range(7)]
    for each in fakes:
        house.add(each)
    seen, pauses_ns = [], []
    while sum(each.looks for each in fakes) < len(fakes):
        pauses_ns.append(house.upkeep.do_what_is_due())
        seen.append(sum(each.looks for each in fakes))

    assert [2, 4, 6, 7] == seen
    assert [1] * 7 == [each.looks for each in fakes]
    assert all(pause_ns >= 2 * NS_PER_MS * REST_FACTOR for pause_ns in pauses_ns[:-1])


def test_what_was_not_seen_whole_is_looked_at_again_before_the_others(house: House) -> None:
    """It is the one that has grown, and soon: with pauses of four times what the look took."""
    long, *others = fakes = [FakeInstance(look_ns=2 * NS_PER_MS, looks_needed=3), *[FakeInstance() for _ in range(3)]]
    for each in fakes:
        house.add(each)
    pauses_ns = [house.upkeep.do_what_is_due() for _ in range(2)]

    assert 2 == long.looks
    assert [0] * 3 == [each.looks for each in others]
    assert all(8 * NS_PER_MS <= pause_ns < 2 * NS_PER_MS * REST_FACTOR for pause_ns in pauses_ns)


def test_instance_that_was_lent_meanwhile_is_not_waited_for(house: House) -> None:
    """Whether it can be seen whole is then its own invocation's affair."""
    lent = FakeInstance(look_ns=2 * NS_PER_MS, looks_needed=3)
    house.add(lent)
    house.upkeep.do_what_is_due()
    (pool,) = house.pools.values()
    pool.acquire()

    assert NS_PER_S == house.upkeep.do_what_is_due()
    assert 1 == lent.looks


def test_instance_that_grew_while_idle_is_ended(house: House) -> None:
    """With the limit that it passed for a reason."""
    fat = house.add(FakeInstance(outgrown=Ended.DISK_FULL))
    house.add(FakeInstance())
    house.upkeep.do_what_is_due()

    assert [(fat, Ended.DISK_FULL.value)] == house.ended


def test_instance_is_released_when_it_is_due_and_its_pool_is_forgotten(house: House) -> None:
    """Each after the idle timeout, and what began to rest later is due later."""
    first = house.add(FakeInstance())
    house.upkeep.do_what_is_due()
    house.now_ns = 10 * NS_PER_S
    second = house.add(FakeInstance())
    house.now_ns = IDLE_TIMEOUT_NS - NS_PER_MS
    before = house.upkeep.do_what_is_due()
    early = list(house.ended)
    house.now_ns += before + 1
    then = house.upkeep.do_what_is_due()
    released = list(house.ended)
    house.now_ns = 10 * NS_PER_S + IDLE_TIMEOUT_NS + 1
    house.upkeep.do_what_is_due()
    kept = len(house.pools)
    house.now_ns = 2 * IDLE_TIMEOUT_NS + 2
    house.upkeep.do_what_is_due()

    assert (NS_PER_MS, []) == (before, early)
    assert (NS_PER_S, [(first, "idle")]) == (then, released)
    assert [(first, "idle"), (second, "idle")] == house.ended
    assert (2, 1) == (kept, len(house.pools))


def test_busy_pool_is_not_let_go(house: House) -> None:
    """However long an invocation takes."""
    house.add(FakeInstance())
    (pool,) = house.pools.values()
    pool.acquire()
    house.now_ns = 10 * IDLE_TIMEOUT_NS

    assert NS_PER_S == house.upkeep.do_what_is_due()
    assert ([], [pool]) == (house.ended, list(house.pools.values()))


@pytest.mark.parametrize("house", [1], indirect=True)
def test_very_short_idle_timeout_is_no_reason_to_look_without_end(house: House) -> None:
    """Neither while nothing is idle, nor while everything is lent."""
    pauses_ns = [house.upkeep.do_what_is_due()]
    idle = house.add(FakeInstance())
    house.now_ns = 10 * NS_PER_MS
    pauses_ns.append(house.upkeep.do_what_is_due())

    assert [10 * NS_PER_MS] * 2 == pauses_ns
    assert [(idle, "idle")] == house.ended
