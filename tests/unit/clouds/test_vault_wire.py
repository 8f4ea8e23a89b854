"""Answers that no real server gives on demand: each becomes one of our errors, within the deadline."""

import base64
import gzip
import json
import logging
import socket
import threading
import time
import traceback
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from cmzon_secrets.clouds import vault_wire
from cmzon_secrets.clouds.vault import OutcomeUnknown, Place, Refused, Session
from cmzon_secrets.errors import (
    CMzonSecretsError,
    ConfigurationError,
    ProviderUnavailable,
    TokenNotFound,
)
from cmzon_secrets.providers.vault_kv import VaultKV
from cmzon_secrets.tokens import Token
from cmzon_secrets.uri import parse, split

URI = "hashivault://secret/app"
TOKEN = "hvs.a-token-that-nobody-may-see"
VALUE = "a-value-that-nobody-may-see"
GOOD = {"data": {"a": "b"}}


class Scripted(ThreadingHTTPServer):
    """Gives the answers in ``script``, the last one for ever: (status, headers, body), or a function
    of the handler. ``seen``: the requests as (method, path, headers, body)."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.script, self.seen = [(200, {}, GOOD)], []
        self.address = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request, client_address):
        """A client that went away is what some tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _answer(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        script, seen = self.server.script, self.server.seen
        seen.append((self.command, self.path, dict(self.headers), body))
        step = script.pop(0) if len(script) > 1 else script[0]
        if callable(step):
            self.close_connection = True
            step(self)
            return
        status, headers, body = step
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = _answer  # noqa: N815  # the names that http.server looks for

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    made = Scripted()
    threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield made
    made.shutdown()
    made.server_close()


@pytest.fixture
def at(server, vault_environment, monkeypatch):
    monkeypatch.setattr(vault_wire, "BACKOFF", 0.002)
    vault_environment({"VAULT_ADDR": server.address, "VAULT_TOKEN": TOKEN})
    made = Session(Place.from_location(split(URI)))
    made._opened()  # to import the SDK takes longer than the deadlines below
    return made


def calls(at, timeout=5.0):
    return at.begin(uri=URI, timeout=timeout)


def hang_up(handler):
    """Let the connection go without an answer."""


def drip(handler):
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    for _ in range(40):
        time.sleep(0.05)
        with suppress(OSError):
            handler.wfile.write(b" ")


class Drip:
    """Sends ``head`` and then one byte after the other; ``ended`` is set when the client goes away."""

    def __init__(self, head):
        self._head, self.ended = head, threading.Event()

    def __call__(self, handler):
        handler.wfile.write(self._head)
        try:
            for _ in range(400):
                time.sleep(0.05)
                handler.wfile.write(b" ")
        except OSError:
            self.ended.set()


# what is sent


def test_a_request_carries_the_token_the_namespace_and_no_more(server, at, monkeypatch):
    monkeypatch.setenv("VAULT_NAMESPACE", "team/a/")
    Session(Place.from_location(split(URI))).begin(uri=URI).read("secret/data/app")
    method, path, headers, body = server.seen[0]
    assert (method, path, body) == ("GET", "/v1/secret/data/app", b"")
    assert headers["X-Vault-Token"] == TOKEN
    assert headers["X-Vault-Namespace"] == "team/a"
    assert headers["X-Vault-Request"] == "true"
    assert "Authorization" not in headers
    assert "Cookie" not in headers


def test_names_are_quoted_and_parameters_are_not_part_of_them(server, at):
    calls(at).read("secret/data/a?b#c%d é/x y", params={"version": "2"})
    assert server.seen[0][1] == "/v1/secret/data/a%3Fb%23c%25d%20%C3%A9/x%20y?version=2"


def test_proxies_and_netrc_of_the_environment_are_not_heeded(server, at, monkeypatch, tmp_path):
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password them\n")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    assert calls(at).read("secret/data/app") == GOOD
    assert "Authorization" not in server.seen[0][2]


def test_cookies_are_not_kept(server, at):
    server.script = [(200, {"Set-Cookie": "a=b"}, GOOD)]
    calls(at).read("secret/data/app")
    calls(at).read("secret/data/app")
    assert "Cookie" not in server.seen[1][2]


def test_nothing_compressed_is_asked_for_or_unpacked(server, at):
    server.script = [(200, {"Content-Encoding": "gzip"}, gzip.compress(json.dumps(GOOD).encode()))]
    with pytest.raises(ConfigurationError, match="not a JSON object"):
        calls(at).read("secret/data/app")
    assert server.seen[0][2]["Accept-Encoding"] == "identity"


def test_an_unauthenticated_request_carries_no_token(server, at):
    calls(at).request("GET", "sys/health", authenticated=False)
    assert "X-Vault-Token" not in server.seen[0][2]


def test_the_servers_clock_is_kept(server, at):
    now = calls(at)
    now.read("secret/data/app")
    assert abs(now.server_date.timestamp() - time.time()) < 5


# redirects


@pytest.mark.parametrize("status", [302, 307])
@pytest.mark.parametrize(
    "target", ["http://127.0.0.1:9/v1/x", "https://evil.example/v1/x", "//evil.example/v1/", "/ui/"]
)
def test_a_redirect_elsewhere_is_refused_and_nothing_is_sent_there(server, at, status, target):
    server.script = [(status, {"Location": target}, b"")]
    with pytest.raises(ProviderUnavailable, match=r"redirects to .* not followed") as caught:
        calls(at).write("secret/data/app", {})
    assert "leader" in caught.value.hint
    assert len(server.seen) == 1


def test_a_redirect_on_the_same_host_is_followed_with_method_and_body(server, at):
    server.script = [
        (307, {"Location": "/v1/secret/data/moved"}, b""),
        (307, {"Location": f"{server.address}/v1/secret/data/again"}, b""),
        (200, {}, GOOD),
    ]
    assert calls(at).write("secret/data/app", {"a": "b"}) == GOOD
    assert [(m, p, b) for m, p, _, b in server.seen] == [
        ("POST", f"/v1/secret/data/{name}", b'{"a": "b"}') for name in ("app", "moved", "again")
    ]


@pytest.mark.parametrize("status", [302, 307])
@pytest.mark.parametrize(
    "target", ["http://[bad", "http://a:port/", "\xe9\xa0", "", "http://\x7f/"]
)
def test_a_redirect_that_cannot_be_read_is_one_of_our_errors(server, at, status, target):
    server.script = [(status, {"Location": target}, b"x" * 100)]
    with pytest.raises((ProviderUnavailable, ConfigurationError), match="redirects"):
        calls(at).write("secret/data/app", {})


def test_the_body_of_a_redirect_is_bounded_like_any_other(server, at, monkeypatch):
    monkeypatch.setattr(vault_wire, "MAX_ANSWER", 100_000)
    server.script = [(302, {"Location": "https://evil.example/"}, b" " * 1_000_000)]
    with pytest.raises(ProviderUnavailable, match="no answer"):
        calls(at, timeout=0.5).read("secret/data/app")


def test_parameters_are_sent_once_along_a_redirect(server, at):
    server.script = [(307, {"Location": "/v1/secret/data/app?version=2"}, b""), (200, {}, GOOD)]
    calls(at).read("secret/data/app", params={"version": "2"})
    assert server.seen[1][1] == "/v1/secret/data/app?version=2"


def test_a_circle_of_redirects_ends(server, at):
    server.script = [(307, {"Location": "/v1/secret/data/app"}, b"")]
    with pytest.raises(ProviderUnavailable, match="redirects"):
        calls(at).read("secret/data/app")
    assert len(server.seen) == 3


# tried again, or not

NOT_SERVED = [
    (503, {"errors": ["Vault is sealed"]}),
    (503, {"errors": []}),
    (429, {"errors": ["request path: rate limit quota exceeded"]}),
    (472, b""),
    (473, b""),
    (412, {"errors": ["required index state not present"]}),
    (500, {"errors": ["local node not active but active cluster node not found"]}),
    (400, {"errors": ["cannot write to readonly storage"]}),
    (400, {"errors": ["Upgrading from non-versioned to versioned data."]}),
]


@pytest.mark.parametrize(("status", "body"), NOT_SERVED)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_what_was_not_served_is_sent_again(server, at, status, body, method):
    server.script = [(status, {}, body), (status, {}, body), (200, {}, GOOD)]
    assert calls(at).request(method, "secret/data/app") == GOOD
    assert len(server.seen) == 3


@pytest.mark.parametrize(("status", "body"), NOT_SERVED)
def test_what_is_never_served_is_unavailable_within_the_deadline(server, at, status, body):
    server.script = [(status, {}, body)]
    started = time.monotonic()
    with pytest.raises(ProviderUnavailable) as caught:
        calls(at, timeout=0.3).read("secret/data/app")
    assert time.monotonic() - started < 8
    assert not isinstance(caught.value, OutcomeUnknown)
    assert server.address in caught.value.message


def test_sealed_says_so_and_no_token_is_asked_for(server, at):
    server.script = [(503, {}, {"errors": ["Vault is sealed"]})]
    with pytest.raises(ProviderUnavailable, match=f"{server.address} is sealed") as caught:
        calls(at, timeout=0.3).read("secret/data/app")
    assert "unseal" in caught.value.hint
    assert {path for _, path, _, _ in server.seen} == {"/v1/secret/data/app"}


def test_the_server_says_how_long_to_wait(server, at):
    server.script = [(429, {"Retry-After": "1"}, {"errors": []}), (200, {}, GOOD)]
    started = time.monotonic()
    assert calls(at).read("secret/data/app") == GOOD
    assert time.monotonic() - started >= 1


def test_a_wait_that_is_longer_than_the_deadline_is_not_begun(server, at):
    server.script = [(429, {"Retry-After": "3600"}, {"errors": []})]
    started = time.monotonic()
    with pytest.raises(ProviderUnavailable, match="throttles"):
        calls(at).read("secret/data/app")
    assert time.monotonic() - started < 8
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    "answer",
    [hang_up, (500, {}, {"errors": ["internal error"]}), (502, {}, b"<html>"), (504, {}, b"")],
)
def test_a_read_that_may_have_been_served_is_sent_again(server, at, answer):
    server.script = [answer, (200, {}, GOOD)]
    assert calls(at).read("secret/data/app") == GOOD


