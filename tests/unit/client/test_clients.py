"""Both clients over real HTTP: what goes out, with which token, and what comes of failures."""

from __future__ import annotations

import sqlite3
import threading
import uuid
from collections import Counter
from contextlib import closing
from datetime import timedelta

import pytest

from cmzon_secrets.cache import TokenCache
from cmzon_secrets.client import RateLimits
from cmzon_secrets.emulator import Emulator
from cmzon_secrets.errors import (
    AuthenticationError,
    CMzonSecretsError,
    ConfigurationError,
    InvalidURI,
    PermissionDenied,
    ProviderUnavailable,
    RateLimited,
    RequestRejected,
    TransportError,
)
from cmzon_secrets.testing import ManualClock
from cmzon_secrets.tokens import Token

TO, TEXT = "+4915112345678", "a private word"
FIRST, SECOND = "cmz_first_value", "cmz_second_value"


# ── what goes out ───────────────────────────────────────────────────────────────────────────


def test_a_message_goes_out_as_the_vendor_shows_it(server, client):
    result = client.send_message(TO, "Hello from CMzon! ü👋")
    (request,) = server.received
    assert (request.method, request.path) == ("POST", "/v1/messages")
    assert request.token == FIRST
    assert request.headers["content-type"] == ["application/json"]
    assert request.json == {"to": TO, "type": "text", "text": {"body": "Hello from CMzon! ü👋"}}
    assert (result.id, result.status, result.request_id) == ("msg_1", "accepted", "req_1")
    assert result.attempts == 1
    assert result.headers["x-request-id"] == "req_1"


def test_every_message_has_an_idempotency_key_of_its_own(server, client):
    for _ in range(3):
        client.send_message(TO, TEXT)
    client.send_message(TO, TEXT, idempotency_key="order-7")
    keys = [request.headers["idempotency-key"] for request in server.received]
    assert keys.pop() == ["order-7"]
    assert len({uuid.UUID(key) for (key,) in keys}) == 3


def test_without_idempotency_no_key_is_sent(open_client, server, vault):
    with open_client(vault, base_url=server.url, idempotency="off") as client:
        client.send_message(TO, TEXT)
        with pytest.raises(ConfigurationError, match="idempotency"):
            client.send_message(TO, TEXT, idempotency_key="order-7")
    (request,) = server.received
    assert "idempotency-key" not in request.headers


def test_any_other_call_has_the_token_and_json_both_ways(server, client):
    server.say(200, {"id": "tok_1"}, {"X-Thing": "7"})
    response = client.request("GET", "/v1/tokens/self?x=1", headers={"X-Trace": "abc"})
    assert (response.status, response.json, response.headers["x-thing"]) == (
        200,
        {"id": "tok_1"},
        "7",
    )
    client.request("PATCH", "/v1/thing", json={"a": [1, None]})
    got, patched = server.received
    assert (got.path, got.token, got.headers["x-trace"]) == ("/v1/tokens/self?x=1", FIRST, ["abc"])
    assert (patched.method, patched.json) == ("PATCH", {"a": [1, None]})


@pytest.mark.parametrize("name", ["Authorization", "authorization", "HOST", "Content-Length"])
def test_a_callers_header_cannot_replace_ours(server, client, name):
    with pytest.raises(ConfigurationError, match=f"request header {name}"):
        client.request("GET", "/v1/x", headers={name: "Bearer other"})
    assert server.received == []


@pytest.mark.parametrize(
    "headers",
    [
        *({"X-A": "b\r\nX-C: d"}, {"X A": "b"}, {"X-A": ""}, {"X-A": "ü"}, {"X-A": "b\n"}),
        *({"X-A": 1}, {"X-A": None}, {1: "b"}, {b"X-A": "b"}, [("X-A", "b")], 5),
    ],
)
def test_a_header_that_is_none_is_refused(server, client, headers):
    with pytest.raises(ConfigurationError, match="request header"):
        client.request("GET", "/v1/x", headers=headers)
    assert server.received == []


@pytest.mark.parametrize(
    "path", ["v1/x", "//other.example/v1", "/v1/\n", "/v1#x", "@other/", "/" * 70_000]
)
def test_a_path_that_leaves_the_api_is_refused(server, client, path):
    with pytest.raises(ConfigurationError, match="request path"):
        client.request("GET", path)
    assert server.received == []


