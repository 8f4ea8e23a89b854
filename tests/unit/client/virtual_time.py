"""Many callers of one RateLimits on a clock that is a number: what takes hours takes no time.

``VirtualTime`` drives the generators of the limits as the clients do, but for the waiting: it goes
straight on to the next moment at which something happens.
"""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable, Generator, Iterable
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from cmzon_secrets.client.effects import Park, Sleep, Work
from cmzon_secrets.client.limits import RateLimits
from cmzon_secrets.clock import SYSTEM_CLOCK, Clock
from cmzon_secrets.errors import CMzonSecretsError

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


class VirtualTime(Clock):
    """``late``: by how many seconds whoever waited comes back too late, asked for each wait."""

    def __init__(self, start: datetime = NOON, late: Callable[[], float] = lambda: 0.0) -> None:
        self.seconds = 0.0
        self._start = start
        self._late = late
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return self.seconds

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._agenda, (self.seconds + seconds, next(self._order), action))

    def after_a_wait(self, seconds: float, action: Callable[[], None]) -> None:
        self.after(max(0.0, seconds) + self._late(), action)

    def run(self, until: float = float("inf")) -> None:
        """Whatever happens until then, or until nothing is left to happen."""
        while self._agenda and self._agenda[0][0] <= until:
            self.seconds, _, action = heapq.heappop(self._agenda)
            action()

    def drive(self, steps: Generator[Any, Any, Any]) -> Caller:
        """Begin with ``steps`` now."""
        return Caller(self, steps)


class Caller:
    """One that waits for the limits, as a thread or a task does."""

    def __init__(self, time: VirtualTime, steps: Generator[Any, Any, Any]) -> None:
        self._time = time
        self._steps = steps
        self.result: Any = None
        self.error: CMzonSecretsError | None = None
        self.ended = False
        self._waits = 0
        self._go(0, None)

    def cancel(self) -> None:
        """Give up, at whatever it is."""
        self.ended = True
        self._steps.close()

    def _go(self, wait: int, outcome: object) -> None:
        if self.ended or wait != self._waits:
            return  # it was woken already
        try:
            self._perform(self._steps.send(outcome))
        except StopIteration as end:
            self.ended, self.result = True, end.value
        except CMzonSecretsError as error:
            self.ended, self.error = True, error
            self._steps.close()

    def _perform(self, effect: object) -> None:
        self._waits += 1
        wait = self._waits
        match effect:
            case Sleep(seconds):
                self._time.after_a_wait(seconds, lambda: self._go(wait, None))
            case Park(ticket, seconds):
                self._time.after_a_wait(seconds, lambda: self._go(wait, None))
                ticket.on_call(lambda: self._time.after_a_wait(0.0, lambda: self._go(wait, None)))
            case Work(function):
                outcome = function()
                self._time.after(0.0, lambda: self._go(wait, outcome))
            case _:
                raise AssertionError(effect)


class Senders:
    """Callers that send one message each, or one after the other, and what came of it.

    ``there`` and ``back``: seconds that a message and its answer are under way, asked for each;
    ``connect``: that it waits for a connection when it might leave.
    """

    def __init__(
        self,
        limits: RateLimits,
        time: VirtualTime,
        *,
        there: Callable[[], float] = lambda: 0.0,
        back: Callable[[], float] = lambda: 0.0,
        connect: Callable[[], float] = lambda: 0.0,
        patience: float = 1e6,
    ) -> None:
        self.limits = limits
        self.time = time
        self._there = there
        self._back = back
        self._connect = connect
        self._patience = patience
        self.slots: list[object] = []
        """Who took a slot, in order."""
        self.left: list[tuple[float, object]] = []
        self.arrived: list[float] = []

    def send(self, name: object = None, priority: int = 0) -> Caller:
        """Begin to send a message now."""
        return self.time.drive(self._message(name, priority))

    def send_for_ever(self, senders: int, until: float, priority: int = 0) -> None:
        for name in range(senders):
            self.time.drive(self._messages(name, priority, until))

    def _messages(self, name: object, priority: int, until: float) -> Generator[Any, Any, None]:
        while self.time.seconds < until:
            yield from self._message(name, priority)
            yield Sleep(0.0)

    def _message(self, name: object, priority: int) -> Generator[Any, Any, datetime]:
        time, limits = self.time, self.limits
        begun = time.monotonic()
        ends = begun + self._patience
        day = yield from limits.slot(time, ends=ends, since=begun, priority=priority)
        self.slots.append(name)
        try:
            departure = yield from limits.departure(time, ends=ends)
        except BaseException:  # as ``Passage`` does
            limits.give_back(day)
            raise
        if (seconds := self._connect()) > 0:
            yield Sleep(seconds)
        departure.leave(time.seconds)
        self.left.append((time.seconds, name))
        there = self._there()
        self.arrived.append(time.seconds + there)
        time.after(there + self._back(), lambda: limits.answered(departure, time))
        return day


def perform(steps: Generator[Any, Any, Any]) -> Any:
    """What they come to, waited for as ``Client`` does: for threads, on the real clock."""
    outcome: object = None
    try:
        while True:
            match steps.send(outcome):
                case Sleep(seconds):
                    outcome = SYSTEM_CLOCK.sleep(seconds)
                case Park(ticket, seconds):
                    called = threading.Event()
                    ticket.on_call(called.set)
                    outcome = called.wait(seconds)
                case Work(function):
                    outcome = function()
    except StopIteration as end:
        return end.value
    finally:
        steps.close()


def most_in_any_second(times: Iterable[float]) -> int:
    """The largest number of ``times`` within one second, the first of whose ends belongs to it."""
    times, first, most = sorted(times), 0, 0
    for last, moment in enumerate(times):
        while times[first] <= moment - 1.0 + 1e-9:
            first += 1
        most = max(most, last - first + 1)
    return most


def rate(times: Iterable[float]) -> float:
    """How many a second, from the first to the last."""
    times = sorted(times)
    return (len(times) - 1) / (times[-1] - times[0])