@pytest.mark.parametrize(
    "answer",
    [hang_up, (500, {}, {"errors": ["internal error"]}), (502, {}, b"<html>"), (504, {}, b"")],
)
def test_a_write_that_may_have_been_carried_out_is_sent_once(server, at, answer):
    server.script = [answer, (200, {}, GOOD)]
    with pytest.raises(OutcomeUnknown, match="may have taken effect"):
        calls(at).write("secret/data/app", {"a": "b"})
    assert len(server.seen) == 1


def test_one_that_does_no_harm_twice_is_sent_again(server, at):
    server.script = [hang_up, (200, {}, GOOD)]
    assert calls(at).write("transit/encrypt/kek", {}, repeatable=True) == GOOD


def test_a_write_without_an_answer_in_time_is_unknown_and_a_read_unavailable(server, at):
    server.script = [lambda handler: time.sleep(2)]
    with pytest.raises(OutcomeUnknown):
        calls(at, timeout=0.3).write("secret/data/app", {})
    with pytest.raises(ProviderUnavailable, match="no answer") as caught:
        calls(at, timeout=0.3).read("secret/data/app")
    assert not isinstance(caught.value, OutcomeUnknown)


def test_a_slow_answer_ends_with_the_deadline(server, at):
    server.script = [drip]
    started = time.monotonic()
    with pytest.raises(ProviderUnavailable):
        calls(at, timeout=0.3).read("secret/data/app")
    assert time.monotonic() - started < 8


