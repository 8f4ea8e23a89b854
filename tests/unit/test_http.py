"""The one HTTP session, against a real server on loopback that behaves as badly as it is told to."""

import json
import logging
import socket
import ssl
import struct
import threading
import traceback
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from cmzon_secrets import Token, __version__
from cmzon_secrets.answers import Answer, api_error
from cmzon_secrets.errors import (
    AuthenticationError,
    CMzonSecretsError,
    ConfigurationError,
    PermissionDenied,
    RateLimited,
    RequestRejected,
    ServerError,
    TransportError,
)
from cmzon_secrets.http import MAX_ANSWER_BYTES, Session, checked_base_url

TOKEN = Token("cmz_the-token-that-must-not-be-shown")


class Handler(BaseHTTPRequestHandler):
    """Answers as the path says, and writes down what it was asked."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        length = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(length)
        self.server.asked.append((self.command, self.path, dict(self.headers), body))
        behaviour = self.server.behaviours.get(self.path, _answer)
        behaviour(self)

    do_POST = do_GET  # noqa: N815  # the base class's name

    def log_message(self, *_):
        pass

    def answer(self, status=200, body=b"{}", **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _answer(handler):
    handler.answer(X_Request_Id="req_1")


def _reset(handler):
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()
    handler.close_connection = True


def _hang_up(handler):
    handler.connection.shutdown(socket.SHUT_RDWR)
    handler.close_connection = True


def _truncate(handler):
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b"{")
    _hang_up(handler)


def _no_http(handler):
    handler.wfile.write(b"220 mail.example ESMTP\r\n")
    handler.wfile.flush()
    _hang_up(handler)


def _too_long(handler):
    handler.send_response(200)
    handler.send_header("Content-Length", str(MAX_ANSWER_BYTES * 50))
    handler.end_headers()
    try:
        for _ in range(50):
            handler.wfile.write(b"x" * MAX_ANSWER_BYTES)
    except OSError:
        handler.server.gave_up.set()
    handler.close_connection = True


def _silent(handler):
    handler.server.released.wait(30)
    handler.close_connection = True


@pytest.fixture
def server():
    with serving() as running:
        yield running


@contextmanager
def serving(context=None):
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.daemon_threads = False
    httpd.asked, httpd.behaviours = [], {}
    httpd.gave_up, httpd.released = threading.Event(), threading.Event()
    httpd.url = f"http://127.0.0.1:{httpd.server_port}"
    if context is not None:
        httpd.socket = context.wrap_socket(httpd.socket, server_side=True)
        httpd.url = httpd.url.replace("http:", "https:")
        httpd.handle_error = lambda *_: None
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield httpd
    finally:
        httpd.released.set()
        httpd.shutdown()
        httpd.server_close()
        thread.join()


@pytest.fixture
def session(server):
    with closing(Session(server.url, timeout=5.0)) as opened:
        yield opened


# base URLs


@pytest.mark.parametrize(
    ("url", "checked"),
    [
        ("https://api.cmzon.com", "https://api.cmzon.com"),
        ("https://api.cmzon.com/", "https://api.cmzon.com"),
        ("https://proxy.example:8443/cmzon/", "https://proxy.example:8443/cmzon"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://127.9.9.9", "http://127.9.9.9"),
        ("http://localhost:1", "http://localhost:1"),
        ("http://[::1]:1", "http://[::1]:1"),
    ],
)
def test_a_base_url_is_https_or_loopback(url, checked):
    assert checked_base_url(url) == checked


@pytest.mark.parametrize(
    "url",
    [
        "http://api.cmzon.com",
        "http://10.0.0.1",
        "http://0.0.0.0",
        "http://localhost.evil.example",
        "http://127.0.0.1.evil.example",
        "http://2130706433",
        "http://0x7f.1",
        "http://evil.example#localhost",
        "http://evil.example?127.0.0.1",
        "http://evil.example\\@127.0.0.1",
        "http://127.0.0.1\\.evil.example",
        "https://user:pw@api.cmzon.com",
        "https://token@api.cmzon.com",
        "https://",
        "https:///v1",
        "api.cmzon.com",
        "//api.cmzon.com",
        "ftp://api.cmzon.com",
        "file:///etc/passwd",
        "",
        "https://api.cmzon.com?x=1",
        "https://api.cmzon.com#x",
        "https://api.cmzon.com/v1",
        "https://api.cmzon.com/v1/",
        "https://[::1",
        "https://api.cmzon.com:port",
        "https://api.cmzon.com:99999",
        "https://api cmzon.com",
        "https://api.cmzon.com\n",
        " https://api.cmzon.com",
        "ht\ntps://api.cmzon.com",
    ],
)
def test_any_other_base_url_is_refused_before_a_byte_is_sent(url):
    with pytest.raises(ConfigurationError) as caught:
        checked_base_url(url)
    assert caught.value.message.isprintable()


@given(st.text(max_size=40))
def test_any_text_is_a_base_url_or_a_configuration_error(text):
    for url in (text, f"https://{text}", f"http://{text}"):
        try:
            checked_base_url(url)
        except ConfigurationError as error:
            assert error.message.isprintable()  # noqa: PT017  # either outcome is right


def test_a_secret_in_the_wrong_part_of_a_base_url_is_not_repeated():
    for url in (f"https://{TOKEN.reveal()}@h", f"https://h?token={TOKEN.reveal()}"):
        with pytest.raises(ConfigurationError) as caught:
            checked_base_url(url)
        assert TOKEN.reveal() not in caught.value.message + (caught.value.hint or "")


def test_the_base_url_comes_from_the_argument_the_environment_or_is_the_vendors(monkeypatch):
    monkeypatch.setenv("CMZON_BASE_URL", "https://from.environment")
    assert Session("https://given").base_url == "https://given"
    assert Session().base_url == "https://from.environment"
    monkeypatch.delenv("CMZON_BASE_URL")
    assert Session().base_url == "https://api.cmzon.com"


# what is sent


def test_a_request_carries_the_token_the_body_and_our_name(server, session):
    answer = session.send(
        "POST", "/v1/messages", token=TOKEN, json={"to": "+1"}, headers={"Idempotency-Key": "k"}
    )
    assert (answer.status, answer.json(), answer.headers["x-request-id"]) == (200, {}, "req_1")
    [(method, path, headers, body)] = server.asked
    assert (method, path, json.loads(body)) == ("POST", "/v1/messages", {"to": "+1"})
    assert headers["Authorization"] == f"Bearer {TOKEN.reveal()}"
    assert headers["Content-Type"] == "application/json"
    assert headers["Idempotency-Key"] == "k"
    assert headers["User-Agent"] == f"cmzon-secrets/{__version__}"
    assert headers["Accept-Encoding"] == "identity"


def test_without_a_token_nothing_is_authorized_and_without_a_body_nothing_is_sent(server, session):
    session.send("GET", "/v1/tokens")
    [(_, _, headers, body)] = server.asked
    assert "Authorization" not in headers
    assert body == b""


def test_a_caller_cannot_set_the_authorization(server, session):
    with pytest.raises(ConfigurationError):
        session.send("GET", "/", token=TOKEN, headers={"authorization": "Bearer other"})
    assert server.asked == []


def test_connections_are_reused(server, session):
    ports = set()
    server.behaviours["/port"] = lambda h: (ports.add(h.client_address[1]), h.answer())
    for _ in range(5):
        session.send("GET", "/port")
    assert len(ports) == 1


@pytest.mark.parametrize(
    "path", ["v1", "", "//evil.example/v1", "/v1#x", "/v1\r\nX: 1", "/v1\n", "https://evil.example"]
)
def test_a_path_stays_on_the_host(path, server, session):
    with pytest.raises(ConfigurationError):
        session.send("GET", path, token=TOKEN)
    assert server.asked == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_answers_and_the_token_is_not_sent_on(status, server, session):
    with serving() as elsewhere:
        server.behaviours["/v1"] = lambda h: h.answer(status, Location=f"{elsewhere.url}/stolen")
        answer = session.send("POST", "/v1", token=TOKEN, json={})
        assert answer.status == status
        assert elsewhere.asked == []
    assert len(server.asked) == 1
    assert isinstance(api_error(answer, what="x"), RequestRejected)


def test_proxies_and_netrc_of_the_environment_are_not_used(server, session, monkeypatch, tmp_path):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login user password pw\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with serving() as proxy:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy"):
            monkeypatch.setenv(name, proxy.url)
        session.send("GET", "/v1")
        assert proxy.asked == []
    [(_, _, headers, _)] = server.asked
    assert "Authorization" not in headers


def test_cookies_are_not_kept(server, session):
    server.behaviours["/v1"] = lambda h: h.answer(Set_Cookie="session=1; Path=/")
    session.send("GET", "/v1")
    session.send("GET", "/v1")
    assert "Cookie" not in server.asked[1][2]


# TLS


@pytest.fixture
def tls():
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return authority, context


def test_a_given_ca_is_trusted(tls, tmp_path):
    authority, context = tls
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    with serving(context) as server, closing(Session(server.url, ca=str(tmp_path / "ca.pem"))) as s:
        assert s.send("GET", "/v1", token=TOKEN).status == 200


def test_a_certificate_of_an_unknown_ca_is_refused_before_anything_is_sent(tls):
    _, context = tls
    with serving(context) as server, closing(Session(server.url)) as session:
        error = failure(lambda: session.send("GET", "/v1", token=TOKEN))
        assert isinstance(error, TransportError)
        assert not error.may_have_been_sent
        assert "certificate" in error.message.lower()
        assert server.asked == []


def test_old_tls_is_refused(tls, tmp_path):
    authority, context = tls
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with serving(context) as server, closing(Session(server.url, ca=str(tmp_path / "ca.pem"))) as s:
        assert isinstance(failure(lambda: s.send("GET", "/v1", token=TOKEN)), TransportError)
        assert server.asked == []


@pytest.mark.parametrize("content", [None, b"", b"not a certificate"])
def test_a_ca_file_that_cannot_be_used_is_named(content, server, tmp_path):
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)
    with closing(Session(server.url, ca=str(path))) as session:
        error = failure(lambda: session.send("GET", "/v1"))
    assert isinstance(error, ConfigurationError)
    assert str(path) in error.message


# no usable answer


def test_a_refused_connection_has_sent_nothing():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with closing(Session(f"http://127.0.0.1:{port}")) as session:
        error = failure(lambda: session.send("POST", "/v1", token=TOKEN, json={}))
    assert isinstance(error, TransportError)
    assert error.may_have_been_sent is False
    assert f"http://127.0.0.1:{port}" in error.message
    assert "refused" in error.message
    assert error.status is None
    hides_the_token(error)


@pytest.mark.parametrize("behaviour", [_reset, _hang_up, _truncate, _no_http, _silent])
def test_anything_that_goes_wrong_after_sending_may_have_been_sent(behaviour, server):
    server.behaviours["/v1"] = behaviour
    with closing(Session(server.url, timeout=0.5)) as session:
        error = failure(lambda: session.send("POST", "/v1", token=TOKEN, json={"to": "+1"}))
        server.released.set()
    assert isinstance(error, TransportError)
    assert error.may_have_been_sent is True
    assert error.retryable
    assert error.message.isprintable()
    assert len(server.asked) == 1, "nothing is sent twice"
    hides_the_token(error)


def test_an_answer_that_does_not_end_is_cut_off(server, session):
    server.behaviours["/v1"] = _too_long
    error = failure(lambda: session.send("GET", "/v1", token=TOKEN))
    assert isinstance(error, TransportError)
    assert str(MAX_ANSWER_BYTES) in error.message
    assert error.may_have_been_sent is True
    assert server.gave_up.wait(10), "the connection is closed, not drained"
    hides_the_token(error)
    assert session.send("GET", "/other").status == 200


def test_a_longest_answer_is_read_whole(server, session):
    server.behaviours["/v1"] = lambda h: h.answer(body=b"x" * MAX_ANSWER_BYTES)
    assert len(session.send("GET", "/v1").body) == MAX_ANSWER_BYTES


def test_a_closed_session_says_so(server):
    session = Session(server.url)
    session.send("GET", "/v1")
    session.close()
    session.close()
    assert isinstance(failure(lambda: session.send("GET", "/v1", token=TOKEN)), CMzonSecretsError)


def test_many_threads_share_a_session(server, session):
    answers = []
    threads = [
        threading.Thread(target=lambda: answers.append(session.send("GET", "/v1").status))
        for _ in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [200] * 16


def test_nothing_shows_the_token_at_debug(server, session, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    session.send("POST", "/v1", token=TOKEN, json={})
    server.behaviours["/v2"] = _reset
    failure(lambda: session.send("POST", "/v2", token=TOKEN, json={}))
    logged = caplog.text + repr([vars(record) for record in caplog.records])
    for text in (logged, repr(session), repr(vars(session)), *capfd.readouterr()):
        assert TOKEN.reveal() not in text


def test_a_refusal_that_repeats_the_token_is_masked(server, session):
    def echo(handler):
        told = handler.headers["Authorization"]
        body = json.dumps({"error": {"code": 401, "message": f"bad: {told}", "details": told}})
        handler.answer(401, body.encode(), X_Request_Id=told.removeprefix("Bearer "))

    server.behaviours["/v1/echo"] = echo
    answer = session.send("GET", "/v1/echo", token=TOKEN)
    error = api_error(answer, what="GET /v1/echo")
    assert TOKEN.reveal() not in f"{error} {vars(error)} {answer.headers} {answer.body!r}"
    assert "bad: Bearer" in error.message


@pytest.mark.parametrize("status", [301, 404, 500])
def test_no_escape_sequence_hides_a_token_that_is_repeated(status, server, session):
    slashed = Token("cmz_a/b+c")
    escaped = rb'{"error": {"message": "bad cmz_a\/b+c and \u0063mz_a/b\u002bc"}}'
    server.behaviours["/v1/echo"] = lambda handler: handler.answer(status, escaped)
    answer = session.send("GET", "/v1/echo", token=slashed)
    assert slashed.reveal() not in f"{api_error(answer, what='x')} {answer.json()}"


def test_masking_spoils_no_word_that_only_contains_the_token(server, session):
    body = (
        b'{"error": {"message": "Invalid API token", "details": "tokens a: a", "retry_after": 9}}'
    )
    server.behaviours["/v1/echo"] = lambda handler: handler.answer(429, body)
    error = api_error(session.send("GET", "/v1/echo", token=Token("a")), what="x")
    assert (error.message, error.retry_after) == ("Invalid API token", 9)
    assert error.details == "tokens ••••••••: ••••••••"


def test_a_broken_answer_is_not_quoted(server, session):
    def broken(handler):
        told = handler.headers["Authorization"].encode()
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n" + told + b"\r\n\r\n")
        handler.close_connection = True

    server.behaviours["/v1/broken"] = broken
    with pytest.raises(TransportError) as caught:
        session.send("GET", "/v1/broken", token=TOKEN)
    shown = "".join(
        traceback.TracebackException.from_exception(caught.value, capture_locals=True).format()
    )
    assert caught.value.may_have_been_sent
    assert caught.value.__cause__ is None
    assert TOKEN.reveal() not in str(caught.value)
    assert TOKEN.reveal() not in shown


def test_tls_secrets_are_not_logged_though_the_environment_asks_for_it(tls, tmp_path, monkeypatch):
    authority, context = tls
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys.log"))
    with serving(context) as server, closing(Session(server.url, ca=str(tmp_path / "ca.pem"))) as s:
        s.send("GET", "/v1", token=TOKEN)
    assert not (tmp_path / "keys.log").exists()


@pytest.mark.parametrize("method", [None, "", "GET /x", "GE\r\nT"])
def test_a_method_that_is_none_is_refused(method, session):
    with pytest.raises(ConfigurationError, match="method"):
        session.send(method, "/v1/x")


def test_an_answer_does_not_show_its_body():
    assert "secret" not in repr(Answer(200, {}, b'{"token": "secret"}'))


# errors from answers: bodies as on the vendor's page

VENDOR_401 = {
    "error": {
        "code": 401,
        "message": "Invalid API token",
        "details": "Token has expired or is invalid",
    }
}
VENDOR_403 = {
    "error": {
        "code": 403,
        "message": "Insufficient permissions",
        "details": "Token lacks required scope for this operation",
    }
}
VENDOR_429 = {"error": {"code": 429, "message": "Rate limit exceeded", "retry_after": 60}}


def answer(status, body=None, **headers):
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Answer(status, {k.replace("_", "-"): v for k, v in headers.items()}, content)


def test_the_vendors_401_is_an_authentication_error():
    error = api_error(answer(401, VENDOR_401, x_request_id="req_9"), what="message to be sent")
    assert type(error) is AuthenticationError
    assert error.message == "Invalid API token"
    assert str(error) == (
        "message to be sent — 401 Invalid API token (Token has expired or is invalid)"
    )
    assert (error.status, error.code) == (401, 401)
    assert error.details == "Token has expired or is invalid"
    assert error.request_id == "req_9"
    assert error.headers == {"x-request-id": "req_9"}
    assert error.hint


def test_headers_are_found_in_any_case(server, session):
    server.behaviours["/v1/x"] = lambda handler: handler.answer(429, b"{}", X_Request_Id="req_1")
    answer = session.send("GET", "/v1/x", token=TOKEN)
    assert answer.headers["X-Request-Id"] == answer.headers["x-request-id"] == "req_1"
    assert api_error(answer, what="x").headers["X-REQUEST-ID"] == "req_1"


def test_the_vendors_403_is_permission_denied():
    error = api_error(answer(403, VENDOR_403), what="x")
    assert type(error) is PermissionDenied
    assert error.details == "Token lacks required scope for this operation"
    assert "allowed_ips" in error.hint


def test_the_vendors_429_is_rate_limited_with_its_wait():
    error = api_error(answer(429, VENDOR_429), what="x")
    assert type(error) is RateLimited
    assert error.retry_after == 60.0
    assert error.retryable


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, RequestRejected),
        (402, RequestRejected),
        (404, RequestRejected),
        (409, RequestRejected),
        (422, RequestRejected),
        (302, RequestRejected),
        (500, ServerError),
        (502, ServerError),
        (503, ServerError),
        (599, ServerError),
    ],
)
def test_every_other_status_has_its_kind(status, kind):
    error = api_error(answer(status), what="x")
    assert type(error) is kind
    assert error.status == status
    assert error.retryable is (status >= 500)


STRANGE_BODIES = {
    "empty": b"",
    "HTML": b"<html><body><h1>502 Bad Gateway</h1></body></html>",
    "null": b"null",
    "a list": b"[1, 2]",
    "a string": b'"error"',
    "error is a string": b'{"error": "invalid_token"}',
    "error is a list": b'{"error": ["x"]}',
    "message is a number": b'{"error": {"message": 5, "details": [], "code": {}}}',
    "no UTF-8": b'{"error": {"message": "\xff"}}',
    "truncated": b'{"error": {"mess',
    "deep": b"[" * 100_000,
    "deep objects": b'{"error":' * 50_000,
    "big numbers": b'{"error": {"code": ' + b"9" * 5000 + b"}}",
    "infinities": b'{"error": {"retry_after": Infinity, "code": NaN}}',
}


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500])
@pytest.mark.parametrize("body", STRANGE_BODIES.values(), ids=STRANGE_BODIES)
def test_the_status_decides_whatever_the_body(status, body):
    error = api_error(answer(status, body), what="x")
    assert error.status == status
    assert type(error) is type(api_error(answer(status, {}), what="x"))
    assert error.message.isprintable()
    assert len(error.message) < 600


def test_server_text_cannot_break_a_line_or_a_terminal():
    said = {"error": {"message": "a\nb\r\x1b[31mred\u202e" + "x" * 5000, "details": "\x00\x07"}}
    error = api_error(answer(400, said, x_request_id="r\x1b[0m"), what="x")
    for text in (error.message, error.details or "", error.request_id):
        assert text == "" or text.isprintable()
        assert len(text) < 500


@pytest.mark.parametrize(
    ("body", "header", "wait"),
    [
        (60, None, 60.0),
        (0.5, None, 0.5),
        (None, "7", 7.0),
        (5, "7", 7.0),
        (9, "7", 9.0),
        ("12", None, 12.0),
        (0, None, 0.0),
        (None, None, None),
        (-1, None, None),
        (True, None, None),
        ("soon", "later", None),
        ([60], None, None),
        ({}, None, None),
        (1e308, None, None),
        (10**400, None, None),
        (86_401, "86401", None),
        ("nan", "inf", None),
        (float("nan"), None, None),
        (float("inf"), "3", 3.0),
        (None, "Wed, 21 Oct 2026 07:28:00 GMT", None),
        (None, "１２", 12.0),
    ],
)
def test_retry_after_is_a_sensible_number_or_none(body, header, wait):
    headers = {} if header is None else {"retry_after": header}
    error = api_error(answer(429, {"error": {"retry_after": body}}, **headers), what="x")
    assert error.retry_after == wait


def failure(call):
    with pytest.raises(Exception) as caught:  # the caller judges
        call()
    return caught.value


def hides_the_token(error):
    """Not in its text, its causes, or the locals of any of their frames."""
    shown = traceback.TracebackException.from_exception(error, capture_locals=True).format()
    assert TOKEN.reveal() not in "".join(shown) + repr(vars(error))
    link = error
    while link is not None:
        request = getattr(link, "_request", None)
        assert request is None or TOKEN.reveal() not in str(request.headers.raw)
        link = link.__cause__ or link.__context__
