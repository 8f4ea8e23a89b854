"""What sending with the client costs, against the vendor's own example and the bare HTTP libraries.

All send the same message to the same server on this machine, in another process, and read its answer
as JSON; the bare libraries send the same headers as the client, too. They take turns; every figure is a median over the rounds, and every ratio is taken within a
round: other work on the machine slows all that stand in it alike. The server answers at once, so our
share is the largest it can be.

    python benchmarks/client.py [ROUNDS]      default: 15
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from statistics import median
from typing import Any, NamedTuple

import httpcore2
import httpx2
import requests
from serving import Server, serving

from cmzon_secrets import AsyncClient, Client, RateLimits
from cmzon_secrets.http.tls import tls_context

ROUNDS = 15
ONE_BY_ONE = 100
"""Sends in a turn; with many senders ``EACH`` for every one of them."""
THREADS, TASKS = 50, 200
EACH = 4
POOL: dict[str, Any] = {"max_connections": None, "max_keepalive_connections": TASKS}
"""Of the bare libraries: as many connections as there are senders, all of them kept."""

TOKEN = "cmz_benchmark"
TO, TEXT = "+1234567890", "Hello from CMzon!"
MESSAGE: dict[str, Any] = {"to": TO, "type": "text", "text": {"body": TEXT}}
HEADERS = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
OURS = {"User-Agent": "benchmark", "Accept": "*/*", "Accept-Encoding": "identity"}
"""What the client sends besides, with a new Idempotency-Key for every message."""

Send = Callable[[], object]
Burst = Callable[[], None]
"""One turn: many sends."""


class Cost(NamedTuple):
    """Of one send in one turn, in microseconds: of time, and of this process's processor time."""

    wall: float
    cpu: float


class Rival(NamedTuple):
    """Whom to compare with, and how many times as fast as it we have to be, at least (0: no target)."""

    name: str
    burst: Burst
    target: float = 0.0


@contextmanager
def ours(server: Server) -> Iterator[Send]:
    with Client(
        "env:CMZON_API_TOKEN",
        base_url=server.base_url,
        ca=server.ca,
        limits=RateLimits.unlimited(),
    ) as client:
        yield lambda: client.send_message(TO, TEXT)


@contextmanager
def vendors_example(server: Server) -> Iterator[Send]:
    """The page's Python example, but for the CA: with a single one it loads less than it would."""

    def send() -> object:
        answer = requests.post(
            f"{server.base_url}/v1/messages", json=MESSAGE, headers=HEADERS, verify=server.ca
        )
        answer.raise_for_status()
        return answer.json()

    yield send


@contextmanager
def httpx2_client(server: Server) -> Iterator[Send]:
    with httpx2.Client(**_httpx2_options(server)) as http:

        def send() -> object:
            answer = http.post("/v1/messages", json=MESSAGE, headers=_all_headers())
            return answer.raise_for_status().json()

        yield send


@contextmanager
def httpcore2_pool(server: Server) -> Iterator[Send]:
    with httpcore2.ConnectionPool(ssl_context=_context(server), **POOL) as pool:
        yield lambda: json.loads(pool.request(**_httpcore2_request(server)).content)


@asynccontextmanager
async def ours_async(server: Server) -> AsyncIterator[Callable[[], Awaitable[object]]]:
    async with AsyncClient(
        "env:CMZON_API_TOKEN",
        base_url=server.base_url,
        ca=server.ca,
        limits=RateLimits.unlimited(),
    ) as client:
        yield lambda: client.send_message(TO, TEXT)


@asynccontextmanager
async def httpx2_async(server: Server) -> AsyncIterator[Callable[[], Awaitable[object]]]:
    async with httpx2.AsyncClient(**_httpx2_options(server)) as http:

        async def send() -> object:
            answer = await http.post("/v1/messages", json=MESSAGE, headers=_all_headers())
            return answer.raise_for_status().json()

        yield send


@asynccontextmanager
async def httpcore2_async(server: Server) -> AsyncIterator[Callable[[], Awaitable[object]]]:
    async with httpcore2.AsyncConnectionPool(ssl_context=_context(server), **POOL) as pool:

        async def send() -> object:
            return json.loads((await pool.request(**_httpcore2_request(server))).content)

        yield send


def _all_headers() -> dict[str, str]:
    return {**HEADERS, **OURS, "Idempotency-Key": str(uuid.uuid4())}


def _context(server: Server) -> Any:
    return tls_context(server.ca) if server.ca is not None else None


def _httpx2_options(server: Server) -> dict[str, Any]:
    return {
        "base_url": server.base_url,
        "verify": tls_context(server.ca) if server.ca is not None else False,
        "trust_env": False,
        "limits": httpx2.Limits(**POOL),
    }


def _httpcore2_request(server: Server) -> dict[str, Any]:
    return {
        "method": "POST",
        "url": f"{server.base_url}/v1/messages",
        "headers": _all_headers(),
        "content": json.dumps(MESSAGE).encode(),
    }


