"""A server that records, and every HTTP library that an auth object works with, behind one call."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import pytest

from cmzon_secrets import Token, TokenProvider
from unit.client.conftest import Server, Vault

MESSAGE = {"to": "+1234567890", "type": "text", "text": {"body": "Hello from CMzon!"}}


@dataclass
class Sent:
    status: int
    before: list[int]
    """The statuses of the answers in its history."""
    text: str


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.stop()


@pytest.fixture
def elsewhere() -> Iterator[Server]:
    """Another origin on the same host."""
    server = Server()
    yield server
    server.stop()


@pytest.fixture
def vault() -> Vault:
    return Vault()


class SlowBackend(TokenProvider):
    """Answers when it is let go."""

    uri = "test:slow"

    def __init__(self) -> None:
        self.token: Token | Exception = Token("cmz_first_value")
        self.calls = 0
        self.threads: set[int] = set()
        self.answers = threading.Event()
        self._asked = threading.Event()

    def get(self) -> Token:
        self.calls += 1
        self.threads.add(threading.get_ident())
        self._asked.set()
        assert self.answers.wait(10)
        if isinstance(self.token, Exception):
            raise self.token
        return self.token

    async def was_asked(self) -> None:
        """Returns when somebody waits for it, and never where that is the event loop itself."""
        while not self._asked.is_set():  # noqa: ASYNC110  # another thread sets it
            await asyncio.sleep(0.001)


@pytest.fixture
def backend() -> Iterator[SlowBackend]:
    backend = SlowBackend()
    yield backend
    backend.answers.set()


class WithRequests:
    def auth(self, provider, **options):
        from cmzon_secrets.integrations.requests_auth import TokenAuth

        return TokenAuth(provider, **options)

    def send(self, auth, url: str, *, follow_redirects: bool = False, **options: Any) -> Sent:
        import requests

        options = options or {"json": MESSAGE}
        with requests.Session() as session:
            answer = session.post(url, auth=auth, allow_redirects=follow_redirects, **options)
        return Sent(answer.status_code, [a.status_code for a in answer.history], answer.text)


class WithHTTPX:
    def __init__(self, library: str) -> None:
        self.library = library

    def auth(self, provider, **options):
        from cmzon_secrets.integrations.httpx_auth import TokenAuth

        return TokenAuth(provider, **options)

    def send(self, auth, url: str, *, follow_redirects: bool = False, **options: Any) -> Sent:
        httpx = import_module(self.library)
        with httpx.Client(auth=auth, follow_redirects=follow_redirects) as client:
            return self._sent(client.post(url, **(options or {"json": MESSAGE})))

    @staticmethod
    def _sent(answer) -> Sent:
        return Sent(answer.status_code, [a.status_code for a in answer.history], answer.text)


class WithAsyncHTTPX(WithHTTPX):
    def send(self, auth, url: str, *, follow_redirects: bool = False, **options: Any) -> Sent:
        httpx = import_module(self.library)

        async def send() -> Sent:
            async with httpx.AsyncClient(auth=auth, follow_redirects=follow_redirects) as client:
                return self._sent(await client.post(url, **(options or {"json": MESSAGE})))

        return asyncio.run(send())


LIBRARIES: Mapping[str, Any] = {
    "requests": WithRequests(),
    "httpx": WithHTTPX("httpx"),
    "httpx2": WithHTTPX("httpx2"),
    "httpx async": WithAsyncHTTPX("httpx"),
    "httpx2 async": WithAsyncHTTPX("httpx2"),
}


@pytest.fixture(params=LIBRARIES)
def library(request):
    """One of the libraries: ``auth`` makes its auth object, ``send`` posts a message with it."""
    name = request.param.partition(" ")[0]
    pytest.importorskip(name, reason=f"not run: {name} (not installed)")
    return LIBRARIES[request.param]
