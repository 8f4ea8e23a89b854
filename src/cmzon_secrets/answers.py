"""What an answer of the API means: its typed error, by status and by the vendor's error body."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from cmzon_secrets.errors import (
    APIError,
    AuthenticationError,
    PermissionDenied,
    RateLimited,
    RequestRejected,
    ServerError,
)
from cmzon_secrets.headers import Headers, date_in
from cmzon_secrets.tokens import MASK

__all__ = [
    "CHECK_FIRST",
    "LONGEST_ID",
    "NO_WORD",
    "Answer",
    "api_error",
    "is_error_of_api",
    "masked_headers",
    "masking",
    "masking_token",
    "printable",
    "request_id",
    "retry_after",
]

NO_WORD = 16
"""Characters from which on a value is no common word: it is masked wherever it stands."""
_BEGINNING = 12
"""Characters of a token, from its first on, that are masked also where the rest was cut off."""
_NO_CODE = 10**6
"""A number from here on is no status, code or wait, but may be a phone number."""
CHECK_FIRST = "it may have taken effect: check before sending it again"
"""The remedy where nobody knows the outcome."""
LONGEST_ID = 256
"""Characters of an id, or of another word of a success, that are kept."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server said; the body as bytes."""

    status: int
    headers: Headers
    body: bytes = field(repr=False)  # it may hold a token just issued

    @property
    def date(self) -> datetime | None:
        """When the server says that it answered (RFC 9110 §6.6.1)."""
        return date_in(self.headers.get("date"))

    def json(self) -> Any:
        """The body as JSON. Raises ValueError for anything else."""
        with suppress(ValueError, RecursionError):
            return json.loads(self.body)
        raise ValueError("not JSON")  # out here: json's own error holds the whole body

    def without_echo(self, value: str) -> Answer:
        """Itself, unless it repeats a token's ``value``: then with that masked, for errors carry its words.

        The body of a success stays as it is: it may be the token that was asked for.
        """
        mask = masking_token(value)
        if not 200 <= self.status < 300:
            return self.masked(mask)
        headers = masked_headers(self.headers, mask)
        return self if headers is self.headers else Answer(self.status, headers, self.body)

    def masked(self, *masks: Callable[[str], str]) -> Answer:
        """With every text in headers and body as these leave it, one after the other; see ``masking``."""

        def mask(text: str) -> str:
            for one in masks:
                text = one(text)
            return text

        headers = masked_headers(self.headers, *masks)
        try:
            # Decoded before it is masked, so that no escape sequence hides the value.
            body = json.dumps(_masked(self.json(), mask))
        except RecursionError:
            body = ""  # too deep to look through
        except ValueError:
            body = mask(self.body.decode("utf-8", "replace"))
        return Answer(self.status, headers, body.encode())


def masked_headers(headers: Headers, *masks: Callable[[str], str]) -> Headers:
    """``headers`` with every text as these leave it; most have nothing to mask, and cost one look."""
    texts = "\n".join(headers.values())
    for mask in masks:
        if mask(texts) != texts:
            headers = Headers({name: mask(text) for name, text in headers.items()})
            texts = "\n".join(headers.values())
    return headers


def masking(value: str, *, beside: str = r"[^\W_]") -> Callable[[str], str]:
    """A function that masks ``value`` in a text, in time that grows with the text alone.

    One that is short enough to be a common word is masked only where nothing like ``beside`` (a
    pattern for one character) touches it, so that it spoils no other word.
    """
    if len(value) >= NO_WORD:
        return lambda text: text.replace(value, MASK)

    def mask(text: str) -> str:
        # A pattern costs more than all the rest of a message, and is seldom needed.
        return _word(value, beside).sub(MASK, text) if value in text else text

    return mask


def masking_token(value: str) -> Callable[[str], str]:
    """``masking`` of a token, and of its beginning: whoever repeats one may have cut it short."""
    whole, beginning = masking(value), value[:_BEGINNING]
    if len(value) < NO_WORD:
        return whole

    def mask(text: str) -> str:
        if beginning not in text:
            return text
        text, kept, done = whole(text), [], 0
        while (at := text.find(beginning, done)) >= 0:
            kept += [text[done:at], MASK]
            done = at + len(beginning)
            while done - at < len(value) and text[done : done + 1] == value[done - at]:
                done += 1
        return "".join(kept) + text[done:]

    return mask


def _word(value: str, beside: str) -> re.Pattern[str]:
    # The value comes first, for then it is searched for as a whole; what precedes it is looked at last.
    before = rf"(?<!{beside}(?s:.{{{len(value)}}}))"
    return re.compile(rf"{re.escape(value)}(?!{beside}){before}")


