"""What keeping the vendor's limits costs, and how near to them it sends: counted at the server.

First the limiter alone, on a clock that is a number: no wait takes time, and what drives it is
taken off. Then clients that send as fast as they are let, for a while, to a server on this machine
that notes every arrival: nearly 80 a second, and never more than 80 within any second.
A slot that was slept through is not made up for: where the machine has other work, the rate falls
short. More than 80 would be a fault anywhere. Where the public aiolimiter is installed, it is measured
the same way, for comparison; it has no part in the verdict.

    python benchmarks/limits.py [SECONDS]      default: 20
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
import timeit
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from typing import Any

import httpx2
from serving import Server, busiest_second, serving

from cmzon_secrets import AsyncClient, Client, RateLimits
from cmzon_secrets.client.effects import Sleep, Steps
from cmzon_secrets.clock import Clock

SECONDS = 20.0
LEAST_RATE, MOST_IN_A_SECOND = 77.0, 80
BUDGET = 5.0
"""Microseconds of a send, where nobody waits."""
NEARLY_FREE = 3.0
"""Microseconds of a send without limits, which is counted all the same."""
CALLS, REPEATS = 2_000, 7
ANSWER = 0.001
"""Seconds until each message is answered."""
THREADS, TASKS = 8, 200

TO, TEXT = "+1234567890", "Hello from CMzon!"
MESSAGE = {"to": TO, "type": "text", "text": {"body": TEXT}}
HEADERS = {"Authorization": "Bearer cmz_benchmark"}


class NumberClock(Clock):
    """A clock that is a number; to wait is to add to it."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._now = datetime.now(UTC)

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self.seconds


class NoLimits(RateLimits):
    """Limits nothing and counts nothing: what is left is the driver's own time."""

    def slot(self, *_: object, **__: object) -> Steps[Any]:
        yield from ()

    def departure(self, *_: object, **__: object) -> Steps[Any]:
        yield from ()

    def answered(self, *_: object) -> None:
        pass


class Sender:
    """Asks the limits what a client asks them for one message, which comes every ``interval`` seconds."""

    def __init__(self, limits: RateLimits, interval: float) -> None:
        self._limits = limits
        self._interval = interval
        self._clock = NumberClock()

    def send(self) -> None:
        clock, limits = self._clock, self._limits
        clock.seconds += self._interval
        begun = clock.monotonic()
        ends = begun + 60.0
        self._perform(limits.slot(clock, ends=ends, since=begun))
        departure = self._perform(limits.departure(clock, ends=ends))
        clock.seconds += ANSWER
        limits.answered(departure, clock)

    def _perform(self, steps: Steps[Any]) -> Any:
        try:
            while True:
                effect = next(steps)
                assert isinstance(effect, Sleep)  # there is nobody to wait for
                self._clock.seconds += effect.seconds
        except StopIteration as end:
            return end.value


def microseconds(limits: RateLimits, per_second: float) -> float:
    """What a send costs where the application wants to send so many."""
    send = Sender(limits, 1 / per_second).send
    return min(timeit.repeat(send, number=CALLS, repeat=REPEATS)) / CALLS * 1e6


def report_cost() -> bool:
    """Print it; whether it is within the budget."""
    driver, kept = microseconds(NoLimits(), 40), True
    for what, limits, per_second, budget in (
        ("without limits", RateLimits.unlimited(), 40, NEARLY_FREE),
        ("with limits", RateLimits(per_day=10**9), 10, BUDGET),
        ("with limits", RateLimits(per_day=10**9), 40, BUDGET),
        ("with limits", RateLimits(per_day=10**9), 1000, None),
    ):
        cost = microseconds(limits, per_second) - driver
        line = f"{what}, {per_second}/s wanted"
        bound = "" if budget is None else f"   at most {budget}"
        print(f"{line:40}  {cost:6.2f} µs a send{bound}")
        kept = kept and (budget is None or cost <= budget)
    return kept