@pytest.mark.parametrize("body", [{"x": object()}, float("nan"), "\ud83d", {1, 2}])
def test_a_body_that_is_not_json_is_refused(server, client, body):
    with pytest.raises(RequestRejected, match="request body"):
        client.request("POST", "/v1/messages", json=body)
    assert server.received == []


def test_a_number_or_text_that_cannot_be_sent_sends_nothing_and_counts_nothing(
    open_client, server, vault
):
    with open_client(vault, base_url=server.url, limits=RateLimits(per_day=1)) as client:
        for to, text in (("12345678", TEXT), (TO, "")):
            with pytest.raises(RequestRejected):
                client.send_message(to, text)
        with pytest.raises(RequestRejected):
            client.request("POST", "/v1/messages", json=object())
        client.send_message(TO, TEXT)
    assert len(server.received) == 1
    assert vault.calls == 1


# ── the token ───────────────────────────────────────────────────────────────────────────────


def test_a_refused_token_is_replaced_and_the_message_goes_out(server, vault, client, events):
    client.send_message(TO, TEXT)
    server.dead.add(FIRST)
    vault.token = Token(SECOND, id="tok_2")
    result = client.send_message(TO, TEXT, idempotency_key="order-7")
    assert result.attempts == 2
    assert [request.token for request in server.received] == [FIRST, FIRST, SECOND]
    assert [r.headers["idempotency-key"] for r in server.received[1:]] == [["order-7"]] * 2
    assert vault.calls == 2
    assert [(e.name, e.token_id) for e in events] == [
        ("message_sent", "tok_1"),
        ("token_rejected", "tok_1"),
        ("message_sent", "tok_2"),
    ]


def test_no_token_is_sent_again_that_was_refused(server, vault, client):
    server.dead.add(FIRST)
    with pytest.raises(AuthenticationError, match="401 Invalid API token"):
        client.send_message(TO, TEXT)
    assert [request.token for request in server.received] == [FIRST]
    assert vault.calls == 2


def test_a_second_refusal_is_final_and_the_next_message_asks_for_the_token_anew(
    server, vault, client
):
    server.dead |= {FIRST, SECOND}
    client._shared.cache.get()
    vault.token = Token(SECOND)
    with pytest.raises(AuthenticationError):
        client.send_message(TO, TEXT)
    vault.token = Token("cmz_third_value")
    assert client.send_message(TO, TEXT).attempts == 1
    assert [r.token for r in server.received] == [FIRST, SECOND, "cmz_third_value"]


def test_a_refused_token_and_a_backend_that_is_down_is_an_outage(server, vault, client):
    client.send_message(TO, TEXT)
    server.dead.add(FIRST)
    vault.token = ProviderUnavailable("vault — sealed", uri=vault.uri)
    with pytest.raises(ProviderUnavailable, match="sealed"):
        client.send_message(TO, TEXT)


def test_rotations_under_eight_threads_are_seen_by_nobody(server, vault, client):
    failures, stop = [], threading.Event()

    def send():
        while not stop.is_set():
            try:
                client.send_message(TO, TEXT)
            except CMzonSecretsError as error:
                failures.append(error)

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    rounds = [f"cmz_round_{n}" for n in range(5)]
    for value in rounds:
        before, old = len(server.received), vault.token
        vault.token = Token(value)
        server.dead.add(old.reveal())  # as in an emergency: no grace at all
        while len(server.received) < before + 20:
            stop.wait(0.01)
    stop.set()
    for thread in threads:
        thread.join(30)
    assert failures == []
    sent = Counter(request.token for request in server.received)
    assert set(rounds) <= set(sent)
    assert vault.calls <= 1 + 2 * len(rounds)


def test_a_cache_given_by_the_caller_is_used_and_left_open(open_client, server, vault):
    with TokenCache(vault) as cache:
        for _ in range(2):
            with open_client(cache, base_url=server.url) as client:
                client.send_message(TO, TEXT)
        cache.get()
    assert vault.calls == 1


def test_a_provider_given_by_the_caller_is_left_open(open_client, server, vault):
    with open_client(vault, base_url=server.url) as client:
        client.send_message(TO, TEXT)
    assert not vault.closed