# nobody waits any more


def test_a_write_is_not_sent_after_the_verb_was_told_that_the_time_is_up(
    server, vault_environment, monkeypatch
):
    address = server.address.replace("127.0.0.1", "localhost")
    vault_environment({"VAULT_ADDR": address, "VAULT_TOKEN": TOKEN})
    at = Session(Place.from_location(split(URI)))
    at._opened()
    real, answered = socket.getaddrinfo, threading.Event()

    def slow(*args, **rest):
        answered.wait(10)
        return real("127.0.0.1", *args[1:], **rest)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    with pytest.raises(OutcomeUnknown):
        calls(at, timeout=0.2).write("secret/data/app", {"a": "b"})
    answered.set()
    time.sleep(0.5)
    assert server.seen == []


def test_a_write_on_a_kept_connection_is_not_sent_late_either(server, at, monkeypatch):
    calls(at).read("secret/data/app")
    adapter, go = at._opened()._adapter, threading.Event()
    real = adapter.session.request

    def slow(*args, **rest):
        go.wait(10)
        return real(*args, **rest)

    monkeypatch.setattr(adapter.session, "request", slow)
    with pytest.raises(OutcomeUnknown):
        calls(at, timeout=0.2).write("secret/data/app", {"a": "b"})
    go.set()
    time.sleep(0.5)
    assert [method for method, *_ in server.seen] == ["GET"]


