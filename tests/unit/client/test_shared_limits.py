"""RateLimits.shared: processes keep the limits together, with Redis, without it, and in between."""

from __future__ import annotations

from datetime import timedelta
from random import Random
from typing import Any

import pytest
import redis

from cmzon_secrets.client.spacing import HORIZON
from cmzon_secrets.client.usage import Quota
from cmzon_secrets.errors import DailyLimitReached, RateLimited
from unit.client.virtual_redis import Process, VirtualRedis
from unit.client.virtual_time import NOON, Senders, VirtualTime, most_in_any_second, rate

DATABASE = 11
JITTER = 0.02
INTERVAL = (1 + JITTER) / 80
SEEDS = pytest.mark.parametrize("seed", range(6))


@pytest.fixture(scope="module")
def connection(redis_server):
    with redis.Redis.from_url(redis_server.url(DATABASE)) as connection:
        yield connection
        connection.flushdb()


class World:
    """Some processes, one Redis, and all their messages."""

    def __init__(self, connection: Any, count: int, *, late=lambda: 0.0, **options: Any) -> None:
        self.time = VirtualTime(late=late)
        self.redis = VirtualRedis(connection, self.time)
        there = options.pop("there", lambda: 0.0)
        self.processes = [Process(self.redis, self.time, **options) for _ in range(count)]
        self.senders = [
            Senders(limits, self.time, there=there, back=lambda: 0.002) for limits in self.processes
        ]
        self._wake()

    def _wake(self) -> None:
        """A new account grants its first slot after a second."""
        caller = self.senders[0].send()
        self.run(2.0)
        assert caller.ended
        self.senders[0].arrived.clear()

    def run(self, until: float) -> None:
        self.time.run(until)
        self.time.seconds = until

    def send_for_ever(self, senders: int, until: float) -> None:
        for process in self.senders:
            process.send_for_ever(senders, until)

    @property
    def arrived(self) -> list[float]:
        return sorted(at for senders in self.senders for at in senders.arrived)

    def between(self, begins: float, ends: float) -> list[float]:
        return [at for at in self.arrived if begins <= at < ends]


# ── with Redis ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("processes", [1, 2, 5, 8])
def test_all_together_send_all_there_is_in_equal_parts(connection, processes):
    world = World(connection, processes)
    world.send_for_ever(6, until=8.0)
    world.run(8.0)
    assert rate(world.arrived) >= 78
    assert most_in_any_second(world.arrived) <= 80
    shares = [len(senders.arrived) for senders in world.senders]
    assert max(shares) - min(shares) <= 5


@SEEDS
def test_no_second_holds_more_than_80_even_where_threads_wake_late_and_networks_vary(
    connection, seed
):
    random = Random(seed)
    world = World(
        connection,
        4,
        late=lambda: random.choice([0.0, 0.0, random.uniform(0, 0.1)]),
        there=lambda: random.choice([0.0, random.uniform(0, JITTER)]),
    )
    world.send_for_ever(10, until=10.0)
    world.run(10.0)
    assert most_in_any_second(world.arrived) <= 80


def test_what_a_network_held_up_and_let_go_at_once_is_made_good_by_all(connection):
    world = World(connection, 4)
    for senders in world.senders:
        senders._there = lambda: (
            max(0.0, 4.2 - world.time.seconds) if world.time.seconds > 4 else 0.0
        )
    world.send_for_ever(10, until=8.0)
    world.run(8.0)
    assert len(world.between(4.2, 4.2001)) > 10
    assert most_in_any_second(world.arrived) <= 80


def test_a_process_that_was_suspended_does_not_catch_up(connection):
    world = World(connection, 2)
    stalled = [0.0]
    world.time._late = lambda: stalled[0]
    world.send_for_ever(10, until=8.0)
    world.time.after(2.0, lambda: stalled.__setitem__(0, 1.5))
    world.time.after(2.1, lambda: stalled.__setitem__(0, 0.0))
    world.run(8.0)
    assert most_in_any_second(world.arrived) <= 80


