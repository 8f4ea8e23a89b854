"""RateLimits: the vendor's limits are never passed, whoever sends and however many they are."""

from __future__ import annotations

import gc
import os
import signal
import threading
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cmzon_secrets.client.effects import Park
from cmzon_secrets.client.limits import LONGEST_PAUSE, RateLimits
from cmzon_secrets.client.spacing import HORIZON
from cmzon_secrets.client.turns import GONE_AFTER, LOOKS_EVERY
from cmzon_secrets.client.usage import Quota
from cmzon_secrets.errors import ConfigurationError, DailyLimitReached, RateLimited
from unit.client.virtual_time import NOON, Senders, VirtualTime, most_in_any_second, rate

JITTER = 0.02
INTERVAL = (1 + JITTER) / 80
SEEDS = pytest.mark.parametrize("seed", range(12))


def day_off(**options: Any) -> RateLimits:
    return RateLimits(per_day=None, **options)


# ── the second ──────────────────────────────────────────────────────────────────────────────────


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from([0.0, JITTER / 2, JITTER]), min_size=1), st.integers(1, 90))
def test_no_second_holds_more_than_80_whatever_a_network_of_that_jitter_does(delays, senders):
    delay = (delays[n % len(delays)] for n in range(10**6))
    world = Senders(day_off(), VirtualTime(), there=lambda: next(delay))
    world.send_for_ever(senders, until=5.0)
    world.time.run(5.0)
    assert most_in_any_second(world.arrived) <= 80


@SEEDS
def test_not_even_where_threads_wake_up_late(seed):
    random = Random(seed)
    world = Senders(
        day_off(),
        VirtualTime(late=lambda: random.choice([0.0, random.uniform(0, 0.2)])),
        there=lambda: random.uniform(0, JITTER / 2),
    )
    world.send_for_ever(100, until=8.0)
    world.time.run(8.0)
    assert most_in_any_second(world.arrived) <= 80


@SEEDS
def test_not_even_where_messages_wait_for_their_connections(seed):
    """All at the beginning, as of a server that is slow to begin with, and some later on."""
    random = Random(seed)

    def connect() -> float:
        if len(world.slots) <= 200:
            return max(0.0, random.uniform(1.5, 2.5) - world.time.seconds)
        return random.choice([0.0, 0.0, 0.0, random.uniform(0, 1)])

    world = Senders(
        day_off(),
        VirtualTime(),
        connect=connect,
        there=lambda: 0.03 + random.uniform(0, JITTER / 2),
        back=lambda: 0.03,
    )
    world.send_for_ever(300, until=8.0)
    world.time.run(8.0)
    assert most_in_any_second(world.arrived) <= 80
    assert rate(at for at in world.arrived if at > 3.0) > 50


@SEEDS
def test_who_sends_all_he_can_gets_nearly_all_there_is(seed):
    random = Random(seed)
    world = Senders(
        day_off(),
        VirtualTime(late=lambda: random.uniform(0, 0.01)),
        there=lambda: 0.04 + random.uniform(0, 0.005),
        back=lambda: 0.04 + random.uniform(0, 0.005),
    )
    world.send_for_ever(50, until=30.0)
    world.time.run(30.0)
    assert rate(world.arrived) >= 77
    assert most_in_any_second(world.arrived) <= 80


@pytest.mark.parametrize("latency", [0.001, 0.1, 1.0, 5.0])
def test_an_api_that_is_slow_but_steady_costs_no_throughput(latency):
    world = Senders(day_off(), VirtualTime(), there=lambda: latency / 2, back=lambda: latency / 2)
    for _ in range(800):
        world.send()
    world.time.run()
    assert [at for at, _ in world.left] == pytest.approx([n * INTERVAL for n in range(800)])


def test_an_api_that_hangs_halts_nobody():
    world = Senders(day_off(), VirtualTime(), back=lambda: 0.0 if len(world.arrived) < 80 else 10.0)
    for _ in range(800):
        world.send()
    world.time.run(60.0)
    assert rate(world.arrived[80:]) > 50


@pytest.mark.parametrize(("per_second", "most", "span"), [(0.5, 1, 2), (1, 1, 1), (2.5, 2, 0.8)])
def test_a_slow_limit_is_kept_as_well(per_second, most, span):
    world = Senders(day_off(per_second=per_second), VirtualTime())
    for _ in range(20):
        world.send()
    world.time.run()
    assert most_in_any_second(at / span for at in world.arrived) <= most


