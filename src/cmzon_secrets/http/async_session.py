"""The session for asyncio: the same rules, awaited."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

from cmzon_secrets.answers import Answer
from cmzon_secrets.errors import TransportError, without_frames
from cmzon_secrets.http.exchange import Exchange, Target, engine_errors
from cmzon_secrets.http.session import DEFAULT_DEADLINE, SessionSettings
from cmzon_secrets.tokens import Token

if TYPE_CHECKING:
    import httpcore2

__all__ = ["AsyncSession"]


class AsyncSession(SessionSettings):
    """A connection pool to one base URL, for the tasks of one event loop; see SessionSettings."""

    _opened: tuple[httpcore2.AsyncConnectionPool, Target] | None = None
    _owner: tuple[int, asyncio.AbstractEventLoop] | None = None
    _closed = False

    def open(self) -> None:
        """Load the HTTP engine and the CA now, not with the first request.

        Raises ConfigurationError for a CA that cannot be used.
        """
        self._pool()

    async def send(
        self,
        method: str,
        path: str,
        *,
        token: Token | None = None,
        json: object = None,
        headers: Mapping[str, str] | None = None,
        within: float = DEFAULT_DEADLINE,
    ) -> Answer:
        """Like ``Session.send``, awaited."""
        from cmzon_secrets.http.log_guard import hidden

        handled = sys.exception()
        pool, target = self._pool()
        exchange = Exchange(target, method, path, token=token, json=json, headers=headers)
        try:
            with hidden(token):
                try:
                    async with asyncio.timeout(max(within, 0.0)):
                        await _perform(pool, exchange)
                    return exchange.answer()
                except (TimeoutError, TransportError, *engine_errors()) as error:
                    refusal = exchange.refusal()
                    if refusal is not None:
                        return refusal
                    late = within if isinstance(error, TimeoutError) else None
                    problem = exchange.problem(error, handled, late=late)
        except BaseException as error:  # noqa: BLE001  # a cancellation, too, passes frames that hold the header
            raise without_frames(error, until=handled)  # noqa: B904  # the same error again
        raise problem  # out here, so that there is no other context

    async def close(self) -> None:
        """Close the pool."""
        self._closed = True
        if self._opened is not None and self._owner == (os.getpid(), asyncio.get_running_loop()):
            await self._opened[0].aclose()

    def _pool(self) -> tuple[httpcore2.AsyncConnectionPool, Target]:
        if self._closed:
            raise self.closed()
        here = (os.getpid(), asyncio.get_running_loop())
        if self._opened is None or self._owner != here:
            # Connections belong to the loop that opened them, and to its process.
            self._opened, self._owner = self._open(), here
        return self._opened

    def _open(self) -> tuple[httpcore2.AsyncConnectionPool, Target]:
        import httpcore2

        options: dict[str, object] = self.pool_options()
        return httpcore2.AsyncConnectionPool(**options), self.target()  # type: ignore[arg-type]  # a table


async def _perform(pool: httpcore2.AsyncConnectionPool, exchange: Exchange) -> None:
    response = await pool.handle_async_request(exchange.request)
    exchange.began(response)
    try:
        async for chunk in response.aiter_stream():
            exchange.take(chunk)
    finally:
        await response.aclose()
