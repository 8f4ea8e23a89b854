"""Answers as hostile as they come, for both sessions: a typed error or an answer, in bounded time and
memory, with no secret anywhere, and the truth about whether the request may have taken effect."""

import gzip
import json
import logging
import time
import tracemalloc

import pytest

from cmzon_secrets.answers import api_error
from cmzon_secrets.errors import RequestRejected, TransportError
from cmzon_secrets.http.exchange import MAX_ANSWER_BYTES
from servers.http_sessions import MESSAGE, PRIVATE, TOKEN, failure, hides
from servers.told_server import always, answer, told

WITHIN = 0.25
"""Seconds that an exchange is given here."""
SLACK = 1.0
"""Seconds more that a busy machine may take to notice."""

HEAD = b"HTTP/1.1 200 OK\r\n"


def heard(then):
    """A script: hear the request, then ``then(conversation)``."""

    def script(conversation):
        conversation.hear()
        then(conversation)

    return script


def says(data):
    """A script: hear the request, say this, hang up."""
    return heard(lambda conversation: conversation.say(data))


def unheard(conversation):
    """Reset before a byte of the request was read, but after it came."""
    time.sleep(0.1)
    conversation.reset()


ENDLESS = {
    "nothing is ever said": heard(lambda c: c.wait()),
    "a byte of the head now and then": heard(lambda c: c.say_slowly(answer(X_Long="x" * 1000))),
    "a byte of the body now and then": heard(
        lambda c: (c.say(HEAD + b"Content-Length: 1000\r\n\r\n"), c.say_slowly(b" " * 1000))
    ),
    "100 Continue in a flood": heard(
        lambda c: c.say_for_ever(b"HTTP/1.1 100 Continue\r\n\r\n" * 9)
    ),
    "100 Continue now and then": heard(
        lambda c: c.say_for_ever(b"HTTP/1.1 100 Continue\r\n\r\n", every=0.05)
    ),
    "empty chunks' extensions now and then": heard(
        lambda c: (
            c.say(HEAD + b"Transfer-Encoding: chunked\r\n\r\n"),
            c.say_for_ever(b"1;x=y\r\n \r\n", every=0.05),
        )
    ),
}

