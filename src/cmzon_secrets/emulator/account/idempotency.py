"""``Idempotency-Key``: what a key was first used for, so that using it again changes nothing.

Keys belong to the account, not to the token: a request repeated after a 401 comes with another
token and must still be recognised. Only their SHA-256 is kept, as of tokens: somebody will send one
in the wrong header.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cmzon_secrets.emulator.http.answers import Refusal, invalid_request
from cmzon_secrets.emulator.storage.journal import Journal

__all__ = ["KEY", "LONGEST_KEY", "IdempotencyKeys", "Use", "checked_key"]

LONGEST_KEY = 255
KEY = re.compile(rf"[\x21-\x7e]{{1,{LONGEST_KEY}}}", re.ASCII)
INSERT = "INSERT INTO idempotency VALUES (?, ?, ?, ?)"


@dataclass(frozen=True, slots=True)
class Use:
    """One use of a key: on which route, and with which body (``fingerprint`` is of that)."""

    route: str
    key_sha256: str
    fingerprint: str

    @classmethod
    def of(cls, route: str, key: str, body: Mapping[str, Any]) -> Use:
        """Two bodies are the same if they are the same JSON, whatever their layout."""
        canonical = json.dumps(body, sort_keys=True, separators=(",", ":"))
        return cls(route, _sha256(key), _sha256(canonical))

    def row(self, result_id: str) -> tuple[str, str, str, str]:
        """What the journal keeps."""
        return (self.route, self.key_sha256, self.fingerprint, result_id)


class IdempotencyKeys:
    """Every key used so far, with the id of what it made."""

    def __init__(self, journal: Journal) -> None:
        self._made: dict[tuple[str, str], tuple[str, str]] = {
            (route, key): (fingerprint, result_id)
            for route, key, fingerprint, result_id in journal.rows("SELECT * FROM idempotency")
        }

    def made_by(self, use: Use | None) -> str | None:
        """The id this key made before. Raises Refusal (422) where the body was another one."""
        first = self._made.get((use.route, use.key_sha256)) if use is not None else None
        if use is None or first is None:
            return None
        fingerprint, result_id = first
        if fingerprint != use.fingerprint:
            raise Refusal(
                422, "Idempotency key reused", "Idempotency-Key was first used with another body"
            )
        return result_id

    def remember(self, use: Use, result_id: str) -> None:
        """Note what a key made."""
        self._made[use.route, use.key_sha256] = (use.fingerprint, result_id)

    def count(self, route: str) -> int:
        """How many distinct keys made something on a route."""
        return sum(1 for used_on, _ in self._made if used_on == route)


def checked_key(given: list[str]) -> str | None:
    """The key in a request's ``Idempotency-Key`` headers. Raises Refusal (400)."""
    if not given:
        return None
    if len(given) > 1 or KEY.fullmatch(given[0]) is None:
        raise invalid_request(
            "Idempotency-Key — one of 1 to 255 visible ASCII characters is needed"
        )
    return given[0]


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