def test_the_last_message_of_the_day_that_misses_its_slot_is_sent_all_the_same(connection):
    late = []
    world = World(connection, 1, per_day=3, late=lambda: late.pop(0) if late else 0.0)
    first = world.senders[0].send()
    late[:] = [0.0, 0.0, 0.3]  # the last one sleeps past its slot
    last = world.senders[0].send()
    world.run(world.time.seconds + 3)
    assert late == []
    assert (first.error, last.error) == (None, None)
    assert len(world.arrived) == 2
    assert world.processes[0].usage(world.time.now()).sent_today == 3
    one_more = world.senders[0].send()
    world.run(world.time.seconds + 3)
    assert isinstance(one_more.error, DailyLimitReached)


def test_a_message_that_misses_its_slot_and_gives_up_is_given_back_once(connection):
    late = []
    world = World(connection, 1, per_day=3, late=lambda: late.pop(0) if late else 0.0)
    world.senders[0].send()
    late[:] = [0.0, 0.0, 0.3]
    world.senders[0]._patience = 0.25
    gone = world.senders[0].send()
    world.run(world.time.seconds + 3)
    assert isinstance(gone.error, RateLimited)
    world.senders[0]._patience = 1e6
    sent, refused = world.senders[0].send(), world.senders[0].send()
    world.run(world.time.seconds + 3)
    assert sent.error is None
    assert isinstance(refused.error, DailyLimitReached)


def test_the_urgent_one_goes_first_in_its_process(connection):
    world = World(connection, 4)
    world.send_for_ever(20, until=6.0)
    urgent = world.senders[0]
    world.time.after(2.0, lambda: urgent.send("code", priority=1))
    world.run(6.0)
    (at,) = (at for at, name in urgent.left if name == "code")
    assert at - 4.0 <= HORIZON + 5 * INTERVAL + 1e-6  # one slot of each process, and one it had


def test_429_in_one_process_halts_and_slows_all(connection):
    world = World(connection, 3)
    world.send_for_ever(5, until=12.0)
    one = world.processes[0]
    world.time.after(2.0, lambda: one.hold(3.0, world.time, left_at=world.time.seconds))
    world.run(12.0)
    assert len(world.between(4.2, 6.999)) == 0
    assert 0.8 * 78 <= len(world.between(7.0, 8.0)) <= 0.8 * 78 + 4


def test_the_day_ends_for_all_at_the_same_message(connection):
    world = World(connection, 4, per_day=101)
    callers = [senders.send() for senders in world.senders for _ in range(50)]
    world.run(20.0)
    refused = [caller.error for caller in callers if caller.error]
    assert len(world.arrived) == 100  # and one when the world began
    assert len(refused) == 100
    assert all(isinstance(error, DailyLimitReached) for error in refused)
    assert {p.usage(world.time.now()).sent_today for p in world.processes} == {101}


def test_what_one_process_gives_back_another_may_send(connection):
    world = World(connection, 2, per_day=2)
    sent = world.senders[1].send()
    world.run(4.0)
    refused = world.senders[0].send()
    world.run(5.0)
    assert isinstance(refused.error, DailyLimitReached)
    world.processes[1].give_back(sent.result)
    world.processes[1].close()
    again = world.senders[0].send()
    world.run(8.0)
    assert again.error is None


def test_what_the_api_says_of_the_day_counts_for_all(connection):
    world = World(connection, 2, per_day=1000)
    left = Quota(limit=500, remaining=3, resets_at=NOON.replace(hour=18))
    world.processes[0].heed(left, world.time.now())
    callers = [world.senders[0].send()]
    world.run(3.0)
    callers += [world.senders[1].send() for _ in range(5)]
    world.run(6.0)
    reached = [caller.error for caller in callers if caller.error]
    assert len(callers) - len(reached) == 3
    assert {error.resets_at for error in reached} == {left.resets_at}


def test_what_others_sent_is_not_held_against_a_limit_below_the_apis(connection):
    world = World(connection, 2, per_day=20)
    for remaining in (900, 5):
        said = Quota(limit=1000, remaining=remaining, resets_at=NOON.replace(hour=18))
        world.processes[0].heed(said, world.time.now())
        world.senders[0].send()
        world.run(world.time.seconds + 1.0)
        assert world.processes[0].usage(world.time.now()).sent_today == max(2, 21 - remaining)
    callers = [senders.send() for senders in world.senders for _ in range(5)]
    world.run(8.0)
    refused = [caller for caller in callers if isinstance(caller.error, DailyLimitReached)]
    assert len(callers) - len(refused) == 4