@pytest.mark.parametrize(
    "head",
    [b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b"HTTP/1.1 200 OK\r\nServer: ", b"HTTP"],
    ids=["body", "header", "status"],
)
def test_a_server_that_drips_is_left_soon_after_the_deadline(server, at, head):
    drip = Drip(head)
    server.script = [drip]
    with pytest.raises(ProviderUnavailable):
        calls(at, timeout=0.3).read("secret/data/app")
    assert drip.ended.wait(8)


# answers that are none


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"<html>a portal</html>", "not a JSON object"),
        (b"[1, 2]", "not a JSON object"),
        (b"\xff\xfe", "not a JSON object"),
        (b'{"a":' * 50_000, "not a JSON object"),
        (b'"text"', "not a JSON object"),
    ],
)
def test_what_is_no_vaults_answer_is_said(server, at, body, why):
    server.script = [(200, {}, body)]
    with pytest.raises(ConfigurationError, match=why):
        calls(at).read("secret/data/app")


def test_an_answer_without_end_is_cut_off(server, at, monkeypatch):
    monkeypatch.setattr(vault_wire, "MAX_ANSWER", 100_000)
    server.script = [(200, {}, b" " * 1_000_000)]
    with pytest.raises(ProviderUnavailable):
        calls(at, timeout=0.5).read("secret/data/app")


def test_no_content_is_an_empty_answer(server, at):
    server.script = [(204, {}, b"")]
    assert calls(at).write("secret/data/app", {}) == {}


@pytest.mark.parametrize(
    ("status", "body", "kind", "said"),
    [
        (404, {"errors": []}, TokenNotFound, "nothing is at secret/data/app"),
        (404, {"errors": ['no handler for route "x"']}, TokenNotFound, "nothing mounted there"),
        (404, {"errors": ["namespace not found"]}, ConfigurationError, "no such namespace"),
        (400, {"errors": ["missing client token"]}, ConfigurationError, "missing client token"),
        (
            400,
            b"Client sent an HTTP request to an HTTPS server.\n",
            ConfigurationError,
            "speaks https",
        ),
        (405, {"errors": ["unsupported operation"]}, ConfigurationError, "unsupported operation"),
        (418, b"\x1b[31mteapot\r\n", ConfigurationError, "418"),
        (500, {"errors": ["put failed due to value being too large"]}, ConfigurationError, "size"),
    ],
)
def test_a_refusal_is_final_and_told_in_one_line(server, at, status, body, kind, said):
    server.script = [(status, {}, body)]
    with pytest.raises(kind, match=said) as caught:
        calls(at).write("secret/data/app", {})
    assert caught.value.message.isprintable()
    assert len(server.seen) == 1


def test_an_expected_refusal_is_the_callers(server, at):
    body = {"errors": [], "data": {"metadata": {"version": 3}}}
    server.script = [(404, {}, body)]
    with pytest.raises(Refused) as caught:
        calls(at).read("secret/data/app", expecting=[404])
    assert (caught.value.status, caught.value.errors, caught.value.body) == (404, (), body)


# connections


def test_nobody_there_is_unavailable_and_says_where(server, at):
    server.shutdown()
    server.server_close()
    with pytest.raises(ProviderUnavailable, match="connection refused") as caught:
        calls(at, timeout=1.0).write("secret/data/app", {})
    assert not isinstance(caught.value, OutcomeUnknown)
    assert server.address in caught.value.message
    native = caught.value.__cause__
    assert type(native).__name__ == "ConnectionError"
    assert native.request is None, "it carries the token in a header"


