"""One call of the API as a generator without I/O: which request, with which token, and what then.

It yields what it needs and receives what came of it; a driver of a dozen lines, blocking or not,
does the rest:

=============  =================================================  ============================
yielded        the driver                                         sends back
=============  =================================================  ============================
``Pace``       waits for a slot of the rate limits                None
``NeedToken``  asks the token cache                               the Token
``Request``    sends it, once                                     the Answer or TransportError
``Reject``     tells the cache that the API refused this token    None
=============  =================================================  ============================

What comes after an answer, decided here and nowhere else:

- 401: the token is rejected, and the request goes out once more with a token that differs. No
  token is ever sent again after the API refused it. The second try carries the same
  idempotency key.
- everything else that is not a success, and no answer at all: the typed error.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from cmzon_secrets.answers import Answer, api_error
from cmzon_secrets.errors import APIError, RequestRejected, TransportError
from cmzon_secrets.tokens import Token

__all__ = [
    "Effect",
    "NeedToken",
    "Pace",
    "Reject",
    "Request",
    "Response",
    "SendResult",
    "Steps",
    "is_refusal",
    "message_request",
    "send",
    "send_message",
]

MESSAGES = "/v1/messages"

_E164 = re.compile(r"\+[0-9]{7,15}", re.ASCII)
_KEY = re.compile(r"[\x21-\x7e]{1,255}", re.ASCII)


@dataclass(frozen=True, slots=True)
class SendResult:
    """An accepted message.

    The vendor does not publish the body of a success: ``id`` and ``status`` are None where the
    answer does not have them, and ``to`` is then the number it was sent to. ``attempts`` counts
    the requests it took; ``headers`` are the last answer's, names in lower case.
    """

    id: str | None
    status: str | None
    to: str
    request_id: str | None
    attempts: int
    headers: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Response:
    """A successful answer; ``json`` is None where it has no body."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    json: Any = field(repr=False)


@dataclass(frozen=True, slots=True)
class Pace:
    """Wait until a message may go."""


@dataclass(frozen=True, slots=True)
class NeedToken:
    """Ask the cache for the token."""


@dataclass(frozen=True, slots=True)
class Reject:
    """The API answered 401 to this token."""

    token: Token
    request_id: str | None


@dataclass(frozen=True, slots=True)
class Request:
    """What to send. ``token`` is filled in anew for every attempt."""

    method: str
    path: str
    json: object = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    token: Token | None = None

    @property
    def is_message(self) -> bool:
        """Whether the vendor's limits, which are limits on messages, apply."""
        return self.method.upper() == "POST" and self.path.partition("?")[0] == MESSAGES


Effect = Pace | NeedToken | Request | Reject
_R = TypeVar("_R")
Steps = Generator[Effect, Any, _R]
"""A call in progress: effects out, their outcomes in, and a result of type ``_R`` in the end."""


def send_message(to: str, request: Request) -> Steps[SendResult]:
    """Send a message made by ``message_request``. Raises APIError.

    A success whose body is not a JSON object is a TransportError with ``status`` set: the message
    may have been accepted.
    """
    answer, attempts = yield from _answered(request)
    body = _json(answer, request)
    if not isinstance(body, dict):
        raise _unreadable(answer, request)
    return SendResult(
        id=_text(body.get("id")),
        status=_text(body.get("status")),
        to=_text(body.get("to")) or to,
        request_id=answer.headers.get("x-request-id"),
        attempts=attempts,
        headers=answer.headers,
    )


def send(request: Request) -> Steps[Response]:
    """Send any request. Raises APIError; TransportError for a success that is not JSON."""
    answer, _ = yield from _answered(request)
    body = _json(answer, request) if answer.body.strip() else None
    return Response(answer.status, answer.headers, body)


def message_request(to: str, message: str, *, key: str | None) -> Request:
    """The vendor's request for a text message. ``key``: its Idempotency-Key, None for none.

    Raises RequestRejected, with no status, for what could not be sent: nothing was. Neither the
    number nor the text is repeated.
    """
    if not isinstance(to, str) or _E164.fullmatch(to) is None:
        raise RequestRejected(
            "to — not a phone number in E.164: + and 7 to 15 digits",
            hint='for example "+1234567890"',
        )
    if not isinstance(message, str) or not message or not _is_encodable(message):
        raise RequestRejected("message — a text that is not empty is needed")
    if key is not None and (not isinstance(key, str) or _KEY.fullmatch(key) is None):
        raise RequestRejected(
            "idempotency key — 1 to 255 printable ASCII characters without spaces"
        )
    return Request(
        "POST",
        MESSAGES,
        json={"to": to, "type": "text", "text": {"body": message}},
        headers={} if key is None else {"Idempotency-Key": key},
    )


def is_refusal(outcome: Answer | TransportError) -> bool:
    """Whether the message was definitely not accepted, so that it counts for no daily limit.

    A 429 is taken to count: nobody says that it does not.
    """
    if isinstance(outcome, TransportError):
        return not outcome.may_have_been_sent
    return 300 <= outcome.status < 500 and outcome.status != 429


def _answered(request: Request) -> Steps[tuple[Answer, int]]:
    """The successful answer to ``request`` and how many attempts it took."""
    yield from _paced(request)  # before the token is asked for: waiting would make it older
    token: Token = yield NeedToken()
    answer = yield from _attempt(request, token)
    if answer.status != 401:
        return _success(answer, request), 1
    another: Token = yield NeedToken()
    if another == token:
        raise _failure(answer, request)
    yield from _paced(request)
    answer = yield from _attempt(request, another)
    return _success(answer, request), 2


def _paced(request: Request) -> Steps[None]:
    if request.is_message:
        yield Pace()


def _attempt(request: Request, token: Token) -> Steps[Answer]:
    outcome: Answer | TransportError = yield replace(request, token=token)
    if isinstance(outcome, TransportError):
        raise outcome
    if outcome.status == 401:
        yield Reject(token, outcome.headers.get("x-request-id"))
    return outcome


def _success(answer: Answer, request: Request) -> Answer:
    if 200 <= answer.status < 300:
        return answer
    raise _failure(answer, request)


def _failure(answer: Answer, request: Request) -> APIError:
    return api_error(answer, what=f"{request.method} {request.path}")


def _json(answer: Answer, request: Request) -> Any:
    try:
        return answer.json()
    except ValueError:
        raise _unreadable(answer, request) from None


def _unreadable(answer: Answer, request: Request) -> TransportError:
    return TransportError(
        f"{request.method} {request.path} — {answer.status}, but its body is not the JSON expected: "
        "the request may have taken effect",
        status=answer.status,
        request_id=answer.headers.get("x-request-id"),
        headers=answer.headers,
        hint="check before sending it again",
    )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # a lone surrogate: half of a character
        return False
    return True
