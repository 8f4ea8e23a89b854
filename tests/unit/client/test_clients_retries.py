"""Both clients over real HTTP: what they repeat, when, and what they then say."""

from __future__ import annotations

import threading
import time

import pytest

from cmzon_secrets.answers import CHECK_FIRST
from cmzon_secrets.client import RateLimits
from cmzon_secrets.errors import (
    APIError,
    AuthenticationError,
    PermissionDenied,
    ProviderUnavailable,
    RateLimited,
    RequestRejected,
    ServerError,
    TransportError,
)
from cmzon_secrets.testing import ManualClock
from cmzon_secrets.tokens import Token
from unit.client.conftest import ACCEPTED, Reply, failing

TO, TEXT = "+4915112345678", "a private word"
HTML = b"<html><h1>502 Bad Gateway</h1></html>"
PAUSED = Reply(503, HTML, {"Retry-After": "1"})  # a gateway that did not hand it on


@pytest.fixture
def clock():
    """On it every wait is over at once."""
    return ManualClock()


@pytest.fixture
def sender(open_client, server, vault, events, clock):
    """A function: options → a client on that clock, closed at the end."""
    opened = []

    def make(**options):
        arguments = {"base_url": server.url, "clock": clock, "subscriber": events.append}
        client = open_client(vault, **arguments | options)
        opened.append(client.__enter__())
        return opened[-1]

    yield make
    for client in opened:
        client.__exit__(None, None, None)


def keys(server):
    return [request.headers.get("idempotency-key") for request in server.received]


# ── what is repeated ────────────────────────────────────────────────────────────────────────


def test_refusals_that_may_pass_are_repeated_with_the_same_key(server, sender, events):
    server.play(failing(503), failing(500), failing(429), Reply(425), PAUSED)
    assert sender(max_attempts=6).send_message(TO, TEXT).attempts == 6
    assert len(keys(server)) == 6
    assert len({key for (key,) in keys(server)}) == 1
    assert [(e.name, e.facts.get("status")) for e in events] == [
        *(("message_retried", status) for status in (503, 500, 429, 425, 503)),
        ("message_sent", None),
    ]


@pytest.mark.parametrize("status", [301, 302, 307, 400, 403, 404, 409, 413, 422])
def test_a_refusal_that_will_not_pass_is_final(server, sender, status):
    server.say(status, failing(status).body, {"Location": "/elsewhere"})
    with pytest.raises(APIError) as caught:
        sender(idempotency="trust").send_message(TO, TEXT)
    assert type(caught.value) is (PermissionDenied if status == 403 else RequestRejected)
    assert (caught.value.status, caught.value.attempts) == (status, 1)
    assert not caught.value.may_have_been_sent
    assert len(server.received) == 1


IN_DOUBT = {
    "a gateway's broken connection": Reply(503, HTML),
    "reset": Reply(fault="reset"),
    "closed": Reply(fault="close"),
    "a gateway's page": Reply(502, HTML),
    "a gateway's timeout": Reply(504),
    "cut off": Reply(200, b'{"id": "msg_1"', fault="cut"),
}


@pytest.mark.parametrize("reply", IN_DOUBT.values(), ids=IN_DOUBT)
@pytest.mark.parametrize("idempotency", ["send", "off"])
def test_what_may_have_been_accepted_is_told_and_not_repeated(server, sender, reply, idempotency):
    server.play(reply)
    with pytest.raises((ServerError, TransportError)) as caught:
        sender(idempotency=idempotency, timeout=2).send_message(TO, TEXT)
    assert caught.value.may_have_been_sent
    assert caught.value.hint == CHECK_FIRST
    assert caught.value.attempts == len(server.received) == 1


@pytest.mark.parametrize("reply", IN_DOUBT.values(), ids=IN_DOUBT)
def test_where_keys_are_honoured_it_is_repeated_with_the_same_key(server, sender, reply):
    server.play(reply)
    assert sender(idempotency="trust", timeout=2).send_message(TO, TEXT).attempts == 2
    first, second = keys(server)
    assert first == second is not None


def test_without_keys_none_is_sent_and_what_was_refused_is_still_repeated(server, sender):
    server.play(failing(503))
    assert sender(idempotency="off").send_message(TO, TEXT).attempts == 2
    assert keys(server) == [None, None]


