"""Requests as they are shown: whole, but for secrets, of which only a fingerprint is left.

A fingerprint is the first 16 hex digits of a value's SHA-256: enough to see that two are the same.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

__all__ = ["fingerprint", "shown_headers", "without_secrets"]

LONGEST_HEADER = 2048
"""Characters of a header's value that are kept."""

_TOKEN = re.compile(r"cmz_[A-Za-z0-9_-]{16,}", re.ASCII)
_SECRET_NAME = re.compile(r"authori[sz]ation|cookie|token|secret|api-?key|password|credential")
_SHORTEST_SECRET = 8
"""Characters; replacing a shorter value wherever it stands would garble the text and hide nothing."""


def fingerprint(value: str) -> str:
    """What is shown of a secret."""
    return hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def without_secrets(text: str, presented: str = "") -> str:
    """``text`` without tokens: those of the emulator's shape, and the one ``presented`` with it."""
    if len(presented) >= _SHORTEST_SECRET:
        text = text.replace(presented, _mark("token", presented))
    if "cmz_" in text:
        text = _TOKEN.sub(lambda found: _mark("token", found[0]), text)
    return text


def shown_headers(
    headers: Iterable[tuple[bytes, bytes]], presented: str = ""
) -> list[tuple[str, str]]:
    """Headers in their order, names as they came; what may be a secret only as a fingerprint."""
    return [
        (name, _shown(name, value.decode("latin-1"), presented))
        for name, value in ((name.decode("latin-1"), value) for name, value in headers)
    ]


def _shown(name: str, value: str, presented: str) -> str:
    if _SECRET_NAME.search(name.lower()) is None:
        return without_secrets(value, presented)[:LONGEST_HEADER]
    scheme, _, credential = value.partition(" ")
    if scheme.lower() == "bearer" and credential:
        return f"{scheme} {_mark('token', credential.strip())}"
    return _mark("hidden", value)


def _mark(what: str, value: str) -> str:
    return f"<{what} {fingerprint(value)}>"