def _client(server: Server, limits: RateLimits, kind: Any = Client) -> Any:
    return kind("env:CMZON_API_TOKEN", base_url=server.base_url, limits=limits)


def by_threads(server: Server, end: float, *, limits: RateLimits, threads: int = THREADS) -> None:
    """One client, and so many threads that send until ``end``."""
    with _client(server, limits) as client, ExitStack() as joins:

        def sends() -> None:
            while time.monotonic() < end:
                client.send_message(TO, TEXT)

        for _ in range(threads):
            thread = threading.Thread(target=sends)
            thread.start()
            joins.callback(thread.join)


def by_tasks(server: Server, end: float, *, limits: RateLimits, tasks: int = TASKS) -> None:
    """One client, and so many tasks that send until ``end``."""

    async def main() -> None:
        async with _client(server, limits, AsyncClient) as client:
            await _until(end, tasks, lambda: client.send_message(TO, TEXT))

    asyncio.run(main())


def by_both(server: Server, end: float, *, limits: RateLimits) -> None:
    """Threads with one client, tasks with another; the limits are the same object."""
    half = partial(by_tasks, server, end, limits=limits, tasks=TASKS // 2)
    tasks = threading.Thread(target=half)
    tasks.start()
    by_threads(server, end, limits=limits, threads=THREADS // 2)
    tasks.join()


def by_aiolimiter(server: Server, end: float) -> None:
    """The same tasks, an HTTP library, and a public limiter set to 80 in one second."""
    from aiolimiter import AsyncLimiter

    async def main() -> None:
        limiter = AsyncLimiter(80, 1)
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=TASKS)
        async with httpx2.AsyncClient(base_url=server.base_url, limits=limits) as http:

            async def send() -> None:
                async with limiter:
                    await http.post("/v1/messages", json=MESSAGE, headers=HEADERS)

            await _until(end, TASKS, send)

    asyncio.run(main())


async def _until(end: float, tasks: int, send: Callable[[], Awaitable[object]]) -> None:
    async def sends() -> None:
        while time.monotonic() < end:
            await send()

    await asyncio.gather(*(sends() for _ in range(tasks)))


SCENES: dict[str, Callable[..., None]] = {
    "1 thread": partial(by_threads, threads=1),
    f"{THREADS} threads": by_threads,
    f"{TASKS} tasks": by_tasks,
    f"{THREADS // 2} threads and {TASKS // 2} tasks, limits shared": by_both,
}


def measured(
    server: Server, name: str, scene: Callable[[Server, float], None], seconds: float
) -> bool:
    """Print what arrived; whether it came fast enough, and not too fast."""
    server.arrivals()
    before = time.process_time()
    scene(server, time.monotonic() + seconds)
    spent = time.process_time() - before
    arrivals = server.arrivals()
    rate = (len(arrivals) - 1) / (arrivals[-1] - arrivals[0])
    busiest = busiest_second(arrivals)
    effort = spent / len(arrivals) * 1e6
    print(
        f"{name:40}  {rate:5.1f}/s   {busiest:3d} in the busiest second   {effort:5.0f} µs CPU a send"
    )
    return rate >= LEAST_RATE and busiest <= MOST_IN_A_SECOND


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else SECONDS
    os.environ["CMZON_API_TOKEN"] = "cmz_benchmark"
    missed = [] if report_cost() else ["what the limiter costs"]
    print(f"sending as fast as the limits let, {seconds:g} s   at least {LEAST_RATE}, at most 80")
    with serving() as server:
        for name, scene in SCENES.items():
            if not measured(server, name, partial(scene, limits=RateLimits()), seconds):
                missed.append(name)
        try:
            measured(server, f"aiolimiter and httpx2, {TASKS} tasks", by_aiolimiter, seconds)
        except ModuleNotFoundError as error:
            print(f"aiolimiter and httpx2: not run: {error}")
    if missed:
        raise SystemExit(f"out of bounds: {', '.join(missed)}")


if __name__ == "__main__":
    main()
