"""Client over real HTTP: tokens that change and die, servers that fail, and what leaks (nothing)."""

from __future__ import annotations

import logging
import os
import signal
import ssl
import threading
import traceback
import uuid
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from cmzon_secrets.cache import TokenCache
from cmzon_secrets.client import Client, RateLimits
from cmzon_secrets.client.limits import Departure
from cmzon_secrets.errors import (
    APIError,
    AuthenticationError,
    CMzonSecretsError,
    ConfigurationError,
    DailyLimitReached,
    InvalidURI,
    PermissionDenied,
    ProviderUnavailable,
    RateLimited,
    RequestRejected,
    ServerError,
    TransportError,
)
from cmzon_secrets.testing.clock import ManualClock
from cmzon_secrets.tokens import Token

TO, TEXT = "+4915112345678", "a private word"
FIRST, SECOND = "cmz_first_value", "cmz_second_value"


@pytest.fixture
def client(server, vault, events):
    with Client(vault, base_url=server.url, timeout=5, subscriber=events.append) as client:
        yield client


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


# ── limits ──────────────────────────────────────────────────────────────────────────────────


def test_the_day_limit_stops_before_anything_is_sent(server, vault, events):
    clock = ManualClock(datetime(2026, 11, 24, 12, tzinfo=UTC))
    limits = RateLimits(per_day=2)
    with Client(
        vault, base_url=server.url, limits=limits, clock=clock, subscriber=events.append
    ) as client:
        client.send_message(TO, TEXT)
        client.send_message(TO, TEXT)
        with pytest.raises(DailyLimitReached) as caught:
            client.send_message(TO, TEXT)
        assert caught.value.resets_at == datetime(2026, 11, 25, tzinfo=UTC)
        assert len(server.received) == 2
        clock.advance(timedelta(hours=12))
        client.send_message(TO, TEXT)
    assert [e.name for e in events][2] == "message_failed"


def test_what_was_definitely_not_accepted_does_not_count_for_the_day(server, vault):
    with Client(vault, base_url=server.url, limits=RateLimits(per_day=1)) as client:
        for status in (400, 403, 404):
            server.say(status)
            with pytest.raises(APIError):
                client.send_message(TO, TEXT)
        server.say(500)
        with pytest.raises(ServerError):
            client.send_message(TO, TEXT)
        with pytest.raises(DailyLimitReached):
            client.send_message(TO, TEXT)


def test_clients_that_share_limits_share_the_pace_and_the_day(server, vault):
    clock = ManualClock(datetime(2026, 11, 24, 12, tzinfo=UTC))
    limits = RateLimits(per_second=10, per_day=4, arrival_jitter=0)
    begun = clock.monotonic()
    one, two = (Client(vault, base_url=server.url, limits=limits, clock=clock) for _ in range(2))
    with one, two:
        for client in (one, two, one, two):
            client.send_message(TO, TEXT)
        with pytest.raises(DailyLimitReached):
            one.send_message(TO, TEXT)
    assert clock.monotonic() - begun == pytest.approx(0.3)


def test_a_message_ready_too_close_behind_others_is_held_back(server, vault):
    clock, limits = ManualClock(), RateLimits(per_second=10)
    begun = clock.monotonic()
    for _ in range(10):  # others, held up until now, that all left at this moment
        limits.clearance(Departure(), begun)
    with Client(vault, base_url=server.url, limits=limits, clock=clock) as client:
        client.send_message(TO, TEXT)
    assert clock.monotonic() - begun == pytest.approx(1.01, abs=0.001)


def test_the_limits_learn_when_a_message_left_and_when_its_answer_came(server, vault):
    clock, limits, accept = ManualClock(), RateLimits(), server.answer
    left = clock.monotonic()

    def answer(request):
        clock.advance(0.25)
        return accept(request)

    server.answer = answer
    with Client(vault, base_url=server.url, limits=limits, clock=clock) as client:
        client.send_message(TO, TEXT)
    (departure,) = limits._departures
    assert (departure.at, departure.answered_at) == (left, left + 0.25)


def test_clients_share_no_limits_unless_told_to(server, vault):
    one, two = (Client(vault, base_url=server.url) for _ in range(2))
    with one, two:
        assert one._limits is not two._limits


def test_other_calls_are_neither_paced_nor_counted(server, vault):
    clock = ManualClock()
    begun = clock.monotonic()
    limits = RateLimits(per_second=1, per_day=1)
    with Client(vault, base_url=server.url, limits=limits, clock=clock) as client:
        for _ in range(5):
            client.request("GET", "/v1/tokens/self")
        client.request("POST", "/v1/messages", json={})
        with pytest.raises(DailyLimitReached):
            client.send_message(TO, TEXT)
    assert clock.monotonic() == begun


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


# ── connections ─────────────────────────────────────────────────────────────────────────────


def test_one_connection_serves_many_messages(server, client):
    for _ in range(10):
        client.send_message(TO, TEXT)
    assert server.connections == 1


