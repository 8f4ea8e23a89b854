"""The sliding second at the server, as far as departures and answers tell.

A slot spaces what cannot be seen. Here is made good what can: a thread that wakes late, a token
that had to be read first or a connection that had to be opened comes between slot and arrival.
Pure arithmetic on seconds of a monotonic clock.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

__all__ = ["Arrivals", "Departure"]

NO_WAIT = 1e-5
"""Seconds not worth sleeping for, nor exact in a clock that counts microseconds."""
LATEST_ARRIVAL = 0.5
"""Seconds after it left by which a message is taken to have arrived, answered or not."""
LATEST_DEPARTURE = 15.0
"""Seconds within which a message leaves that may: a name, a connection and TLS take no longer."""


@dataclass(slots=True, eq=False)
class Departure:
    """A message that may leave, ``at`` a time in monotonic seconds; once it has left, when it did.

    In between it waits for a connection, and may arrive at any moment.
    """

    at: float
    has_left: bool = False
    answered_at: float | None = None

    def leave(self, now: float) -> None:
        """It is on its way."""
        self.at = now
        self.has_left = True

    def arrival(self, now: float, quickest: float) -> float:
        """The latest it can have arrived, less the time that the ``quickest`` answer took.

        An answer that took longer than the quickest may have been longer on its way there.
        """
        if self.answered_at is not None:
            return max(self.at, self.answered_at - quickest)
        return max(self.at, now - quickest) if self.has_left else now

    def is_past(self, moment: float) -> bool:
        """Whether it has arrived by that moment, as far as it matters."""
        settled = self.has_left or self.answered_at is not None
        return self.at + (LATEST_ARRIVAL if settled else LATEST_DEPARTURE) <= moment


class Arrivals:
    """At most ``per_second`` arrivals in any second, with half of ``jitter`` seconds to spare for what
    departures and answers do not tell. One caller at a time."""

    def __init__(self, per_second: float, jitter: float) -> None:
        self._most = max(1, int(per_second))
        self._span = self._most / per_second * (1 + jitter / 2)
        self._departures: deque[Departure] = deque()

    def wait(self, now: float) -> float:
        """The seconds until one more message may leave; fewer, where those on their way arrive soon."""
        since = now - self._span
        arrivals = self._since(now, since)
        return arrivals[-self._most] - since if len(arrivals) >= self._most else 0.0

    def depart(self, now: float) -> Departure | float:
        """A message may leave now; or the seconds until one may."""
        wait = self.wait(now)
        if wait > NO_WAIT:
            return wait
        departure = Departure(now)
        self._departures.append(departure)
        return departure

    def _since(self, now: float, since: float) -> list[float]:
        departures = self._departures
        while departures and departures[0].is_past(since):
            departures.popleft()
        if len(departures) < self._most or self._not_answered_by(since) < self._most:
            return []  # whenever they arrived
        answered = (d.answered_at - d.at for d in departures if d.answered_at is not None)
        quickest = min(answered, default=float("inf"))
        arrivals = (d.arrival(now, quickest) for d in departures if not d.is_past(since))
        return sorted(at for at in arrivals if at > since)

    def _not_answered_by(self, moment: float) -> int:
        return sum(d.answered_at is None or d.answered_at > moment for d in self._departures)