def _masked(part: Any, mask: Callable[[str], str]) -> Any:
    if isinstance(part, str):
        return mask(part)
    if isinstance(part, list):
        return [_masked(item, mask) for item in part]
    if isinstance(part, dict):
        return {mask(name): _masked(item, mask) for name, item in part.items()}
    if isinstance(part, int) and abs(part) >= _NO_CODE:
        said = mask(str(part))
        return part if said == str(part) else said
    return part


def api_error(answer: Answer, *, what: str) -> APIError:
    """The typed error for an answer that is not a success; ``what`` begins its text."""
    error = _error_body(answer)
    kind = _ERRORS.get(answer.status) or (ServerError if answer.status >= 500 else RequestRejected)
    said, details = printable(error.get("message")), _details(error.get("details"))
    problem = kind(
        f"{what} — {answer.status} {said or 'without an explanation'}"
        + (f" ({details})" if details else ""),
        status=answer.status,
        code=_code(error.get("code")),
        details=details,
        request_id=request_id(answer),
        headers=answer.headers,
        hint=_HINTS.get(answer.status) or _HINTS.get(answer.status // 100 * 100),
    )
    problem.message = said or problem.message
    if isinstance(problem, RateLimited):
        problem.retry_after = _retry_after(error, answer.headers)
    return problem


def request_id(answer: Answer) -> str | None:
    """The server's name for the request, fit for one line; None where it gave none."""
    return printable(answer.headers.get("x-request-id"), LONGEST_ID)


def is_error_of_api(answer: Answer) -> bool:
    """Whether the body is the vendor's error body: the API speaks, and not a gateway before it."""
    return bool(_error_body(answer))


def retry_after(answer: Answer) -> float | None:
    """The seconds to wait that an answer asks for, in its body or its header; nonsense is ignored."""
    return _retry_after(_error_body(answer), answer.headers)


_ERRORS: dict[int, type[APIError]] = {
    401: AuthenticationError,
    403: PermissionDenied,
    429: RateLimited,
}
_AT_FAULT = "mend what the API names: the same request will be refused again"
_LATER = "try again later"
_HINTS = {  # a hundred: for all of its statuses that have none of their own
    300: "a redirect is not followed with a token: where it leads to the API, give that as base URL",
    401: "the token is expired, revoked or unknown: cmzon-secrets rotate replaces it; or put a new one",
    403: "the token lacks the scope, or this address is not in its allowed_ips",
    400: _AT_FAULT,
    404: "check the path, and the base URL: is that the API?",
    408: _LATER,
    425: _LATER,
    429: "wait as long as retry_after says; who shares one RateLimits waits together",
    500: f"{_LATER}: CMzon, or a gateway before it, fails",
}
MAX_RETRY_AFTER = 24 * 3600.0
"""Seconds; more than this is taken for this: nobody waits so long in a call anyway."""


def _error_body(answer: Answer) -> dict[str, Any]:
    try:
        body = answer.json()
    except ValueError:
        return {}
    error = body.get("error") if isinstance(body, dict) else None
    return error if isinstance(error, dict) else {}


def _code(said: object) -> int | str | None:
    return said if isinstance(said, int) and not isinstance(said, bool) else printable(said)


def _details(said: object) -> str | None:
    """The page shows a text; a list or an object that names the fields is shown as JSON."""
    if said and isinstance(said, list | dict):
        with suppress(RecursionError):
            return printable(json.dumps(said))
    return printable(said)


def printable(text: object, longest: int = 200) -> str | None:
    """Server text fit for one line of a message: printable, at most ``longest`` characters."""
    if not isinstance(text, str) or not text:
        return None
    return "".join(c if c.isprintable() else " " for c in text[:longest]).strip() or None


def _retry_after(error: Mapping[str, Any], headers: Mapping[str, str]) -> float | None:
    """The longer of the body's ``retry_after`` and the header's; nonsense is ignored."""
    said = (_seconds(error.get("retry_after")), _header_seconds(headers))
    return max((wait for wait in said if wait is not None), default=None)


def _seconds(said: object) -> float | None:
    if isinstance(said, bool) or not isinstance(said, int | float | str):
        return None
    try:
        seconds = float(said)
    except (ValueError, OverflowError):
        return None
    return min(seconds, MAX_RETRY_AFTER) if seconds >= 0 else None


def _header_seconds(headers: Mapping[str, str]) -> float | None:
    """Retry-After: seconds, or a date (RFC 9110 §10.2.3), by the server's own clock."""
    said = headers.get("retry-after")
    if said is None:
        return None
    then, now = date_in(said), date_in(headers.get("date"))
    if then is None or now is None:
        return _seconds(said)
    return _seconds((then - now).total_seconds())
