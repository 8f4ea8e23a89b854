"""The session for asyncio: the same rules, awaited."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from cmzon_secrets.answers import Answer
from cmzon_secrets.errors import shielded_async
from cmzon_secrets.http.settings import Settings
from cmzon_secrets.tokens import Token

if TYPE_CHECKING:
    import httpcore2

    from cmzon_secrets.http.exchange import Exchange

__all__ = ["AsyncSession"]


class AsyncSession(Settings):
    __doc__ = (
        f"""A connection pool to one base URL, for the tasks of an event loop. {Settings.__doc__}"""
    )

    _options: dict[str, Any] | None = None
    _loading: asyncio.Task[dict[str, Any]] | None = None
    _pool: httpcore2.AsyncConnectionPool | None = None
    _owner: tuple[int, asyncio.AbstractEventLoop] | None = None

    async def open(self) -> None:
        """Load the HTTP engine and the CA now, not with the first request. The event loop goes on.

        Raises ConfigurationError for a CA that cannot be used.
        """
        if self._options is None:
            self._options = await self._loaded()
        self._opened()

    @shielded_async
    async def send(
        self,
        method: str,
        path: str,
        *,
        token: Token | None = None,
        json: object = None,
        headers: Mapping[str, str] | None = None,
        within: float | None = None,
        leaving: Callable[[], None] | None = None,
    ) -> Answer:
        """Like ``Session.send``, awaited. Cancelled in its midst, it may or may not have been sent."""
        from cmzon_secrets.http.exchange import Exchange, engine_errors
        from cmzon_secrets.http.log_guard import hidden

        pool = self._opened()
        exchange = Exchange(
            self._target, method, path, token=token, json=json, headers=headers, leaving=leaving
        )
        seconds = self._timeout if within is None else within
        with hidden(token):
            try:
                if seconds <= 0:
                    raise TimeoutError  # where nothing has to be waited for, asyncio would notice too late
                async with asyncio.timeout(seconds):
                    await _perform(pool, exchange)
            except engine_errors() as error:
                exchange.failed(error, late=None)
            except TimeoutError as error:
                exchange.failed(error, late=seconds)
        return exchange.answer()

    async def close(self) -> None:
        """Close the pool. Requests under way end with a TransportError."""
        self._closed = True
        if self._pool is not None and self._owner == _here():
            await self._pool.aclose()

    def _opened(self) -> httpcore2.AsyncConnectionPool:
        self._refuse_if_closed()
        here = _here()
        if self._pool is None or self._owner != here:
            self._pool, self._owner = self._open(), here
        return self._pool

    async def _loaded(self) -> dict[str, Any]:
        """Loaded once, however many tasks begin together."""
        loading = self._loading
        if (
            loading is None
            or loading.done()
            or loading.get_loop() is not asyncio.get_running_loop()
        ):
            loading = self._loading = asyncio.ensure_future(asyncio.to_thread(self._load))
        await asyncio.wait({loading})  # one task's cancellation is not the others'
        return loading.result()

    def _load(self) -> dict[str, Any]:
        """What a pool is made with: a tenth of a second's work where it is the first."""
        from cmzon_secrets.http.async_network import AsyncNetwork

        return {"network_backend": AsyncNetwork(self._proxy), **self._prepare()}

    def _open(self) -> httpcore2.AsyncConnectionPool:
        import httpcore2

        if self._options is None:
            self._options = self._load()
        return httpcore2.AsyncConnectionPool(**self._options)


def _here() -> tuple[int, asyncio.AbstractEventLoop]:
    """Connections belong to the loop that opened them, and to its process."""
    return os.getpid(), asyncio.get_running_loop()


async def _perform(pool: httpcore2.AsyncConnectionPool, exchange: Exchange) -> None:
    from cmzon_secrets.http.exchange import says_more

    response = await pool.handle_async_request(exchange.request)
    exchange.began(response)
    try:
        async for chunk in response.aiter_stream():
            if not exchange.take(chunk):
                break
        if says_more(response):
            await response.extensions["network_stream"].aclose()
    finally:
        await response.aclose()
