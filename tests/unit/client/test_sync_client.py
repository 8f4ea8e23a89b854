"""Client over real HTTP: what goes out, with which token, and what comes of failures."""

from __future__ import annotations

import threading
import uuid
from collections import Counter
from datetime import timedelta

import pytest

from cmzon_secrets.cache import TokenCache
from cmzon_secrets.client import Client, RateLimits
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


def test_without_idempotency_no_key_is_sent(server, vault):
    with Client(vault, base_url=server.url, idempotency="off") as client:
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
    "headers", [{"X-A": "b\r\nX-C: d"}, {"X A": "b"}, {"X-A": ""}, {"X-A": "ü"}, {"X-A": "b\n"}]
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


def test_a_number_or_text_that_cannot_be_sent_sends_nothing_and_counts_nothing(server, vault):
    with Client(vault, base_url=server.url, limits=RateLimits(per_day=1)) as client:
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
        ("message_sent", None),
        ("token_rejected", "tok_1"),
        ("message_sent", None),
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
    client._cache.get()
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


def test_a_cache_given_by_the_caller_is_used_and_left_open(server, vault):
    with TokenCache(vault) as cache:
        for _ in range(2):
            with Client(cache, base_url=server.url) as client:
                client.send_message(TO, TEXT)
        cache.get()
    assert vault.calls == 1


def test_a_provider_given_by_the_caller_is_left_open(server, vault):
    with Client(vault, base_url=server.url) as client:
        client.send_message(TO, TEXT)
    assert not vault.closed


def test_a_uri_is_opened_and_what_it_opened_is_closed(server, monkeypatch):
    monkeypatch.setenv("SOME_TOKEN", FIRST)
    closed = []

    def close(provider):
        closed.append(provider)

    with Client("env:SOME_TOKEN", base_url=server.url) as client:
        monkeypatch.setattr(type(client._opened), "close", close)
        client.send_message(TO, TEXT)
    assert server.received[0].token == FIRST
    assert closed == [client._opened]
    assert repr(client) == f"<Client {server.url} env:SOME_TOKEN>"


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
    client._cache.get()
    assert vault.calls == 1


def test_a_redirect_is_not_followed(server, client):
    server.say(302, b"", {"Location": f"{server.url}/elsewhere"})
    with pytest.raises(RequestRejected) as caught:
        client.send_message(TO, TEXT)
    assert caught.value.status == 302
    assert [r.path for r in server.received] == ["/v1/messages"]


@pytest.mark.parametrize("fault", ["reset", "close"])
def test_a_connection_lost_after_sending_may_have_been_accepted(server, client, fault):
    server.say(fault=fault)
    with pytest.raises(TransportError) as caught:
        client.send_message(TO, TEXT)
    assert caught.value.may_have_been_sent
    assert len(server.received) == 1


def test_a_server_that_hangs_is_given_up_after_the_timeout(server, vault):
    server.say(fault="hang")
    with (
        Client(vault, base_url=server.url, timeout=timedelta(seconds=0.2)) as client,
        pytest.raises(TransportError, match="ReadTimeout") as caught,
    ):
        client.send_message(TO, TEXT)
    assert caught.value.may_have_been_sent


def test_a_server_that_is_not_there_was_sent_nothing(server, vault, events):
    url = server.url
    server.stop()
    with Client(vault, base_url=url, subscriber=events.append) as client:
        with pytest.raises(TransportError, match="Connection refused") as caught:
            client.send_message(TO, TEXT)
        assert not caught.value.may_have_been_sent
        assert caught.value.status is None
    assert [(e.name, e.facts["error"], e.facts["status"]) for e in events] == [
        ("message_failed", "TransportError", None)
    ]


def test_an_endless_answer_is_cut_off(server, client):
    server.say(200, b"x" * 3_000_000)
    with pytest.raises(TransportError, match="longer than"):
        client.send_message(TO, TEXT)


def test_an_error_in_hand_is_neither_quoted_nor_stripped(server, vault):
    url = server.url
    server.stop()
    mine = LookupError("somebody else's")

    def send_while_handling(client):
        try:
            raise mine
        except LookupError:
            client.send_message(TO, TEXT)

    with Client(vault, base_url=url) as client, pytest.raises(TransportError) as caught:
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
def test_a_base_url_that_no_token_may_be_sent_to_is_refused(vault, url, why):
    with pytest.raises(ConfigurationError, match=why):
        Client(vault, base_url=url)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"idempotency": "yes"}, "idempotency"),
        ({"timeout": -1}, "timeout"),
        ({"base_url": ""}, None),
    ],
)
def test_arguments_that_cannot_work_are_refused(vault, monkeypatch, arguments, why):
    monkeypatch.setenv("CMZON_BASE_URL", "http://127.0.0.1:9")
    if why is None:
        Client(vault, **arguments).close()
        return
    with pytest.raises(ConfigurationError, match=why):
        Client(vault, **arguments)


def test_a_token_in_place_of_a_provider_is_refused_without_showing_it():
    with pytest.raises(InvalidURI) as caught:
        Client(FIRST)
    assert FIRST not in str(caught.value)
    with pytest.raises(ConfigurationError, match="a TokenProvider or a URI is needed, got Token"):
        Client(Token(FIRST))
