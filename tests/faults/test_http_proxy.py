"""A proxy on the way, for both sessions: it tunnels, and never sees a token or a message."""

import logging
import socket
import time

import pytest
import trustme

from cmzon_secrets import AsyncClient, Client
from cmzon_secrets.errors import ConfigurationError, TransportError
from servers.connect_proxy import connect_proxy
from servers.http_sessions import MESSAGE, PRIVATE, TOKEN, failure, hides
from servers.told_server import always, answer, server_context, told

SLACK = 1.0
"""Seconds more that a busy machine may take to notice."""
API = "https://api.cmzon.test"
"""Only the proxy knows where that is."""
PASSWORD = "proxy-pass-wörd"


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(scope="module")
def ca(authority, tmp_path_factory):
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return str(path)


@pytest.fixture
def api(authority):
    """The API at its own name, somewhere behind the proxy."""
    context = server_context(authority.issue_cert("api.cmzon.test"))
    with told(always(answer(body=b'{"id": "m1"}')), context) as server:
        yield server


def post(session, **options):
    return session.send(
        "POST", "/v1/messages", token=TOKEN, json=MESSAGE, **{"within": 5.0, **options}
    )


def never_left(error):
    assert isinstance(error, TransportError)
    assert not error.may_have_been_sent
    assert "through the proxy http://127.0.0.1:" in error.message
    assert error.message.isprintable()
    assert hides(error, *PRIVATE, PASSWORD)
    return True


def test_a_request_goes_through_the_tunnel_and_the_proxy_reads_none_of_it(api, ca, open_session):
    with connect_proxy(api.port) as proxy:
        session = open_session(API, ca=ca, proxy=proxy.url)
        assert [post(session).json() for _ in range(2)] == [{"id": "m1"}] * 2
        assert proxy.connections == 1, "the tunnel is kept"
    [asked] = proxy.heard
    assert asked.startswith(b"CONNECT api.cmzon.test:443 HTTP/1.1\r\n")
    assert len(proxy.passed) > 200
    for secret in PRIVATE:
        assert secret.encode() not in asked + proxy.passed
        assert secret.encode() in b"".join(api.heard)


def test_the_environment_names_the_proxy(api, ca, open_session, monkeypatch):
    with connect_proxy(api.port) as proxy:
        monkeypatch.setenv("CMZON_PROXY", proxy.url)
        assert post(open_session(API, ca=ca)).status == 200
        assert len(proxy.heard) == 1


def test_no_other_variable_names_one(open_session, monkeypatch):
    with connect_proxy(1) as proxy, told(always(answer())) as server:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
            monkeypatch.setenv(name.lower(), proxy.url)
        assert post(open_session(server.url)).status == 200
        failure(lambda: post(open_session("https://api.cmzon.invalid"), within=2.0))
        assert proxy.connections == 0


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_what_stays_on_this_machine_takes_no_proxy(host, authority, ca, open_session):
    with connect_proxy(1) as proxy:
        with told(always(answer())) as server:
            plain = open_session(f"http://{host}:{server.port}", proxy=proxy.url)
            assert post(plain).status == 200
        with told(always(answer()), server_context(authority.issue_cert(host))) as server:
            secure = open_session(f"https://{host}:{server.port}", ca=ca, proxy=proxy.url)
            assert post(secure).status == 200
        assert proxy.connections == 0


# passwords


@pytest.mark.parametrize("password", [PASSWORD, "a:b@c/d", ""])
def test_a_proxy_gets_the_password_it_wants(password, api, ca, open_session):
    from urllib.parse import quote

    with connect_proxy(api.port, user="me", password=password) as proxy:
        url = proxy.url.replace("//", f"//me:{quote(password, safe='')}@")
        assert post(open_session(API, ca=ca, proxy=url)).status == 200


def test_a_proxy_that_wants_a_password_is_refused_nothing_but_told(api, open_session):
    with connect_proxy(api.port, user="me", password="other") as proxy:
        error, _ = failure(lambda: post(open_session(API, proxy=proxy.url)))
        assert never_left(error)
        assert "407" in error.message
        assert len(proxy.heard) == 1


def test_no_password_of_a_proxy_is_shown(api, open_session, caplog):
    caplog.set_level(logging.DEBUG)
    for name in ("httpcore2", "h11", "anyio", "asyncio"):
        caplog.set_level(logging.DEBUG, logger=name)
    with connect_proxy(api.port, user="me", password="other") as proxy:
        session = open_session(API, proxy=proxy.url.replace("//", "//me:pr0xy-word@"))
        error, _ = failure(lambda: post(session))
    assert never_left(error)
    encoded = "bWU6cHIweHktd29yZA=="
    assert encoded in proxy.heard[0].decode()
    logged = caplog.text + repr([vars(record) for record in caplog.records])
    assert "ProxyError" in logged
    for secret in ("pr0xy-word", encoded):
        assert hides(error, secret)
        assert secret not in logged
        assert secret not in repr(session.session) + repr(vars(session.session))


