"""Tokens as the JSON objects that stores hold, readable by tools that know nothing of us.

A *record* is one token. It always has a top-level ``token``; the other members are our metadata and may be absent:
``{"token": "…", "id": "…", "scopes": […], "issued_at": "…Z", "expires_at": "…Z", "allowed_ips": […]}``.
Times are RFC 3339. A store that finds a bare string calls ``Token(string)`` itself.

A *document* is all stages, for a store that keeps them in one place:
``{"current", "pending", "previous", "promoted_at"}``, the first three records or null.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from cmzon_secrets.errors import InvalidToken, shielded
from cmzon_secrets.tokens import Token, Versions

__all__ = [
    "format_time",
    "from_document",
    "from_record",
    "parse_time",
    "to_document",
    "to_record",
]


def to_record(token: Token) -> dict[str, Any]:
    """The token with its value: what a store writes. Never log it."""
    record: dict[str, Any] = {"token": token.reveal(), "id": token.id}
    if token.scopes:
        record["scopes"] = list(token.scopes)
    if token.issued_at is not None:
        record["issued_at"] = format_time(token.issued_at)
    if token.expires_at is not None:
        record["expires_at"] = format_time(token.expires_at)
    if token.allowed_ips:
        record["allowed_ips"] = list(token.allowed_ips)
    return record


@shielded
def from_record(record: Mapping[str, Any]) -> Token:
    """The token in a record; unknown members are ignored. Raises InvalidToken, without the value."""
    if not isinstance(record, Mapping):
        raise InvalidToken("stored token — it is not a JSON object")
    if not isinstance(record.get("token"), str):
        raise InvalidToken('stored token — its JSON has no top-level string "token"')
    scopes, ips = record.get("scopes", ()), record.get("allowed_ips", ())
    if not isinstance(scopes, list | tuple) or not isinstance(ips, list | tuple):
        raise InvalidToken("stored token — scopes and allowed_ips must be lists")
    return Token(
        record["token"],
        id=record.get("id"),
        scopes=scopes,
        issued_at=parse_time(record.get("issued_at")),
        expires_at=parse_time(record.get("expires_at")),
        allowed_ips=ips,
    )


def to_document(versions: Versions) -> dict[str, Any]:
    """All stages with their values: what a store writes. Never log it."""
    return {
        "current": versions.current and to_record(versions.current),
        "pending": versions.pending and to_record(versions.pending),
        "previous": versions.previous and to_record(versions.previous),
        "promoted_at": versions.promoted_at and format_time(versions.promoted_at),
    }


@shielded
def from_document(document: Mapping[str, Any]) -> Versions:
    """The stages in a document; what is null or absent is empty. Raises InvalidToken."""
    if not isinstance(document, Mapping):
        raise InvalidToken("stored tokens — they are not a JSON object")
    records = (document.get(stage) for stage in ("current", "pending", "previous"))
    current, pending, previous = (None if r is None else from_record(r) for r in records)
    return Versions(current, pending, previous, parse_time(document.get("promoted_at")))


def format_time(moment: datetime) -> str:
    """RFC 3339 in UTC, microseconds kept: ``2026-11-24T21:00:00.000001Z``."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def parse_time(text: object) -> datetime | None:
    """An RFC 3339 time with an offset, as UTC; None for None. Raises InvalidToken."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)  # type: ignore[arg-type]  # a wrong type is caught
        utc = moment.astimezone(UTC) if moment.tzinfo is not None else None
    except (TypeError, ValueError, OverflowError):  # year 1 east of Greenwich has no UTC
        utc = None
    if utc is None:
        raise InvalidToken("stored token — a time is not RFC 3339 with an offset")
    return utc
