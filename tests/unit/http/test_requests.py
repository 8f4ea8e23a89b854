"""What a session sends, and what it never sends, for both sessions."""

import json

import pytest

from cmzon_secrets import __version__
from cmzon_secrets.errors import ConfigurationError, RequestRejected
from servers.http_sessions import MESSAGE, TOKEN, failure, hides
from servers.told_server import always, answer, told


@pytest.fixture
def server():
    with told(always(answer(X_Request_Id="req_1"))) as running:
        yield running


@pytest.fixture
def session(server, open_session):
    return open_session(server.url, timeout=5.0)


def test_a_request_carries_the_token_the_body_and_our_name(server, session):
    said = session.send(
        "POST", "/v1/messages", token=TOKEN, json=MESSAGE, headers={"Idempotency-Key": "k"}
    )
    assert (said.status, said.json(), said.headers["x-request-id"]) == (200, {}, "req_1")
    line, fields, body = parts(server.heard)
    assert line == "POST /v1/messages HTTP/1.1"
    assert json.loads(body) == MESSAGE
    assert fields == {
        "Host": f"127.0.0.1:{server.port}",
        "User-Agent": f"cmzon-secrets/{__version__}",
        "Accept": "*/*",
        "Accept-Encoding": "identity",
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        "Idempotency-Key": "k",
        "Authorization": f"Bearer {TOKEN.reveal()}",
    }


def test_without_a_token_nothing_is_authorized_and_without_a_body_nothing_is_sent(server, session):
    session.send("GET", "/v1/tokens")
    _, fields, body = parts(server.heard)
    assert "Authorization" not in fields
    assert "Content-Length" not in fields
    assert body == b""


def test_a_post_without_a_body_says_so(server, session):
    session.send("post", "/v1/x")
    line, fields, _ = parts(server.heard)
    assert line.startswith("POST ")
    assert fields["Content-Length"] == "0"


def test_a_base_urls_own_path_comes_first(server, open_session):
    open_session(f"{server.url}/gateway/").send("GET", "/v1/tokens?name=a b")
    assert parts(server.heard)[0] == "GET /gateway/v1/tokens?name=a%20b HTTP/1.1"


def test_connections_are_kept(server, session):
    for _ in range(5):
        session.send("GET", "/v1")
    assert server.connections == 1


def test_cookies_are_not(open_session):
    with told(always(answer(Set_Cookie="session=1; Path=/"))) as server:
        session = open_session(server.url)
        session.send("GET", "/v1")
        session.send("GET", "/v1")
        assert b"ookie" not in server.heard[1]


def test_netrc_is_not_read(server, session, monkeypatch, tmp_path):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login user password pw\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    session.send("GET", "/v1")
    assert b"uthorization" not in server.heard[0]


REFUSED = {
    "another authorization": {"headers": {"authorization": "Bearer other"}},
    "another host": {"headers": {"Host": "evil.example"}},
    "a length of one's own": {"headers": {"Content-Length": "1"}},
    "chunks": {"headers": {"transfer-encoding": "chunked"}},
    "a name that is none": {"headers": {"X Y": "1"}},
    "a second line": {"headers": {"X": "1\r\nAuthorization: x"}},
    "a value that is not ASCII": {"headers": {"X": "ü"}},
    "an empty value": {"headers": {"X": ""}},
    "no method": {"method": None},
    "an empty method": {"method": ""},
    "a method with a path": {"method": "GET /x"},
    "a method of two lines": {"method": "GE\r\nT"},
    "a tunnel": {"method": "CONNECT"},
    "an echo": {"method": "trace"},
    "a path without a slash": {"path": "v1"},
    "no path": {"path": ""},
    "another host's path": {"path": "//evil.example/v1"},
    "another URL": {"path": "https://evil.example"},
    "a fragment": {"path": "/v1#x"},
    "a path of two lines": {"path": "/v1\r\nX: 1"},
}


@pytest.mark.parametrize("wrong", REFUSED.values(), ids=REFUSED)
def test_what_must_not_be_sent_is_refused_before_a_byte_is(wrong, server, session):
    request = {"method": "GET", "path": "/v1", "headers": {}, **wrong}
    method, path = request.pop("method"), request.pop("path")
    error, _ = failure(lambda: session.send(method, path, token=TOKEN, **request))
    assert isinstance(error, ConfigurationError)
    assert error.message.startswith("request ")
    assert hides(error)
    assert server.connections == 0


@pytest.mark.parametrize("body", [{"to": {MESSAGE["to"]}}, float("nan"), "\ud800" + MESSAGE["to"]])
def test_what_is_no_json_is_refused_and_not_quoted(body, server, session):
    error, _ = failure(lambda: session.send("POST", "/v1/messages", token=TOKEN, json=body))
    assert isinstance(error, RequestRejected)
    assert hides(error)
    assert server.connections == 0


def test_a_closed_session_says_so(session):
    session.send("GET", "/v1")
    session.close()
    session.close()
    error, _ = failure(lambda: session.send("GET", "/v1", token=TOKEN))
    assert isinstance(error, ConfigurationError)
    assert "closed" in error.message


def test_what_the_caller_was_handling_keeps_its_traceback(open_session):
    def ask():
        try:
            raise KeyError("theirs")
        except KeyError:
            open_session("http://127.0.0.1:1").send("GET", "/v1", token=TOKEN)

    error, _ = failure(ask)
    theirs = error.__context__
    if theirs is not None:  # asyncio's thread handles nothing
        assert isinstance(theirs, KeyError)
        assert theirs.__traceback__ is not None
    assert "theirs" not in str(error)


def parts(heard):
    """Of the one request heard: its line, its fields and its body."""
    [asked] = heard
    head, _, body = asked.partition(b"\r\n\r\n")
    line, *fields = head.decode().split("\r\n")
    return line, dict(field.split(": ", 1) for field in fields), body
