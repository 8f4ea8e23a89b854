"""The auth objects of Requests, HTTPX and HTTPX2: one set of rules, whatever sends."""

from __future__ import annotations

import threading

import pytest

from cmzon_secrets import Token, TokenCache
from cmzon_secrets.errors import (
    CMzonSecretsError,
    ConfigurationError,
    ProviderUnavailable,
    TokenNotFound,
)
from unit.client.conftest import ACCEPTED, REFUSED, Reply

FIRST, SECOND = Token("cmz_first_value", id="tok_1"), Token("cmz_second_value", id="tok_2")


@pytest.fixture
def auth(library, vault, server):
    auth = library.auth(vault, base_url=server.url)
    yield auth
    auth.close()


def tokens(server):
    return [request.token for request in server.received]


# which token


def test_a_request_carries_the_token(library, auth, server):
    assert library.send(auth, f"{server.url}/v1/messages").status == 200
    assert tokens(server) == [FIRST.reveal()]


def test_the_token_is_asked_for_at_each_request(library, server, vault):
    cache = TokenCache(vault, ttl=0.0)
    auth = library.auth(cache, base_url=server.url)
    library.send(auth, server.url)
    vault.token = SECOND
    library.send(auth, server.url)
    assert tokens(server) == [FIRST.reveal(), SECOND.reveal()]


def test_a_provider_gets_a_cache_and_is_read_once(library, auth, server, vault):
    for _ in range(3):
        library.send(auth, server.url)
    assert vault.calls == 1


def test_a_provider_that_fails_is_heard_and_nothing_is_sent(library, auth, server, vault):
    vault.token = TokenNotFound("test:vault — empty", uri="test:vault")
    with pytest.raises(TokenNotFound, match="test:vault"):
        library.send(auth, server.url)
    assert server.received == []


# after a 401


def test_after_a_401_the_request_goes_out_once_more_with_another_token(
    library, auth, server, vault
):
    library.send(auth, server.url)
    server.dead.add(FIRST.reveal())
    vault.token = SECOND
    sent = library.send(auth, f"{server.url}/v1/messages")
    assert (sent.status, sent.before) == (200, [401])
    assert tokens(server)[1:] == [FIRST.reveal(), SECOND.reveal()]
    refused, repeated = server.received[1:]
    assert (repeated.method, repeated.path, repeated.body) == (
        refused.method,
        refused.path,
        refused.body,
    )
    assert b"Hello from CMzon!" in repeated.body


def test_the_same_token_is_not_sent_again(library, auth, server, vault):
    server.dead.add(FIRST.reveal())
    sent = library.send(auth, server.url)
    assert (sent.status, sent.before) == (401, [])
    assert "Invalid API token" in sent.text
    assert tokens(server) == [FIRST.reveal()]
    assert vault.calls == 2


def test_it_is_tried_once_more_and_not_twice_and_no_refused_token_is_sent_again(
    library, auth, server, vault
):
    library.send(auth, server.url)
    server.dead |= {FIRST.reveal(), SECOND.reveal()}
    vault.token = SECOND
    assert library.send(auth, server.url).status == 401
    assert tokens(server)[1:] == [FIRST.reveal(), SECOND.reveal()]
    vault.token = Token("cmz_third_value")
    assert library.send(auth, server.url).status == 200
    assert tokens(server)[-1] == "cmz_third_value"
    assert tokens(server).count(SECOND.reveal()) == 1


@pytest.mark.parametrize("status", [200, 400, 403, 404, 429, 500])
def test_no_other_answer_is_tried_again(library, auth, server, status):
    server.say(status, {"error": {"code": status}})
    assert library.send(auth, server.url).status == status
    assert len(server.received) == 1


def test_a_backend_that_is_down_after_a_401_is_the_error_that_is_raised(
    library, auth, server, vault
):
    library.send(auth, server.url)
    server.dead.add(FIRST.reveal())
    vault.token = ProviderUnavailable("test:vault — down", uri="test:vault")
    with pytest.raises(ProviderUnavailable):
        library.send(auth, server.url)


def test_the_connection_of_the_401_serves_the_second_try(library, auth, server, vault):
    def turn(request):
        vault.token = SECOND
        return REFUSED if request.token == FIRST.reveal() else ACCEPTED

    server.answer = turn
    assert library.send(auth, server.url).status == 200
    assert (len(server.received), server.connections) == (2, 1)


def test_a_body_that_cannot_be_sent_again_is_sent_once(library, auth, server, vault):
    def turn(request):
        vault.token = SECOND
        return REFUSED if request.token == FIRST.reveal() else ACCEPTED

    server.answer = turn
    assert library.send(auth, server.url, **streamed(library)).status == 401
    assert len(server.received) == 1
    assert library.send(auth, server.url).status == 200  # the next request has the new token
    assert tokens(server)[-1] == SECOND.reveal()


def streamed(library):
    if "Async" in type(library).__name__:

        async def parts():
            yield b"{}"

        return {"content": parts()}
    return {"data" if "Requests" in type(library).__name__ else "content": iter([b"{}"])}