def test_what_others_sent_is_not_held_against_the_share_either(connection):
    world = World(connection, 2, per_day=20, processes=2)
    world.redis.is_there = False
    callers = []
    for sent in range(12):
        said = Quota(1000, 500 - sent, resets_at=NOON.replace(hour=18))
        world.processes[0].heed(said, world.time.now())
        callers.append(world.senders[0].send())
        world.run(world.time.seconds + 1.2)
    assert sum(caller.error is None for caller in callers) == 19 // 2


@pytest.mark.parametrize("seconds", [60, 3600, 6 * 3600])
def test_the_end_of_a_shorter_window_is_not_the_days(connection, seconds):
    world = World(connection, 2, per_day=10)
    for number in range(1, 30):
        now = world.time.now()
        for process in world.processes:
            process.heed(Quota(4_800, 4_799, now + timedelta(seconds=seconds)), now)
        for senders in world.senders:
            senders.send()
        world.run(2.0 + 1210.0 * number)
    assert len(world.arrived) == 10 - 1


def test_a_day_that_ends_at_another_hour_there_begins_anew_for_all(connection):
    world = World(connection, 2, per_day=100)
    ends = NOON + timedelta(hours=1)
    world.processes[0].heed(Quota(100, 99, ends), world.time.now())
    world.senders[0].send()
    world.run(3700.0)
    world.senders[0].send()
    world.run(3701.0)
    world.processes[0].heed(Quota(100, 99, ends + timedelta(days=1)), world.time.now())
    callers = [world.senders[n % 2].send() for n in range(102)]
    world.run(3710.0)
    reached = [caller.error for caller in callers if caller.error]
    assert len(reached) == 3
    assert {error.resets_at for error in reached} == {ends + timedelta(days=1)}


def test_a_new_day_begins_for_all(connection):
    world = World(connection, 2, per_day=2)
    world.senders[0].send()
    world.run(5.0)
    world.time.seconds += 12 * 3600
    callers = [senders.send() for senders in world.senders]
    world.run(12 * 3600 + 10.0)
    assert [caller.error for caller in callers] == [None, None]


def test_slots_and_messages_of_who_gave_up_are_not_lost(connection):
    world = World(connection, 1, per_day=50)
    callers = [world.senders[0].send() for _ in range(30)]
    world.run(2.1)
    for caller in callers:
        caller.cancel()
    world.run(4.0)
    sent = [world.senders[0].send() for _ in range(60)]
    world.run(20.0)
    assert len(world.senders[0].left) == 50
    assert sum(caller.error is None for caller in sent) == 50 - 1 - sum(
        caller.result is not None for caller in callers
    )


def test_accounts_do_not_disturb_each_other(connection):
    one, other = World(connection, 2), World(connection, 2)
    one.processes[0].hold(60.0, one.time)
    other.send_for_ever(5, until=5.0)
    other.run(5.0)
    assert rate(other.arrived) >= 78


def test_a_clock_that_is_set_on_redis_s_machine_stops_nobody(connection):
    for step in (-3600.0, 3600.0):
        world = World(connection, 2)
        world.send_for_ever(5, until=14.0)
        world.time.after(2.0, lambda w=world, s=step: setattr(w.redis, "ahead", s))
        world.run(14.0)
        assert len(world.between(9.0, 14.0)) >= 5 * 77


def test_a_redis_whose_slots_are_over_when_they_are_heard_of_keeps_nobody_past_his_deadline(
    connection,
):
    time = VirtualTime()
    redis = VirtualRedis(connection, time)
    redis.takes = 1.3
    senders = Senders(Process(redis, time), time, patience=3.0)
    caller = senders.send()
    time.run()
    assert isinstance(caller.error, RateLimited)
    assert time.seconds < 3.0 + redis.takes


# ── without ─────────────────────────────────────────────────────────────────────────────────────


