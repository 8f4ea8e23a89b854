"""Slots that were granted to a process: who is next gets one, and it is used in time or not at all."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from cmzon_secrets.client.arrivals import Departure

__all__ = ["Slot", "SlotDeparture", "Slots"]

CLOCK_TICK = 1e-3
"""Seconds by which a timer may be early."""


@dataclass(frozen=True, slots=True)
class Slot:
    """A moment to send at, in monotonic seconds; ``id`` is the server's name of it, None on a share."""

    at: float
    day: datetime
    id: int | None


@dataclass(slots=True, eq=False)
class SlotDeparture(Departure):
    """A message on its way in a ``slot``."""

    slot: Slot | None = None


class Slots:
    """Slots of one process, used at most ``patience`` seconds after their time. One caller at a time."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._granted: deque[Slot] = deque()
        self._taken: deque[Slot] = deque()

    def grant(self, slot: Slot) -> None:
        """It is the process's, and as yet nobody's in particular."""
        self._granted.append(slot)

    def next(self) -> Slot | None:
        """The first that nobody has taken."""
        return self._granted[0] if self._granted else None

    def take(self) -> Slot:
        """Take ``next()``: somebody sleeps until then."""
        slot = self._granted.popleft()
        self._taken.append(slot)
        return slot

    def unused(self, now: float) -> Iterator[Slot]:
        """Give up those that nobody took in time."""
        while self._granted and self._granted[0].at + self._patience < now:
            yield self._granted.popleft()

    def leave(self, now: float) -> Slot | None:
        """The slot for a message that leaves now; None: it is too late for every one that was taken.

        Slots are all the same: whoever is ready first uses the first.
        """
        while self._taken and self._taken[0].at + self._patience < now:
            self._taken.popleft()
        if self._taken and self._taken[0].at <= now + CLOCK_TICK:
            return self._taken.popleft()
        return None