def in_turn(send: Send) -> Burst:
    """One send after the other."""

    def burst() -> None:
        for _ in range(ONE_BY_ONE):
            send()

    return burst


def by_threads(send: Send, pool: ThreadPoolExecutor) -> Burst:
    """``THREADS`` at once."""

    def sends(_: int) -> None:
        for _ in range(EACH):
            send()

    return lambda: list(pool.map(sends, range(THREADS))).clear()


def by_tasks(send: Callable[[], Awaitable[object]], runner: asyncio.Runner) -> Burst:
    """``TASKS`` at once."""

    async def sends() -> None:
        for _ in range(EACH):
            await send()

    async def together() -> None:
        await asyncio.gather(*(sends() for _ in range(TASKS)))

    return lambda: runner.run(together())


def one_by_one(server: Server, stack: ExitStack) -> list[Rival]:
    over_tls = server.ca is not None
    return [
        Rival("Client", in_turn(stack.enter_context(ours(server)))),
        Rival(
            "the vendor's example",
            in_turn(stack.enter_context(vendors_example(server))),
            4.0 if over_tls else 1.8,
        ),
        Rival("httpx2.Client", in_turn(stack.enter_context(httpx2_client(server))), 0.85),
        Rival("httpcore2.ConnectionPool", in_turn(stack.enter_context(httpcore2_pool(server)))),
    ]


def threads(server: Server, stack: ExitStack) -> list[Rival]:
    pool = stack.enter_context(ThreadPoolExecutor(THREADS))

    def burst(rival: Callable[[Server], Any]) -> Burst:
        return by_threads(stack.enter_context(rival(server)), pool)

    return [
        Rival("Client", burst(ours)),
        Rival("httpx2.Client", burst(httpx2_client), 0.85),
        Rival("httpcore2.ConnectionPool", burst(httpcore2_pool)),
    ]


def tasks(server: Server, stack: ExitStack) -> list[Rival]:
    runner = stack.enter_context(asyncio.Runner())
    opened = AsyncExitStack()
    stack.callback(lambda: runner.run(opened.aclose()))

    def burst(rival: Callable[[Server], Any]) -> Burst:
        return by_tasks(runner.run(opened.enter_async_context(rival(server))), runner)

    return [
        Rival("AsyncClient", burst(ours_async)),
        Rival("httpx2.AsyncClient", burst(httpx2_async), 0.85),
        Rival("httpcore2.AsyncConnectionPool", burst(httpcore2_async)),
    ]


SCENES: dict[str, tuple[Callable[[Server, ExitStack], list[Rival]], int]] = {
    "one send after another": (one_by_one, ONE_BY_ONE),
    f"{THREADS} threads": (threads, THREADS * EACH),
    f"{TASKS} tasks": (tasks, TASKS * EACH),
}
"""Who takes part, and how many sends a turn of each is."""


def costs(rivals: list[Rival], sends: int, rounds: int) -> list[list[Cost]]:
    """Every rival's cost, round by round, after one to warm up."""
    measured: list[list[Cost]] = [[] for _ in rivals]
    for n in range(rounds + 1):
        for rival, found in zip(rivals, measured, strict=True):
            wall, cpu = time.perf_counter(), time.process_time()
            rival.burst()
            spent = time.perf_counter() - wall, time.process_time() - cpu
            if n:
                found.append(Cost(*(seconds / sends * 1e6 for seconds in spent)))
    return measured


def report(rivals: list[Rival], measured: list[list[Cost]]) -> bool:
    """Print them, the first being ours; whether its targets are met."""
    met = True
    for rival, found in zip(rivals, measured, strict=True):
        wall, cpu = (median(figures) for figures in zip(*found, strict=True))
        line = f"  {rival.name:30} {1e6 / wall:6.0f}/s  {cpu:6.0f} µs CPU"
        if found is not measured[0]:
            pairs = list(zip(measured[0], found, strict=True))
            speed = median(theirs.wall / own.wall for own, theirs in pairs)
            effort = median(own.cpu / theirs.cpu for own, theirs in pairs)
            line += f"   ours: {speed:5.2f} times as fast, {effort:4.2f} times the CPU"
            line += f"   at least {rival.target}" if rival.target else ""
            met = met and speed >= rival.target
        print(line)
    return met


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    os.environ["CMZON_API_TOKEN"] = TOKEN
    missed = []
    for tls in (True, False):
        with serving(tls=tls) as server:
            for name, (rivals_at, sends) in SCENES.items():
                title = f"{name}, {'over TLS' if tls else 'over plain HTTP'}"
                print(title)
                with ExitStack() as stack:
                    rivals = rivals_at(server, stack)
                    if not report(rivals, costs(rivals, sends, rounds)):
                        missed.append(title)
    if missed:
        raise SystemExit(f"slower than it may be: {'; '.join(missed)}")


if __name__ == "__main__":
    main()
