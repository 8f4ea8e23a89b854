"""The exchange, without any I/O: what it asks for, and what it makes of each outcome."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cmzon_secrets.answers import Answer
from cmzon_secrets.client import exchange
from cmzon_secrets.client.exchange import NeedToken, Pace, Reject, Request
from cmzon_secrets.errors import (
    APIError,
    AuthenticationError,
    PermissionDenied,
    RateLimited,
    RequestRejected,
    ServerError,
    TransportError,
)
from cmzon_secrets.tokens import Token

TO = "+1234567890"
OLD, NEW = Token("cmz_old", id="tok_old"), Token("cmz_new", id="tok_new")
ACCEPTED = Answer(200, {"x-request-id": "req_1"}, b'{"id":"msg_1","status":"accepted"}')
REFUSED = Answer(401, {"x-request-id": "req_0"}, b"")


def run(steps: exchange.Steps[Any], *outcomes: object) -> tuple[list[exchange.Effect], Any]:
    """The effects asked for, and the result or error, when ``outcomes`` are sent back in turn."""
    effects, replies = [], iter(outcomes)
    try:
        effects.append(next(steps))
        while True:
            effects.append(steps.send(next(replies)))
    except StopIteration as end:
        return effects, end.value
    except APIError as error:
        return effects, error


def sending(key: str | None = "key-1") -> exchange.Steps[Any]:
    return exchange.send_message(TO, exchange.message_request(TO, "hi", key=key))


def tokens_sent(effects: list[exchange.Effect]) -> list[Token | None]:
    return [e.token for e in effects if isinstance(e, Request)]


def test_it_paces_then_asks_for_the_token_then_sends() -> None:
    effects, result = run(sending(), None, OLD, ACCEPTED)
    assert [type(e) for e in effects] == [Pace, NeedToken, Request]
    assert tokens_sent(effects) == [OLD]
    assert (result.id, result.status, result.to, result.request_id, result.attempts) == (
        "msg_1",
        "accepted",
        TO,
        "req_1",
        1,
    )


def test_a_message_is_exactly_the_vendors_body() -> None:
    request = exchange.message_request(TO, "hi", key="key-1")
    assert (request.method, request.path) == ("POST", "/v1/messages")
    assert request.json == {"to": TO, "type": "text", "text": {"body": "hi"}}
    assert request.headers == {"Idempotency-Key": "key-1"}
    assert exchange.message_request(TO, "hi", key=None).headers == {}


def test_a_401_goes_out_once_more_with_a_token_that_differs_and_the_same_key() -> None:
    effects, result = run(sending(), None, OLD, REFUSED, None, NEW, None, ACCEPTED)
    assert [type(e) for e in effects] == [
        Pace,
        NeedToken,
        Request,
        Reject,
        NeedToken,
        Pace,
        Request,
    ]
    assert effects[3] == Reject(OLD, "req_0")
    assert tokens_sent(effects) == [OLD, NEW]
    first, second = (e for e in effects if isinstance(e, Request))
    assert first.headers == second.headers == {"Idempotency-Key": "key-1"}
    assert first.json == second.json
    assert result.attempts == 2


def test_a_401_is_final_where_the_token_is_still_the_same() -> None:
    effects, error = run(sending(), None, OLD, REFUSED, None, Token("cmz_old"))
    assert isinstance(error, AuthenticationError)
    assert tokens_sent(effects) == [OLD]


def test_a_second_401_is_final_and_rejects_that_token_too() -> None:
    effects, error = run(sending(), None, OLD, REFUSED, None, NEW, None, REFUSED, None)
    assert isinstance(error, AuthenticationError)
    assert tokens_sent(effects) == [OLD, NEW]
    assert effects[-1] == Reject(NEW, "req_0")


@pytest.mark.parametrize("body", [b"", b"<html>no</html>", b"[]", b'{"error": "no"}', b"\xff"])
def test_a_401_is_recognised_whatever_its_body(body: bytes) -> None:
    _, result = run(sending(), None, OLD, Answer(401, {}, body), None, NEW, None, ACCEPTED)
    assert result.attempts == 2


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (302, RequestRejected),
        (400, RequestRejected),
        (403, PermissionDenied),
        (404, RequestRejected),
        (422, RequestRejected),
        (429, RateLimited),
        (500, ServerError),
        (503, ServerError),
    ],
)
def test_any_other_failure_is_its_typed_error_at_once(status: int, kind: type[APIError]) -> None:
    effects, error = run(sending(), None, OLD, Answer(status, {"x-request-id": "req_9"}, b""))
    assert type(error) is kind
    assert (error.status, error.request_id) == (status, "req_9")
    assert str(error).startswith(f"POST /v1/messages — {status}")
    assert len(tokens_sent(effects)) == 1


def test_no_answer_is_raised_and_never_sent_again() -> None:
    lost = TransportError("no answer")
    effects, error = run(sending(), None, OLD, lost)
    assert error is lost
    assert len(tokens_sent(effects)) == 1


@pytest.mark.parametrize("body", [b"", b"OK", b"[1]", b"null", b'"x"', b"[" * 100_000])
def test_a_success_that_is_not_the_expected_json_says_that_it_may_have_been_accepted(
    body: bytes,
) -> None:
    _, error = run(sending(), None, OLD, Answer(200, {"x-request-id": "req_1"}, body))
    assert isinstance(error, TransportError)
    assert error.may_have_been_sent
    assert (error.status, error.request_id) == (200, "req_1")
    assert "may have taken effect" in str(error)


@pytest.mark.parametrize("body", [{}, {"id": 7, "status": [], "to": None}, {"messages": []}])
def test_a_success_of_another_shape_is_still_a_success(body: dict[str, object]) -> None:
    _, result = run(sending(), None, OLD, Answer(202, {}, json.dumps(body).encode()))
    assert (result.id, result.status, result.to, result.request_id) == (None, None, TO, None)


@pytest.mark.parametrize(
    "to",
    [
        "",
        "1234567890",
        "+123456",
        "+1234567890123456",
        "+12345a7890",
        "+١٢٣٤٥٦٧٨",
        "+1234567\n",
        None,
        7,
    ],
)
def test_a_number_that_is_not_e164_is_refused_before_anything_is_sent(to: Any) -> None:
    with pytest.raises(RequestRejected, match=r"^to — ") as caught:
        exchange.message_request(to, "hi", key=None)
    assert caught.value.status is None
    assert not isinstance(to, str) or not to or to.strip() not in str(caught.value)


@pytest.mark.parametrize("message", ["", None, b"hi", "half a character \ud83d"])
def test_a_text_that_cannot_be_sent_is_refused(message: Any) -> None:
    with pytest.raises(RequestRejected, match=r"^message — "):
        exchange.message_request(TO, message, key=None)


@pytest.mark.parametrize("key", ["", "a b", "a\r\nX: y", "ü", "k" * 256, 7])
def test_an_idempotency_key_that_cannot_be_sent_is_refused(key: Any) -> None:
    with pytest.raises(RequestRejected, match=r"^idempotency key — "):
        exchange.message_request(TO, "hi", key=key)


@pytest.mark.parametrize("to", ["+1234567", "+123456789012345"])
@pytest.mark.parametrize("message", ["x", "ü\n👋", " "])
def test_what_can_be_sent_is_sent_as_it_is(to: str, message: str) -> None:
    request = exchange.message_request(to, message, key=None)
    assert request.json == {"to": to, "type": "text", "text": {"body": message}}


def test_only_messages_are_paced() -> None:
    effects, response = run(
        exchange.send(Request("GET", "/v1/tokens/self")), OLD, Answer(200, {}, b'{"id": "x"}')
    )
    assert [type(e) for e in effects] == [NeedToken, Request]
    assert response.json == {"id": "x"}
    assert Request("post", "/v1/messages?x=1").is_message
    assert not Request("GET", "/v1/messages").is_message


def test_an_answer_without_a_body_is_none() -> None:
    _, response = run(exchange.send(Request("DELETE", "/v1/tokens/x")), OLD, Answer(204, {}, b""))
    assert (response.status, response.json) == (204, None)


@pytest.mark.parametrize(
    ("outcome", "refusal"),
    [
        (Answer(200, {}, b""), False),
        (Answer(302, {}, b""), True),
        (Answer(401, {}, b""), True),
        (Answer(403, {}, b""), True),
        (Answer(422, {}, b""), True),
        (Answer(429, {}, b""), False),
        (Answer(500, {}, b""), False),
        (TransportError("lost"), False),
    ],
)
def test_what_counts_for_the_daily_limit(outcome: Answer | TransportError, refusal: bool) -> None:
    assert exchange.is_refusal(outcome) is refusal


def test_a_message_that_never_left_does_not_count() -> None:
    never_left = TransportError("refused")
    never_left.may_have_been_sent = False
    assert exchange.is_refusal(never_left)


def test_no_repr_shows_text_number_or_token() -> None:
    effects, _ = run(sending(), None, OLD, REFUSED, None, NEW, None, ACCEPTED)
    shown = repr(effects)
    assert TO not in shown
    assert "'hi'" not in shown
    assert "cmz_old" not in shown
