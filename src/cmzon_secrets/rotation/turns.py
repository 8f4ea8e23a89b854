"""Whose turn it is: many accounts, a few at a time, and no service asked by too many at once."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Iterable
from secrets import SystemRandom
from typing import Generic, Protocol, TypeVar

from cmzon_secrets.clock import Clock

__all__ = ["Turns"]


class _Served(Protocol):
    @property
    def service(self) -> str: ...


T = TypeVar("T", bound=_Served)


class Turns(Generic[T]):
    """Hands out members to whoever has time, in random order within ``jitter`` seconds.

    At most ``per_service`` members of one service are out at a time, so that one that is slow does
    not hold up the others. From ``late_at`` (monotonic seconds) on nobody waits any more.
    """

    def __init__(
        self,
        members: Iterable[T],
        *,
        per_service: int,
        jitter: float,
        clock: Clock,
        late_at: float = float("inf"),
    ) -> None:
        self._clock = clock
        self._per_service = per_service
        self._late_at = late_at
        self._changed = threading.Condition()
        self._out: Counter[str] = Counter()
        self._stopped = False
        self._waiting = _spread(members, jitter, clock.monotonic())

    @property
    def late(self) -> bool:
        """Whether it is too late to begin anything."""
        return self._clock.monotonic() >= self._late_at

    def take(self) -> T | None:
        """The next member, waited for; None: there is none left."""
        with self._changed:
            while self._waiting and not self._stopped:
                service, wait = self._nearest()
                if service is not None and (wait <= 0 or self.late):
                    return self._hand_out(service)
                self._changed.wait(min(wait, max(0.0, self._late_at - self._clock.monotonic())))
            return None

    def give_back(self, member: T) -> None:
        """The member is done with; its service has room for another."""
        with self._changed:
            self._out[member.service] -= 1
            self._changed.notify()

    def stop(self) -> None:
        """Nobody gets a turn any more."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def _nearest(self) -> tuple[str | None, float]:
        """The service with room whose first member is due first, and in how many seconds."""
        with_room = [
            (members[0][0], service)
            for service, members in self._waiting.items()
            if self._out[service] < self._per_service
        ]
        if not with_room:
            return None, _A_WHILE
        due, service = min(with_room)
        return service, due - self._clock.monotonic()

    def _hand_out(self, service: str) -> T:
        members = self._waiting[service]
        _, member = members.popleft()
        if not members:
            del self._waiting[service]
            if not self._waiting:
                self._changed.notify_all()
        self._out[service] += 1
        return member


_A_WHILE = 3600.0
"""Seconds to wait for room; whoever makes some says so earlier."""


def _spread(members: Iterable[T], jitter: float, now: float) -> dict[str, deque[tuple[float, T]]]:
    """Service → its members, each with the moment from which it may begin, the earliest first."""
    chance = SystemRandom()
    timed = [(now + chance.uniform(0, jitter), member) for member in members]
    chance.shuffle(timed)
    spread: dict[str, deque[tuple[float, T]]] = {}
    for moment, member in sorted(timed, key=lambda entry: entry[0]) if jitter else timed:
        spread.setdefault(member.service, deque()).append((moment, member))
    return spread
