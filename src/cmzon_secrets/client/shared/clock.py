"""What another machine's clock says in seconds of ours."""

from __future__ import annotations

from math import inf

__all__ = ["ServerClock"]


class ServerClock:
    """What the server's microseconds are in seconds of our monotonic clock.

    Known to half the quickest round trip; a clock that was set is noticed with the next answer.
    """

    DRIFT = 1e-3
    """Seconds by which two clocks may drift apart in a second."""

    def __init__(self) -> None:
        self._least, self._most, self._as_of = -inf, inf, 0.0

    def learn(self, now: int, *, asked_at: float, answered_at: float) -> None:
        """The server's clock showed ``now`` between these two moments of ours."""
        drifted = self.DRIFT * max(0.0, answered_at - self._as_of)
        least, most = now / 1e6 - answered_at, now / 1e6 - asked_at
        if self._least - drifted <= most and least <= self._most + drifted:
            least, most = max(least, self._least - drifted), min(most, self._most + drifted)
        self._least, self._most, self._as_of = least, most, answered_at

    @property
    def known(self) -> bool:
        """Whether the server ever answered."""
        return self._most < inf

    def ours(self, microseconds: int) -> float:
        """A moment of the server's in our seconds."""
        return microseconds / 1e6 - (self._least + self._most) / 2

    def theirs(self, seconds: float) -> int:
        """A moment of ours in the server's microseconds."""
        return round((seconds + (self._least + self._most) / 2) * 1e6)
