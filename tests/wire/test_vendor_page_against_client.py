"""The exchanges of the vendor's page: what the client sends, and what it makes of the answers.

A recorded server plays the answer of each vector; the emulator has no part in this.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from cmzon_secrets.client import Client
from cmzon_secrets.errors import (
    APIError,
    AuthenticationError,
    PermissionDenied,
    RateLimited,
)
from cmzon_secrets.provider import TokenProvider
from cmzon_secrets.tokens import Token
from servers.awaited import Awaited

VECTORS = {
    path.stem: json.loads(path.read_text("utf-8"))
    for path in sorted(Path(__file__).parent.glob("*.json"))
}
MESSAGES = {
    name: vector for name, vector in VECTORS.items() if vector["request"]["path"] == "/v1/messages"
}
REFUSED = {name: v for name, v in MESSAGES.items() if v["response"]["status"] >= 400}
VALUE = "YOUR_API_TOKEN"
ERRORS = {401: AuthenticationError, 403: PermissionDenied, 429: RateLimited}


Play = Callable[[dict[str, Any]], Any]


class Fixed(TokenProvider):
    uri = "test:fixed"

    def get(self) -> Token:
        return Token(VALUE)


class Recorded(HTTPServer):
    """Plays ``response`` to every request and keeps what came in."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Player)
        self.response: dict[str, Any] = {}
        self.seen: list[tuple[str, str, dict[str, str], bytes]] = []

    @property
    def body(self) -> bytes:
        if "body" in self.response:
            return str(self.response["body"]).encode()
        filled = {k: "any" if v == "*" else v for k, v in self.response["json"].items()}
        return json.dumps(filled).encode()


class Player(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        server = self.server
        assert isinstance(server, Recorded)
        content = self.rfile.read(int(self.headers["Content-Length"]))
        server.seen.append((self.command, self.path, dict(self.headers.items()), content))
        self.send_response(server.response["status"])
        for name in server.response["headers"]:
            self.send_header(name, "application/json" if name == "content-type" else "7")
        self.end_headers()
        self.wfile.write(server.body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Recorded]:
    with Recorded() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(params=[Client, Awaited], ids=["Client", "AsyncClient"])
def play(request: pytest.FixtureRequest, server: Recorded) -> Play:
    """A function: vector → the client's result or error when the server answers as the page shows."""
    return lambda vector: _play(request.param, server, vector)


def _play(open_client: Any, server: Recorded, vector: dict[str, Any]) -> Any:
    server.response = vector["response"]
    message = vector["request"]["json"]
    url = f"http://127.0.0.1:{server.server_port}"
    with open_client(Fixed(), base_url=url, timeout=5) as client:
        try:
            return client.send_message(message["to"], message["text"]["body"])
        except APIError as error:
            return error


@pytest.mark.parametrize("vector", MESSAGES.values(), ids=MESSAGES.keys())
def test_the_client_sends_what_the_page_shows(
    server: Recorded, play: Play, vector: dict[str, Any]
) -> None:
    play(vector)
    request = vector["request"]
    ((method, path, headers, body),) = server.seen
    assert (method, path) == (request["method"], request["path"])
    for name, value in request["headers"].items():
        assert headers[name] == value.format(token=VALUE)
    assert json.loads(body) == request["json"]
    assert list(json.loads(body)) == list(request["json"])  # in the page's own order


def test_the_client_reads_the_success(play: Play) -> None:
    (vector,) = (v for v in MESSAGES.values() if v["response"]["status"] == 200)
    result = play(vector)
    assert (result.id, result.status, result.to) == ("any", "accepted", "+1234567890")
    assert result.request_id == "7"
    assert set(vector["response"]["headers"]) <= set(result.headers)


@pytest.mark.parametrize("vector", REFUSED.values(), ids=REFUSED.keys())
def test_the_client_reads_every_error_of_the_page(play: Play, vector: dict[str, Any]) -> None:
    error = play(vector)
    said = json.loads(vector["response"]["body"])["error"]
    assert type(error) is ERRORS[vector["response"]["status"]]
    assert error.status == error.code == said["code"]
    assert error.details == said.get("details")
    assert said["message"] in error.message
    assert error.request_id == "7"
    if "retry_after" in said:
        assert error.retry_after == said["retry_after"]


def test_the_page_has_every_kind_of_answer() -> None:
    assert {v["response"]["status"] for v in MESSAGES.values()} >= {200, 401, 403, 429}