def test_a_uri_is_opened_and_what_it_opened_is_closed(open_client, server, monkeypatch):
    monkeypatch.setenv("SOME_TOKEN", FIRST)
    closed = []

    def close(provider):
        closed.append(provider)

    with open_client("env:SOME_TOKEN", base_url=server.url) as client:
        monkeypatch.setattr(type(client._opened), "close", close)
        client.send_message(TO, TEXT)
    assert server.received[0].token == FIRST
    assert closed == [client._opened]
    assert repr(client).endswith(f"Client {server.url} env:SOME_TOKEN>")


def test_a_closed_client_says_so(server, vault, client):
    client.send_message(TO, TEXT)
    client.close()
    client.close()
    with pytest.raises(ConfigurationError, match="closed"):
        client.send_message(TO, TEXT)
    assert len(server.received) == 1


# ── failures ────────────────────────────────────────────────────────────────────────────────


def test_a_429_tells_how_long_to_wait_and_keeps_its_headers(server, client):
    server.say(429, {"error": {"code": 429, "retry_after": 60}}, {"Retry-After": "7"})
    with pytest.raises(RateLimited) as caught:
        client.send_message(TO, TEXT)
    assert caught.value.retry_after == 60
    assert caught.value.headers["retry-after"] == "7"
    assert len(server.received) == 1


def test_a_403_leaves_the_token_alone(server, vault, client):
    server.say(403, {"error": {"code": 403, "details": "Token lacks required scope"}})
    with pytest.raises(PermissionDenied, match="Token lacks required scope"):
        client.send_message(TO, TEXT)
    client._shared.cache.get()
    assert vault.calls == 1


def test_a_redirect_is_not_followed(server, client):
    server.say(302, b"", {"Location": f"{server.url}/elsewhere"})
    with pytest.raises(RequestRejected) as caught:
        client.send_message(TO, TEXT)
    assert caught.value.status == 302
    assert [r.path for r in server.received] == ["/v1/messages"]


def test_a_server_that_hangs_is_given_up_after_the_timeout(open_client, server, vault):
    server.say(fault="hang")
    with (
        open_client(vault, base_url=server.url, timeout=timedelta(seconds=0.2)) as client,
        pytest.raises(TransportError, match="ReadTimeout") as caught,
    ):
        client.send_message(TO, TEXT)
    assert caught.value.may_have_been_sent


def test_a_server_that_is_not_there_was_sent_nothing(open_client, server, vault, events):
    url = server.url
    server.stop()
    with open_client(vault, base_url=url, clock=ManualClock(), subscriber=events.append) as client:
        with pytest.raises(TransportError, match="ConnectError") as caught:
            client.send_message(TO, TEXT)
        assert not caught.value.may_have_been_sent
        assert (caught.value.status, caught.value.attempts) == (None, 5)
    *retries, failed = events
    assert [e.name for e in retries] == ["message_retried"] * 4
    assert (failed.name, failed.facts["error"]) == ("message_failed", "TransportError")


def test_an_endless_answer_is_cut_off(server, client):
    server.say(200, b"x" * 3_000_000)
    with pytest.raises(TransportError, match="longer than"):
        client.send_message(TO, TEXT)


def test_an_error_in_hand_is_neither_quoted_nor_stripped(open_client, server, vault):
    url = server.url
    server.stop()
    mine = LookupError("somebody else's")

    def send_while_handling(client):
        try:
            raise mine
        except LookupError:
            client.send_message(TO, TEXT)

    with (
        open_client(vault, base_url=url, max_attempts=1) as client,
        pytest.raises(TransportError) as caught,
    ):
        send_while_handling(client)
    assert "somebody else's" not in str(caught.value)
    assert mine.__traceback__ is not None


# ── arguments ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://api.example.com", "never sent over plain http"),
        ("ftp://127.0.0.1", "not an https:// URL"),
        ("https://user:pw@api.example.com", "user or password"),
        ("https://api.example.com/v1", "/v1 is part"),
    ],
)
def test_a_base_url_that_no_token_may_be_sent_to_is_refused(open_client, vault, url, why):
    with pytest.raises(ConfigurationError, match=why):
        open_client(vault, base_url=url)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"idempotency": "yes"}, "idempotency"),
        ({"timeout": -1}, "timeout — a timedelta or seconds, more than 0, is needed"),
        ({"deadline": 0}, "deadline — a timedelta or seconds, more than 0, is needed"),
        ({"max_attempts": 0}, "max_attempts"),
        ({"max_attempts": True}, "max_attempts"),
        ({"max_attempts": 2.0}, "max_attempts"),
        ({"limits": 80}, "RateLimits are needed, got int"),
        ({"base_url": ""}, None),
        ({"base_url": 5}, "base URL — a text is needed, got int"),
        ({"base_url": "https://h/ü"}, "base URL — its path is not ASCII"),
        ({"proxy": b"http://h:1"}, "proxy — a text is needed"),
    ],
)
def test_arguments_that_cannot_work_are_refused(open_client, vault, monkeypatch, arguments, why):
    monkeypatch.setenv("CMZON_BASE_URL", "http://127.0.0.1:9")
    if why is None:
        open_client(vault, **arguments).close()
        return
    with pytest.raises(ConfigurationError, match=why):
        open_client(vault, **arguments)


