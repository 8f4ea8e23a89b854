"""A bearer token that cannot be shown by accident, and the three stages a store holds."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NoReturn, SupportsIndex

from cmzon_secrets.errors import InvalidToken, shielded

__all__ = ["MASK", "MAX_TOKEN_BYTES", "Token", "Versions"]

MAX_TOKEN_BYTES = 4096
"""Longest value accepted; web servers commonly refuse header fields beyond 8 KB."""

MASK = "••••••••"
"""What is shown instead of a value: the same width for every token, so length does not leak."""

_B64TOKEN = re.compile(r"[A-Za-z0-9\-._~+/]+=*", re.ASCII)  # RFC 6750 §2.1
_ID = re.compile(r"[\x21-\x7e]{1,256}", re.ASCII)


class Token:
    """A CMzon bearer token with its metadata. Immutable; equal by value, in constant time.

    ``reveal()`` is the only way to the value. ``id`` is the issuer's id, or ``sha256:`` and the
    first 16 hex digits of the value's SHA-256 where there is none. Times are UTC.

    Raises InvalidToken where the value is not an RFC 6750 ``b64token`` of at most 4,096 bytes, or
    the metadata cannot be right; no message contains the value.
    """

    __slots__ = (
        "__weakref__",
        "_reveal",
        "allowed_ips",
        "expires_at",
        "fingerprint",
        "id",
        "issued_at",
        "scopes",
    )

    id: str
    fingerprint: str
    """First 16 hex digits of the value's SHA-256: two people can compare without seeing."""
    scopes: tuple[str, ...]
    issued_at: datetime | None
    expires_at: datetime | None
    allowed_ips: tuple[str, ...]
    _reveal: Callable[[], str]

    @shielded
    def __init__(
        self,
        value: str,
        *,
        id: str | None = None,
        scopes: Iterable[str] = (),
        issued_at: datetime | None = None,
        expires_at: datetime | None = None,
        allowed_ips: Iterable[str] = (),
    ) -> None:
        fill = object.__setattr__
        _check(value, id)
        fill(self, "scopes", _strings("scopes", scopes))
        fill(self, "issued_at", _utc("issued_at", issued_at))
        fill(self, "expires_at", _utc("expires_at", expires_at))
        fill(self, "allowed_ips", _strings("allowed_ips", allowed_ips))
        # A closure, not an attribute: dir(), getmembers and object inspectors find no string.
        fill(self, "_reveal", lambda: value)
        fill(self, "fingerprint", hashlib.sha256(value.encode("ascii")).hexdigest()[:16])
        fill(self, "id", id if id is not None else f"sha256:{self.fingerprint}")

    def reveal(self) -> str:
        """The secret itself. Put it where it is needed and nowhere else."""
        return self._reveal()

    @property
    def has_issuer_id(self) -> bool:
        """False where ``id`` is only a fingerprint, which no issuer knows."""
        return not self.id.startswith("sha256:")

    def expired(self, now: datetime) -> bool:
        """Whether ``expires_at`` has passed; a token without one never expires."""
        return self.expires_at is not None and now >= self.expires_at

    def __repr__(self) -> str:
        return f"<Token {self.id} {MASK} sha256:{self.fingerprint}>"

    def __format__(self, spec: str) -> str:
        return format(repr(self), spec)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Token):
            return NotImplemented
        return hmac.compare_digest(self.reveal(), other.reveal())

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"Token is immutable: cannot set {name}")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"Token is immutable: cannot delete {name}")

    def __copy__(self) -> Token:
        return self

    def __deepcopy__(self, memo: object) -> Token:
        return self

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError("a Token cannot be pickled: open its store in the other process instead")

    def __getstate__(self) -> NoReturn:
        raise TypeError("a Token has no state to show")


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Versions:
    """One consistent view of a store's stages.

    ``promoted_at`` (UTC) is when CURRENT became CURRENT: possibly later than the truth, never
    earlier, because a grace that starts too early would revoke a token still in use.
    """

    current: Token | None = None
    pending: Token | None = None
    previous: Token | None = None
    promoted_at: datetime | None = None

    def __iter__(self) -> Iterator[Token]:
        """The tokens held, CURRENT first."""
        return (t for t in (self.current, self.pending, self.previous) if t is not None)

    def find(self, token_id: str) -> Token | None:
        """The held token with this id."""
        return next((t for t in self if t.id == token_id), None)


def _check(value: object, id: object) -> None:
    fault = _fault(value) or _id_fault(id, value)
    if fault is not None:
        raise InvalidToken(
            f"token — {fault}", hint="paste the token exactly as the dashboard shows it"
        )


def _fault(value: object) -> str | None:
    if not isinstance(value, str):
        return f"a string is needed, got {type(value).__name__}"
    if not value:
        return "it is empty"
    if len(value) > MAX_TOKEN_BYTES:
        return f"it is longer than {MAX_TOKEN_BYTES} bytes"
    if any(c.isspace() for c in value):
        return "it contains a space or line break"
    if _B64TOKEN.fullmatch(value) is None:
        return (
            "it contains a character that no bearer token has (RFC 6750: A-Z a-z 0-9 - . _ ~ + / =)"
        )
    return None


def _id_fault(id: object, value: object) -> str | None:
    if id is None:
        return None
    if not isinstance(id, str) or _ID.fullmatch(id) is None:
        return "its id must be 1 to 256 printable ASCII characters without spaces"
    if id == value:
        return "its id equals its value, and ids are shown"
    return None


def _strings(name: str, values: Iterable[str]) -> tuple[str, ...]:
    if isinstance(values, str):
        raise InvalidToken(f"token {name} — a list of strings is needed, got one string")
    result = tuple(values)
    if not all(isinstance(v, str) and v.isprintable() for v in result):
        raise InvalidToken(f"token {name} — only printable strings can stand there")
    return result


def _utc(name: str, moment: datetime | None) -> datetime | None:
    if moment is None:
        return None
    if not isinstance(moment, datetime) or moment.tzinfo is None:
        raise InvalidToken(
            f"token {name} — a timezone-aware datetime is needed",
            hint="use datetime.now(timezone.utc)",
        )
    return moment.astimezone(UTC)
