"""What the emulator takes: to start, to accept a message, to show what it has.

    python benchmarks/emulator.py [SECONDS]      default: 5, of each way of sending

It runs as the program does, in a process of its own; the clients are in this one. Beside it stands
a peer: one route of the same framework, on the same server, that answers every request alike. A
machine with less than two free cores measures its clients as well.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

SECONDS = 5.0
CONNECTIONS, LISTENERS = 16, 3
LEAST_RATE = 1_000
"""Messages a second, limits off."""
STORED = 5_000
STARTS, RENDERINGS = 9, 7
MOST_TO_START, MOST_TO_RENDER = 0.6, 0.5
"""Seconds; medians."""
PAGE_EVERY = 0.5
"""Seconds between two looks at the inbox while messages come in."""

COMMAND = Path(sys.executable).with_name("cmzon-secrets")
PAGES = {
    "Messages": "/dashboard",
    "Messages, all of them": "/dashboard?limit=all",
    "API Settings": "/dashboard/tokens",
    "Rotation": "/dashboard/rotation",
    "Rehearse": "/dashboard/rehearse",
    "Audit trail": "/dashboard/audit",
}
PEER = """
import socket, uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

async def answer(request):
    await request.body()
    return JSONResponse({"id": "msg_1", "status": "accepted", "to": "+1234567890"})

