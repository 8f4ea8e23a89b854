"""The outbox for the tasks of an event loop, which it never blocks: the file is used in threads."""

from __future__ import annotations

import asyncio
from asyncio import FIRST_COMPLETED
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextlib import suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from cmzon_secrets.client.outbox.model import Leased, NotBefore, Record, Summary
from cmzon_secrets.client.outbox.outbox import KEPT, WORKERS, Message, Outbox, needed
from cmzon_secrets.client.outbox.run import POLL, Progress, Run, Stop, check_workers
from cmzon_secrets.client.outbox.verdicts import MAX_TRIES
from cmzon_secrets.client.results import SendResult
from cmzon_secrets.clock import SYSTEM_CLOCK, Clock
from cmzon_secrets.errors import shielded_async

__all__ = ["AsyncOutbox", "AsyncSends"]


class AsyncSends(Protocol):
    """What a run asks of its client; see ``Sends``."""

    @property
    def trusts_keys(self) -> bool: ...

    def send_queued(
        self, message: Leased, departing: Callable[[], None], /
    ) -> Awaitable[SendResult]: ...


class AsyncOutbox:
    """Like ``Outbox``, of which it may share the file; every method is awaited."""

    def __init__(
        self,
        path: str | Path,
        *,
        keep: timedelta | float | None = KEPT,
        clock: Clock = SYSTEM_CLOCK,
        client: AsyncSends | None = None,
    ) -> None:
        self._outbox = Outbox(path, keep=keep, clock=clock)
        self._client = client

    @shielded_async
    async def put(
        self,
        to: str,
        message: str,
        *,
        key: str | None = None,
        not_before: NotBefore = None,
        priority: int = 0,
    ) -> str:
        """Like ``Outbox.put``."""
        put = partial(self._outbox.put, key=key, not_before=not_before, priority=priority)
        return await asyncio.to_thread(put, to, message)

    @shielded_async
    async def put_many(self, messages: Iterable[Message], *, priority: int = 0) -> int:
        """Like ``Outbox.put_many``."""
        return await asyncio.to_thread(self._outbox.put_many, messages, priority=priority)

    async def run(
        self,
        *,
        until_empty: bool = False,
        stop: Stop = None,
        workers: int = WORKERS,
        max_tries: int = MAX_TRIES,
        progress: Progress | None = None,
    ) -> Summary:
        """Like ``Outbox.run``. Cancelled, it ends as with ``stop``; cancelled again, what is on the
        wire is cut off, and unknown."""
        client = needed(self._client)
        check_workers(workers)
        trusted = client.trusts_keys
        run = self._outbox.new_run(
            trusted=trusted, until_empty=until_empty, stop=stop, max_tries=max_tries
        )
        flying: set[asyncio.Task[None]] = set()
        try:
            await _fly(run, partial(_deliver, run, client), flying, workers, progress)
        except BaseException as error:  # noqa: BLE001  # ``finish`` raises it
            run.halt(error)
        await _landed(flying)
        summary = await asyncio.to_thread(run.finish)
        run.tell(progress)
        return summary

    async def status(self) -> dict[str, int]:
        """Like ``Outbox.status``."""
        return await asyncio.to_thread(self._outbox.status)

    async def dead(self) -> list[Record]:
        """Like ``Outbox.dead``."""
        return await asyncio.to_thread(self._outbox.dead)

    async def unknown(self) -> list[Record]:
        """Like ``Outbox.unknown``."""
        return await asyncio.to_thread(self._outbox.unknown)

    async def retry(self, *keys: str, state: str | None = None) -> int:
        """Like ``Outbox.retry``."""
        return await asyncio.to_thread(self._outbox.retry, *keys, state=state)

    async def drop(self, *keys: str, state: str | None = None) -> int:
        """Like ``Outbox.drop``."""
        return await asyncio.to_thread(self._outbox.drop, *keys, state=state)

    async def close(self) -> None:
        """Close the file."""
        await asyncio.to_thread(self._outbox.close)

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
        return f"<AsyncOutbox {self._outbox.path}>"


async def _fly(
    run: Run,
    deliver: Callable[[Leased], Coroutine[None, None, None]],
    flying: set[asyncio.Task[None]],
    workers: int,
    progress: Progress | None,
) -> None:
    """Until the run is over, have as many messages under way as there are workers for."""
    while (messages := await asyncio.to_thread(run.next, workers - len(flying))) is not None:
        flying |= {asyncio.create_task(deliver(message)) for message in messages}
        if flying:
            landed, _ = await asyncio.wait(flying, timeout=POLL, return_when=FIRST_COMPLETED)
            flying -= landed
            for call in landed:
                call.result()  # what is wrong with the file itself ends the run
        else:
            await asyncio.sleep(POLL)
        run.tell(progress)


async def _landed(flying: set[asyncio.Task[None]]) -> None:
    """All calls are over. Cancelled meanwhile, they are cut off first."""
    with suppress(asyncio.CancelledError):  # the one before is told already
        await asyncio.gather(*flying, return_exceptions=True)


async def _deliver(run: Run, client: AsyncSends, message: Leased) -> None:
    try:
        result = await client.send_queued(message, partial(run.departing, message))
    except BaseException as error:
        await asyncio.to_thread(run.failed, message, error)
        if isinstance(error, asyncio.CancelledError):
            raise
    else:
        await asyncio.to_thread(run.sent, message, result)
