"""A token read just in time and kept for a while: what everything that sends asks.

Within the TTL a read is one attribute and one comparison, without a lock. Before the TTL ends, one
background thread reads ahead while everybody goes on. After it, one thread reads and the others
wait for what it finds, the token or the error. A backend that is *down* is bridged with the last
good token; one that *refuses* is not. A token that the API itself refused is never bridged.
"""

from __future__ import annotations

import math
import random
import threading
from copy import copy
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from cmzon_secrets.clock import SYSTEM_CLOCK, Clock, seconds
from cmzon_secrets.errors import CMzonSecretsError, ConfigurationError, ProviderUnavailable
from cmzon_secrets.events import Emitter, Subscriber
from cmzon_secrets.forks import renew_in_child
from cmzon_secrets.provider import TokenProvider
from cmzon_secrets.tokens import Token

__all__ = ["TokenCache"]

DEFAULT_TTL = 300.0
DEFAULT_MAX_STALE = timedelta(hours=12)

REFRESH_AHEAD = (0.75, 0.85)
"""Share of the TTL after which the background refresh starts: spread, so that a fleet that
started together does not read together."""

OUTAGE_BACKOFF = (0.5, 10.0)
"""Seconds from a failed read to the next: the first wait and the longest, doubling in between."""

REFUSED_HOLD = (0.2, 10.0)
"""Seconds for which a token is kept that the API refused and the backend still hands out."""

EXPIRED_HOLD = 1.0
"""Seconds for which a token is kept that is past its expiry by this machine's clock."""

CLOSE_TIMEOUT = 10.0
"""Seconds that ``close`` waits for a background read; a backend's own deadline is no longer."""


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


class _Read:
    """One call of the backend, and what everybody waiting for it gets."""

    __slots__ = ("done", "error", "knows_refusal", "started", "token")

    def __init__(self, started: float, *, knows_refusal: bool) -> None:
        self.started = started
        self.knows_refusal = knows_refusal  # it began after the held token was refused
        self.done = threading.Event()
        self.token: Token | None = None
        self.error: Exception | None = None


_NOTHING: tuple[Any, float] = (None, -math.inf)