app = Starlette(routes=[Route("/v1/messages", answer, methods=["POST"])])
listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # without Nagle's wait
listener.bind(("127.0.0.1", 0))
listener.listen()
print(listener.getsockname()[1], flush=True)
config = uvicorn.Config(app, http="h11", loop="asyncio", lifespan="off", log_level="warning", access_log=False)
uvicorn.Server(config).run(sockets=[listener])
"""


@dataclass(frozen=True)
class Server:
    """Where one runs, the token it takes, and how long it took to be ready, in seconds."""

    port: int
    token: str
    took: float
    process: int

    def spent(self) -> float:
        """Seconds of processor time so far; nan where the system does not tell."""
        try:
            fields = Path(f"/proc/{self.process}/stat").read_text(encoding="ascii").split()
        except OSError:
            return float("nan")
        return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def emulator(*options: str) -> Iterator[Server]:
    """A running emulator without limits."""
    begun = time.perf_counter()
    arguments = [str(COMMAND), "emulator", "--json", "--no-limits", *options]
    with subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            assert process.stdout is not None
            ready = json.loads(process.stdout.readline())
            took = time.perf_counter() - begun
            token = Path(ready["admin_token_file"]).read_text(encoding="ascii").strip()
            yield Server(urlsplit(ready["base_url"]).port or 0, token, took, process.pid)
        finally:
            process.terminate()


@contextmanager
def peer() -> Iterator[Server]:
    """A server that knows one answer."""
    with subprocess.Popen(
        [sys.executable, "-c", PEER], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield Server(int(process.stdout.readline()), "cmz_benchmark", 0.0, process.pid)
        finally:
            process.terminate()


class Connection:
    """A client that costs next to nothing."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def ask(self, method: str, path: str, body: bytes = b"", headers: str = "") -> bytes:
        """The answer's body. Raises ValueError where it is no success."""
        head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{headers}"
        self._writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        answer = await self._reader.readuntil(b"\r\n\r\n")
        if not answer.startswith(b"HTTP/1.1 2"):
            raise ValueError(f"{method} {path}: {answer.partition(bytes([13]))[0].decode()}")
        _, _, length = answer.lower().partition(b"content-length: ")
        return await self._reader.readexactly(int(length.partition(b"\r\n")[0]))

    async def listen(self) -> None:
        """Read events until cancelled."""
        self._writer.write(b"GET /dashboard/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        while await self._reader.read(4096):
            pass


@asynccontextmanager
async def connected(server: Server) -> AsyncIterator[Connection]:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        yield Connection(reader, writer)
    finally:
        writer.close()


async def send(server: Server, go_on: Callable[[], bool], numbers: Iterator[int]) -> None:
    """Messages one after the other, each with a key of its own, to a hundred recipients."""
    async with connected(server) as connection:
        while go_on():
            n = next(numbers)
            to, text = f"+1202555{n % 100:04}", f"Your parcel {n} is on its way."
            message = {"to": to, "type": "text", "text": {"body": text}}
            headers = (
                f"Authorization: Bearer {server.token}\r\nContent-Type: application/json\r\n"
                f"Idempotency-Key: parcel-{n}\r\n"
            )
            await connection.ask("POST", "/v1/messages", json.dumps(message).encode(), headers)


async def look(server: Server) -> None:
    """One who has the inbox open and loads it again and again."""
    async with connected(server) as connection:
        while True:
            await connection.ask("GET", "/dashboard")
            await asyncio.sleep(PAGE_EVERY)


async def watch(server: Server) -> None:
    """One who listens to the events."""
    async with connected(server) as connection:
        await connection.listen()


async def rate(server: Server, seconds: float, *, watched: bool = False) -> tuple[float, float]:
    """Messages accepted in a second, and the processor time of each in the server, in seconds."""
    others = [look(server), *(watch(server) for _ in range(LISTENERS))] if watched else []
    async with beside(others):
        numbers, begun, spent = count(), time.perf_counter(), server.spent()
        senders = (
            send(server, lambda: time.perf_counter() < begun + seconds, numbers)
            for _ in range(CONNECTIONS)
        )
        await asyncio.gather(*senders)
        sent = next(numbers)
        return sent / (time.perf_counter() - begun), (server.spent() - spent) / sent


@asynccontextmanager
async def beside(others: Iterable[Coroutine[None, None, None]]) -> AsyncIterator[None]:
    """``others`` go on meanwhile; one that failed fails the whole."""
    tasks = [asyncio.create_task(other) for other in others]
    yield
    for task in tasks:
        task.cancel()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(result, Exception):
            raise result


async def fill(server: Server) -> None:
    """Send ``STORED`` messages."""
    numbers = iter(range(STORED))
    await asyncio.gather(*(_send_rest(server, numbers) for _ in range(CONNECTIONS)))


async def _send_rest(server: Server, numbers: Iterator[int]) -> None:
    try:
        await send(server, lambda: True, numbers)
    except RuntimeError:  # a coroutine's word for: there is no next one
        return


async def renderings(server: Server, path: str) -> list[float]:
    """Seconds until a page has arrived, the first look left out."""
    times = []
    async with connected(server) as connection:
        for _ in range(1 + RENDERINGS):
            begun = time.perf_counter()
            await connection.ask("GET", path)
            times.append(time.perf_counter() - begun)
    return times[1:]


def starts(*options: str) -> float:
    """Seconds from the start of the program to its line."""
    times = []
    for _ in range(1 + STARTS):  # the first writes the byte code
        with emulator(*options) as server:
            times.append(server.took)
    return median(times[1:])


class Report:
    """Prints figures, and remembers those that are out of bounds."""

    def __init__(self) -> None:
        self.missed: list[str] = []

    def at_most(self, what: str, figure: float, limit: float) -> None:
        print(f"{what:48} {figure * 1000:8.0f} ms   at most {limit * 1000:.0f}")
        if figure > limit:
            self.missed.append(what)

    def at_least(self, what: str, measured: tuple[float, float], limit: float | None) -> None:
        figure, cost = measured
        bound = f"   at least {limit:.0f}" if limit is not None else ""
        print(f"{what:48} {figure:8.0f} messages/s   {cost * 1e6:5.0f} µs CPU each{bound}")
        if limit is not None and figure < limit:
            self.missed.append(what)


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else SECONDS
    report = Report()
    with peer() as server:
        report.at_least("one route that answers alike", asyncio.run(rate(server, seconds)), None)
    with emulator() as server:
        figure = asyncio.run(rate(server, seconds))
        report.at_least("the emulator", figure, LEAST_RATE)
    with emulator() as server:
        figure = asyncio.run(rate(server, seconds, watched=True))
        report.at_least("while its inbox is looked at", figure, LEAST_RATE)
    with tempfile.TemporaryDirectory() as folder, emulator("--state", folder) as server:
        figure = asyncio.run(rate(server, seconds))
        report.at_least("with --state", figure, LEAST_RATE)
    with tempfile.TemporaryDirectory() as folder, emulator("--state", folder) as server:
        figure = asyncio.run(rate(server, seconds, watched=True))
        report.at_least("with --state while its inbox is looked at", figure, LEAST_RATE)
    report.at_most("start to ready", starts(), MOST_TO_START)
    with tempfile.TemporaryDirectory() as folder:
        with emulator("--state", folder) as server:
            asyncio.run(fill(server))
        took = starts("--state", folder)
        report.at_most(f"start to ready with {STORED:,} messages", took, MOST_TO_START)
        with emulator("--state", folder) as server:
            for name, path in PAGES.items():
                took = median(asyncio.run(renderings(server, path)))
                report.at_most(f"{name} ({path})", took, MOST_TO_RENDER)
    if report.missed:
        raise SystemExit(f"out of bounds: {', '.join(report.missed)}")


if __name__ == "__main__":
    main()