def test_a_message_after_a_pause_does_not_wait_and_a_pause_saves_up_nothing():
    world = Senders(day_off(per_second=10, arrival_jitter=0), VirtualTime())
    world.send()
    world.time.after(100.0, lambda: [world.send() for _ in range(3)])
    world.time.run()
    assert [at for at, _ in world.left] == pytest.approx([0, 100, 100.1, 100.2])


# ── whose turn it is ────────────────────────────────────────────────────────────────────────────


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 3), st.integers(0, 2)), min_size=1, max_size=150))
def test_first_come_first_served_and_the_urgent_wait_for_the_urgent_only(wishes):
    wishes.sort()
    world = Senders(day_off(), VirtualTime())
    for number, (at, priority) in enumerate(wishes):
        world.time.after(at, lambda n=number, p=priority: world.send(n, p))
    world.time.run()
    left = {name: at for at, name in world.left}
    assert len(left) == len(wishes)
    for priority in range(3):
        theirs = [n for n in world.slots if wishes[n][1] == priority]
        assert theirs == sorted(theirs)
    for number, (at, priority) in enumerate(wishes):
        ahead = sum(p >= priority for _, p in wishes[:number])
        assert left[number] <= at + HORIZON + (ahead + 1) * INTERVAL + 1e-6


class Queued(RateLimits):
    """Everybody joins the queue, though it may be empty."""

    def _at_once(self, clock):
        self._day.check(clock.now())


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 2), st.integers(0, 2)), min_size=1, max_size=60),
    st.lists(st.tuples(st.floats(0, 2), st.integers(0, 59)), max_size=10),
    st.lists(st.tuples(st.floats(0, 2), st.floats(0, 0.5)), max_size=3),
    st.sampled_from([3, 40, 80, None]),
    st.sampled_from([1, 30, None]),
)
def test_who_need_not_wait_takes_what_the_queue_would_have_given_him(
    wishes, cancellations, refusals, per_second, per_day
):
    def outcome(limits: RateLimits) -> object:
        world = Senders(limits, VirtualTime(), there=lambda: 0.01, back=lambda: 0.03)
        callers: dict[int, Any] = {}

        def send(number: int, priority: int) -> None:
            callers[number] = world.send(number, priority)

        for number, (at, priority) in enumerate(wishes):
            world.time.after(at, lambda n=number, p=priority: send(n, p))
        for at, number in cancellations:
            world.time.after(at, lambda n=number: callers[n].cancel() if n in callers else None)
        for at, seconds in refusals:
            world.time.after(at, lambda s=seconds: limits.hold(s, world.time, left_at=0.0))
        world.time.run()
        errors = {number: type(caller.error) for number, caller in callers.items()}
        return world.slots, world.left, errors, limits.usage(NOON).sent_today

    options = {"per_second": per_second, "per_day": per_day}
    assert outcome(RateLimits(**options)) == outcome(Queued(**options))


def test_nobody_who_waits_is_passed_by_one_who_comes_when_a_slot_is_free():
    limits, time = RateLimits(), VirtualTime()
    first = limits._turns.join(0, 0.0)
    limits._turns.is_next(first, 0.0)
    assert isinstance(next(limits.slot(time, ends=9.0, since=0.0)), Park)


def test_an_urgent_message_passes_a_thousand_that_wait():
    world = Senders(day_off(), VirtualTime())
    for _ in range(1000):
        world.send("campaign")
    world.time.after(5.0, lambda: world.send("code", priority=1))
    world.time.run()
    (at,) = (at for at, name in world.left if name == "code")
    assert 5.0 <= at <= 5.0 + HORIZON + INTERVAL


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 2), st.integers(0, 2)), min_size=1, max_size=80),
    st.lists(st.tuples(st.floats(0, 2), st.integers(0, 79)), max_size=60),
)
def test_nobody_waits_for_ever_because_others_went_away(wishes, cancellations):
    world, callers = Senders(RateLimits(), VirtualTime()), {}
    for number, (at, priority) in enumerate(wishes):
        world.time.after(at, lambda n=number, p=priority: callers.update({n: world.send(n, p)}))
    for at, number in cancellations:
        world.time.after(at, lambda n=number: callers[n].cancel() if n in callers else None)
    world.time.run(2.0 + len(wishes) * INTERVAL + HORIZON)
    assert all(caller.ended for caller in callers.values())
    assert world.limits.usage(world.time.now()).sent_today == len(world.left)


