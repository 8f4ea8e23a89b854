"""Requests as they are shown: whole, but for secrets, of which only a fingerprint is left.

A fingerprint is the first 16 hex digits of a value's SHA-256: enough to see that two are the same.
A secret is found however JSON spells it (``\\u0063mz_…`` is one too), and between NULs, as UTF-16 has it,
in time that grows with the text and not with the secret: both are a stranger's.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable

from cmzon_secrets.emulator.http.requests import CREDENTIALS

__all__ = [
    "fingerprint",
    "holds_token",
    "presented_in",
    "shown_headers",
    "without_cut_secret",
    "without_secrets",
]

_SECRET_NAME = re.compile(r"auth|cookie|session|token|secret|api-?key|password|credential")
_SCHEMES = ("bearer", "basic", "token")
"""What a value begins with that is a credential in a header of any name."""
_SHORTEST_SECRET = 8
"""Characters; replacing a shorter value wherever it stands would garble the text and hide nothing."""
_TOKEN = re.compile(r"cmz_[a-z0-9_-]{16,}", re.ASCII | re.IGNORECASE)


def fingerprint(value: str) -> str:
    """What is shown of a secret."""
    return hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def presented_in(headers: Iterable[tuple[bytes, bytes]]) -> tuple[str, ...]:
    """What a request showed to be let in, of every scheme; to be taken out wherever it stands.

    Header values are Latin-1 to HTTP; what was meant as UTF-8 stands so in the body.
    """
    found = set()
    for name, value in headers:
        if name.lower() in CREDENTIALS:
            _, _, credential = value.strip().partition(b" ")
            secret = (credential or value).strip()
            found |= {secret.decode("latin-1"), secret.decode("utf-8", "replace")}
    long_enough = (secret for secret in found if len(secret) >= _SHORTEST_SECRET)
    return tuple(sorted(long_enough, key=len, reverse=True))  # before any that is part of it


def holds_token(text: str) -> bool:
    """Whether a token of the emulator's shape stands in it."""
    return without_secrets(text) != text


def without_secrets(text: str, *presented: str) -> str:
    """``text`` without tokens: those of the emulator's shape, and all that is ``presented``."""
    text = _replaced(text, presented)
    if "\0" in text:
        joined = text.replace("\0", "")
        replaced = _replaced(joined, presented)
        text = text if replaced == joined else replaced
    return text


def without_cut_secret(text: str, *presented: str) -> str:
    """A text that was cut off, without the beginning of a secret that the cut went through."""
    whole = text.rstrip("\ufffd")  # what is left of a character
    for secret in presented:
        for length in range(len(secret) - 1, _SHORTEST_SECRET - 1, -1):
            if whole.endswith(secret[:length]):
                return whole[:-length]
    return text


def shown_headers(headers: Iterable[tuple[bytes, bytes]], *presented: str) -> list[tuple[str, str]]:
    """Headers in their order, names in lower case; what may be a secret only as a fingerprint."""
    in_names = (*presented, *(secret.lower() for secret in presented))
    return [
        (without_secrets(name, *in_names), _shown(name, value.decode("latin-1"), presented))
        for name, value in ((name.decode("latin-1"), value) for name, value in headers)
    ]


def _shown(name: str, value: str, presented: tuple[str, ...]) -> str:
    scheme, _, credential = value.partition(" ")
    if scheme.lower() == "bearer" and credential:
        return f"{scheme} {_mark('token', credential.strip())}"
    if (scheme.lower() in _SCHEMES and credential) or _SECRET_NAME.search(name.lower()):
        return _mark("hidden", value)
    return without_secrets(value, *presented)


def _replaced(text: str, presented: tuple[str, ...]) -> str:
    for secret in presented:
        text = text.replace(secret, _mark("token", secret))
    text = _TOKEN.sub(lambda found: _mark("token", found[0]), text)
    if "\\" in text:
        text = _without_spelled(text, presented)
        text = _SPELLED_TOKEN.sub(lambda found: _mark("token", _plain(found[0])), text)
    return text


_PIECE = re.compile(
    r"(?P<code>\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4})"
    r"|\\(?P<itself>[\s\S]?)|[^\\]+"
)
"""What a JSON text is made of: escapes, and what lies between them."""


def _without_spelled(text: str, presented: tuple[str, ...]) -> str:
    """Without secrets of which any character may be escaped."""
    plain, starts = _read(text)
    for secret in presented:
        meant = secret.replace("\t", "t")  # an escaped one is read as its letter
        if meant in plain:
            text = _marked(text, plain, starts, meant, _mark("token", secret))
            plain, starts = _read(text)
    return text


def _read(text: str) -> tuple[str, list[int]]:
    """A text with nothing escaped, and where each character of that begins in it; its end, too."""
    plain: list[str] = []
    starts: list[int] = []
    for piece in _PIECE.finditer(text):
        meant = json.loads(f'"{piece[0]}"') if piece["code"] else piece["itself"] or piece[0]
        plain.append(meant)
        starts += range(piece.start(), piece.start() + len(meant))
    return "".join(plain), [*starts, len(text)]


def _marked(text: str, plain: str, starts: list[int], secret: str, mark: str) -> str:
    shown, done, at = [], 0, plain.find(secret)
    while at >= 0:
        shown += [text[done : starts[at]], mark]
        at += len(secret)
        done, at = starts[at], plain.find(secret, at)
    return "".join(shown) + text[done:]


def _spelling(character: str) -> str:
    """A letter in every way that JSON has for it. Atomic: there is one way to read each."""
    return rf"(?>\\u{ord(character):04x}|\\?{character})"


_SPELLED_TOKEN = re.compile(
    "".join(map(_spelling, "cmz_")) + r"(?:[a-z0-9_-]|\\u00[2-7][0-9a-f]){16,}",
    re.ASCII | re.IGNORECASE,
)


def _plain(spelled: str) -> str:
    """What a token of the emulator's shape is that is spelled so."""
    return re.sub(r"\\u(.{4})", lambda found: chr(int(found[1], 16)), spelled)


def _mark(what: str, value: str) -> str:
    return f"<{what} {fingerprint(value)}>"
