"""A server that costs next to nothing, in a process of its own: what is measured against it is the client.

It answers every request as the API answers a message that it accepts, and notes when each arrived.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import ssl
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

PATIENCE = 30.0
"""Seconds in which the server must have started."""

_BODY = b'{"id": "msg_4f2a9c1be07d5a386c0e91b7", "status": "accepted", "to": "+1234567890"}'
_ANSWER = b"\r\n".join(
    [
        b"HTTP/1.1 200 OK",
        b"Content-Type: application/json",
        b"Content-Length: %d" % len(_BODY),
        b"X-Request-Id: req_8d1f4b7720c95ea3",
        b"X-RateLimit-Limit: 10000",
        b"X-RateLimit-Remaining: 9999",
        b"X-RateLimit-Reset: 1893456000",
        b"",
        _BODY,
    ]
)


@dataclass(frozen=True)
class Server:
    """Where it is, and which CA its certificate is of (a path; None over plain HTTP)."""

    base_url: str
    ca: str | None
    _pipe: Connection

    def arrivals(self) -> list[float]:
        """When each request since the last call of this had arrived, in monotonic seconds."""
        self._pipe.send("arrivals")
        times: list[float] = self._pipe.recv()
        return times


@contextmanager
def serving(*, tls: bool = False) -> Iterator[Server]:
    """A running server."""
    spawning = multiprocessing.get_context("spawn")
    ours, theirs = spawning.Pipe()
    with tempfile.TemporaryDirectory() as folder:
        ca, chain = _certificates(Path(folder)) if tls else (None, None)
        process = spawning.Process(target=_run, args=(theirs, chain), daemon=True)
        process.start()
        theirs.close()
        try:
            if not ours.poll(PATIENCE):
                raise TimeoutError("the server did not start")
            port = ours.recv()
            yield Server(f"{'https' if tls else 'http'}://127.0.0.1:{port}", ca, ours)
        finally:
            ours.close()  # which ends it
            process.join()


def busiest_second(arrivals: list[float]) -> int:
    """The most arrivals within any second."""
    most, within = 0, deque[float]()
    for at in sorted(arrivals):
        within.append(at)
        while within[0] <= at - 1.0:
            within.popleft()
        most = max(most, len(within))
    return most


def _certificates(folder: Path) -> tuple[str, str]:
    """A CA, and the chain and key of a server on loopback."""
    import trustme

    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    leaf = authority.issue_cert("127.0.0.1")
    leaf.private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
    return str(folder / "ca.pem"), str(folder / "server.pem")


class _Connection(asyncio.Protocol):
    """One client's connection; it knows requests with a Content-Length, or without a body."""

    def __init__(self, arrivals: list[float]) -> None:
        self._arrivals = arrivals
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := _end_of_request(self._received)) is not None:
            self._received = self._received[end:]
            self._arrivals.append(time.monotonic())
            self._transport.write(_ANSWER)


def _end_of_request(received: bytes) -> int | None:
    """Where the first whole request ends; None where there is none yet."""
    head, blank, _ = received.partition(b"\r\n\r\n")
    if not blank:
        return None
    _, _, after = head.lower().partition(b"\r\ncontent-length:")
    end = len(head) + len(blank) + int(after.partition(b"\r\n")[0] or 0)
    return end if len(received) >= end else None


def _run(pipe: Connection, chain: str | None) -> None:
    asyncio.run(_serve(pipe, chain))


async def _serve(pipe: Connection, chain: str | None) -> None:
    """Until the other end of ``pipe`` is closed; every word from there asks for the arrivals."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    arrivals: list[float] = []

    def asked() -> None:
        try:
            pipe.recv()
        except EOFError:
            loop.remove_reader(pipe)
            ended.set()
            return
        pipe.send(arrivals)
        arrivals.clear()

    context = None
    if chain is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(chain)
    server = await loop.create_server(
        lambda: _Connection(arrivals), "127.0.0.1", 0, ssl=context, backlog=1024
    )
    loop.add_reader(pipe, asked)
    pipe.send(server.sockets[0].getsockname()[1])
    await ended.wait()
    server.close()