def test_other_calls_are_repeated_as_their_method_allows(server, sender, events):
    client = sender()
    server.play(Reply(fault="reset"), Reply(502, HTML), Reply(200, {"a": 1}))
    assert client.request("GET", "/v1/tokens/self").json == {"a": 1}
    assert [e.name for e in events] == ["request_retried"] * 2
    server.play(Reply(fault="reset"))
    with pytest.raises(TransportError) as caught:
        client.request("POST", "/v1/tokens", json={})
    assert caught.value.may_have_been_sent
    assert caught.value.hint == CHECK_FIRST


def test_what_may_be_done_twice_may_be_tried_again(server, sender):
    server.say(504, b"")
    with pytest.raises(ServerError) as caught:
        sender(max_attempts=2).request("GET", "/v1/tokens/self")
    assert caught.value.may_have_been_sent
    assert "try again later" in caught.value.hint


def test_a_callers_own_key_makes_any_call_repeatable_where_keys_are_honoured(server, sender):
    server.play(Reply(fault="reset"))
    headers = {"idempotency-key": "order-7"}
    sender(idempotency="trust").request("POST", "/v1/x", json={}, headers=headers)
    assert keys(server) == [["order-7"]] * 2


# ── how often, how long ─────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("most", [1, 3])
def test_no_more_requests_are_made_than_allowed(server, sender, most):
    server.answer = lambda _: failing(503)
    with pytest.raises(ServerError) as caught:
        sender(max_attempts=most).send_message(TO, TEXT)
    assert caught.value.attempts == len(server.received) == most


def test_the_deadline_bounds_a_call_with_all_its_waits(server, sender, clock):
    server.answer = lambda _: failing(503, retry_after=2)
    began = clock.monotonic()
    with pytest.raises(ServerError) as caught:
        sender(deadline=9, max_attempts=99).send_message(TO, TEXT)
    assert clock.monotonic() - began < 9
    assert caught.value.attempts == 5  # four waits of 2 to 2.2 s lie between


@pytest.mark.parametrize("fault", ["hang", "503"])
def test_the_deadline_is_kept_on_a_real_clock(open_client, server, vault, fault):
    server.answer = lambda _: failing(503) if fault == "503" else Reply(fault=fault)
    began = time.monotonic()
    with (
        open_client(vault, base_url=server.url, deadline=0.5, max_attempts=99) as client,
        pytest.raises(APIError),
    ):
        client.send_message(TO, TEXT)
    assert time.monotonic() - began < 1.5


def test_the_budget_is_one_for_all_calls_of_a_client(server, sender):
    client = sender(limits=RateLimits.unlimited(), max_attempts=99, deadline=10_000)
    server.answer = lambda _: failing(503)
    with pytest.raises(ServerError):
        client.send_message(TO, TEXT)
    with pytest.raises(ServerError):
        client.send_message(TO, TEXT)
    assert len(server.received) < 99 + 10
    spent = len(server.received)
    with pytest.raises(ServerError) as caught:
        client.send_message(TO, TEXT)
    assert caught.value.attempts == len(server.received) - spent == 1


def test_a_429_holds_back_the_other_callers_of_the_same_limits(open_client, server, vault):
    limits, departures = RateLimits(), []

    def answer(request):
        departures.append(time.monotonic())
        first = len(departures) == 1
        return failing(429, retry_after=0.6) if first else ACCEPTED

    server.answer = answer
    with open_client(vault, base_url=server.url, limits=limits) as client:
        threads = [threading.Thread(target=client.send_message, args=(TO, TEXT)) for _ in range(5)]
        threads[0].start()
        while not departures or limits._spacing.paused_until < departures[0] + 0.5:
            time.sleep(0.01)
        for thread in threads[1:]:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert len(departures) == 6
    assert departures[1] - departures[0] >= 0.6


HOSTILE = ["-1", '"soon"', "NaN", "Infinity", "1e999", "true", "[9]", "null", '"2026-11-27"', "{}"]


@pytest.mark.parametrize("wait", HOSTILE)
def test_a_nonsensical_wait_is_no_wait_but_still_a_429(server, sender, wait):
    body = f'{{"error": {{"code": 429, "retry_after": {wait}}}}}'.encode()
    server.say(429, body, {"Retry-After": wait})
    with pytest.raises(RateLimited) as caught:
        sender(max_attempts=2).send_message(TO, TEXT)
    assert caught.value.status == 429
    assert caught.value.attempts == (1 if wait in ("Infinity", "1e999") else 2)


