"""Who gets which instance, how many there may be, and who is told when one comes back or the engine closes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar, cast

import pytest

from engine import pool as pool_module
from engine.errors import EngineClosedError
from engine.instance import Instance
from engine.pool import Pool, PoolRetiredError
from engine.staging import StagedFunction
from engine.verdict import Ended

OLD = StagedFunction("/code", (), ())
NEW = StagedFunction("/code", (), ())
PATIENCE_S = 10

Waited = TypeVar("Waited")


@dataclass(eq=False)
class FakeInstance:
    """What a pool knows of an instance: its code, since when it is idle, and how to doom it."""

    staged: StagedFunction = OLD
    idle_since_ns: int = 0
    doomed: bool = False
    outgrown: Ended | None = None
    more_to_see: bool = False

    def inspect_idle(self) -> Ended | None:
        return self.outgrown

    def has_more_to_see(self) -> bool:
        return self.more_to_see

    def doom(self) -> None:
        self.doomed = True


def made(staged: StagedFunction = OLD) -> Instance:
    return cast("Instance", FakeInstance(staged))


def started(pool: Pool) -> Instance:
    """An instance that was started because the pool had none."""
    assert pool.acquire() is None
    instance = made(pool.staged)
    pool.added(instance)
    return instance


@pytest.fixture
def pool() -> Pool:
    return Pool(OLD, max_instances=2)


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The pool's clock: one more nanosecond at each look."""
    seen: list[int] = []

    def monotonic_ns() -> int:
        seen.append(len(seen) + 1)
        return seen[-1]

    monkeypatch.setattr(pool_module, "monotonic_ns", monotonic_ns)
    return seen


@pytest.fixture
def elsewhere() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as executor:
        yield executor


def test_empty_pool_lets_its_caller_start_one(pool: Pool) -> None:
    """None is the permission, and it is counted until the caller says how it went."""
    assert pool.acquire() is None


def test_idle_instance_is_handed_out_again(pool: Pool) -> None:
    """A warm start costs nothing but this."""
    instance = started(pool)

    assert pool.release(instance)
    assert instance is pool.acquire()


def test_instance_is_handed_out_to_one_caller_at_a_time(pool: Pool) -> None:
    """While it is busy, the next caller may start another one."""
    instance = started(pool)
    pool.release(instance)
    pool.acquire()

    assert pool.acquire() is None


def test_newest_instance_is_handed_out_first(pool: Pool) -> None:
    """So that those that are not needed grow old and are released."""
    first, second = started(pool), started(pool)
    pool.release(first)
    pool.release(second)

    assert [second, first] == [pool.acquire(), pool.acquire()]


def waiting(elsewhere: ThreadPoolExecutor, pool: Pool, act: Callable[[], Waited]) -> Future[Waited]:
    """Somebody on another thread who does *act*; back when he waits in the pool, or is done already."""
    changed = pool._changed
    future = elsewhere.submit(act)
    while True:
        with changed:
            if changed._waiters or future.done():  # type: ignore[attr-defined]  # threading shows them to nobody
                return future


def waiting_caller(elsewhere: ThreadPoolExecutor, pool: Pool) -> Future[Instance | None]:
    return waiting(elsewhere, pool, pool.acquire)


def test_caller_waits_while_there_may_be_no_more(pool: Pool, elsewhere: ThreadPoolExecutor) -> None:
    """Whoever comes back first serves him."""
    first, _ = started(pool), started(pool)
    caller = waiting_caller(elsewhere, pool)

    assert not caller.done()
    pool.release(first)
    assert first is caller.result(PATIENCE_S)


def test_instance_that_is_used_again_counts(pool: Pool, elsewhere: ThreadPoolExecutor) -> None:
    """A warm start takes its place like a cold one, and is doomed like one when the pool is closed."""
    warm, _ = started(pool), started(pool)
    pool.release(warm)
    pool.acquire()
    caller = waiting_caller(elsewhere, pool)

    assert not caller.done()
    pool.close()
    assert cast("FakeInstance", warm).doomed
    assert isinstance(caller.exception(PATIENCE_S), EngineClosedError)


