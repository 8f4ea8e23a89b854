"""HTTP header fields: looked up whatever their case (RFC 9110 §5.1), and the times in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

__all__ = ["Headers", "date_in", "retry_after"]


class Headers(Mapping[str, str]):
    """Immutable; iterates over the names in lower case."""

    __slots__ = ("_fields",)

    def __init__(self, fields: Mapping[str, str]) -> None:
        self._fields = {name.lower(): value for name, value in fields.items()}

    def __getitem__(self, name: str) -> str:
        return self._fields[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __repr__(self) -> str:
        return f"Headers({self._fields!r})"


def date_in(field: str | None) -> datetime | None:
    """The moment in a Date field (RFC 9110 §6.6.1), UTC; None where there is none, or nonsense."""
    from email.utils import parsedate_to_datetime

    try:
        moment = parsedate_to_datetime(field or "")
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


def retry_after(field: str | None) -> float:
    """The seconds in a Retry-After field (RFC 9110 §10.2.3); 0 where there is none, or anything else."""
    said = (field or "").strip()
    return float(said) if said.isascii() and said.isdigit() else 0.0
