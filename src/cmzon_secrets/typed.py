"""What was typed may be a secret in the wrong place: how much of it may be repeated.

Each part of it (between ``/ : ? & = , @``, quotes and blanks) is judged alone. It may be repeated
where it is shorter than a token, or made of words, as the names of files and accounts are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["NOT_SHOWN", "may_be_secret", "quoted", "shown", "without_secrets"]

NOT_SHOWN = "(not shown: it may be a secret)"

SHORTEST_TOKEN = 20  # characters; 80 bits in hex
_OF_PART = r"[^\s/:?&=,@'\"`]"
_PART = re.compile(f"{_OF_PART}+")
# Capitals only, or at most one before small letters, digits at the end: random text is not so for long.
_WORD = r"(?:[A-Z]{1,15}|[A-Z]?[a-z]{1,15}(?:[A-Z][a-z]{1,15})*)?[0-9]{0,8}"
_WORDS = re.compile(rf"{_WORD}(?:[-_.]{_WORD})*")


# The id of a KMS key, and what people name their paths by; only in a URI that names a place.
_UUID_OF_A_PLACE = re.compile(
    r"(?<=[/:])[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}(?![^\s/?&\"'])", re.IGNORECASE
)


def may_be_secret(part: str) -> bool:
    """Whether one part looks like a token. ``cmz_`` is how the emulator's begin."""
    if part.lower().startswith("cmz_"):
        return True
    return len(part) >= SHORTEST_TOKEN and _WORDS.fullmatch(part) is None


def shown(text: str) -> str:
    """``text`` without the parts that may be secrets."""
    return without_secrets(text, [text])


def quoted(name: str) -> str:
    """A name in quotes; what is too long, unprintable or suspicious for one is not shown."""
    fit = len(name) <= 40 and name.isprintable() and shown(name) == name
    return repr(name) if fit else NOT_SHOWN


def without_secrets(message: str, typed: Iterable[str]) -> str:
    """``message`` without the suspicious parts of what was ``typed``, even where it cuts them short."""
    judged = (_UUID_OF_A_PLACE.sub("", text) if "://" in text else text for text in typed)
    for part in {part for text in judged for part in _PART.findall(text) if may_be_secret(part)}:
        message = re.sub(re.escape(part[:SHORTEST_TOKEN]) + f"{_OF_PART}*", NOT_SHOWN, message)
    return message