def test_a_host_that_does_not_exist_is_unavailable(vault_environment):
    vault_environment({"VAULT_ADDR": "https://no-such-host.invalid", "VAULT_TOKEN": TOKEN})
    at = Session(Place.from_location(split(URI)))
    at._opened()  # to import the SDK takes longer than the deadline below
    found = []
    for _ in range(3):  # of a lookup that is under way at the deadline nobody knows
        with pytest.raises(ProviderUnavailable, match="no answer") as caught:
            calls(at, timeout=1.0).write("secret/data/app", {})
        found.append(isinstance(caught.value, OutcomeUnknown))
        if not found[-1]:
            break
    assert not found[-1]


def test_https_to_a_server_without_tls_is_a_configuration_error(server, vault_environment):
    vault_environment({"VAULT_ADDR": server.address.replace("http", "https"), "VAULT_TOKEN": TOKEN})
    at = Session(Place.from_location(split(URI)))
    with pytest.raises(ConfigurationError, match="does not speak TLS"):
        calls(at).read("secret/data/app")


# nothing shows a secret


def shown(error):
    """All that a reporter with locals would print, and what hangs on the error and its causes."""
    told = traceback.TracebackException.from_exception(error, capture_locals=True).format()
    ours = (
        "answer = ",
        "server = ",
        "data = ",
    )  # locals of the test itself, which holds the secrets
    lines = [x for part in told for x in part.splitlines() if not x.lstrip().startswith(ours)]
    link = error
    while link is not None:
        lines.append(f"{link!r} {vars(link)} {getattr(link, 'hint', '')}")
        link = link.__cause__ or link.__context__
    return "\n".join(lines)


@pytest.mark.parametrize(
    "answer",
    [
        hang_up,
        lambda handler: handler.wfile.write(f"HTTP/1.1 {TOKEN} {VALUE}\r\n\r\n".encode()),
        lambda handler: handler.wfile.write(TOKEN.encode() + b"\r\n"),
        (400, {}, {"errors": [f"cannot parse {VALUE} of {TOKEN}"]}),
        (403, {}, {"errors": [f"permission denied for {TOKEN}"]}),
        (404, {}, {"errors": [f"{VALUE}"], "data": {"token": VALUE}}),
        (500, {}, {"errors": [f"{VALUE}"]}),
        (302, {"Location": f"https://{TOKEN}@evil.example/{VALUE}"}, b""),
        (200, {}, f"{TOKEN} {VALUE}".encode()),
        (200, {"Content-Encoding": "gzip"}, f"{TOKEN} {VALUE}".encode()),
    ],
)
@pytest.mark.parametrize(
    "verb",
    [
        lambda now, data: now.write("secret/data/app", data),
        lambda now, data: now.request("PUT", "secret/data/app", json=data),
    ],
    ids=["write", "request"],
)
def test_no_error_and_no_log_holds_token_or_value(server, at, answer, verb, caplog):
    server.script = [answer]
    with caplog.at_level(1), pytest.raises(CMzonSecretsError) as caught:
        verb(calls(at, timeout=0.5), {"data": {"token": VALUE}})
    seen = shown(caught.value) + caplog.text
    assert TOKEN not in seen
    assert VALUE not in seen


def in_base64(text):
    return base64.b64encode(text.encode()).decode()


ECHOES = {
    "whole": {"errors": [f"cannot parse {VALUE}"]},
    "a part": {"errors": [f"cannot parse {VALUE[:9]}"]},
    "cut at the end": {"errors": ["y" * 190 + VALUE]},
    "split": {"errors": ["blocked:", *(VALUE[i : i + 6] for i in range(0, len(VALUE), 6))]},
    "in capitals": {"errors": [VALUE.upper()]},
    "spaced": {"errors": [" ".join(VALUE)]},
    "base64": {"errors": [in_base64(VALUE)]},
    "base64, one byte on": {"errors": [in_base64(f"x{VALUE}")]},
    "base64, two bytes on": {"errors": [in_base64(f"xy{VALUE}")]},
    "the token": {"errors": [f"token {TOKEN[4:]}"]},
    "the token, in base64": {"errors": [in_base64(f"X-Vault-Token: {TOKEN}")]},
    "very long": {"errors": ["z " * 5000 + VALUE]},
    "no JSON": b"x" * 190 + VALUE.encode(),
    "JSON without errors": {"message": VALUE},
}


