"""The exchanges of the vendor's page, sent to the emulator over HTTP."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from cmzon_secrets.emulator import Emulator

VECTORS = sorted(Path(__file__).parent.glob("*.json"))
SCOPES = {"live": "messages:send", "revoked": "messages:send", "without_scope": "audit:read"}


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    with Emulator(strict=True) as running:
        yield running


@pytest.fixture(scope="module")
def http(emulator: Emulator) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=emulator.base_url, trust_env=False) as client:
        yield client


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_the_emulator_answers_as_the_page_shows(
    path: Path, emulator: Emulator, http: httpx2.Client
) -> None:
    vector = json.loads(path.read_text(encoding="utf-8"))
    answer = _send(http, vector["request"], _prepare(http, emulator, vector["given"]))
    expected = vector["response"]
    assert answer.status_code == expected["status"]
    assert set(expected["headers"]) <= set(answer.headers)
    if "body" in expected:
        assert answer.text == expected["body"]
    else:
        assert _matches(answer.json(), expected["json"])


def test_there_is_a_vector_for_success_and_for_every_error_the_page_shows() -> None:
    statuses = {json.loads(path.read_text("utf-8"))["response"]["status"] for path in VECTORS}
    assert statuses >= {200, 401, 403, 429}


def _prepare(http: httpx2.Client, emulator: Emulator, given: dict[str, Any]) -> str:
    admin = {"Authorization": f"Bearer {emulator.admin_token}"}
    wish = {"name": "wire", "scopes": [SCOPES[given["token"]]]}
    issued = http.post("/v1/tokens", json=wish, headers=admin).raise_for_status().json()
    if given["token"] == "revoked":
        http.delete(f"/v1/tokens/{issued['id']}", headers=admin).raise_for_status()
    if "fault" in given:
        http.post("/_emulator/faults", json=given["fault"]).raise_for_status()
    return issued["token"]


def _send(http: httpx2.Client, request: dict[str, Any], token: str) -> httpx2.Response:
    headers = {name: value.format(token=token) for name, value in request["headers"].items()}
    return http.request(request["method"], request["path"], json=request["json"], headers=headers)


def _matches(given: dict[str, Any], expected: dict[str, Any]) -> bool:
    return given.keys() == expected.keys() and all(
        (isinstance(given[name], str) and given[name]) if value == "*" else given[name] == value
        for name, value in expected.items()
    )
