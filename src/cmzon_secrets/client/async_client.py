"""The client for asyncio: performs what ``exchange`` asks for, and never blocks the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from cmzon_secrets.answers import Answer
from cmzon_secrets.client.effects import Effect, NeedToken, Park, Request, Sleep, Steps, Wakeable
from cmzon_secrets.client.results import Response, SendResult
from cmzon_secrets.client.wiring import Wiring
from cmzon_secrets.errors import shielded_async
from cmzon_secrets.http.async_session import AsyncSession

if TYPE_CHECKING:
    from cmzon_secrets.client.outbox.async_outbox import AsyncOutbox
    from cmzon_secrets.client.outbox.model import Leased

__all__ = ["AsyncClient"]

_R = TypeVar("_R")


class AsyncClient(Wiring):
    __doc__ = f"""The client for the tasks of an event loop. {Wiring.__doc__}"""

    @shielded_async
    async def send_message(
        self, to: str, message: str, *, idempotency_key: str | None = None, priority: int = 0
    ) -> SendResult:
        """Like ``Client.send_message``. Cancelled in its midst, it may or may not have been sent."""
        return await self._perform(self._message(to, message, idempotency_key, priority))

    @shielded_async
    async def request(
        self,
        method: str,
        path: str,
        *,
        json: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """Like ``Client.request``."""
        return await self._perform(self._any(method, path, json, headers))

    def outbox(
        self, path: str | Path, *, keep: timedelta | float | None = timedelta(days=7)
    ) -> AsyncOutbox:
        """A file in which messages wait to be sent by this client; see ``AsyncOutbox``."""
        from cmzon_secrets.client.outbox.async_outbox import (
            AsyncOutbox,  # not everybody has sqlite3
        )

        return AsyncOutbox(path, keep=keep, clock=self._shared.clock, client=self)

    async def send_queued(self, message: Leased, departing: Callable[[], None], /) -> SendResult:
        """Like ``Client.send_queued``; ``departing`` is called in a thread."""
        return await self._perform(self._queued(message, departing))

    async def close(self) -> None:
        """Close the connections, and what a URI opened."""
        await self._session.close()
        await asyncio.to_thread(self._close_provider)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<AsyncClient {self._session.base_url} {self._shared.cache.uri}>"

    def _connect(
        self, base_url: str | None, *, ca: str | None, timeout: float, proxy: str | None
    ) -> str:
        self._session = AsyncSession(base_url, ca=ca, timeout=timeout, proxy=proxy)
        return self._session.base_url

    async def _perform(self, steps: Steps[_R]) -> _R:
        await self._session.open()  # the first message would be late for its slot
        resume = partial(steps.send, None)
        try:
            while True:
                effect = resume()
                try:
                    resume = partial(steps.send, await self._one(effect))
                except BaseException as error:  # noqa: BLE001  # it is raised where the steps stand
                    resume = partial(steps.throw, error)
        except StopIteration as end:
            result: _R = end.value
            return result
        finally:
            steps.close()

    async def _one(self, effect: Effect) -> Any:
        match effect:
            case NeedToken():
                return await self._shared.cache.get_async()
            case Request():
                return await self._send(effect)
            case Sleep(seconds):
                return await self._shared.clock.sleep_async(seconds)
            case Park(ticket, seconds):
                return await _called(ticket, seconds)
            case _:
                return await asyncio.to_thread(effect.function)

    async def _send(self, request: Request) -> Answer:
        return await self._session.send(
            request.method,
            request.path,
            token=request.token,
            json=request.json,
            headers=request.headers,
            within=request.within,
            leaving=request.leaving,
        )


async def _called(ticket: Wakeable, seconds: float) -> None:
    """Until somebody, in whatever thread, calls the ticket."""
    loop = asyncio.get_running_loop()
    called = asyncio.Event()

    def wake(done: Callable[[], None] = called.set) -> None:
        with suppress(RuntimeError):  # the loop has ended, and nobody waits
            loop.call_soon_threadsafe(done)

    ticket.on_call(wake)
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await called.wait()