# where to


@pytest.mark.parametrize(
    "url",
    [
        "https://api.example.com/v1/messages",
        "http://127.0.0.1:1/v1/messages",
        "https://127.0.0.1/v1/messages",
        "http://127.0.0.1@api.example.com/",
        "http://api.cmzon.com/v1/messages",
    ],
)
def test_a_request_to_another_origin_is_refused_before_a_byte_is_sent(library, auth, vault, url):
    with pytest.raises(ConfigurationError, match="goes nowhere else") as caught:
        library.send(auth, url)
    assert "CMZON_BASE_URL" in caught.value.hint
    assert vault.calls == 0


def test_the_vendors_address_is_the_default(library, vault, monkeypatch):
    monkeypatch.delenv("CMZON_BASE_URL", raising=False)
    with pytest.raises(ConfigurationError, match=r"the token is for https://api\.cmzon\.com and"):
        library.send(library.auth(vault), "https://api.cmzon.com.example.com/")


def test_the_environment_names_another_one(library, vault, server, monkeypatch):
    monkeypatch.setenv("CMZON_BASE_URL", server.url)
    assert library.send(library.auth(vault), server.url).status == 200


def test_plain_http_is_for_this_machine_only(library, vault):
    with pytest.raises(ConfigurationError, match="never sent over plain http"):
        library.auth(vault, base_url="http://api.cmzon.com")


def test_a_redirect_to_another_origin_does_not_take_the_token_along(
    library, auth, server, elsewhere
):
    elsewhere.say(401)
    server.say(307, headers={"Location": f"{elsewhere.url}/v1/messages"})
    sent = library.send(auth, server.url, follow_redirects=True)
    assert sent.status == 401
    assert len(server.received) == 1
    (request,) = elsewhere.received
    assert "authorization" not in request.headers


def test_anothers_401_says_nothing_of_the_token(library, auth, server, elsewhere, vault):
    elsewhere.say(401)
    server.say(307, headers={"Location": elsewhere.url})
    library.send(auth, server.url, follow_redirects=True)
    library.send(auth, server.url)
    assert vault.calls == 1


def test_what_a_redirect_led_to_is_repeated_and_not_what_was_accepted_before(
    library, auth, server, vault
):
    def answer(request):
        if request.path == "/v1/messages":
            return Reply(303, headers={"Location": "/v1/status"})
        vault.token = SECOND
        return REFUSED if request.token == FIRST.reveal() else ACCEPTED

    server.answer = answer
    sent = library.send(auth, f"{server.url}/v1/messages", follow_redirects=True)
    assert sent.status == 200
    assert [(r.method, r.path) for r in server.received] == [
        ("POST", "/v1/messages"),
        ("GET", "/v1/status"),
        ("GET", "/v1/status"),
    ]


def test_a_redirect_after_the_second_try_carries_the_second_token(library, auth, server, vault):
    def answer(request):
        if request.token == FIRST.reveal():
            vault.token = SECOND
            return REFUSED
        return ACCEPTED if request.path == "/there" else Reply(307, headers={"Location": "/there"})

    server.answer = answer
    assert library.send(auth, server.url, follow_redirects=True).status == 200
    assert tokens(server) == [FIRST.reveal(), SECOND.reveal(), SECOND.reveal()]


# what it is made of


def test_a_uri_is_opened_and_read_just_in_time(library, server, monkeypatch):
    auth = library.auth("env:CMZON_TEST_TOKEN", base_url=server.url)
    monkeypatch.setenv("CMZON_TEST_TOKEN", FIRST.reveal())
    assert library.send(auth, server.url).status == 200
    auth.close()
    with pytest.raises(ConfigurationError, match="closed"):
        library.send(auth, server.url)


def test_close_leaves_open_what_it_was_given(library, server, vault):
    with TokenCache(vault) as cache:
        auth = library.auth(cache, base_url=server.url)
        auth.close()
        assert library.send(auth, server.url).status == 200
    library.auth(vault, base_url=server.url).close()
    assert not vault.closed


@pytest.mark.parametrize("provider", [None, 5, Token("cmz_value")])
def test_anything_else_is_refused(library, provider):
    with pytest.raises(CMzonSecretsError, match="a TokenProvider or a URI is needed"):
        library.auth(provider)


def test_its_repr_shows_place_and_address_and_no_token(library, auth, server):
    library.send(auth, server.url)
    assert repr(auth) == f"<TokenAuth test:vault for {server.url}>"
    assert FIRST.reveal() not in f"{auth} {vars(auth)}"


def test_threads_with_the_same_dead_token_cost_one_read(library, auth, server, vault):
    library.send(auth, server.url)
    server.dead.add(FIRST.reveal())
    vault.token = SECOND
    statuses = []
    threads = [
        threading.Thread(target=lambda: statuses.append(library.send(auth, server.url).status))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 8
    assert vault.calls == 2