def test_threads_use_a_connection_each(server, client):
    threads = [threading.Thread(target=client.send_message, args=(TO, TEXT)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(server.received) == 8
    assert server.connections <= 8


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_opens_connections_of_its_own(server, client):
    client.send_message(TO, TEXT)
    child = os.fork()
    if child == 0:
        signal.alarm(30)  # a deadlock ends
        try:
            client.send_message(TO, TEXT)
        except BaseException:
            os._exit(1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert server.connections == 2
    client.send_message(TO, TEXT)
    assert server.connections == 2  # the parent's is still good


def test_proxies_and_netrc_of_the_environment_are_not_used(server, vault, monkeypatch, tmp_path):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password other\n")
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    with Client(vault, base_url=server.url) as client:
        client.send_message(TO, TEXT)
    assert server.received[0].token == FIRST


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


def test_a_certificate_that_is_not_trusted_is_refused_before_the_token_is_sent(vault, tmp_path):
    trustme = pytest.importorskip("trustme")
    authority, stranger = trustme.CA(), trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    for name, ca in (("ca.pem", authority), ("other.pem", stranger)):
        ca.cert_pem.write_to_path(str(tmp_path / name))
    with tls_server(context) as (url, seen):
        with (
            Client(vault, base_url=url, ca=str(tmp_path / "other.pem")) as client,
            pytest.raises(TransportError, match="CERTIFICATE_VERIFY_FAILED"),
        ):
            client.send_message(TO, TEXT)
        assert FIRST.encode() not in b"".join(seen)
        with Client(vault, base_url=url, ca=str(tmp_path / "ca.pem")) as client:
            assert client.send_message(TO, TEXT).id == "msg_tls"
        assert FIRST.encode() in b"".join(seen)


class tls_server:  # noqa: N801  # used as a function
    """Answers every TLS connection once and keeps the decrypted bytes it received."""

    def __init__(self, context):
        import socket

        self._context, self._seen = context, []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self):
        self._thread.start()
        return f"https://127.0.0.1:{self._listener.getsockname()[1]}", self._seen

    def __exit__(self, *_):
        self._thread.join(30)
        self._listener.close()

    def _serve(self):
        for _ in range(2):
            raw, _address = self._listener.accept()
            with raw:
                try:
                    self._answer(raw)
                except (OSError, ssl.SSLError):
                    continue

    def _answer(self, raw):
        body = b'{"id": "msg_tls"}'
        with self._context.wrap_socket(raw, server_side=True) as connection:
            while chunk := connection.recv(65536):
                self._seen.append(chunk)
                if chunk.endswith(b"}}"):  # the end of the message's JSON
                    break
            head = f"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
            connection.sendall(head.encode() + body)


# ── what leaks ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "fault", ["refused", "reset", "hang", "401", "500", "not JSON", "too long"]
)
def test_no_error_log_or_traceback_shows_the_token(server, vault, caplog, events, fault):
    caplog.set_level(logging.DEBUG)
    for name in ("httpx2", "httpcore2"):
        caplog.set_level(logging.DEBUG, logger=name)
    url = server.url
    if fault == "refused":
        server.stop()
    elif fault.isdigit():
        server.say(int(fault))
    elif fault == "not JSON":
        server.say(200, b"OK")
    elif fault == "too long":
        server.say(200, b"x" * 3_000_000)
    else:
        server.say(fault=fault)
    with (
        Client(vault, base_url=url, timeout=0.3, subscriber=events.append) as client,
        pytest.raises(CMzonSecretsError) as caught,
    ):
        client.send_message(TO, TEXT)
    shown = [shown_with_locals(caught.value), caplog.text, repr(client), repr(events)]
    assert FIRST not in "\n".join(shown)
    assert reachable(caught.value).isdisjoint(
        {FIRST, f"Bearer {FIRST}", f"Bearer {FIRST}".encode()}
    )
    for text in (repr(events), caplog.text, str(caught.value), str(caught.value.hint)):
        assert TO not in text
        assert TEXT not in text


def test_an_interrupted_send_shows_no_token_in_its_traceback(server, vault, monkeypatch):
    import httpcore2

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    with Client(vault, base_url=server.url) as client:
        client.send_message(TO, TEXT)
        monkeypatch.setattr(httpcore2.HTTP11Connection, "handle_request", interrupted)
        with pytest.raises(KeyboardInterrupt) as caught:
            client.send_message(TO, TEXT)
        assert FIRST not in shown_with_locals(caught.value)


def shown_with_locals(error):
    return "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())


def reachable(error, depth=14):
    """Every string and bytes that an inspector finds from the error, its causes and its frames."""
    found, seen, layer = set(), set(), [error]
    for _ in range(depth):
        following = []
        for thing in layer:
            if id(thing) in seen:
                continue
            seen.add(id(thing))
            if isinstance(thing, str | bytes):
                found.add(thing)
            following += parts(thing)
        layer = following
    return found


def parts(thing):
    if isinstance(thing, dict):
        return [*thing.keys(), *thing.values()]
    if isinstance(thing, list | tuple | set | frozenset):
        return list(thing)
    if isinstance(thing, BaseException):
        return [thing.__cause__, thing.__context__, thing.args, vars(thing)]
    if type(thing).__module__.split(".")[0] in ("httpx2", "httpcore2"):
        return [vars(thing)] if hasattr(thing, "__dict__") else []
    return []