def outage(world, begins, lasts, how, *, staggered=lambda: 0.0):
    """``staggered``: by how many seconds a process finds a Redis later that started again."""

    def vanish():
        world.redis.is_there = False

    def back():
        world.redis.is_there = True
        if how == "it hung":  # it answers whoever asked meanwhile
            for process in world.processes:
                if process._knocking is not None:
                    process._knock(process._line, world.time)
            return
        for process in world.processes:
            world.redis.back_at[process._line.member] = world.time.seconds + staggered()
        world.redis.restart(empty=how == "it forgot")

    world.time.after(begins - world.time.seconds, vanish)
    world.time.after(begins + lasts - world.time.seconds, back)


WAYS = ["it forgot", "it remembers", "it hung"]
HOW = pytest.mark.parametrize("how", WAYS)


@HOW
@SEEDS
def test_without_redis_each_sends_its_share_and_afterwards_all_of_it_again(connection, how, seed):
    random = Random(seed)
    world = World(connection, 4, processes=4)
    world.send_for_ever(10, until=20.0)
    outage(world, 5.0, 5.0, how, staggered=lambda: random.uniform(0, 2.2))
    world.run(20.0)
    assert most_in_any_second(world.arrived) <= 80
    assert 3 * 75 <= len(world.between(7.0, 10.0)) <= 3 * 80
    assert len(world.between(17.0, 20.0)) >= 3 * 77


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_whatever_fails_whenever_no_second_holds_more_than_80(connection, seed):
    random = Random(seed)
    world = World(
        connection,
        4,
        processes=4,
        late=lambda: random.choice([0.0, random.uniform(0, JITTER / 2)]),
        there=lambda: random.uniform(0, JITTER / 2),
    )
    for senders in world.senders:  # some send all the time, some come and go
        begins = random.choice([0.0, random.uniform(0, 12)])
        until = random.choice([25.0, begins + random.uniform(2, 12)])
        world.time.after(
            begins, lambda senders=senders, until=until: senders.send_for_ever(6, until)
        )
    at = 2.0
    for _ in range(random.randint(1, 3)):
        at += random.choice([random.uniform(0.05, 2), random.uniform(2, 8)])
        lasts = random.choice([random.uniform(0.05, 1), random.uniform(1, 6)])
        outage(world, at, lasts, random.choice(WAYS), staggered=lambda: random.uniform(0, 2.2))
        at += lasts
    world.run(25.0)
    assert most_in_any_second(world.arrived) <= 80


@pytest.mark.parametrize("empty", [True, False])
def test_a_redis_that_started_anew_grants_nothing_at_first_whoever_asks(connection, empty):
    world = World(connection, 2)
    world.redis.restart(empty=empty)  # and this process never noticed
    world.send_for_ever(5, until=12.0)
    world.run(12.0)
    assert len(world.between(2.0, 3.0)) == 0
    assert 30 <= len(world.between(3.0, 5.0)) <= 2 * 2 * 10
    assert len(world.between(5.0, 5.99)) == 0
    assert len(world.between(7.0, 12.0)) >= 5 * 77


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        (lambda world: world.redis.restart(empty=True), "Redis has just started or is new"),
        (lambda world: world.redis.restart(empty=False), "Redis has just started or is new"),
        (lambda world: outage_of(world, world.processes[1]), "Redis was away"),
    ],
)
def test_the_event_says_why_it_is_only_the_share(connection, what, reason):
    world = World(connection, 2, subscriber=(events := []).append)
    what(world)
    world.senders[0].send()
    world.run(world.time.seconds + 2.0)
    degraded = [event for event in events if event.name == "limits_degraded"]
    assert degraded[-1].facts["reason"] == reason


def outage_of(world: World, process: Process) -> None:
    """One process alone is cut off, sends its share, and comes back."""
    world.redis.back_at[process._line.member] = world.time.seconds + 4.0
    sends_on = world.senders[world.processes.index(process)]
    sends_on.send_for_ever(1, world.time.seconds + 4.2)
    world.run(world.time.seconds + 4.7)


@HOW
def test_the_day_s_count_survives_an_outage(connection, how):
    world = World(connection, 3)
    world.send_for_ever(5, until=18.0)
    outage(world, 5.0, 4.0, how)
    world.run(22.0)
    for senders in world.senders:
        senders.send()
    world.run(24.0)
    figures = world.redis.figures()
    assert figures["known"] + figures["sent"] == len(world.arrived) + 1