@pytest.mark.parametrize("moment", [0.0, 0.005, 0.0127, 0.4, 0.99])
def test_who_is_cancelled_gives_back_his_place_and_his_message(moment):
    world = Senders(RateLimits(), VirtualTime())
    first, second, third = world.send(1), world.send(2), world.send(3)
    world.time.run(moment)
    for caller in (first, second, third):
        caller.cancel()
    world.send("last")
    world.time.run()
    sent = world.limits.usage(world.time.now()).sent_today
    assert sent == len(world.left)
    assert world.left[-1][1] == "last"


def test_a_call_that_ends_inside_another_blocks_nobody():
    """As the garbage collector ends what a closed event loop left behind."""
    limits, time = RateLimits(), VirtualTime()

    def abandon() -> None:
        slots = [limits.slot(time, ends=9.0, since=0.0) for _ in range(5)]
        for steps in slots:
            next(steps, None)
        slots.append(slots)  # a cycle, for the collector
        with limits._lock, limits._turns._lock:
            del slots, steps
            gc.collect()

    thread = threading.Thread(target=abandon, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    assert limits._turns.next() is None
    assert limits.usage(time.now()).sent_today == 1  # it had its slot at once, and could leave


def test_no_turn_within_the_deadline_is_an_error_and_nothing_is_sent():
    world = Senders(RateLimits(per_second=10, arrival_jitter=0), VirtualTime(), patience=1.0)
    callers = [world.send() for _ in range(30)]
    world.time.run()
    errors = [caller.error for caller in callers if caller.error]
    assert len(errors) == 30 - len(world.left)
    assert 10 <= len(world.left) <= 11
    assert {type(error) for error in errors} == {RateLimited}
    assert {error.status for error in errors} == {None}
    assert "nothing was sent" in str(errors[0])
    assert world.limits.usage(world.time.now()).sent_today == len(world.left)


def test_who_does_not_go_on_in_his_turn_is_passed_over():
    """As a task whose event loop has stopped: nothing of it runs, and nothing of it ends."""
    limits, time = day_off(per_second=1), VirtualTime()
    stopped = [limits.slot(time, ends=1e6, since=0.0, priority=1) for _ in range(500)]
    for steps in stopped:
        next(steps, None)
    world = Senders(limits, time, patience=60.0)
    callers = [world.send() for _ in range(10)]
    time.run()
    assert [caller.error for caller in callers] == [None] * 10
    assert world.left[0][0] <= GONE_AFTER + LOOKS_EVERY + 1.1
    assert rate(at for at, _ in world.left) == pytest.approx(1 / (1 + JITTER))


# ── 429 ─────────────────────────────────────────────────────────────────────────────────────────


def test_a_429_holds_everybody_back_and_lowers_the_pace_for_a_while():
    world = Senders(day_off(), VirtualTime())
    world.send_for_ever(20, until=40.0)
    world.time.after(5.0, lambda: world.limits.hold(2.0, world.time, left_at=4.9))
    world.time.run(40.0)
    left = [at for at, _ in world.left]
    assert not [at for at in left if 5.0 < at < 7.0]
    full = 80 / (1 + JITTER)
    slower = [at for at in left if 7.0 <= at < 8.0]
    assert full * 0.8 <= len(slower) <= full * 0.8 + 5
    assert rate(at for at in left if at >= 25.0) >= 77


def test_those_that_were_on_their_way_together_lower_the_pace_once():
    world = Senders(day_off(), VirtualTime())
    world.time.seconds = 1.0
    for left_at in (0.7, 0.8, 0.9):
        world.limits.hold(1.0, world.time, left_at=left_at)
    for _ in range(100):
        world.send()
    world.time.run()
    pace = 80 / (1 + JITTER) * 0.8
    assert rate(at for at, _ in world.left if at <= 3.0) == pytest.approx(pace + 0.5, rel=0.02)


def test_nobody_is_held_back_for_hours():
    world = Senders(day_off(), VirtualTime(), patience=3600.0)
    world.limits.hold(86_400.0, world.time)
    world.send()
    world.time.run()
    assert world.left[0][0] == LONGEST_PAUSE


def test_who_would_be_held_back_past_his_deadline_is_told_at_once():
    world = Senders(RateLimits(), VirtualTime(), patience=20.0)
    callers = [world.send() for _ in range(50)]
    world.limits.hold(30.0, world.time)
    world.time.run(1.0)
    assert all(caller.ended for caller in callers)
    errors = [caller.error for caller in callers if caller.error]
    assert {type(error) for error in errors} == {RateLimited}
    assert all(29 < error.retry_after <= 30 for error in errors)
    assert world.limits.usage(world.time.now()).sent_today == len(world.left) == 1


def test_who_has_his_slot_is_held_back_too():
    world = Senders(day_off(), VirtualTime())
    world.send()
    world.send()
    world.limits.hold(3.0, world.time)
    world.time.run()
    assert [at for at, _ in world.left] == [0.0, 3.0]


# ── the day ─────────────────────────────────────────────────────────────────────────────────────


def test_the_day_is_counted_and_its_end_is_told():
    world = Senders(RateLimits(per_day=3), VirtualTime())
    callers = [world.send() for _ in range(5)]
    world.time.run()
    assert len(world.left) == 3
    for caller in callers[3:]:
        assert isinstance(caller.error, DailyLimitReached)
        assert "3 messages" in str(caller.error)
        assert caller.error.resets_at == datetime(2026, 11, 25, tzinfo=UTC)
        assert "2026-11-25 00:00 UTC" in str(caller.error.hint)


def test_who_waits_for_a_turn_is_told_as_soon_as_the_day_is_full():
    world = Senders(RateLimits(per_second=1, per_day=2), VirtualTime())
    callers = [world.send() for _ in range(100)]
    world.time.run(1.1)
    assert all(caller.ended for caller in callers)


def test_a_new_day_begins_at_zero():
    world = Senders(RateLimits(per_day=1), VirtualTime())
    world.send()
    world.time.after(12 * 3600.0, world.send)
    world.time.run()
    assert len(world.left) == 2


def test_what_the_api_says_of_the_day_is_heeded():
    world = Senders(RateLimits(), VirtualTime())
    ends = NOON + timedelta(hours=5)
    world.limits.heed(Quota(10_000, 2, ends), NOON)
    callers = [world.send() for _ in range(3)]
    world.time.run()
    assert len(world.left) == 2
    error = callers[2].error
    assert isinstance(error, DailyLimitReached)
    assert error.resets_at == ends


@pytest.mark.parametrize("limit", [1, 79, 80])
def test_a_quota_of_a_second_is_not_taken_for_the_days(limit):
    world = Senders(RateLimits(), VirtualTime())
    world.limits.heed(Quota(limit, 0, NOON + timedelta(seconds=1)), NOON)
    world.send()
    world.time.run()
    assert len(world.left) == 1


def test_usage_is_what_the_api_said_last_while_its_day_lasts():
    limits = RateLimits()
    ends = NOON + timedelta(hours=1)
    limits.heed(Quota(5000, 4000, ends), NOON)
    usage = limits.usage(NOON, "req_1")
    assert (usage.limit, usage.remaining, usage.resets_at) == (5000, 4000, ends)
    assert (usage.sent_today, usage.request_id) == (1000, "req_1")
    later = limits.usage(NOON + timedelta(hours=2))
    assert (later.limit, later.remaining, later.sent_today) == (10_000, 9_000, 1000)


# ── what they are made with ─────────────────────────────────────────────────────────────────────


def test_a_new_account_has_a_thousand_a_day():
    assert RateLimits.new_account().per_day == 1000
    assert RateLimits.new_account().per_second == 80
    assert RateLimits().per_day == 10_000


def test_unlimited_neither_waits_nor_refuses():
    world = Senders(RateLimits.unlimited(), VirtualTime())
    for _ in range(20_000):
        world.send()
    assert {at for at, _ in world.left} == {0.0}
    assert len(world.left) == 20_000


@pytest.mark.parametrize("name", ["per_second", "per_day", "arrival_jitter"])
@pytest.mark.parametrize("wrong", [-1, float("nan"), float("inf"), True, "80", [80]])
def test_a_limit_that_is_none_is_refused_by_name(name, wrong):
    with pytest.raises(ConfigurationError, match=name):
        RateLimits(**{name: wrong})


@pytest.mark.parametrize("wrong", [{"per_second": 0}, {"per_day": 0}, {"per_day": 10.5}])
def test_nothing_at_all_and_half_a_message_are_no_limits(wrong):
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        RateLimits(**wrong)


def test_repr_tells_the_limits():
    assert repr(RateLimits()) == "RateLimits(per_second=80, per_day=10000, arrival_jitter=0.02)"


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_is_not_locked_out():
    limits, time = RateLimits(), VirtualTime()
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with limits._lock, limits._turns._lock:
            held.set()
            release.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    child = os.fork()
    if child == 0:
        signal.alarm(30)  # a deadlock ends
        next(limits.slot(time, ends=9.0, since=0.0), None)
        os._exit(0)
    release.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
