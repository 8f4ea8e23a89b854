"""A running emulator, and the calls that tests make of it."""

import logging
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from cmzon_secrets.emulator import Emulator

MESSAGE = {"to": "+1234567890", "type": "text", "text": {"body": "Hello from CMzon!"}}


class API:
    """An HTTP client of one emulator; ``token`` None is the admin token."""

    def __init__(self, emulator: Emulator, http: httpx2.Client) -> None:
        self.emulator = emulator
        self.http = http

    def call(
        self,
        method: str,
        path: str,
        token: str | None = None,
        key: str | None = None,
        **options: Any,
    ) -> httpx2.Response:
        headers = {"Authorization": f"Bearer {token or self.emulator.admin_token}"}
        if key is not None:
            headers["Idempotency-Key"] = key
        return self.http.request(
            method, path, headers=headers | options.pop("headers", {}), **options
        )

    def send(
        self, token: str | None = None, key: str | None = None, message: Any = None
    ) -> httpx2.Response:
        body = MESSAGE if message is None else message
        return self.call("POST", "/v1/messages", token, key, json=body)

    def issue(self, key: str | None = None, **wish: Any) -> dict[str, Any]:
        wish = {"name": "acme", "scopes": ["messages:send"], **wish}
        answer = self.call("POST", "/v1/tokens", key=key, json=wish)
        assert answer.status_code == 201, answer.text
        return answer.json()

    def revoke(self, token_id: str) -> httpx2.Response:
        return self.call("DELETE", f"/v1/tokens/{token_id}")

    def control(self, name: str, **body: Any) -> Any:
        answer = self.http.post(f"/_emulator/{name}", json=body)
        assert answer.is_success, answer.text
        return answer.json()

    def fault(self, **fault: Any) -> dict[str, Any]:
        return self.control("faults", **{"route": "POST /v1/messages", **fault})

    def stats(self) -> dict[str, Any]:
        return self.http.get("/_emulator/stats").raise_for_status().json()

    def messages(self) -> int:
        return self.stats()["messages"]

    def details(self, answer: httpx2.Response, status: int = 400) -> str:
        """The details of a refusal, once its shape is proved."""
        assert answer.status_code == status, answer.text
        error = answer.json()["error"]
        assert error["code"] == status
        assert error["message"]
        return error["details"]


@pytest.fixture
def emulator(caplog: pytest.LogCaptureFixture) -> Iterator[Emulator]:
    with Emulator(strict=True) as running:
        yield running
    failures = [record for record in caplog.get_records("call") if record.levelno >= logging.ERROR]
    assert failures == []  # the server logs what it could not handle


@pytest.fixture
def api(emulator: Emulator) -> Iterator[API]:
    with _client(emulator) as http:
        yield API(emulator, http)


@pytest.fixture
def connect() -> Iterator[Any]:
    """An API for an emulator that the test itself starts."""
    clients: list[httpx2.Client] = []

    def connected(emulator: Emulator, **options: Any) -> API:
        http = _client(emulator, **options)
        clients.append(http)
        return API(emulator, http)

    yield connected
    for http in clients:
        http.close()


def _client(emulator: Emulator, **options: Any) -> httpx2.Client:
    # Plain http needs no trust store, and loading one takes longer than most tests.
    options = {"verify": emulator.base_url.startswith("https:"), **options}
    return httpx2.Client(base_url=emulator.base_url, trust_env=False, timeout=30.0, **options)