@pytest.mark.parametrize(
    "url",
    [
        "https://me:pr0xy-word@proxy.example",
        "socks5://me:pr0xy-word@proxy.example",
        "me:pr0xy-word@proxy.example:3128",
        "http://me:pr0xy-word@",
        "http://me:pr0xy-word@proxy.example/path",
        "http://me:pr0xy-word@proxy.example?x=1",
        "http://me:pr0xy-word@proxy.example:port",
        "http://me:pr0xy-word@proxy..example",
        "http://me:pr0xy word@proxy.example",
        "http://me:pr0xy-word@prōxy.example",
    ],
)
@pytest.mark.parametrize("by", ["argument", "environment"])
def test_what_names_no_proxy_is_refused_and_not_repeated(url, by, open_session, monkeypatch):
    if by == "environment":
        monkeypatch.setenv("CMZON_PROXY", url)
    given = {"proxy": url} if by == "argument" else {}
    error, _ = failure(lambda: open_session(API, **given))
    assert isinstance(error, ConfigurationError)
    assert error.message.startswith("proxy — ")
    assert hides(error, "pr0xy-word", "pr0xy word")


# a proxy that fails


@pytest.mark.parametrize("status", [403, 502, 503, 302])
def test_a_proxy_that_does_not_tunnel(status, open_session):
    with told(always(answer(status, b"<html>", "Bad " + TOKEN.reveal()))) as proxy:
        session = open_session(API, proxy=proxy.url)
        for _ in range(3):
            error, seconds = failure(lambda: post(session))
            assert never_left(error)
            assert str(status) in error.message
            assert seconds < SLACK
        assert session.connections() == []
        assert not any(TOKEN.reveal().encode() in asked for asked in proxy.heard)


def test_a_proxy_that_is_not_there(open_session):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    error, _ = failure(lambda: post(open_session(API, proxy=f"http://127.0.0.1:{port}")))
    assert never_left(error)


FAILING = {
    "says nothing": lambda c: c.wait(),
    "says a byte now and then": lambda c: c.say_slowly(b"HTTP/1.1 200 " + b"x" * 100),
    "tunnels to nobody": lambda c: (c.say(b"HTTP/1.1 200 OK\r\n\r\n"), c.wait()),
}


@pytest.mark.parametrize("then", FAILING.values(), ids=FAILING)
def test_a_proxy_that_stalls_ends_with_the_deadline(then, open_session):
    with told(lambda conversation: (conversation.hear(), then(conversation))) as proxy:
        session = open_session(API, proxy=proxy.url)
        error, seconds = failure(lambda: post(session, within=0.4))
        assert never_left(error)
        assert 0.3 < seconds < 0.4 + SLACK
        assert session.connections() == []


ABRUPT = {
    "hangs up": lambda c: None,
    "says 100 Continue for ever": lambda c: c.say_for_ever(b"HTTP/1.1 100 C\r\n\r\n", every=0.05),
    "says headers for ever": lambda c: c.say_for_ever(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 999),
    "speaks before the tunnel is used": lambda c: c.say(b"HTTP/1.1 200 OK\r\n\r\n\x16"),
    "resets": lambda c: c.reset(),
    "is no proxy": lambda c: c.say(b"220 mail.example ESMTP\r\n"),
    "tunnels to a plain server": lambda c: c.say(
        b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 400 Bad\r\n\r\n"
    ),
    "hangs up in the handshake": lambda c: (c.say(b"HTTP/1.1 200 OK\r\n\r\n"), c.listen()),
}


@pytest.mark.parametrize("then", ABRUPT.values(), ids=ABRUPT)
def test_a_proxy_that_breaks_off(then, open_session):
    with told(lambda conversation: (conversation.hear(), then(conversation))) as proxy:
        session = open_session(API, proxy=proxy.url)
        for _ in range(3):
            error, seconds = failure(lambda: post(session, within=2.0))
            assert never_left(error)
            assert seconds < SLACK
        assert session.connections() == [], "nothing of it is kept"


def test_a_server_behind_the_proxy_that_is_not_the_api_gets_nothing(authority, ca, open_session):
    context = server_context(authority.issue_cert("other.example"))
    with told(always(answer()), context) as other, connect_proxy(other.port) as proxy:
        session = open_session(API, ca=ca, proxy=proxy.url)
        for _ in range(3):
            error, _ = failure(lambda: post(session))
            assert never_left(error)
            assert "certificate" in error.message
        assert other.heard == []
        time.sleep(0.05)
        assert session.connections() == []


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_a_client_shows_no_password_of_a_proxy_it_refuses(kind):
    error, _ = failure(lambda: kind("env:CMZON_API_TOKEN", proxy="ftp://me:pr0xy-word@h"))
    assert isinstance(error, ConfigurationError)
    assert hides(error, "pr0xy-word")
