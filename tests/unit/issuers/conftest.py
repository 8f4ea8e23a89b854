"""A real HTTP server that answers what a test scripts, and records what it was asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest


@dataclass(frozen=True)
class Seen:
    """One request as it arrived."""

    method: str
    path: str
    bearer: str
    headers: dict[str, str]
    body: Any


@dataclass(frozen=True)
class Reply:
    """What to answer; a ``body`` that is no bytes goes out as JSON. ``hang_up``: no answer at all."""

    status: int = 200
    body: Any = None
    hang_up: bool = False


class ScriptedAPI:
    """Routes are ``"METHOD /path"`` without the query; a route answers its replies in turn, the
    last one for ever. A reply may also be a function of the request."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self._replies: dict[str, list[Reply | Callable[[Seen], Reply]]] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        self.base_url = f"http://127.0.0.1:{self._server.server_port}"

    def on(self, route: str, *replies: Reply | Callable[[Seen], Reply]) -> None:
        self._replies[route] = list(replies)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _reply(self, seen: Seen) -> Reply:
        self.seen.append(seen)
        replies = self._replies.get(f"{seen.method} {seen.path.partition('?')[0]}")
        if not replies:
            return Reply(404, {"error": {"code": 404, "message": "No such route"}})
        reply = replies.pop(0) if len(replies) > 1 else replies[0]
        return reply(seen) if callable(reply) else reply

    def _handler(api) -> type[BaseHTTPRequestHandler]:  # noqa: N805  # the inner class has the self
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                raw = self.rfile.read(length)
                headers = {name.lower(): value for name, value in self.headers.items()}
                bearer = headers.get("authorization", "").removeprefix("Bearer ")
                body = json.loads(raw) if raw else None
                reply = api._reply(Seen(self.command, self.path, bearer, headers, body))
                if reply.hang_up:
                    self.close_connection = True
                    return
                sent = (
                    reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
                )
                sent = b"" if reply.status == 204 else sent
                self.send_response(reply.status)
                if reply.status != 204:
                    self.send_header("Content-Length", str(len(sent)))
                self.end_headers()
                self.wfile.write(sent)

            do_GET = do_POST = do_DELETE = answer  # noqa: N815  # the names http.server looks for

            def log_message(self, *args: object) -> None:
                pass

        return Handler


@pytest.fixture
def api() -> Iterator[ScriptedAPI]:
    served = ScriptedAPI()
    yield served
    served.close()


@pytest.fixture
def reply() -> type[Reply]:
    """The class of scripted answers: test modules cannot import from a conftest."""
    return Reply
