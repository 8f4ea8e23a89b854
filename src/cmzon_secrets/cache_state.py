"""What a token cache holds and decides, without threads or I/O.

A driver, blocking or not, calls the backend, tells ``found``, ``failed`` or ``refused``, and lets
its readers have ``hot``. All times are seconds of the clock's ``monotonic``.
"""

from __future__ import annotations

import math
import random
from copy import copy
from dataclasses import dataclass
from typing import Any

from cmzon_secrets.clock import Clock
from cmzon_secrets.errors import CMzonSecretsError, ProviderUnavailable
from cmzon_secrets.tokens import Token

__all__ = ["CacheState", "for_another_reader"]

REFRESH_AHEAD = (0.75, 0.85)
"""Share of the TTL after which the background refresh starts: spread, so that a fleet that
started together does not read together."""

OUTAGE_BACKOFF = (0.5, 10.0)
"""Seconds from a failed read to the next: the first wait and the longest, doubling in between."""

REFUSED_HOLD = (0.2, 10.0)
"""Seconds for which a token is kept that the API refused and the backend still hands out."""

EXPIRED_HOLD = 1.0
"""Seconds for which a token is kept that is past its expiry by this machine's clock."""

_NOTHING: tuple[Any, float] = (None, -math.inf)


@dataclass(slots=True)
class _Held:
    """A token with its times on the monotonic clock."""

    token: Token
    read_at: float
    soft_until: float
    """From here on it is read again in the background…"""
    fresh_until: float
    """…and from here on before anyone gets it."""
    trusted: bool
    """It may bridge an outage: not expired when it was read, and not refused by the API."""
    refused: bool = False
    """The API refused it after it was read."""


class CacheState:
    """The token held, and what is known of the backend. One caller at a time."""

    def __init__(self, ttl: float, max_stale: float, clock: Clock) -> None:
        self._ttl = ttl
        self._max_stale = max(ttl, max_stale)
        self._clock = clock
        self.hot = _NOTHING
        """The token, and until when nobody need ask. Replaced as a whole."""
        self.failures = 0
        """Reads that failed since the last that did not."""
        self.retry_at = -math.inf
        """When the backend is worth asking again after a failure."""
        self._held: _Held | None = None
        self._outage: ProviderUnavailable | None = None
        self._refusals = 0

    @property
    def refused_token(self) -> Token | None:
        """The token held, where the API refused it."""
        return self._held.token if self._held is not None and self._held.refused else None

    def serve_while_reading(self, now: float) -> Token | None:
        """The token to hand out while a read is under way; None: wait for the read.

        Raises the outage's error where nothing may bridge it and its next attempt is not due.
        """
        held = self._held
        bridge = self._bridge_until(now)
        if self._outage is not None and bridge <= now < self.retry_at:
            raise for_another_reader(self._outage)
        if held is None or not held.trusted:
            return None
        if now < held.fresh_until:
            self.hot = (held.token, held.fresh_until)
            return held.token
        # An outage noticed long ago says nothing about now: then the reader waits for the answer.
        if self._outage is None or now >= min(bridge, self.retry_at + OUTAGE_BACKOFF[1]):
            return None
        self.hot = (held.token, bridge)
        return held.token

    def found(self, token: Token, *, read_at: float, expired: bool) -> None:
        """The backend handed out ``token``, asked at ``read_at``."""
        now = self._clock.monotonic()
        again = self.refused_token == token
        self._refusals = self._refusals + 1 if again else 0
        self.failures, self._outage, self.retry_at = 0, None, -math.inf
        if again or expired:
            hold = _backoff(self._refusals, REFUSED_HOLD) if again else EXPIRED_HOLD
            soft_until = fresh_until = now + hold
        else:
            fresh_until = self._limited(token, read_at + self._ttl, now)
            ahead = (fresh_until - read_at) * _uniform(*REFRESH_AHEAD)
            # A second at least, so that the last moments of a token are not a row of reads.
            soft_until = min(fresh_until, read_at + max(ahead, 1.0))
        self._held = _Held(token, read_at, soft_until, fresh_until, trusted=not (again or expired))
        self.hot = (token, soft_until)

    def failed(self, error: Exception) -> Token | None:
        """The backend did not answer, or refused; the token that bridges it, or None."""
        now, held = self._clock.monotonic(), self._held
        down = error if isinstance(error, ProviderUnavailable) else None
        self.failures += 1
        self._outage = for_another_reader(down) if down is not None else None
        bridge = self._bridge_until(now) if down is not None else -math.inf
        if held is not None and bridge > now:
            # Not later than the bridge ends: then an answer is needed, and is asked for.
            self.retry_at = min(now + _backoff(self.failures, OUTAGE_BACKOFF), bridge)
            self.hot = (held.token, self.retry_at)
            return held.token
        # With nothing to hand out, whoever tries again at once is not made to wait the first time.
        self.retry_at = now + _backoff(self.failures - 1, OUTAGE_BACKOFF)
        self.hot = _NOTHING
        if held is not None and held.trusted and now < held.fresh_until:
            pause = now + _backoff(self.failures, OUTAGE_BACKOFF)
            self.hot = (held.token, min(pause, held.fresh_until))
        return None

    def refused(self, token: Token) -> None:
        """The API refused ``token``."""
        held = self._held
        if held is None or held.refused or held.token != token:
            return
        held.refused, held.trusted = True, False
        asked_just_now = self._refusals > 0 and self._clock.monotonic() < held.fresh_until
        if not asked_just_now:
            self.hot = _NOTHING
            self.retry_at = -math.inf

    def abandoned(self) -> None:
        """The read under way will not end: whoever asks next reads."""
        self.hot = _NOTHING

    def forked(self) -> None:
        """The parent may have put off asking because its thread was at it; ours is not."""
        if self._held is not None and self._held.trusted:
            self.hot = (self._held.token, self._held.soft_until)

    def forget(self) -> None:
        """Hold nothing."""
        self._held, self.hot = None, _NOTHING

    def _bridge_until(self, now: float) -> float:
        held = self._held
        if held is None or not held.trusted:
            return -math.inf
        return self._limited(held.token, held.read_at + self._max_stale, now)

    def _limited(self, token: Token, until: float, now: float) -> float:
        """``until``, or the token's expiry where that comes first."""
        if token.expires_at is None:
            return until
        return min(until, now + (token.expires_at - self._clock.now()).total_seconds())


def for_another_reader(error: Any) -> Any:
    """The same error as an object of its own: a traceback belongs to one thread."""
    if not isinstance(error, CMzonSecretsError):
        return error
    twin = copy(error)
    twin.__cause__ = error.__cause__
    return twin


def _backoff(step: int, bounds: tuple[float, float]) -> float:
    """Seconds to wait after the ``step``-th failure in a row; none after the 0th."""
    first, longest = bounds
    if step <= 0:
        return 0.0
    return min(longest, first * 2.0 ** min(step - 1, 32)) * _uniform(0.75, 1.0)


def _uniform(low: float, high: float) -> float:
    return random.uniform(low, high)  # noqa: S311  # it spreads load and guards nothing
