"""RateLimits: the vendor's limits are never passed, whoever sends and however many they are."""

from __future__ import annotations

import heapq
import os
import signal
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from random import Random

import pytest

from cmzon_secrets.client.limits import Departure, RateLimits
from cmzon_secrets.errors import ConfigurationError, DailyLimitReached

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


def leave(limits: RateLimits, now: datetime = NOON, *, at: float = 0.0) -> Departure:
    departure = limits.depart(at, now)
    assert isinstance(departure, Departure)
    return departure


def most_in_any_second(times: list[float]) -> int:
    times, first, most = sorted(times), 0, 0
    for last, moment in enumerate(times):
        while times[first] <= moment - 1.0:
            first += 1
        most = max(most, last - first + 1)
    return most


def slots(limits: RateLimits, arrivals: list[float]) -> list[float]:
    return [at + limits.reserve(at, NOON) for at in arrivals]


def arrivals(
    limits: RateLimits, wishes: list[float], there: Callable[[int], float], back: float = 0.0
) -> list[float]:
    """When messages arrive whose senders are ready at ``wishes``, each waiting as it is told.

    ``there``: how long the n-th is on its way; ``back``: and its answer.
    """
    arrived, ready, under_way = [], list(wishes), []
    heapq.heapify(ready)
    while ready:
        now = heapq.heappop(ready)
        while under_way and under_way[0][0] <= now:
            answered_at, _, message = heapq.heappop(under_way)
            message.answered(answered_at, refused=False)
        message = limits.depart(now, NOON)
        if not isinstance(message, Departure):
            heapq.heappush(ready, now + message)
            continue
        arrived.append(now + there(len(arrived)))
        heapq.heappush(under_way, (arrived[-1] + back, len(arrived), message))
    return arrived


@pytest.mark.parametrize("seed", range(20))
def test_no_sliding_second_holds_more_than_the_limit(seed: int) -> None:
    random = Random(seed)
    arrivals = sorted(random.uniform(0, 5) for _ in range(random.randint(1, 800)))
    assert most_in_any_second(slots(RateLimits(), arrivals)) <= 80


@pytest.mark.parametrize("seed", range(20))
def test_not_even_where_the_network_brings_messages_together(seed: int) -> None:
    random = Random(seed)
    arrived = [at + random.uniform(0, 0.02) for at in slots(RateLimits(), [0.0] * 400)]
    assert most_in_any_second(arrived) <= 80


@pytest.mark.parametrize("seed", range(20))
def test_not_even_where_slots_are_used_late(seed: int) -> None:
    random, limits = Random(seed), RateLimits()
    late = sorted(at + random.uniform(0, 0.2) for at in slots(limits, [0.0] * 400))
    arrived = arrivals(limits, late, lambda n: random.uniform(0, 0.01))
    assert most_in_any_second(arrived) <= 80


@pytest.mark.parametrize("seed", range(20))
def test_not_even_where_the_first_messages_wait_for_their_connections(seed: int) -> None:
    random, limits = Random(seed), RateLimits()
    arrived = arrivals(
        limits,
        slots(limits, [0.0] * 400),
        lambda n: 0.03 + (random.uniform(0.1, 0.3) if n < 8 else random.uniform(0, 0.01)),
        back=0.03,
    )
    assert most_in_any_second(arrived) <= 80


def test_not_even_where_all_were_held_up_by_the_token_and_go_at_once() -> None:
    limits = RateLimits()
    slots(limits, [0.0] * 400)
    arrived = arrivals(limits, [10.0] * 400, lambda n: 0.01, back=0.01)
    assert most_in_any_second(arrived) <= 80
    assert arrived[-1] < 10 + 400 / 77


@pytest.mark.parametrize("latency", [0.001, 0.1, 1.0, 5.0])
def test_an_api_that_is_slow_but_steady_costs_no_throughput(latency: float) -> None:
    limits = RateLimits()
    ready = slots(limits, [0.0] * 800)
    arrived = arrivals(limits, ready, lambda n: latency / 2, back=latency / 2)
    assert arrived == pytest.approx([at + latency / 2 for at in ready])


def test_an_api_that_hangs_halts_nobody() -> None:
    limits = RateLimits()
    arrived = arrivals(limits, slots(limits, [0.0] * 800), lambda n: 0.0 if n < 80 else 10.0)
    assert 720 / (arrived[-1] - arrived[80]) > 50


def test_slots_used_a_little_late_wait_for_nothing_more() -> None:
    random, limits = Random(0), RateLimits()
    late = sorted(at + random.uniform(0, 0.009) for at in slots(limits, [0.0] * 400))
    assert arrivals(limits, late, lambda n: 0.0) == late


@pytest.mark.parametrize(("per_second", "most", "span"), [(0.5, 1, 2), (1, 1, 1), (2.5, 2, 0.8)])
def test_a_slow_limit_is_kept_as_well(per_second: float, most: int, span: float) -> None:
    arrived = arrivals(RateLimits(per_second=per_second), [0.0] * 20, lambda n: 0.0)
    assert most_in_any_second([at / span for at in arrived]) <= most


