"""Names in Vault: what may stand in a path, refused before anything is sent."""

from __future__ import annotations

from cmzon_secrets.errors import InvalidURI
from cmzon_secrets.uri import Location

__all__ = ["checked_segments"]

_FORBIDDEN = '*"\\'
"""They mean something in the policies that the path is written into."""


def checked_segments(location: Location, form: str) -> list[str]:
    """The parts of ``//A/B/C``, two at least. Raises InvalidURI, which says ``form``.

    A server resolves ``..``, takes an empty part for a folder, and reads ``*`` and ``+`` in a policy
    as "anything": with none of them a path means the same place everywhere.
    """
    if not location.authority:
        raise InvalidURI(f"{location.scheme}: URI — two slashes are missing", hint=f"write {form}")
    segments = location.name.split("/")
    fault = next(filter(None, map(_fault, segments)), None)
    if fault is None and len(segments) < 2:
        fault = "it has no second part"
    if fault is not None:
        raise InvalidURI(f"{location.scheme}: URI — {fault}", hint=f"write {form}")
    return segments


def _fault(segment: str) -> str | None:
    if not segment:
        return "a part of its path is empty"
    if segment in (".", "..", "+"):
        return (
            f"a part of its path is {segment!r}, which Vault or its policies do not take as a name"
        )
    if not segment.isprintable():
        return "its path has a character that cannot be printed"
    if any(c in _FORBIDDEN for c in segment) or "{{" in segment:
        return 'its path has one of * " \\ {{, which mean something else in a policy'
    return None