@pytest.mark.parametrize("body", [b"", HTML, b'{"error": {"retry_af', b"\xff" * 10])
def test_a_429_of_any_shape_keeps_its_status_its_headers_and_their_wait(server, sender, body):
    server.say(429, body, {"Retry-After": "77", "X-RateLimit-Remaining": "0"})
    with pytest.raises(RateLimited) as caught:
        sender().send_message(TO, TEXT)
    assert (caught.value.status, caught.value.retry_after) == (429, 77.0)
    assert caught.value.headers["x-ratelimit-remaining"] == "0"


def test_a_429_cut_off_in_its_body_is_still_a_429(server, sender):
    server.say(429, b'{"error"', {"Retry-After": "77"}, fault="cut")
    with pytest.raises(RateLimited) as caught:
        sender().send_message(TO, TEXT)
    assert (caught.value.status, caught.value.retry_after) == (429, 77.0)


# ── the token ───────────────────────────────────────────────────────────────────────────────


def test_a_token_replaced_while_a_retry_waits_is_the_one_it_carries(open_client, server, vault):
    from cmzon_secrets.cache import TokenCache

    def answer(request):
        vault.token = Token("cmz_second_value")
        return failing(503) if len(server.received) == 1 else ACCEPTED

    server.answer = answer
    with open_client(TokenCache(vault, ttl=0), base_url=server.url) as client:
        client.send_message(TO, TEXT)
    assert [r.token for r in server.received] == ["cmz_first_value", "cmz_second_value"]


def test_a_backend_that_fails_between_two_attempts_hides_no_doubt(open_client, server, vault):
    from cmzon_secrets.cache import TokenCache

    def answer(request):
        vault.token = ProviderUnavailable("vault — sealed", uri=vault.uri)
        return Reply(fault="reset")

    server.answer = answer
    cache = TokenCache(vault, ttl=0, max_stale=0)
    with (
        open_client(cache, base_url=server.url, idempotency="trust") as client,
        pytest.raises(TransportError) as caught,
    ):
        client.send_message(TO, TEXT)
    assert caught.value.may_have_been_sent
    assert isinstance(caught.value.__cause__, ProviderUnavailable)


# ── events ──────────────────────────────────────────────────────────────────────────────────


def test_events_tell_which_token_sent_what_and_how_long_it_took(server, sender, events, clock):
    server.play(failing(503, retry_after=2))
    sender().send_message(TO, TEXT)
    retried, sent = events
    assert (retried.name, retried.token_id) == ("message_retried", "tok_1")
    assert retried.facts["wait"] == pytest.approx(2.1, abs=0.11)
    assert (sent.name, sent.token_id) == ("message_sent", "tok_1")
    assert sent.facts.pop("seconds") == pytest.approx(2.1, abs=0.15)
    assert sent.facts == {"message_id": "msg_1", "request_id": "req_1", "attempts": 2}


def test_events_tell_what_failed_and_whether_it_may_have_arrived(server, sender, events):
    client = sender()
    server.say(403, b"", {"X-Request-Id": "req_9"})
    with pytest.raises(PermissionDenied):
        client.send_message(TO, TEXT)
    server.say(fault="reset")
    with pytest.raises(TransportError):
        client.send_message(TO, TEXT)
    with pytest.raises(RequestRejected):
        client.send_message("nobody", TEXT)
    denied, lost, invalid = events
    assert denied.facts.pop("seconds") >= 0
    assert (denied.name, denied.token_id) == ("message_failed", "tok_1")
    assert denied.facts == {
        "error": "PermissionDenied",
        "status": 403,
        "request_id": "req_9",
        "attempts": 1,
        "may_have_been_sent": False,
    }
    assert lost.facts["may_have_been_sent"]
    assert (invalid.token_id, invalid.facts["attempts"]) == (None, 0)


def test_a_backend_without_a_token_is_a_failed_message_too(server, sender, vault, events):
    vault.token = ProviderUnavailable("vault — sealed", uri=vault.uri)
    with pytest.raises(ProviderUnavailable):
        sender().send_message(TO, TEXT)
    assert [e.name for e in events] == ["provider_unavailable", "message_failed"]
    assert events[-1].facts["error"] == "ProviderUnavailable"


def test_a_401_without_another_token_is_told_with_its_headers(server, sender):
    server.say(401, b"", {"X-Request-Id": "req_7", "WWW-Authenticate": "Bearer"})
    with pytest.raises(AuthenticationError) as caught:
        sender().send_message(TO, TEXT)
    assert (caught.value.request_id, caught.value.attempts) == ("req_7", 1)
    assert caught.value.headers["www-authenticate"] == "Bearer"
    assert len(server.received) == 1