def test_a_queue_goes_out_at_nearly_the_full_rate() -> None:
    sent = slots(RateLimits(), [0.0] * 800)
    assert 800 / (sent[-1] - sent[0]) > 78


def test_a_message_after_a_pause_does_not_wait_and_a_pause_saves_up_nothing() -> None:
    limits = RateLimits(per_second=10, arrival_jitter=0)
    assert [limits.reserve(at, NOON) for at in (0, 100, 100, 100)] == pytest.approx(
        [0, 0, 0.1, 0.2]
    )


def test_a_slot_is_the_first_that_is_free_and_not_past() -> None:
    limits = RateLimits(per_second=2, arrival_jitter=0)
    assert [limits.reserve(at, NOON) for at in (4.5, 3.0, 3.0, 9.0, 9.0)] == [0, 2, 2.5, 0, 0.5]


def test_threads_get_different_slots() -> None:
    limits, waits = RateLimits(), []

    def reserve() -> None:
        for _ in range(50):
            waits.append(round(limits.reserve(0.0, NOON), 9))

    threads = [threading.Thread(target=reserve) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(waits)) == 400


def test_nobody_holds_the_lock_while_it_waits() -> None:
    limits = RateLimits(per_second=0.01)
    limits.reserve(0.0, NOON)
    begun = time.monotonic()
    assert limits.reserve(0.0, NOON) > 90
    assert time.monotonic() - begun < 30


def test_the_day_is_counted_and_its_end_is_told() -> None:
    limits = RateLimits(per_day=3)
    for _ in range(3):
        limits.reserve(0.0, NOON)
        leave(limits)
    for refused in (limits.reserve, limits.depart):
        with pytest.raises(DailyLimitReached, match="3 messages") as caught:
            refused(0.0, NOON)
        assert caught.value.resets_at == datetime(2026, 11, 25, tzinfo=UTC)
        assert "2026-11-25 00:00 UTC" in str(caught.value.hint)
    leave(limits, NOON + timedelta(hours=12))


def test_the_day_is_the_utc_day_wherever_the_clock_stands() -> None:
    limits = RateLimits(per_day=1)
    leave(limits, datetime.fromisoformat("2026-11-25T01:00:00+05:00"))
    with pytest.raises(DailyLimitReached):
        leave(limits)


def test_what_is_given_back_may_be_sent_again_on_the_same_day_only() -> None:
    limits = RateLimits(per_day=1)
    leave(limits).answered(0.0, refused=True)
    yesterday = leave(limits)
    leave(limits, NOON + timedelta(days=1))
    yesterday.answered(0.0, refused=True)
    with pytest.raises(DailyLimitReached):
        leave(limits, NOON + timedelta(days=1))


def test_what_the_day_refuses_does_not_leave_and_what_has_to_wait_is_not_counted() -> None:
    limits = RateLimits(per_second=1, per_day=2, arrival_jitter=0)
    leave(limits)
    assert [limits.depart(0.5, NOON) for _ in range(3)] == [0.5] * 3
    leave(limits, at=1.0)
    with pytest.raises(DailyLimitReached):
        limits.depart(2.0, NOON)
    leave(limits, NOON + timedelta(days=1), at=2.0)


def test_a_clock_set_back_over_midnight_does_not_undo_the_count() -> None:
    limits = RateLimits(per_day=1)
    leave(limits, datetime(2026, 11, 25, 0, 1, tzinfo=UTC))
    with pytest.raises(DailyLimitReached):
        leave(limits, datetime(2026, 11, 24, 23, 59, tzinfo=UTC))


def test_a_clock_that_was_years_ahead_does_not_block_for_years() -> None:
    limits = RateLimits(per_day=1)
    leave(limits, NOON + timedelta(days=9000))
    leave(limits)


def test_a_new_account_has_a_thousand_a_day() -> None:
    assert RateLimits.new_account().per_day == 1000
    assert RateLimits.new_account().per_second == 80
    assert RateLimits().per_day == 10_000


def test_unlimited_neither_waits_nor_counts() -> None:
    limits = RateLimits.unlimited()
    for _ in range(20_000):
        assert limits.reserve(0.0, NOON) == 0
        leave(limits)


@pytest.mark.parametrize(
    "wrong",
    [
        {"per_second": 0},
        {"per_second": -1},
        {"per_second": float("nan")},
        {"per_day": 0},
        {"arrival_jitter": -0.1},
        {"arrival_jitter": float("nan")},
    ],
)
def test_a_limit_that_is_none_is_refused_by_name(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        RateLimits(**wrong)  # type: ignore[arg-type]


def test_repr_tells_the_limits() -> None:
    assert repr(RateLimits()) == "RateLimits(per_second=80, per_day=10000, arrival_jitter=0.02)"


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_is_not_locked_out() -> None:
    limits = RateLimits()
    with limits._lock:  # as another thread may hold it at the fork
        child = os.fork()
        if child == 0:
            signal.alarm(30)  # a deadlock ends
            limits.reserve(0.0, NOON)
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
