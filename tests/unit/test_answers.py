"""What an answer means, however strange it is."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from cmzon_secrets.answers import (
    LONGEST_ID,
    MAX_RETRY_AFTER,
    Answer,
    api_error,
    masking,
    masking_token,
    request_id,
    retry_after,
)
from cmzon_secrets.errors import RateLimited, RequestRejected, ServerError
from cmzon_secrets.headers import Headers
from cmzon_secrets.tokens import MASK

DATE = {"Date": "Fri, 27 Nov 2026 12:00:00 GMT"}


def answer(status: int, body: Any = b"", **headers: str) -> Answer:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Answer(status, Headers({k.replace("_", "-"): v for k, v in headers.items()}), raw)


def said(wait: object) -> Answer:
    return answer(429, {"error": {"code": 429, "retry_after": wait}})


@pytest.mark.parametrize(
    ("wait", "seconds"),
    [
        (60, 60.0),
        (0, 0.0),
        (1.5, 1.5),
        ("7", 7.0),
        (10**400, None),
        (1e300, MAX_RETRY_AFTER),
        (float("inf"), MAX_RETRY_AFTER),
        *((nonsense, None) for nonsense in (-1, -0.5, float("nan"), True, False, None)),
        *((nonsense, None) for nonsense in ("soon", "", "-7", "nan", [60], {"s": 60})),
        ("Fri, 27 Nov 2026 12:01:00 GMT", None),
    ],
)
def test_a_wait_in_the_body_is_a_number_of_seconds_or_nothing(
    wait: object, seconds: float | None
) -> None:
    assert retry_after(said(wait)) == seconds


@pytest.mark.parametrize(
    ("wait", "seconds"),
    [
        ("7", 7.0),
        ("0", 0.0),
        ("999999999999", MAX_RETRY_AFTER),
        ("Fri, 27 Nov 2026 12:01:00 GMT", 60.0),
        *((nonsense, None) for nonsense in ("-7", "soon", "", "nan", "7 s", "7, 8")),
        ("Fri, 27 Nov 2026 11:59:00 GMT", None),
        ("Fri, 99 Nov 2026 12:01:00 GMT", None),
    ],
)
def test_a_wait_in_the_header_is_seconds_or_a_date_by_the_servers_clock(
    wait: str, seconds: float | None
) -> None:
    assert retry_after(answer(429, Retry_After=wait, **DATE)) == seconds


def test_a_date_without_the_servers_own_time_says_nothing() -> None:
    assert retry_after(answer(429, Retry_After="Fri, 27 Nov 2026 12:01:00 GMT")) is None


def test_the_longer_wait_is_meant() -> None:
    assert retry_after(answer(429, {"error": {"retry_after": 3}}, Retry_After="9")) == 9
    assert retry_after(answer(429, {"error": {"retry_after": 9}}, Retry_After="3")) == 9
    assert retry_after(answer(429, {"error": {"retry_after": -9}}, Retry_After="3")) == 3


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"<html>", b'{"error": {"mess', b"\xff\xfe", b"null", b"[]", b'{"error": "no"}'),
        *(b'{"error": []}', b"[" * 200_000, b'{"error": {"message": {"a": 1}}}', b"x" * 1_000_000),
    ],
)
def test_a_429_is_one_whatever_its_body(body: bytes) -> None:
    error = api_error(answer(429, body, Retry_After="9", X_Request_Id="req_1"), what="POST /x")
    assert isinstance(error, RateLimited)
    assert (error.status, error.retry_after, error.request_id) == (429, 9.0, "req_1")
    assert error.headers["Retry-After"] == "9"
    assert len(str(error)) < 500


@pytest.mark.parametrize(
    ("details", "shown"),
    [
        ("to: a phone number is needed", "to: a phone number is needed"),
        ({"field": "to"}, '{"field": "to"}'),
        ([{"field": "to"}], '[{"field": "to"}]'),
        ("a\r\nb\x1b[31m", "a  b [31m"),
        *((nothing, None) for nothing in ("", None, 7, [], {})),
    ],
)
def test_details_that_name_the_field_are_told_with_a_remedy(details: object, shown: Any) -> None:
    body = {"error": {"code": "bad_field", "message": "Invalid request", "details": details}}
    for status in (400, 422):
        error = api_error(answer(status, body), what="POST /v1/messages")
        assert type(error) is RequestRejected
        assert error.details == shown
        assert (error.code, error.message) == ("bad_field", "Invalid request")
        assert shown is None or shown in str(error)
        assert "refused again" in (error.hint or "")


@pytest.mark.parametrize(
    ("code", "kept"),
    [
        (429, 429),
        ("limit", "limit"),
        (True, None),
        ([1], None),
        ("x" * 999, "x" * 200),
        (1.5, None),
    ],
)
def test_a_code_is_a_number_or_a_short_text(code: object, kept: object) -> None:
    assert api_error(answer(500, {"error": {"code": code}}), what="GET /x").code == kept


def test_a_token_deep_inside_a_refusal_is_masked() -> None:
    secret = "cmz_secret_value"
    escaped = secret.replace("c", "\\u0063").encode()
    for depth in (0, 10, 900):
        deep = b'{"a":' * depth + b'"' + escaped + b'"' + b"}" * depth
        body = b'{"error": {"message": "' + escaped + b'", "details": ' + deep + b"}}"
        masked = answer(500, body, X_Echo=f"Bearer {secret}").without_echo(secret)
        error = api_error(masked, what="GET /x")
        assert isinstance(error, ServerError)
        assert secret not in f"{error} {error.details} {masked.headers!r}"


@pytest.mark.parametrize("secret", ["cmz_live_A1b2C3d4E5f6G7h8", "cmz_short"])
@pytest.mark.parametrize(
    "around",
    [
        *("{}", "revoked: {}.", "token={}", "see /tokens/{}", "{}-x", "-{}", "Bearer {}/", "_{}_"),
        *("{}\n", "\n{}", "~{}+", '"{}":', "{0}{1}{0}"),
    ],
)
def test_a_token_is_masked_whatever_punctuation_is_beside_it(secret: str, around: str) -> None:
    said = around.format(secret, " ")
    masked = answer(422, {"error": {"message": said}}, X_Echo=said).without_echo(secret)
    assert secret not in f"{masked.headers!r} {api_error(masked, what='x')}"
    assert masked.json() == {"error": {"message": around.format(MASK, " ")}}


def test_a_token_of_many_characters_is_masked_inside_a_word_too() -> None:
    secret = "cmz_live_A1b2C3d4E5f6G7h8"
    masked = answer(422, f"x{secret}y{secret}".encode()).without_echo(secret)
    assert masked.body.decode() == f"x{MASK}y{MASK}"


SECRET = "cmz_live_A1b2C3d4E5f6G7h8"


@pytest.mark.parametrize("kept", [12, 13, 24])
@pytest.mark.parametrize("around", ["{}", "Bearer {}…", "({})", "{0}{0}", "{} and {}"])
def test_the_beginning_of_a_token_that_was_cut_short_is_masked_too(kept: int, around: str) -> None:
    """As by a gateway that repeats "the first 24 characters" of a header."""
    said = around.format(*[SECRET[:kept]] * 2)
    masked = answer(400, {"error": {"details": said}}, X_Echo=said).without_echo(SECRET)
    assert masked.json() == {"error": {"details": around.format(*[MASK] * 2)}}
    assert masked.headers["x-echo"] == around.format(*[MASK] * 2)
    assert answer(200, X_Echo=said).without_echo(SECRET).headers == masked.headers


def test_of_what_is_no_token_the_beginning_may_be_common_words() -> None:
    said = "Your message could not be sent"
    assert masking("Your message has been delayed")(said) == said


def test_a_token_is_not_taken_for_one_that_begins_alike_for_a_few_characters() -> None:
    said = f"{SECRET[:11]}; {SECRET[1:]}; cmz_live_"
    assert masking_token(SECRET)(said) == said


def test_a_short_value_spoils_no_word_that_it_begins_or_ends() -> None:
    assert masking("ab")("ab cab abc ab\nab") == f"{MASK} cab abc {MASK}\n{MASK}"
    assert masking("a.a")("xa.a.a") == f"xa.{MASK}"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("-" * 4095 + "x", "-" * 10**6),
        ("a" * 4096, "b" + "a" * 10**6),
        ("a" * 15, "b" + "a" * 10**6),
        ("-" * 14 + "x", "-" * 10**6),
        ("abc" * 1000 + "x", "abc" * (10**6 // 3)),
    ],
)
@pytest.mark.parametrize("kind", [masking, masking_token])
def test_masking_takes_milliseconds_whatever_a_server_sends(
    kind: Callable[[str], Callable[[str], str]], value: str, text: str
) -> None:
    mask, began = kind(value), time.process_time()
    mask(text)
    assert time.process_time() - began < 0.5  # position by position it would be seconds


@pytest.mark.parametrize(
    ("said", "kept"),
    [("req_1", "req_1"), ("\x9b2J\x85x", "2J x"), ("x" * 90_000, "x" * LONGEST_ID), ("", None)],
)
def test_a_request_id_fits_one_line(said: str, kept: str | None) -> None:
    assert request_id(answer(200, X_Request_Id=said)) == kept
    assert request_id(answer(200)) is None


def test_a_success_keeps_its_body_untouched() -> None:
    accepted = answer(201, {"token": "cmz_new"})
    assert accepted.without_echo("cmz_new") is accepted
    assert "cmz_new" not in repr(accepted)
