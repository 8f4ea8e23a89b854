"""A real HTTP server on loopback that answers as a test says and keeps what it received."""

from __future__ import annotations

import json
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from cmzon_secrets.client import Client
from cmzon_secrets.events import Event
from cmzon_secrets.provider import TokenProvider
from cmzon_secrets.tokens import Token
from servers.awaited import Awaited


@dataclass
class Received:
    method: str
    path: str
    headers: dict[str, list[str]]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def token(self) -> str:
        (value,) = self.headers["authorization"]
        assert value.startswith("Bearer ")
        return value.removeprefix("Bearer ")


@dataclass
class Reply:
    """``fault``: "reset" sends a RST instead, "hang" nothing for a while, "close" just closes; "cut"
    breaks off before the end of the body."""

    status: int = 200
    body: bytes | object = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    fault: str | None = None


ACCEPTED = Reply(
    200, {"id": "msg_1", "status": "accepted", "to": "+1234567890"}, {"X-Request-Id": "req_1"}
)
REFUSED = Reply(401, {"error": {"code": 401, "message": "Invalid API token"}})


def failing(status: int, **members: object) -> Reply:
    """A refusal in the vendor's own shape."""
    return Reply(status, {"error": {"code": status, "message": "no", **members}})


class Server:
    """Accepts everything that carries no token in ``dead``, unless told what to ``say``."""

    def __init__(self) -> None:
        self.received: list[Received] = []
        self.connections = 0
        self.dead: set[str] = set()
        self.answer: Callable[[Received], Reply] = self._accept
        self.stopping = threading.Event()
        self._http = Listener(("127.0.0.1", 0), Handler)
        self._http.owner = self  # type: ignore[attr-defined]
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,))
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_port}"

    def say(self, *args: Any, **kwargs: Any) -> None:
        """Give this Reply to everything."""
        self.answer = lambda _: Reply(*args, **kwargs)

    def play(self, *replies: Reply) -> None:
        """Give these first, one after the other; then accept."""
        left = list(replies)
        self.answer = lambda request: left.pop(0) if left else self._accept(request)

    def receive(self, request: Received) -> Reply:
        self.received.append(request)
        return self.answer(request)

    def _accept(self, request: Received) -> Reply:
        return REFUSED if request.token in self.dead else ACCEPTED

    def stop(self) -> None:
        self.stopping.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


class Listener(ThreadingHTTPServer):
    request_queue_size = 1024  # many may come at one moment


class Handler(BaseHTTPRequestHandler):
    """Hands each request to its Server and sends the reply, or fails as the reply says."""

    protocol_version = "HTTP/1.1"

    @property
    def owner(self) -> Server:
        return self.server.owner  # type: ignore[attr-defined]

    def setup(self) -> None:
        self.owner.connections += 1
        super().setup()

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except OSError:
            self.close_connection = True

    def parse_request(self) -> bool:
        if super().parse_request():
            self._reply(self.owner.receive(self._received()))
        return False  # it is answered: there is no do_POST to call

    def _received(self) -> Received:
        headers: dict[str, list[str]] = {}
        for name, value in self.headers.items():
            headers.setdefault(name.lower(), []).append(value)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        return Received(self.command, self.path, headers, body)

    def _reply(self, reply: Reply) -> None:
        cut = reply.fault == "cut"
        if reply.fault is not None and not cut:
            self._fail(reply.fault)
            return
        body = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) + cut))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = self.close_connection or cut

    def _fail(self, fault: str) -> None:
        self.close_connection = True
        if fault == "hang":
            self.owner.stopping.wait(30)
        if fault == "reset":
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            os.close(self.connection.detach())

    def log_message(self, *_: object) -> None:
        pass


class Vault(TokenProvider):
    """A backend that a test rotates by hand."""

    uri = "test:vault"

    def __init__(self) -> None:
        self.token: Token | Exception = Token("cmz_first_value", id="tok_1")
        self.calls = 0
        self.closed = False

    def get(self) -> Token:
        self.calls += 1
        if isinstance(self.token, Exception):
            raise self.token
        return self.token

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.stop()


@pytest.fixture
def vault() -> Vault:
    return Vault()


@pytest.fixture
def events() -> list[Event]:
    return []


@pytest.fixture(params=[Client, Awaited], ids=["Client", "AsyncClient"])
def open_client(request: pytest.FixtureRequest) -> Any:
    """``Client``, then an AsyncClient with the same face: what holds for one holds for both."""
    return request.param


@pytest.fixture
def client(open_client: Any, server: Server, vault: Vault, events: list[Event]) -> Iterator[Client]:
    with open_client(vault, base_url=server.url, timeout=5, subscriber=events.append) as client:
        yield client