@pytest.mark.parametrize("body", ECHOES.values(), ids=ECHOES)
def test_a_refusal_that_repeats_any_part_of_what_was_sent_is_not_quoted(server, at, body):
    server.script = [(400, {}, body)]
    with pytest.raises(ConfigurationError) as caught:
        calls(at).write("secret/data/app", {"data": {"note": "short", "token": VALUE}})
    assert caught.value.message.endswith(
        ("400, in words that repeat what was sent", "400, without an explanation")
    )


@pytest.mark.parametrize("body", [b"<html>whatever", b'{"message": "whatever"}', b'["whatever"]'])
def test_what_is_no_vaults_refusal_is_not_quoted_at_all(server, at, body):
    server.script = [(400, {}, body)]
    with pytest.raises(ConfigurationError, match="400, without an explanation"):
        calls(at).write("secret/data/app", {})


def test_a_store_does_not_quote_it_either(server, at):
    held = {"data": {"data": {}, "metadata": {"version": 1}}}
    server.script = [(200, {}, held), (400, {}, {"errors": ["by rule 7", VALUE]})]
    store = VaultKV(parse(URI, schemes=["hashivault"]))
    with pytest.raises(ConfigurationError, match="refuses the request") as caught:
        store.stage(Token(VALUE))
    assert VALUE not in shown(caught.value)
    assert "by rule 7" not in caught.value.message


def test_one_that_does_not_is_quoted_and_so_is_the_name_of_a_role(server, at):
    said = "role 'cmzon-rotator' is not valid: the audience differs"
    server.script = [(400, {}, {"errors": [said]})]
    sent = {"jwt": VALUE, "role": "cmzon-rotator"}
    with pytest.raises(ConfigurationError) as caught:
        calls(at).write("auth/jwt/login", sent)
    assert said in caught.value.message


def test_what_a_refusal_means_is_known_although_it_is_not_quoted(server, at):
    mismatch = "check-and-set parameter did not match the current version"
    server.script = [(400, {}, {"errors": [f"{mismatch} of {VALUE}"], "data": {"was": VALUE}})]
    with pytest.raises(Refused) as caught:
        calls(at).write("secret/data/app", {"data": {"token": VALUE}}, expecting=[400])
    assert caught.value.said == "check-and-set parameter did not match"
    assert VALUE not in shown(caught.value)


def test_a_value_that_is_also_in_the_servers_own_words_hides_no_meaning(server, at):
    mismatch = "check-and-set parameter did not match the current version"
    server.script = [(400, {}, {"errors": [mismatch]})]
    with pytest.raises(Refused) as caught:
        calls(at).write("x", {"data": {"note": "the current version"}}, expecting=[400])
    assert caught.value.said.startswith("check-and-set parameter did not match")


@pytest.mark.parametrize("answer", [hang_up, (400, {}, {"errors": [f"no secret ID {VALUE}"]})])
def test_a_login_shows_no_credential_either(server, at, answer, vault_environment, caplog):
    vault_environment({"VAULT_ROLE_ID": "the-role-id", "VAULT_SECRET_ID": VALUE})
    server.script = [answer]
    at = Session(Place.from_location(split(f"{URI}?auth=approle")))
    with caplog.at_level(1), pytest.raises(CMzonSecretsError) as caught:
        calls(at, timeout=0.3).read("secret/data/app")
    assert VALUE not in shown(caught.value) + caplog.text
    assert json.loads(server.seen[0][3]) == {"role_id": "the-role-id", "secret_id": VALUE}
    assert "X-Vault-Token" not in server.seen[0][2]


def test_a_good_answer_is_not_logged(server, at, caplog):
    server.script = [(200, {}, {"data": {"token": VALUE}})]
    with caplog.at_level(1):
        logging.getLogger().setLevel(1)
        calls(at).read("secret/data/app")
    assert VALUE not in caplog.text
    assert TOKEN not in caplog.text
