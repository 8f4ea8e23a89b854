"""A message is checked before anything is sent, and sent exactly as it is."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cmzon_secrets.answers import Answer
from cmzon_secrets.client import SendResult
from cmzon_secrets.client.effects import Request
from cmzon_secrets.client.messages import LONGEST_TEXT, message_request, without_message
from cmzon_secrets.errors import RequestRejected
from cmzon_secrets.headers import Headers
from cmzon_secrets.tokens import MASK

TO = "+4915112345678"


def test_a_message_is_exactly_the_vendors_body() -> None:
    request = message_request(TO, "hi", key="key-1")
    assert (request.method, request.path) == ("POST", "/v1/messages")
    assert request.json == {"to": TO, "type": "text", "text": {"body": "hi"}}
    assert request.headers == {"Idempotency-Key": "key-1"}
    assert message_request(TO, "hi", key=None).headers == {}


@pytest.mark.parametrize(
    "to",
    [
        *("", "1234567890", "+123456", "+1234567890123456", "+0123456789"),
        *("+12345a7890", "+١٢٣٤٥٦٧٨", "+1234567\n", " +1234567", "+1 234 567 890", None, 7, b"+1"),
    ],
)
def test_a_number_that_is_not_e164_is_refused_and_not_repeated(to: Any) -> None:
    with pytest.raises(RequestRejected, match=r"^to — ") as caught:
        message_request(to, "hi", key=None)
    assert caught.value.status is None
    assert caught.value.hint or not isinstance(to, str)
    assert not isinstance(to, str) or not to or to.strip() not in str(caught.value)


@pytest.mark.parametrize(
    ("message", "why"),
    [
        ("", "not empty"),
        (None, "a str is needed, got NoneType"),
        (b"hi", "a str is needed, got bytes"),
        (["hi"], "a str is needed, got list"),
        ("half a character \ud83d", "lone surrogate"),
        ("x" * (LONGEST_TEXT + 1), "4097 characters; at most 4096"),
        ("x" * 1_000_000, "1000000 characters"),
    ],
)
def test_a_text_that_cannot_be_sent_is_refused_and_not_repeated(message: Any, why: str) -> None:
    with pytest.raises(RequestRejected, match=rf"^message — .*{why}") as caught:
        message_request(TO, message, key=None)
    assert "half a" not in str(caught.value).replace("half of a character", "")
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("key", ["", "a b", "a\r\nX: y", "ü", "k" * 256, 7, b"key"])
def test_an_idempotency_key_that_cannot_be_sent_is_refused(key: Any) -> None:
    with pytest.raises(RequestRejected, match=r"^idempotency key — "):
        message_request(TO, "hi", key=key)


@pytest.mark.parametrize("to", ["+1234567", "+123456789012345"])
@pytest.mark.parametrize("message", ["x", " ", "ü\n👋", "\0", "\u202eשלום", "x" * LONGEST_TEXT])
def test_what_can_be_sent_is_sent_as_it_is(to: str, message: str) -> None:
    request = message_request(to, message, key=None)
    assert request.json == {"to": to, "type": "text", "text": {"body": message}}


def test_only_messages_are_messages() -> None:
    assert Request("post", "/v1/messages?x=1").is_message
    assert Request("POST", "/v1/messages/").is_message
    assert not Request("GET", "/v1/messages").is_message
    assert not Request("POST", "/v1/messages/x").is_message


@pytest.mark.parametrize(
    "said",
    [
        "the number +4915112345678 is unknown",
        "to=+4915112345678.",
        "4915112345678: not on WhatsApp",
        "004915112345678 cannot be reached",
        "the text 'a private word' is forbidden",
    ],
)
def test_an_echo_of_the_number_or_the_text_is_masked_in_a_refusal(said: str) -> None:
    body = json.dumps({"error": {"details": said}}).encode()
    answer = Answer(400, Headers({"X-Echo": said}), body)
    request = message_request(TO, "a private word", key=None)
    masked = without_message(answer, request)
    for text in (masked.body.decode(), masked.headers["x-echo"]):
        assert "15112345678" not in text
        assert "private" not in text
    assert masked.status == 400


def test_other_words_and_numbers_are_left_alone() -> None:
    body = json.dumps({"error": {"details": "token 749151123456789 is a hit"}}).encode()
    request = message_request(TO, "hi", key=None)
    masked = without_message(Answer(400, Headers({}), body), request)
    assert masked.json() == {"error": {"details": "token 749151123456789 is a hit"}}
    answer = Answer(400, Headers({}), b"<p>&nbsp;</p>")
    assert without_message(answer, Request("POST", "/v1/messages", json={"to": ""})) is answer


def test_a_number_is_masked_where_it_is_a_number_of_json_and_a_code_or_a_wait_is_kept() -> None:
    error = {"code": 429, "retry_after": 60, "details": {"to": 4915112345678, "from": 15550001234}}
    for text in ("429", "60"):
        masked = without_message(
            Answer(429, Headers({}), json.dumps({"error": error}).encode()),
            message_request(TO, text, key=None),
        )
        shown = {"to": MASK, "from": 15550001234}
        assert masked.json() == {"error": {**error, "details": shown}}


def test_a_long_text_is_masked_wherever_it_stands_and_a_word_where_it_is_one() -> None:
    body = json.dumps({"error": {"message": "no_Your code is 123456! for ok, okay"}}).encode()
    for text, left in (
        ("Your code is 123456", f"no_{MASK}! for ok, okay"),
        ("ok", f"no_Your code is 123456! for {MASK}, okay"),
    ):
        masked = without_message(
            Answer(422, Headers({}), body), message_request(TO, text, key=None)
        )
        assert masked.json() == {"error": {"message": left}}


def test_a_word_that_is_also_a_part_of_an_id_spoils_no_success() -> None:
    body = json.dumps({"id": "msg-1", "status": "sent"}).encode()
    for text in ("1", "msg", "sent"):
        masked = without_message(
            Answer(200, Headers({}), body), message_request(TO, text, key=None)
        )
        assert masked.json() == {"id": "msg-1", "status": "sent"}


def test_no_repr_shows_the_number_or_the_text() -> None:
    result = SendResult("msg_1", "accepted", TO, "req_1", 1, {})
    shown = repr(result) + repr(message_request(TO, "a private word", key="k"))
    assert "4915" not in shown
    assert "private" not in shown