def test_waiting_caller_may_start_one_when_one_died(pool: Pool, elsewhere: ThreadPoolExecutor) -> None:
    """A dead instance leaves room for a new one."""
    first, _ = started(pool), started(pool)
    caller = waiting_caller(elsewhere, pool)
    pool.remove(first)

    assert caller.result(PATIENCE_S) is None


def test_waiting_caller_may_start_one_when_a_start_failed(pool: Pool, elsewhere: ThreadPoolExecutor) -> None:
    """An interpreter that could not be started does not count for ever."""
    started(pool)
    pool.acquire()
    caller = waiting_caller(elsewhere, pool)
    pool.given_up()

    assert caller.result(PATIENCE_S) is None


def test_waiting_caller_may_start_one_when_an_outdated_one_is_dead(pool: Pool, elsewhere: ThreadPoolExecutor) -> None:
    """It is not handed out again, and makes room only when it is really gone."""
    first, _ = started(pool), started(pool)
    caller = waiting_caller(elsewhere, pool)
    pool.renew(NEW)

    assert not pool.release(first)
    assert not caller.done()
    pool.remove(first)
    assert caller.result(PATIENCE_S) is None


@pytest.mark.parametrize(
    "take", [lambda pool: pool.renew(NEW), lambda pool: pool.expire(2**62)], ids=["renew", "expire"]
)
def test_instance_that_is_being_killed_counts(
    elsewhere: ThreadPoolExecutor, take: Callable[[Pool], list[Instance]]
) -> None:
    """Until it is dead: never more processes than there may be, and closing waits for whoever kills it."""
    pool = Pool(OLD, max_instances=1)
    pool.release(started(pool))
    (instance,) = take(pool)
    caller = waiting_caller(elsewhere, pool)

    assert not caller.done()
    pool.remove(instance)
    assert caller.result(PATIENCE_S) is None


def test_start_in_progress_counts(pool: Pool, elsewhere: ThreadPoolExecutor) -> None:
    """Two callers at once do not start more than there may be."""
    assert [None, None] == [pool.acquire(), pool.acquire()]
    caller = waiting_caller(elsewhere, pool)

    assert not caller.done()
    pool.given_up()
    assert caller.result(PATIENCE_S) is None


def test_renewed_pool_gives_up_the_instances_of_the_code_before(pool: Pool) -> None:
    """The idle ones at once; nobody gets one of them any more."""
    first, second = started(pool), started(pool)
    pool.release(first)

    assert [first] == pool.renew(NEW)
    assert NEW is pool.staged
    assert not pool.release(second)
    pool.remove(first)
    assert pool.acquire() is None


def test_expired_are_those_that_are_idle_for_long(pool: Pool, now: list[int]) -> None:
    """A busy instance never expires; the others stay."""
    first, second = started(pool), started(pool)
    pool.release(first)
    pool.release(second)

    assert 1 == pool.resting_since_ns()
    assert [] == pool.expire(1)
    assert [first] == pool.expire(2)
    assert 2 == pool.resting_since_ns()
    assert second is pool.acquire()
    assert [] == pool.expire(100)
    assert pool.resting_since_ns() is None


def test_idle_instance_that_grew_over_a_limit_is_given_up(pool: Pool) -> None:
    """What a handler left running may go on taking memory or disk; a busy one is its own invocation's affair."""
    lean, fat = started(pool), started(pool)
    cast("FakeInstance", fat).outgrown = Ended.DISK_FULL
    busy = pool.look_at_idle(fat)
    pool.release(lean)
    pool.release(fat)
    idle = pool.idle()

    assert (None, [lean, fat]) == (busy, idle)
    assert [None, Ended.DISK_FULL] == [pool.look_at_idle(each) for each in idle]
    assert [lean] == pool.idle()
    assert lean is pool.acquire()


