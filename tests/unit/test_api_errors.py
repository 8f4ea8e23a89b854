"""What an answer of the API becomes: by its status, with the words of its body, and no token."""

import json

import pytest

from cmzon_secrets import Token
from cmzon_secrets.answers import Answer, api_error
from cmzon_secrets.errors import (
    AuthenticationError,
    PermissionDenied,
    RateLimited,
    RequestRejected,
    ServerError,
)
from cmzon_secrets.headers import Headers

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


def test_headers_are_found_in_any_case():
    found = Answer(429, Headers({"X-Request-Id": "req_1"}), b"{}")
    assert found.headers["X-Request-Id"] == found.headers["x-request-id"] == "req_1"
    assert api_error(found, what="x").headers["X-REQUEST-ID"] == "req_1"


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


@pytest.mark.parametrize(
    ("status", "remedy"),
    [
        *((status, "base URL") for status in (301, 302, 308, 404)),
        *((status, "try again later") for status in (408, 425, 500, 502, 503, 504, 599)),
    ],
)
def test_where_a_remedy_is_known_it_is_told(status, remedy):
    assert remedy in api_error(answer(status), what="x").hint


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


# a body that repeats the token


@pytest.mark.parametrize("status", [301, 404, 500])
def test_no_escape_sequence_hides_a_token_that_is_repeated(status):
    slashed = Token("cmz_a/b+c")
    escaped = rb'{"error": {"message": "bad cmz_a\/b+c and \u0063mz_a/b\u002bc"}}'
    found = answer(status, escaped).without_echo(slashed.reveal())
    assert slashed.reveal() not in f"{api_error(found, what='x')} {found.json()}"


def test_masking_spoils_no_word_that_only_contains_the_token():
    body = (
        b'{"error": {"message": "Invalid API token", "details": "tokens a: a", "retry_after": 9}}'
    )
    error = api_error(answer(429, body).without_echo("a"), what="x")
    assert (error.message, error.retry_after) == ("Invalid API token", 9)
    assert error.details == "tokens ••••••••: ••••••••"


def test_a_successs_headers_are_masked_and_its_body_is_not():
    """It may be the token that was asked for."""
    said = Answer(200, Headers({"X-Echo": "Bearer cmz_1", "X-Id": "1"}), b'{"token": "cmz_1"}')
    found = said.without_echo("cmz_1")
    assert dict(found.headers) == {"x-echo": "Bearer ••••••••", "x-id": "1"}
    assert found.body == said.body


def test_an_answer_does_not_show_its_body():
    assert "secret" not in repr(Answer(200, Headers({}), b'{"token": "secret"}'))
