"""Limits shared by processes and hosts, through a Redis.

Whoever is next in a process (``turns``) reserves a slot there, and one of the day's messages with
it: first come, first served between processes, at most half a second ahead. A slot belongs to the
process, not to the caller: whoever is next when its time comes gets it, so that the more urgent
goes first. A slot that is not used in time is given up for a new one.

Why no sliding second at the API holds more than ``per_second`` messages:

- Slots are evenly spaced by one clock, the server's, and a message leaves at most ``arrival_jitter``
  after its slot. What arrived later than that is told with the next question, and the next slots
  keep off it.
- Without Redis every process keeps to its *share*, ``per_second / processes`` rounded down, so that
  all shares together are the limit again.
- Between the two lies silence. A process that gets no answer waits a second before it begins with its
  share: slots that were granted anywhere are over by then. One that comes back from its share says so, upon which
  everybody keeps to his share for three seconds, in which all others come back too, for they knock
  twice a second. Then all are silent for a second, and only then slots are granted. A server that
  started anew does the same on its own account, whatever it remembers.

Where it does not hold: a process that is cut off from a Redis that others still reach adds its
share to theirs; so does one beyond the ``processes`` that were announced.

The day's count is Redis's. It survives a Redis that forgot it, for each process says what it knew,
and what it sent from its share meanwhile.
"""

from __future__ import annotations

import threading
from collections import deque
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from math import floor, inf

from cmzon_secrets.client.arrivals import Departure
from cmzon_secrets.client.day import NEVER, SAME_MOMENT, SETTLED, SHORTEST_DAY
from cmzon_secrets.client.effects import Sleep, Steps, Work
from cmzon_secrets.client.limits import (
    ARRIVAL_JITTER,
    MESSAGES_PER_DAY,
    MESSAGES_PER_SECOND,
    PROCESSES,
    RateLimits,
    left_within,
)
from cmzon_secrets.client.shared.line import Line
from cmzon_secrets.client.shared.server import Server, Told, Unreachable, Verdict
from cmzon_secrets.client.shared.share import Share
from cmzon_secrets.client.shared.slots import Slot, SlotDeparture, Slots
from cmzon_secrets.client.spacing import HORIZON
from cmzon_secrets.client.usage import Quota
from cmzon_secrets.clock import Clock
from cmzon_secrets.errors import ConfigurationError, shielded
from cmzon_secrets.events import Emitter, Subscriber

__all__ = ["SharedLimits"]

SILENCE = 1.0
"""Seconds between messages by Redis's slots and messages from a share."""
KNOCK_EVERY = 0.5
"""Seconds between attempts to reach a Redis that is gone."""
SHORTEST_PATIENCE = 0.02
"""Seconds after its slot at which a message may leave at the latest, where ``arrival_jitter`` is less:
threads do not wake more exactly than that."""
TRUSTED_FOR = timedelta(seconds=1)
"""How long "the day is over" is not asked again. Then it is: others may have given messages back."""
ROUND_TRIPS = 20
"""Of so many, the quickest tells what the others may have lost on their way; first 0.0: nobody knows."""
HAD_ITS_TURN = 2**62
"""The priority of a message that needs another slot."""