def test_idle_instance_that_takes_long_to_look_at_is_told(pool: Pool) -> None:
    """The pool is locked while one is looked at, so that is done in pieces."""
    instance = started(pool)
    cast("FakeInstance", instance).more_to_see = True
    busy = pool.has_more_to_see(instance)
    pool.release(instance)

    assert [False, True] == [busy, pool.has_more_to_see(instance)]


def test_using_an_instance_makes_it_young_again(pool: Pool, now: list[int]) -> None:
    """Idle is counted from the end of the last invocation."""
    instance = started(pool)
    pool.release(instance)
    pool.acquire()
    pool.release(instance)

    assert 2 == pool.resting_since_ns()


def test_pool_that_nobody_uses_is_retired(pool: Pool, now: list[int]) -> None:
    """Neither while an instance is there, busy or idle, or being started, nor soon after."""
    instance = started(pool)
    busy = pool.retire(2**62)
    pool.release(instance)
    idle = pool.retire(2**62)
    (instance,) = pool.expire(2**62)
    pool.remove(instance)
    soon = pool.retire(len(now))
    pool.acquire()
    starting = pool.retire(2**62)
    pool.given_up()

    assert [False] * 4 == [busy, idle, soon, starting]
    assert pool.retire(len(now) + 1)
    with pytest.raises(PoolRetiredError):
        pool.acquire()


def test_closing_does_not_wait_for_ever(pool: Pool) -> None:
    """A thread that was interrupted in between never says that it has an instance no more."""
    started(pool)
    pool.close()
    pool.wait_until_unused(0.001)


def test_closed_pool_hands_out_nothing(pool: Pool) -> None:
    """Neither an instance nor the permission to start one."""
    pool.release(started(pool))
    pool.close()

    with pytest.raises(EngineClosedError):
        pool.acquire()


def test_close_returns_the_idle_and_dooms_the_busy(pool: Pool) -> None:
    """Whoever uses one finds it dead, and is not waited for any longer than that."""
    idle, busy = started(pool), started(pool)
    pool.release(idle)

    assert [idle] == pool.close()
    assert [False, True] == [each.doomed for each in cast("list[FakeInstance]", [idle, busy])]


def test_close_ends_the_wait_of_a_caller(pool: Pool, elsewhere: ThreadPoolExecutor) -> None:
    """With an error, and not with an instance."""
    started(pool)
    started(pool)
    caller = waiting_caller(elsewhere, pool)
    pool.close()

    assert isinstance(caller.exception(PATIENCE_S), EngineClosedError)


def test_instance_that_comes_back_after_close_is_not_wanted(pool: Pool) -> None:
    """Its caller has to kill it."""
    instance = started(pool)
    pool.close()

    assert pool.release(instance) is False


def test_instance_that_was_started_while_the_pool_was_closed_is_doomed(pool: Pool) -> None:
    """Its invocation does not run to its end while somebody waits in close()."""
    pool.acquire()
    pool.close()
    late = made()
    pool.added(late)

    assert cast("FakeInstance", late).doomed


def test_closing_waits_for_whoever_has_an_instance(pool: Pool, elsewhere: ThreadPoolExecutor) -> None:
    """Afterwards nobody uses what is about to be taken away."""
    busy = started(pool)
    pool.close()
    unused = waiting(elsewhere, pool, lambda: pool.wait_until_unused(PATIENCE_S))

    assert not unused.done()
    pool.remove(busy)
    assert unused.result(PATIENCE_S) is None


def test_closing_waits_for_whoever_starts_an_instance(pool: Pool, elsewhere: ThreadPoolExecutor) -> None:
    """He is about to use the zygote that closing ends."""
    pool.acquire()
    pool.close()
    unused = waiting(elsewhere, pool, lambda: pool.wait_until_unused(PATIENCE_S))

    assert not unused.done()
    pool.given_up()
    assert unused.result(PATIENCE_S) is None
