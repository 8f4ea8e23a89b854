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
"""Seconds after its departure by which a message is taken to have arrived, answered or not."""


@dataclass(slots=True, eq=False)
class Departure:
    """A message on its way, which left ``at`` a time in monotonic seconds."""

    at: float
    answered_at: float | None = None

    def arrival(self, now: float, quickest: float) -> float:
        """The latest it can have arrived, less the time that the ``quickest`` answer took.

        An answer that took longer than the quickest may have been longer on its way there.
        """
        answered_at = self.answered_at if self.answered_at is not None else now
        return max(self.at, answered_at - quickest)


class Arrivals:
    """At most ``per_second`` arrivals in any second, with half of ``jitter`` seconds to spare for what
    departures and answers do not tell. One caller at a time."""

    def __init__(self, per_second: float, jitter: float) -> None:
        self._most = max(1, int(per_second))
        self._span = self._most / per_second * (1 + jitter / 2)
        self._departures: deque[Departure] = deque()

    def depart(self, now: float) -> Departure | float:
        """A message leaves now; or the seconds until one may."""
        since = now - self._span
        arrivals = self._since(now, since)
        if len(arrivals) >= self._most:
            wait = arrivals[-self._most] - since
            if wait > NO_WAIT:
                return wait
        departure = Departure(now)
        self._departures.append(departure)
        return departure

    def _since(self, now: float, since: float) -> list[float]:
        departures = self._departures
        while departures and departures[0].at + LATEST_ARRIVAL <= since:
            departures.popleft()
        if len(departures) < self._most:
            return []  # whenever they arrived
        answered = (d.answered_at - d.at for d in departures if d.answered_at is not None)
        quickest = min(answered, default=float("inf"))
        arrivals = (d.arrival(now, quickest) for d in departures)
        return sorted(at for at in arrivals if at > since)