class SharedLimits(RateLimits):
    """At most ``per_second`` and ``per_day`` messages of ``account``, for all processes together.

    ``url``: ``redis://``, ``rediss://`` (TLS; ``ca``: a PEM file to trust besides the system's store) or
    ``unix://``. ``processes``: how many there are at most; each sends one part of so many where Redis
    does not answer, so that no send fails and the limits still hold. All must give the same figures.
    Thread-safe, for threads and tasks together; a forked child is another process.

    Events: ``limits_degraded``, ``limits_restored``.

    Raises ConfigurationError for arguments that make no sense, and from the first message where
    what Redis answers is a mistake (``mistakes``): a wrong user, database or certificate.
    """

    @shielded
    def __init__(
        self,
        url: str,
        *,
        account: str,
        per_second: float = MESSAGES_PER_SECOND,
        per_day: int | None = MESSAGES_PER_DAY,
        arrival_jitter: float = ARRIVAL_JITTER,
        processes: int = PROCESSES,
        ca: str | None = None,
        subscriber: Subscriber | None = None,
    ) -> None:
        super().__init__(per_second, per_day, arrival_jitter=arrival_jitter)
        _check(per_second, processes)
        self._server = Server(url, account, ca=ca)
        self._emit = Emitter(subscriber, uri=self._server.place)
        self._rate = per_second
        self._processes = processes
        self._figures = _figures(per_second, per_day, arrival_jitter)
        self._patience = max(arrival_jitter, SHORTEST_PATIENCE)
        self._arrivals = None  # those of all processes are known to the server alone
        self._begin()

    def _begin(self) -> None:
        """As a process that nobody knows yet."""
        self._line = Line(self._server, self._figures, self._lock)
        self._over_at = NEVER
        self._slots = Slots(self._patience)
        self._round_trips = deque([0.0] * ROUND_TRIPS, maxlen=ROUND_TRIPS)
        self._share: Share | None = None
        self._announced = False
        self._knocking: threading.Event | None = None

    @property
    def degraded(self) -> bool:
        """Whether this process keeps to its share: Redis does not answer, or did not until just now."""
        return self._share is not None

    def departure(self, clock: Clock, *, ends: float) -> Steps[Departure]:
        """Called at the very moment of sending: wait until the message may leave, and let it."""
        while True:
            left = yield from super().departure(clock, ends=ends)
            with self._lock:
                slot = self._slots.leave(left.at)
            if slot is not None:
                return SlotDeparture(left.at, slot=slot)
            yield from self._another_slot(clock, ends)

    def answered(self, departure: Departure, clock: Clock) -> None:
        """The answer is here. What may have arrived late is told with the next question."""
        super().answered(departure, clock)
        now, slot = clock.monotonic(), getattr(departure, "slot", None)
        with self._lock:
            self._round_trips.append(now - departure.at)
            arrived = now - min(self._round_trips)
            if slot is not None and slot.id and arrived > slot.at + self.arrival_jitter / 2:
                self._line.report.arrived_late(slot.id, arrived)

    def give_back(self, day: datetime) -> None:
        """A message counted for ``day`` was definitely not accepted."""
        with self._lock:
            super().give_back(day)
            self._line.report.count(-1, day)

    def hold(self, seconds: float, clock: Clock, *, left_at: float | None = None) -> None:
        """429: nobody sends for so long, and then everybody more slowly; in all processes."""
        with self._lock:
            super().hold(seconds, clock, left_at=left_at)
            if left_at is not None:
                self._line.report.refused(left_at)
            if self._share is not None:
                until = self._spacing.paused_until
                self._share.hold(until, clock.monotonic(), left_at=left_at)

    def heed(self, quota: Quota, now: datetime) -> None:
        """The API said this of its own count."""
        with self._lock:
            super().heed(quota, now)
            ends = quota.resets_at
            if ends is None and now - self._day.began >= SETTLED:
                ends = self._day.ends
            if ends is not None and quota.limit and quota.limit > (self.per_second or 0):
                left = quota.remaining if quota.remaining is not None else quota.limit
                self._line.report.said(quota.limit, left, ends)

    def close(self) -> None:
        """Say what is left to say, and that this process has gone. It may wait for Redis.

        The limits can be used again.
        """
        with self._lock:
            if self._knocking is not None:
                self._knocking.set()
            self._give_up_unused(inf)
            line = self._line
            self._begin()
        line.leave()
        self._server.close()
        super().close()

    def after_fork(self) -> None:
        """In a child: another process, which has no slots and owes nothing."""
        super().after_fork()
        self._begin()

    def __repr__(self) -> str:
        return (
            f"RateLimits.shared({self._server.place!r}, account={self._server.account!r}, "
            f"per_second={self.per_second}, per_day={self.per_day}, "
            f"arrival_jitter={self.arrival_jitter}, processes={self._processes})"
        )

    # a slot

    def _at_once(self, clock: Clock) -> datetime | None:
        """None: a slot is somebody else's to grant. Raises DailyLimitReached."""
        now = clock.now()
        with self._lock:
            if now - self._over_at < TRUSTED_FOR:
                self._day.check(now)
        return None

    def _reserve(self, clock: Clock, ends: float) -> Steps[tuple[float, datetime | None]]:
        while True:
            self._announce()
            with self._lock:
                found = self._found(clock.monotonic(), clock.now())
            if found is not None:
                return found
            left_within(clock, ends)
            wait = yield Work(partial(self._ask, clock))
            if wait is not None:
                return wait, None

    def _found(self, now: float, wall: datetime) -> tuple[float, datetime | None] | None:
        """What needs no question; None: Redis must be asked."""
        self._give_up_unused(now)
        slot = self._slots.next()
        if slot is None:
            share = self._share_now(now)
            if share is None:
                return None
            wait = share.wait(now)
            if wait > HORIZON:
                return wait, None
            slot = Slot(now + wait, self._counted_on_share(share, wall), None)
            share.take(now)
            self._slots.grant(slot)
        if slot.at - now > HORIZON:
            return slot.at - now, None
        return slot.at - now, self._slots.take().day

    def _share_now(self, now: float) -> Share | None:
        """The share, unless what was told of it is over."""
        if self._share is not None and self._share.ends <= now:
            self._share = None
        return self._share

    def _give_up_unused(self, now: float) -> None:
        for slot in self._slots.unused(now):
            self.give_back(slot.day)

    def _another_slot(self, clock: Clock, ends: float) -> Steps[None]:
        """For a message that was not ready in time; what it was counted goes back with the question."""
        with self._lock:
            day = self._day.ends
            self.give_back(day)
        ticket = self._turns.join(HAD_ITS_TURN, clock.monotonic())
        try:
            wait, _ = yield from self._taken(ticket, clock, ends)
        except BaseException:
            self._count_again(day)  # whoever gives up gives it back himself
            raise
        finally:
            self._turns.leave(ticket)
        yield Sleep(max(0.0, wait))

    def _count_again(self, day: datetime) -> None:
        with self._lock:
            if day == self._day.ends:
                self._day.sent += 1
            self._line.report.count(1, day)

    # Redis

    def _ask(self, clock: Clock) -> float | None:
        """Ask for a slot; None: look again what is there now, else the seconds until the next question.

        It may wait for Redis: another thread may call. Raises DailyLimitReached.
        """
        line = self._line
        try:
            told = line.ask(clock, paused_until=self._spacing.paused_until)
        except Unreachable as gone:
            self._fall_back(clock, gone.reason)
            return None
        with self._lock:
            now = clock.monotonic()
            self._learn(line, told, now)
            if told.verdict is Verdict.DAY_OVER:
                self._over_at = clock.now()
                raise self._day.reached()
            if told.verdict is Verdict.LATER:
                return max(line.clock.ours(told.at) - now, 2 * HORIZON)
        return None

    def _learn(self, line: Line, told: Told, now: float) -> None:
        if line is not self._line:
            return  # it was closed meanwhile
        if self._knocking is not None:
            self._knocking.set()
            self._knocking = None
        if told.verdict is Verdict.VOID:
            return
        self._count_like(told)
        self._spacing.pause(line.clock.ours(told.paused_until))
        at = line.clock.ours(told.at)
        if told.verdict is Verdict.SHARE:
            reason = "Redis has just started or is new" if told.is_new else "Redis was away"
            self._keep_to_share(now, ends=at, reason=reason)
            return
        self._share = None
        if told.verdict is Verdict.GRANTED:
            self._slots.grant(Slot(at, self._day.ends, told.at))

    def _count_like(self, told: Told) -> None:
        """The day as Redis counts it."""
        ends, day = datetime.fromtimestamp(told.ends, UTC), self._day
        if abs(ends - day.ends) > SAME_MOMENT:
            next_one = SHORTEST_DAY <= ends - day.ends <= 2 * SHORTEST_DAY
            day.begin(ends, began=day.ends if next_one else NEVER)
        day.ends, day.sent, day.stated = ends, told.sent, told.limit

    # without Redis

    def _fall_back(self, clock: Clock, reason: str) -> None:
        """No answer came: go on with the share, and knock until one does."""
        with self._lock:
            if self._share is None:
                self._keep_to_share(clock.monotonic(), ends=inf, reason=reason)
            if self._knocking is None:
                self._knocking = threading.Event()
                self._knock_until(self._knocking, clock)

    def _keep_to_share(self, now: float, *, ends: float, reason: str) -> None:
        """From after a silence, or as before, until ``ends``."""
        if self._share is not None:
            self._share.ends = ends
            return
        # Nobody learns here of what arrived late: both may come together, a late thread and the network.
        pace = floor(self._rate / self._parts) / (1 + self._patience + self.arrival_jitter)
        begins = max(now + SILENCE, self._spacing.paused_until)
        self._share = Share(pace, self._part_of_day(), begins=begins, ends=ends, reason=reason)

    @property
    def _parts(self) -> int:
        told = self._line.told
        return max(self._processes, told.processes if told is not None else 0)

    def _part_of_day(self) -> float:
        limit = self._day.limit
        return inf if limit is None else max(0, limit - self._day.sent) // self._parts

    def _counted_on_share(self, share: Share, wall: datetime) -> datetime:
        """Count one message; its day. Raises DailyLimitReached."""
        before = self._day.ends
        self._day.turn(wall)
        if self._day.ends != before:
            share.left = self._part_of_day()
        if share.left < 1 and not self._day.is_full:
            raise share.used_up(self._day.ends)
        day = self._day.take(wall)
        assert day is not None  # noqa: S101  # it is counted in memory
        self._line.report.count(1, day)
        return day

    def _knock_until(self, answered: threading.Event, clock: Clock) -> None:
        """Knock in a thread of its own, so that nobody who sends waits for it."""
        line = self._line

        def knock() -> None:
            while not answered.wait(KNOCK_EVERY):
                self._knock(line, clock)

        threading.Thread(target=knock, name="cmzon-limits", daemon=True).start()

    def _knock(self, line: Line, clock: Clock) -> None:
        share = self._share
        returned = share is not None and clock.monotonic() - share.used_at < SILENCE
        with suppress(Unreachable, ConfigurationError):
            told = line.knock(clock, returned=returned)
            with self._lock:
                self._learn(line, told, clock.monotonic())

    def _announce(self) -> None:
        """Emit what changed, in the thread of somebody who sends."""
        with self._lock:
            share = self._share
            changed, self._announced = self._announced != (share is not None), share is not None
        if changed and share is not None:
            self._emit("limits_degraded", reason=share.reason, per_second=round(share.pace, 3))
        elif changed:
            self._emit("limits_restored")


def _figures(per_second: float, per_day: int | None, jitter: float) -> dict[str, float]:
    """What the script is to keep to."""
    most = max(1, floor(per_second))
    span = most / per_second * (1 + jitter / 2)
    figures = {"pace": per_second / (1 + jitter), "most": most, "span": span * 1e6}
    return figures if per_day is None else {**figures, "per_day": per_day}


def _check(per_second: float, processes: int) -> None:
    if per_second is None:
        raise ConfigurationError("per_second — shared limits need a number above zero")
    if isinstance(processes, bool) or not isinstance(processes, int) or processes < 1:
        raise ConfigurationError("processes — a whole number, 1 or more, is needed")
    if processes > per_second:
        raise ConfigurationError(
            "processes — more than messages a second: without Redis none of them could send"
        )
