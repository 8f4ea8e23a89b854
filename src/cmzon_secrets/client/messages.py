"""A text message, checked before anything is sent.

The form of the request is the vendor's. The longest text is what WhatsApp allows; the vendor's page
names no limit: **assumed**.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from cmzon_secrets.answers import NO_WORD, Answer, masking
from cmzon_secrets.client.effects import MESSAGES, Request
from cmzon_secrets.errors import RequestRejected

__all__ = [
    "LONGEST_TEXT",
    "check_key",
    "check_message",
    "check_priority",
    "message_masks",
    "message_request",
    "without_message",
]

LONGEST_TEXT = 4096
"""Characters."""

_E164 = re.compile(r"\+[1-9][0-9]{6,14}", re.ASCII)  # ITU-T E.164 §6: at most 15 digits
_KEY = re.compile(r"[\x21-\x7e]{1,255}", re.ASCII)


def message_request(to: str, message: str, *, key: str | None) -> Request:
    """The vendor's request for a text message. ``key``: its Idempotency-Key, None for none.

    Raises RequestRejected, with no status, for what could not be sent: nothing was. Neither the
    number nor the text is repeated.
    """
    check_message(to, message)
    if key is not None:
        check_key(key)
    return Request(
        "POST",
        MESSAGES,
        json={"to": to, "type": "text", "text": {"body": message}},
        headers={} if key is None else {"Idempotency-Key": key},
    )


def check_message(to: str, message: str) -> None:
    """Raises RequestRejected for a number or a text that cannot be sent."""
    _check_text("to", to)
    if _E164.fullmatch(to) is None:
        raise RequestRejected(
            "to — not a phone number in E.164: + and 7 to 15 digits, the first not 0",
            hint='for example "+1234567890"',
        )
    _check_text("message", message)
    if not message:
        raise RequestRejected("message — a text that is not empty is needed")
    if len(message) > LONGEST_TEXT:
        raise RequestRejected(
            f"message — {len(message)} characters; at most {LONGEST_TEXT} fit into one",
            hint="send it in parts",
        )
    if not _is_encodable(message):
        raise RequestRejected(
            "message — it holds half of a character (a lone surrogate)",
            hint='decode the text with errors="replace" where it is read',
        )


def _check_text(name: str, text: object) -> None:
    if not isinstance(text, str):
        raise RequestRejected(f"{name} — a str is needed, got {type(text).__name__}")


def check_key(key: str) -> None:
    """Raises RequestRejected for an idempotency key that cannot be sent."""
    if not isinstance(key, str) or _KEY.fullmatch(key) is None:
        raise RequestRejected(
            "idempotency key — 1 to 255 printable ASCII characters without spaces are needed"
        )


def check_priority(priority: int) -> None:
    """Raises RequestRejected for a priority that cannot be compared with others."""
    if not isinstance(priority, int):
        raise RequestRejected("priority — a whole number is needed")


def without_message(answer: Answer, request: Request) -> Answer:
    """``answer`` with the number and the text of a message masked, for errors, events and logs carry
    its words."""
    masks = message_masks(request, success=answer.status < 300)
    return answer.masked(*masks) if masks else answer


def message_masks(request: Request, *, success: bool) -> list[Callable[[str], str]]:
    """Functions that mask the number and the text of a message; none where the request is no message.

    In a success a text that may be a common word is left alone: it could be a part of an id.
    """
    match request.json:
        case {"to": str(to), "text": {"body": str(text)}} if to and text:
            digits = to.removeprefix("+")
            masks = [masking(sign + digits, beside=r"\d") for sign in ("+", "00", "")]
            if not success or len(text) >= NO_WORD:
                masks.append(masking(text, beside=r"\w"))
            return masks
    return []


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
