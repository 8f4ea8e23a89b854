"""A token of Vault or OpenBao and its life: when it is due for renewal, when it is too late for one, and
what is known of it after a denial."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field

__all__ = ["LAST_SECONDS", "RENEW_AT", "Denial", "Lease"]

RENEW_AT = 2 / 3
"""Of a token's life, give or take a tenth: not all processes of a fleet at once."""
LAST_SECONDS, LAST_PART = 5.0, 0.1
"""What is left of a life when it is no longer renewed but replaced: the longer of the two."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A token and its life, in seconds of the monotonic clock; ``ends`` and ``due`` are infinite for
    one that does not end. ``ttl``: its first life, None where that is not known."""

    token: str = field(repr=False)
    ttl: float | None = None
    ends: float = math.inf
    due: float = math.inf
    renewable: bool = False

    @classmethod
    def of(cls, token: str, seconds: float, *, renewable: bool, now: float) -> Lease:
        """One of this length from ``now``; 0 seconds is a token without end."""
        if seconds <= 0:
            return cls(token, 0.0)
        # Not for safety: so that a fleet that started together does not renew together.
        due = now + seconds * RENEW_AT * random.uniform(0.9, 1.1)  # noqa: S311
        return cls(token, seconds, now + seconds, due, renewable)

    def is_shorter_than(self, before: Lease) -> bool:
        """After a renewal: the maximum is near. A second is what the server's rounding takes."""
        return self.ttl is not None and before.ttl is not None and self.ttl < before.ttl - 1

    def nearly_over(self, now: float) -> bool:
        """Too little is left to renew it."""
        life = self.ttl or math.inf
        return self.ends - now < min(max(LAST_SECONDS, LAST_PART * life), life / 4)


@dataclass(frozen=True, slots=True)
class Denial:
    """Something was denied to ``token``, which the server knew, or not. Believed ``until`` then."""

    token: str = field(repr=False)
    known: bool
    until: float
