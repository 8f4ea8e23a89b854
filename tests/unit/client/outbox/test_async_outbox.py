"""What is an event loop's own: it is never blocked, and tasks are cancelled."""

import asyncio
import sqlite3
import threading
import time

import pytest

from cmzon_secrets.client.async_client import AsyncClient
from cmzon_secrets.client.limits import RateLimits
from cmzon_secrets.client.outbox.run import Run
from unit.client.conftest import ACCEPTED

TO = "+12025550101"


@pytest.fixture
def opened(server, vault):
    return lambda: AsyncClient(vault, base_url=server.url, limits=RateLimits.unlimited())


async def ticks(until):
    """How often the loop came round to this meanwhile, every hundredth of a second."""
    n = 0
    while not until.done():
        await asyncio.sleep(0.01)
        n += 1
    return n


def test_a_file_that_is_locked_holds_up_nobody_but_who_waits_for_it(opened, path):
    async def main():
        async with opened() as client, client.outbox(path) as outbox:
            await outbox.put(TO, "Hello")
            other = sqlite3.connect(path)
            other.execute("BEGIN IMMEDIATE")
            putting = asyncio.create_task(outbox.put(TO, "Hello"))
            ticking = asyncio.create_task(ticks(putting))
            await asyncio.sleep(0.3)
            assert not putting.done()
            other.close()
            await putting
            return await ticking

    assert asyncio.run(main()) >= 15


@pytest.mark.parametrize("times", [1, 2])
def test_cancelled_it_awaits_what_is_on_the_wire_unless_cancelled_again(
    opened, server, path, times
):
    def slow(_):
        time.sleep(0.5)
        return ACCEPTED

    async def main():
        async with opened() as client, client.outbox(path) as outbox:
            await outbox.put_many([(f"+1202555{n:04}", "Hello") for n in range(20)])
            running = asyncio.create_task(outbox.run(workers=2))
            while len(server.received) < 2:  # noqa: ASYNC110  # by another thread
                await asyncio.sleep(0.01)
            for _ in range(times):
                running.cancel()
                await asyncio.sleep(0.05)
            with pytest.raises(asyncio.CancelledError):
                await running
            return await outbox.status()

    server.answer = slow
    settled = {1: {"sent": 2, "unknown": 0}, 2: {"sent": 0, "unknown": 2}}[times]
    assert asyncio.run(main()) == {"pending": 18, **settled, "dead": 0}
    assert len(server.received) == 2


def test_cancelled_when_it_was_about_to_leave_it_is_pending_again(
    opened, server, path, monkeypatch
):
    departing, begun = Run.departing, threading.Event()

    def slow(run, message):
        departing(run, message)
        begun.set()
        time.sleep(0.2)

    async def main():
        async with opened() as client, client.outbox(path) as outbox:
            await outbox.put(TO, "Hello")
            running = asyncio.create_task(outbox.run())
            await asyncio.to_thread(begun.wait)
            for _ in range(2):
                running.cancel()
                await asyncio.sleep(0.01)
            with pytest.raises(asyncio.CancelledError):
                await running
            return await outbox.status()

    monkeypatch.setattr(Run, "departing", slow)
    assert asyncio.run(main()) == {"pending": 1, "sent": 0, "unknown": 0, "dead": 0}
    assert not server.received
