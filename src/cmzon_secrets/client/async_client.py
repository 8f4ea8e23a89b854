"""The client for asyncio: performs what ``exchange`` asks for, and never blocks the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, Self, TypeVar

from cmzon_secrets.answers import Answer
from cmzon_secrets.cache_state import for_another_reader
from cmzon_secrets.client.effects import Effect, NeedToken, Park, Request, Sleep, Steps, Wakeable
from cmzon_secrets.client.exchange import Response, SendResult
from cmzon_secrets.client.wiring import Wiring
from cmzon_secrets.errors import CMzonSecretsError
from cmzon_secrets.http.async_session import AsyncSession
from cmzon_secrets.tokens import Token

__all__ = ["AsyncClient"]

_R = TypeVar("_R")


class AsyncClient(Wiring):
    __doc__ = f"""The client for the tasks of an event loop. {Wiring.__doc__}"""

    async def send_message(
        self, to: str, message: str, *, idempotency_key: str | None = None, priority: int = 0
    ) -> SendResult:
        """Like ``Client.send_message``. Cancelled in its midst, it may or may not have been sent."""
        return await self._perform(self._message(to, message, idempotency_key, priority))

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
    ) -> None:
        self._session = AsyncSession(base_url, ca=ca, timeout=timeout, proxy=proxy)
        self._reading: asyncio.Task[Token] | None = None

    async def _perform(self, steps: Steps[_R]) -> _R:
        self._session.open()  # the first message would be late for its slot
        outcome: object = None
        try:
            while True:
                outcome = await self._one(steps.send(outcome))
        except StopIteration as end:
            result: _R = end.value
            return result
        finally:
            steps.close()

    async def _one(self, effect: Effect) -> Any:
        match effect:
            case NeedToken():
                return self._shared.cache.peek() or await self._token()
            case Request():
                return await self._send(effect)
            case Sleep(seconds):
                return await asyncio.sleep(seconds)
            case Park(ticket, seconds):
                return await _called(ticket, seconds)
            case _:
                return await asyncio.to_thread(effect.function)

    async def _token(self) -> Token:
        """From the backend, in another thread: one for all tasks that wait for it."""
        reading = self._reading
        if (
            reading is None
            or reading.done()
            or reading.get_loop() is not asyncio.get_running_loop()
        ):
            reading = asyncio.ensure_future(asyncio.to_thread(self._shared.cache.get))
            self._reading = reading
        await asyncio.wait({reading})  # one task's cancellation is not the others'
        error = reading.exception()
        if isinstance(error, Exception):
            raise for_another_reader(error)
        return reading.result()

    async def _send(self, request: Request) -> Answer | CMzonSecretsError:
        try:
            return await self._session.send(
                request.method,
                request.path,
                token=request.token,
                json=request.json,
                headers=request.headers,
                within=request.within,
            )
        except CMzonSecretsError as error:
            return error


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