def test_a_token_in_place_of_a_provider_is_refused_without_showing_it(open_client):
    with pytest.raises(InvalidURI) as caught:
        open_client(FIRST)
    assert FIRST not in str(caught.value)
    with pytest.raises(ConfigurationError, match="a TokenProvider or a URI is needed, got Token"):
        open_client(Token(FIRST))


@pytest.mark.parametrize("priority", ["high", None, 1.5, float("nan")])
def test_a_priority_that_cannot_be_compared_is_refused(server, client, priority):
    with pytest.raises(RequestRejected, match=r"^priority — "):
        client.send_message(TO, TEXT, priority=priority)
    assert server.received == []


@pytest.mark.parametrize(("method", "path"), [(None, "/v1/x"), ("GET", None), (b"GET", "/v1/x")])
def test_a_method_or_path_that_is_no_text_is_refused(server, client, method, path):
    with pytest.raises(ConfigurationError, match=r"request (method|path) — a text is needed"):
        client.request(method, path)
    assert server.received == []


# ── what the API rejects ────────────────────────────────────────────────────────────────────


@pytest.fixture
def emulated(open_client, cmzon_emulator, vault):
    vault.token = Token(cmzon_emulator.admin_token)
    with open_client(vault, base_url=cmzon_emulator.base_url) as client:
        yield client


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"type": "text", "text": {"body": "hi"}}, "to"),
        ({"to": "12345", "type": "text", "text": {"body": "hi"}}, "to"),
        ({"to": TO, "type": "image", "text": {"body": "hi"}}, "type"),
        ({"to": TO, "type": "text", "text": {"body": "x" * 5000}}, "text.body"),
    ],
)
def test_a_message_that_the_api_rejects_names_the_field_and_the_remedy(emulated, body, field):
    with pytest.raises(RequestRejected, match=f"400 Invalid request .{field} — ") as caught:
        emulated.request("POST", "/v1/messages", json=body)
    assert caught.value.details.startswith(f"{field} — ")
    assert "mend what the API names" in caught.value.hint


def test_a_key_used_again_for_another_message_is_rejected(emulated):
    first = emulated.send_message(TO, "one", idempotency_key="order-7")
    assert emulated.send_message(TO, "one", idempotency_key="order-7").id == first.id
    with pytest.raises(RequestRejected) as caught:
        emulated.send_message(TO, "two", idempotency_key="order-7")
    assert (caught.value.status, caught.value.attempts) == (422, 1)
    assert caught.value.details


def test_what_the_api_echoes_of_a_message_is_masked(server, client):
    said = f"{TO} is not on WhatsApp, and '{TEXT}' is forbidden"
    server.say(400, {"error": {"code": 400, "message": said, "details": said}})
    with pytest.raises(RequestRejected) as caught:
        client.send_message(TO, TEXT)
    shown = f"{caught.value} {caught.value.message} {caught.value.details}"
    assert "is not on WhatsApp" in shown
    assert TO not in shown
    assert TEXT not in shown


def test_every_character_arrives_as_it_was_sent(open_client, vault, tmp_path):
    texts = ["ü👋🏽", "\u202eשלום", "a\0b", '\r\n\t\\"', "\ufeff\u2028", "x" * 4096, "👩‍👩‍👧" * 500]
    with Emulator(state=tmp_path) as emulator:
        vault.token = Token(emulator.admin_token)
        with open_client(vault, base_url=emulator.base_url) as client:
            for text in texts:
                client.send_message(TO, text)
    with closing(sqlite3.connect(tmp_path / "emulator.db")) as journal:
        arrived = [body for (body,) in journal.execute("SELECT text FROM exchanges ORDER BY seq")]
    assert arrived == texts
