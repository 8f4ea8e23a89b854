"""A token read just in time and kept for a while: what everything that sends asks.

Within the TTL a read is one attribute and one comparison, without a lock. Before the TTL ends, one
background thread reads ahead while everybody goes on. After it, one thread reads and the others
wait for what it finds, the token or the error. A backend that is *down* is bridged with the last
good token; one that *refuses* is not. A token that the API itself refused is never bridged.

What to hand out until when is decided in ``cache_state``; here are the threads.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from cmzon_secrets.cache_state import CacheState, for_another_reader
from cmzon_secrets.clock import SYSTEM_CLOCK, Clock, seconds
from cmzon_secrets.errors import ConfigurationError, ProviderUnavailable
from cmzon_secrets.events import Emitter, Subscriber
from cmzon_secrets.forks import renew_in_child
from cmzon_secrets.provider import TokenProvider
from cmzon_secrets.tokens import Token

if TYPE_CHECKING:
    import asyncio

__all__ = ["TokenCache"]

DEFAULT_TTL = 300.0
DEFAULT_MAX_STALE = timedelta(hours=12)

CLOSE_TIMEOUT = 10.0
"""Seconds that ``close`` waits for a background read; a backend's own deadline is no longer."""


class _Read:
    """One call of the backend, and what everybody waiting for it gets."""

    __slots__ = ("done", "error", "knows_refusal", "started", "token")

    def __init__(self, started: float, *, knows_refusal: bool) -> None:
        self.started = started
        self.knows_refusal = knows_refusal  # it began after the held token was refused
        self.done = threading.Event()
        self.token: Token | None = None
        self.error: Exception | None = None


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
        self._clock = clock or SYSTEM_CLOCK
        self._monotonic = self._clock.monotonic
        self._emit = Emitter(subscriber, uri=provider.uri, clock=self._clock)
        self._state = CacheState(seconds("ttl", ttl), seconds("max_stale", max_stale), self._clock)
        self._hot = self._state.hot  # the one thing that is read without the lock
        self._lock = threading.Lock()
        self._reading: _Read | None = None
        self._background: threading.Thread | None = None
        self._awaited: asyncio.Task[Token] | None = None
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

    def peek(self) -> Token | None:
        """The token, where it can be had at once: without the backend and without waiting; else None.

        For an event loop, which asks ``get`` in another thread then.
        """
        token, until = self._hot
        return token if self._monotonic() < until else None

    async def get_async(self) -> Token:
        """``get`` for a task of asyncio: no backend holds up its event loop.

        However many tasks wait, one thread reads for them; one that is cancelled does not end the
        read of the others.
        """
        token = self.peek()
        if token is not None:
            return token
        under_way = self._awaited_here()
        if under_way is not None:
            await _awaited(under_way)
            token = self.peek()
            if token is not None:
                return token
            # It began before this task asked, and the API may have refused its token since.
        reading = self._awaited_here()
        if reading is None:
            import asyncio

            reading = asyncio.ensure_future(asyncio.to_thread(self.get))
            self._awaited = reading
        return await _awaited(reading)

    def invalidate(self, token: Token) -> None:
        """The API refused ``token``: the next ``get`` asks the backend, if it is still the one kept.

        Where the backend hands out the same token again, that answer is kept for a short while
        that grows, so that a token which is truly revoked does not become a storm of reads.
        """
        with self._locked() as state:
            state.refused(token)

    def close(self) -> None:
        """Forget the token and end the background thread. The provider stays open: it is whose it was."""
        with self._locked() as state:
            self._closed = True
            state.forget()
            background = self._background
        if background is not None and background is not threading.current_thread():
            background.join(CLOSE_TIMEOUT)

    def after_fork(self) -> None:
        """In a child: new locks and no reader under way; the token stays."""
        self._lock = threading.Lock()
        self._reading = self._background = self._awaited = None
        with self._locked() as state:
            state.forked()

    def _awaited_here(self) -> asyncio.Task[Token] | None:
        """The read that tasks of this event loop wait for, if one is under way."""
        import asyncio

        reading = self._awaited
        if reading is None or reading.get_loop() is not asyncio.get_running_loop():
            return None
        return None if reading.done() else reading

    @contextmanager
    def _locked(self) -> Iterator[CacheState]:
        """The state, for one thread at a time; all see what came of it."""
        with self._lock:
            try:
                yield self._state
            finally:
                self._hot = self._state.hot

    def _ask(self) -> Token:
        """Past the hot path: be served, wait for the thread that reads, or be that thread."""
        while True:
            mine = None
            with self._locked() as state:
                token, until = state.hot
                now = self._monotonic()
                if now < until:
                    return token  # type: ignore[no-any-return]  # as in get
                if self._closed:
                    raise ConfigurationError(
                        f"token cache of {self.uri} — it was closed, and is not opened again",
                        hint="make a new one, or a new client, and close it after the last call",
                    )
                reading = self._reading
                if reading is None:
                    served = state.serve_while_reading(now)
                    reading = mine = _Read(now, knows_refusal=state.refused_token is not None)
                    self._reading = mine
                    if served is not None and self._read_in_background(mine):
                        return served
            found = self._wait_for(reading) if mine is None else self._read(mine)
            if found is not None:
                return found

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
        with self._locked() as state:
            current = self._reading is reading
            # Refused while it was being read: the backend may know better by now.
            overtaken = not reading.knows_refusal and state.refused_token == token
            if not (current and overtaken):
                reading.token = token
                if current and not self._closed:
                    state.found(token, read_at=reading.started, expired=expired)
            self._end(reading)
        if expired:
            self._emit("token_expired", token.id)
        return reading.token

    def _failed(self, reading: _Read, error: Exception) -> Token | None:
        """Remember the failure; the token that bridges it, or None."""
        with self._locked() as state:
            if self._reading is reading:
                reading.token = state.failed(error)
            if reading.token is None:
                reading.error = error
            self._end(reading)
            attempt, retry_in = state.failures, state.retry_at - self._monotonic()
        if isinstance(error, ProviderUnavailable):
            self._emit(
                "provider_unavailable",
                reading.token.id if reading.token is not None else None,
                error=type(error).__name__,
                attempt=attempt,
                retry_in=max(0.0, round(retry_in, 3)),
                bridged=reading.token is not None,
            )
        return reading.token

    def _abandon(self, reading: _Read) -> None:
        with self._locked() as state:
            if self._reading is reading:
                state.abandoned()
            self._end(reading)

    def _end(self, reading: _Read) -> None:
        if self._reading is reading:
            self._reading = None
        reading.done.set()

    def _wait_for(self, reading: _Read) -> Token | None:
        reading.done.wait()
        if reading.error is not None:
            raise for_another_reader(reading.error)
        return reading.token


async def _awaited(reading: asyncio.Task[Token]) -> Token:
    """What a read comes to. A task that is cancelled meanwhile does not cancel it for the others."""
    import asyncio

    await asyncio.wait({reading})
    error = reading.exception()
    if error is not None:
        raise for_another_reader(error)
    return reading.result()