BROKEN = {
    "a reset before anything was read": unheard,
    "a reset after the request": heard(lambda c: c.reset()),
    "hung up after the request": heard(lambda c: None),
    "no HTTP": says(b"220 mail.example ESMTP\r\n"),
    "an empty line": says(b"\r\n\r\n"),
    "a switch of protocols nobody asked for": says(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n"
    ),
    "a head that ends in the middle": says(HEAD + b"Content-Le"),
    "headers without end": heard(
        lambda c: (c.say(HEAD), c.say_for_ever(b"X-More: " + b"x" * 9999 + b"\r\n"))
    ),
    "a header without end": heard(
        lambda c: (c.say(HEAD + b"X-Long: "), c.say_for_ever(b"x" * 9999))
    ),
    "a body shorter than its length": says(HEAD + b'Content-Length: 9999\r\n\r\n{"id": "m'),
    "two lengths": says(HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{} "),
    "a negative length": says(HEAD + b"Content-Length: -2\r\n\r\n{}"),
    "a length of letters": says(HEAD + b"Content-Length: two\r\n\r\n{}"),
    "a chunk that ends in the middle": says(HEAD + b"Transfer-Encoding: chunked\r\n\r\n99\r\n{"),
    "a chunk of size nonsense": says(HEAD + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n{}\r\n"),
    "an unknown encoding": says(HEAD + b"Transfer-Encoding: x-own\r\n\r\n{}"),
    "a NUL in a header": says(HEAD + b"X-Bad: a\0b\r\nContent-Length: 2\r\n\r\n{}"),
    "a token for a header": heard(
        lambda c: c.say(HEAD + f"Bearer {TOKEN.reveal()}\r\n\r\n".encode())
    ),
}

TOO_LONG = {
    "a longer body": heard(
        lambda c: (
            c.say(HEAD + b"Content-Length: 99999999\r\n\r\n"),
            c.say_for_ever(b"x" * 65536),
        )
    ),
    "chunks without end": heard(
        lambda c: (
            c.say(HEAD + b"Transfer-Encoding: chunked\r\n\r\n"),
            c.say_for_ever(b"ffff\r\n" + b"x" * 65535 + b"\r\n"),
        )
    ),
    "a body without length or end": heard(
        lambda c: (c.say(HEAD + b"\r\n"), c.say_for_ever(b"x" * 65536))
    ),
}


def cases(*tables):
    table = {name: script for each in tables for name, script in each.items()}
    return pytest.mark.parametrize("script", table.values(), ids=table.keys())


@pytest.fixture
def debug_log(caplog):
    """Everything that any library logs."""
    caplog.set_level(logging.DEBUG)
    for name in ("httpcore2", "httpx2", "h11", "anyio", "asyncio"):
        caplog.set_level(logging.DEBUG, logger=name)
    return lambda: caplog.text + repr([vars(record) for record in caplog.records])


def post(session, **options):
    return session.send(
        "POST", "/v1/messages", token=TOKEN, json=MESSAGE, **{"within": 10.0, **options}
    )


@cases(ENDLESS)
def test_the_deadline_is_for_the_whole_exchange(script, open_session, debug_log):
    with told(script) as server:
        session = open_session(server.url)
        error, seconds = failure(lambda: post(session, within=WITHIN))
        assert isinstance(error, TransportError)
        assert WITHIN * 0.9 <= seconds < WITHIN + SLACK
        assert error.may_have_been_sent
        assert "0.25 s" in error.message
        assert error.retryable
        assert hides(error)
        assert not any(secret in debug_log() for secret in PRIVATE)
        assert session.connections() == [], "a connection in that state is not used again"


@cases(BROKEN)
def test_what_is_not_an_answer_is_an_error(script, open_session, debug_log):
    with told(script) as server:
        session = open_session(server.url)
        error, seconds = failure(lambda: post(session))
    assert isinstance(error, TransportError)
    assert seconds < SLACK
    assert error.may_have_been_sent
    assert "check before sending it again" in error.hint
    assert error.message.isprintable()
    assert hides(error)
    assert not any(secret in debug_log() for secret in PRIVATE)
    assert server.connections == 1, "nothing is sent twice"
    assert session.connections() == []


@cases(TOO_LONG)
def test_a_longer_answer_is_cut_off_not_drained(script, open_session):
    with told(script) as server:
        session = open_session(server.url)
        tracemalloc.start()
        try:
            error, seconds = failure(lambda: post(session))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert isinstance(error, TransportError)
        assert str(MAX_ANSWER_BYTES) in error.message
        assert (error.status, error.may_have_been_sent) == (200, True)
        assert hides(error)
        assert seconds < 5
        assert peak < 8 * MAX_ANSWER_BYTES
        assert server.hung_up.wait(5)


def test_a_longest_answer_is_read_whole(open_session):
    with told(always(answer(body=b"x" * MAX_ANSWER_BYTES))) as server:
        assert len(open_session(server.url).send("GET", "/v1").body) == MAX_ANSWER_BYTES


# what is an answer all the same


@pytest.mark.parametrize("status", [301, 401, 503])
@pytest.mark.parametrize(
    "ending",
    [
        lambda c: None,
        lambda c: c.reset(),
        lambda c: c.wait(),
        lambda c: c.say_for_ever(b"x" * 65536),
    ],
    ids=["cut short", "reset", "too late", "too long"],
)
def test_a_refusal_without_its_end_is_still_that_refusal(status, ending, open_session):
    beginning = f'HTTP/1.1 {status} No\r\nRetry-After: 7\r\nContent-Length: 9999999\r\n\r\n{{"er'

    def script(conversation):
        conversation.hear()
        conversation.say(beginning.encode())
        # So that what was said arrives before a reset takes it back.
        conversation.server.hung_up.wait(0.05)
        ending(conversation)

    with told(script) as server:
        refusal = post(open_session(server.url), within=4 * WITHIN)
    assert refusal.status == status
    assert refusal.headers["retry-after"] == "7"
    assert len(refusal.body) <= MAX_ANSWER_BYTES
    assert api_error(refusal, what="x").status == status


GOOD = {
    "early hints before it": (
        b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + answer(),
        200,
        b"{}",
    ),
    "HTTP/1.0": (b"HTTP/1.0 200 OK\r\n\r\n{}", 200, b"{}"),
    "no body": (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
    "in chunks": (
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\nX-Trailer: x\r\n\r\n",
        200,
        b"{}",
    ),
    "up to the end of the connection": (HEAD + b"Connection: close\r\n\r\n{}", 200, b"{}"),
}


@pytest.mark.parametrize(("said", "status", "body"), GOOD.values(), ids=GOOD)
def test_what_http_allows_is_understood(said, status, body, open_session):
    with told(says(said)) as server:
        found = post(open_session(server.url))
    assert (found.status, found.body) == (status, body)


def test_an_answer_to_head_has_no_body(open_session):
    with told(always(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n")) as server:
        session = open_session(server.url)
        assert [session.send("HEAD", "/v1").body for _ in range(2)] == [b"", b""]
        assert server.connections == 1


def test_what_is_compressed_though_nobody_asked_is_not_unpacked(open_session):
    bomb = gzip.compress(b"[" + b" " * 10**7 + b"]", compresslevel=9)
    with told(always(answer(body=bomb, Content_Encoding="gzip"))) as server:
        found = open_session(server.url).send("GET", "/v1")
    assert found.body == bomb
    with pytest.raises(ValueError, match="not JSON"):
        found.json()
    assert b"accept-encoding: identity" in server.heard[0].lower()


@pytest.mark.parametrize(
    "said",
    [
        answer(body=b"{}") + answer(body=b'{"id": "of another"}'),
        b"HTTP/1.1 204 No Content\r\n\r\n" + answer(body=b'{"id": "of another"}'),
        answer(body=b"{}") + b"{}",
        answer(404, b"{}") + b"x",
    ],
    ids=["two answers", "an answer after none", "a longer body", "a longer refusal"],
)
def test_what_follows_an_answer_is_not_the_next_ones(said, open_session):
    with told(always(said, answer(body=b'{"id": "second"}'))) as server:
        session = open_session(server.url)
        session.send("GET", "/v1")
        assert server.connections == 1
        assert session.send("GET", "/v1").body in (b"{}", b"")
        assert server.connections == 2, "a connection that says more is not used again"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed_and_no_token_goes_there(status, open_session):
    with told(always(answer())) as elsewhere:
        redirect = answer(status, Location=f"{elsewhere.url}/stolen")
        with told(always(redirect)) as server:
            found = post(open_session(server.url))
            assert (found.status, len(server.heard)) == (status, 1)
        assert (elsewhere.connections, elsewhere.heard) == (0, [])
    assert isinstance(api_error(found, what="x"), RequestRejected)


# a server that repeats what it was sent


@pytest.mark.parametrize("status", [200, 301, 401, 500])
def test_an_echo_of_the_token_is_masked(status, open_session, debug_log):
    told_back = f"Bearer {TOKEN.reveal()}"
    body = json.dumps({"error": {"message": f"bad: {told_back}", "details": told_back}}).encode()
    said = answer(status, body, X_Request_Id=TOKEN.reveal(), X_Authorization=told_back)
    with told(always(said)) as server:
        found = post(open_session(server.url))
    assert TOKEN.reveal() not in f"{found!r} {found.headers} {debug_log()}"
    assert "Authorization" not in debug_log() or "••••••••" in debug_log()
    if status != 200:  # the body of a success may be the token that was asked for
        error = api_error(found, what="x")
        assert TOKEN.reveal() not in f"{error} {vars(error)} {found.body!r}"
        assert "bad: Bearer" in error.message


def test_the_engines_debug_log_is_there_but_for_the_token(open_session, debug_log):
    with told(always(answer(X_Echo=TOKEN.reveal()))) as server:
        post(open_session(server.url))
    assert "X-Echo" in debug_log()
    assert TOKEN.reveal() not in debug_log()