class TokenCache(TokenProvider):
    """The current token of ``provider``, at most ``ttl`` old. Thread-safe and fork-safe.

    ``ttl``: how long a token is handed out after it was read; past about 80 % of it, one background
    thread reads again. ``max_stale``: how long the last good token may be handed out, counted from
    when it was read, while the backend is unavailable; never past the token's ``expires_at``, and
    never a token that was refused (``invalidate``). Both are timedeltas or seconds.

    Events: ``provider_unavailable`` for each failed attempt, ``token_expired`` where the backend
    hands out a token that is past its expiry by this machine's clock. Such a token is still handed
    out, for the API's clock decides, but it is not kept.
    """

    def __init__(
        self,
        provider: TokenProvider,
        *,
        ttl: timedelta | float = DEFAULT_TTL,
        max_stale: timedelta | float = DEFAULT_MAX_STALE,
        clock: Clock | None = None,
        subscriber: Subscriber | None = None,
    ) -> None:
        self._provider = provider
        self._ttl = seconds("ttl", ttl)
        self._max_stale = max(self._ttl, seconds("max_stale", max_stale))
        self._clock = clock or SYSTEM_CLOCK
        self._monotonic = self._clock.monotonic
        self._emit = Emitter(subscriber, uri=provider.uri, clock=self._clock)
        # Replaced as a whole, read without the lock: the token, and until when nobody need ask.
        self._hot: tuple[Any, float] = _NOTHING
        # Everything below is read and written under the lock.
        self._lock = threading.Lock()
        self._held: _Held | None = None
        self._reading: _Read | None = None
        self._background: threading.Thread | None = None
        self._failures = 0
        self._outage: ProviderUnavailable | None = None
        self._retry_at = -math.inf
        self._refusals = 0
        self._closed = False
        renew_in_child(self)

    @property
    def uri(self) -> str:
        """The wrapped provider's."""
        return self._provider.uri

    def get(self) -> Token:
        """The current token, from memory or from the backend.

        Raises what the provider raises; ProviderUnavailable only where there is no token that may
        bridge the outage.
        """
        token, until = self._hot
        if self._monotonic() < until:
            return token  # type: ignore[no-any-return]  # Any spares the hot path a check for None
        return self._ask()

    def invalidate(self, token: Token) -> None:
        """The API refused ``token``: the next ``get`` asks the backend, if it is still the one kept.

        Where the backend hands out the same token again, that answer is kept for a short while
        that grows, so that a token which is truly revoked does not become a storm of reads.
        """
        with self._lock:
            held = self._held
            if held is None or held.refused or not (held.token is token or held.token == token):
                return
            held.refused, held.trusted = True, False
            asked_just_now = self._refusals > 0 and self._monotonic() < held.fresh_until
            if not asked_just_now:
                self._hot = _NOTHING
                self._retry_at = -math.inf

    def close(self) -> None:
        """Forget the token and end the background thread. The provider stays open: it is whose it was."""
        with self._lock:
            self._closed = True
            self._held, self._hot = None, _NOTHING
            background = self._background
        if background is not None and background is not threading.current_thread():
            background.join(CLOSE_TIMEOUT)

    def after_fork(self) -> None:
        """In a child: new locks and no reader under way; the token stays."""
        self._lock = threading.Lock()
        self._reading = self._background = None
        if self._held is not None and self._held.trusted:
            # The parent may have put off asking because its thread was at it; ours is not.
            self._hot = (self._held.token, self._held.soft_until)

    def _ask(self) -> Token:
        """Past the hot path: be served, wait for the thread that reads, or be that thread."""
        while True:
            with self._lock:
                token, until = self._hot
                now = self._monotonic()
                if now < until:
                    return token  # type: ignore[no-any-return]  # as in get
                self._refuse_if_closed()
                reading = self._reading
                if reading is None:
                    served = self._served_meanwhile(now)
                    reading = mine = self._begin(now)
                    if served is not None and self._read_in_background(mine):
                        return served
                else:
                    mine = None
            found = self._wait_for(reading) if mine is None else self._read(mine)
            if found is not None:
                return found

    def _served_meanwhile(self, now: float) -> Token | None:
        """The token to hand out while a background thread reads; None: wait for the read.

        Raises the outage's error where nothing may bridge it and its next attempt is not due.
        """
        held = self._held
        bridge = self._bridge_until(now)
        if self._outage is not None and bridge <= now < self._retry_at:
            raise _for_another_thread(self._outage)
        if held is None or not held.trusted:
            return None
        if now < held.fresh_until:
            self._hot = (held.token, held.fresh_until)
            return held.token
        # An outage noticed long ago says nothing about now: then the reader waits for the answer.
        if self._outage is None or now >= min(bridge, self._retry_at + OUTAGE_BACKOFF[1]):
            return None
        self._hot = (held.token, bridge)
        return held.token

    def _begin(self, now: float) -> _Read:
        refused = self._held is not None and self._held.refused
        self._reading = _Read(now, knows_refusal=refused)
        return self._reading

    def _read_in_background(self, reading: _Read) -> bool:
        thread = threading.Thread(
            target=self._read_quietly, args=(reading,), name="cmzon-token-refresh", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:  # no more threads to be had, as at the interpreter's end
            return False
        self._background = thread
        return True

    def _read_quietly(self, reading: _Read) -> None:
        try:
            self._read(reading)
        except Exception as error:
            if error is not reading.error:  # a subscriber's: nobody else would learn of it
                raise

    def _read(self, reading: _Read) -> Token | None:
        """Call the backend for everybody; None where the answer is of no use any more."""
        try:
            token = self._provider.get()
        except Exception as error:
            bridge = self._failed(reading, error)
            if bridge is None:
                raise
            return bridge
        except BaseException:  # Ctrl-C concerns this thread; the others read for themselves
            self._abandon(reading)
            raise
        return self._found(reading, token)

    def _found(self, reading: _Read, token: Token) -> Token | None:
        expired = token.expired(self._clock.now())
        with self._lock:
            current = self._reading is reading
            if not (current and self._is_overtaken(reading, token)):
                reading.token = token
                if current and not self._closed:
                    self._keep(token, reading.started, expired=expired)
            self._end(reading)
        if expired:
            self._emit("token_expired", token.id)
        return reading.token

    def _is_overtaken(self, reading: _Read, token: Token) -> bool:
        """Whether ``token`` was refused while it was being read: the backend may know better by now."""
        held = self._held
        return (
            held is not None and held.refused and not reading.knows_refusal and held.token == token
        )

    def _keep(self, token: Token, read_at: float, *, expired: bool) -> None:
        now, held = self._monotonic(), self._held
        again = held is not None and held.refused and held.token == token
        self._refusals = self._refusals + 1 if again else 0
        self._failures, self._outage, self._retry_at = 0, None, -math.inf
        if again or expired:
            hold = _backoff(self._refusals, REFUSED_HOLD) if again else EXPIRED_HOLD
            soft_until = fresh_until = now + hold
        else:
            fresh_until = self._limited(token, read_at + self._ttl, now)
            ahead = (fresh_until - read_at) * _uniform(*REFRESH_AHEAD)
            # A second at least, so that the last moments of a token are not a row of reads.
            soft_until = min(fresh_until, read_at + max(ahead, 1.0))
        self._held = _Held(token, read_at, soft_until, fresh_until, trusted=not (again or expired))
        self._hot = (token, soft_until)

    def _failed(self, reading: _Read, error: Exception) -> Token | None:
        """Remember the failure; the token that bridges it, or None."""
        with self._lock:
            if self._reading is reading:
                self._back_off(reading, error)
            if reading.token is None:
                reading.error = error
            self._end(reading)
            retry_in = self._retry_at - self._monotonic()
        if isinstance(error, ProviderUnavailable):
            self._emit(
                "provider_unavailable",
                reading.token.id if reading.token is not None else None,
                error=type(error).__name__,
                attempt=self._failures,
                retry_in=max(0.0, round(retry_in, 3)),
                bridged=reading.token is not None,
            )
        return reading.token

    def _back_off(self, reading: _Read, error: Exception) -> None:
        now, held = self._monotonic(), self._held
        down = error if isinstance(error, ProviderUnavailable) else None
        self._failures += 1
        self._outage = _for_another_thread(down) if down is not None else None
        bridge = self._bridge_until(now) if down is not None else -math.inf
        if held is not None and bridge > now:
            reading.token = held.token
            # Not later than the bridge ends: then an answer is needed, and is asked for.
            self._retry_at = min(now + _backoff(self._failures, OUTAGE_BACKOFF), bridge)
            self._hot = (held.token, self._retry_at)
            return
        # With nothing to hand out, whoever tries again at once is not made to wait the first time.
        self._retry_at = now + _backoff(self._failures - 1, OUTAGE_BACKOFF)
        self._hot = _NOTHING
        if held is not None and held.trusted and now < held.fresh_until:
            pause = now + _backoff(self._failures, OUTAGE_BACKOFF)
            self._hot = (held.token, min(pause, held.fresh_until))

    def _abandon(self, reading: _Read) -> None:
        with self._lock:
            if self._reading is reading:
                self._hot = _NOTHING
            self._end(reading)

    def _end(self, reading: _Read) -> None:
        if self._reading is reading:
            self._reading = None
        reading.done.set()

    def _wait_for(self, reading: _Read) -> Token | None:
        reading.done.wait()
        if reading.error is not None:
            raise _for_another_thread(reading.error)
        return reading.token

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

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise ConfigurationError(f"token cache of {self.uri} — it is closed")


def _backoff(step: int, bounds: tuple[float, float]) -> float:
    """Seconds to wait after the ``step``-th failure in a row; none after the 0th."""
    first, longest = bounds
    if step <= 0:
        return 0.0
    return min(longest, first * 2.0 ** min(step - 1, 32)) * _uniform(0.75, 1.0)


def _uniform(low: float, high: float) -> float:
    return random.uniform(low, high)  # noqa: S311  # it spreads load and guards nothing


def _for_another_thread(error: Any) -> Any:
    """The same error as an object of its own: a traceback belongs to one thread."""
    if not isinstance(error, CMzonSecretsError):
        return error
    twin = copy(error)
    twin.__cause__ = error.__cause__
    return twin
