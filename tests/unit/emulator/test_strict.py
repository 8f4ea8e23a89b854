"""Fields and parameters that the API does not know: ignored and noted, or refused by name."""

from collections.abc import Iterator
from typing import Any

import pytest

from cmzon_secrets.emulator import Emulator

MESSAGE = {"to": "+1234567890", "type": "text", "text": {"body": "Hello"}}
WISH = {"name": "acme", "scopes": ["messages:send"]}
API_ROUTES = [
    ("POST", "/v1/messages", MESSAGE),
    ("POST", "/v1/tokens", WISH),
    ("GET", "/v1/tokens", None),
    ("GET", "/v1/tokens/self", None),
    ("DELETE", "/v1/tokens/tok_0", None),
    ("GET", "/v1/audit", None),
]
FIELDS = [
    ("/v1/messages", {**MESSAGE, "preview_url": True}, "preview_url"),
    ("/v1/messages", {**MESSAGE, "text": {"body": "hi", "bold": True}}, "text.bold"),
    ("/v1/tokens", {**WISH, "ttl": 60}, "ttl"),
]


@pytest.fixture
def lenient(connect: Any) -> Iterator[Any]:
    with Emulator() as emulator:
        yield connect(emulator)


@pytest.mark.parametrize(("path", "body", "name"), FIELDS)
def test_strictly_an_unknown_field_is_refused_by_name(api, path, body, name):
    answer = api.call("POST", path, json=body)
    assert api.details(answer).startswith(f"{name} — unknown; known: ")


@pytest.mark.parametrize(("path", "body", "name"), FIELDS)
def test_otherwise_an_unknown_field_is_ignored(lenient, path, body, name):
    assert lenient.call("POST", path, json=body).status_code < 300


@pytest.mark.parametrize(("method", "path", "body"), API_ROUTES)
def test_strictly_an_unknown_parameter_is_refused_by_name(api, method, path, body):
    answer = api.call(method, path, json=body, params={"page_size": "2"})
    assert api.details(answer).startswith("page_size — unknown; known: ")


@pytest.mark.parametrize(("method", "path", "body"), API_ROUTES)
def test_otherwise_an_unknown_parameter_is_ignored_even_twice(lenient, method, path, body):
    params = [("page_size", "2"), ("page_size", "3")]
    assert lenient.call(method, path, json=body, params=params).status_code < 300


def test_a_parameter_that_is_known_is_heeded_beside_one_that_is_not(lenient):
    lenient.issue(name="acme")
    found = lenient.call("GET", "/v1/tokens", params={"name": "acme", "page_size": "2"})
    assert [token["name"] for token in found.json()["data"]] == ["acme"]


def test_what_was_ignored_is_noted_with_the_message(lenient):
    body = {**MESSAGE, "preview_url": True, "text": {"body": "hi", "bold": True}}
    lenient.call("POST", "/v1/messages", json=body, params={"dry_run": "1"})
    (exchange,) = lenient.http.get("/_emulator/messages").json()["data"]
    assert exchange["notes"] == [
        "ignored in the query: dry_run",
        "ignored: preview_url",
        "ignored: text.bold",
    ]


def test_a_token_that_was_put_where_a_name_belongs_is_not_noted(lenient):
    token = lenient.emulator.admin_token
    lenient.call("POST", "/v1/messages", json=MESSAGE, params={token: "1"})
    lenient.call("POST", "/v1/messages", json={**MESSAGE, token: "1"})
    assert token not in lenient.http.get("/_emulator/messages").text


def test_a_dead_token_hears_nothing_of_its_fields(api):
    answer = api.call("POST", "/v1/messages", "cmz_unknown", json={"x": 1}, params={"y": "1"})
    assert answer.status_code == 401


@pytest.mark.parametrize(
    "field", [{"probabilty": 0.5}, {"retryafter": 1}], ids=lambda field: next(iter(field))
)
def test_controls_are_strict_always(lenient, field):
    fault = {"route": "POST /v1/messages", "status": 500, **field}
    answer = lenient.http.post("/_emulator/faults", json=fault)
    assert lenient.details(answer).startswith(f"{next(iter(field))} — unknown")
    assert lenient.http.get("/_emulator/faults").json()["data"] == []


def test_a_reset_with_a_field_resets_nothing(lenient):
    lenient.send()
    answer = lenient.http.post("/_emulator/reset", json={"keep": "tokens"})
    assert lenient.details(answer) == "keep — unknown; known: none"
    assert lenient.messages() == 1


def test_the_pytest_fixture_is_strict(cmzon_emulator, connect):
    answer = connect(cmzon_emulator).send(message={**MESSAGE, "preview_url": True})
    assert answer.status_code == 400


@pytest.mark.parametrize("absent", ["expires_in", "allowed_ips"])
def test_null_is_as_good_as_absent_also_strictly(api, absent):
    assert api.issue(**{absent: None})["id"]
