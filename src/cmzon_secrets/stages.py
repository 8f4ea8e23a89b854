"""The rules of the three stages, pure: what each store verb makes of what is held.

A store that keeps one document (sealed file, Vault, memory) applies these under its lock or
compare-and-set; one with native labels (AWS, Azure) uses them to look first. Each function returns
the new view, or the same object where the verb was already done.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from cmzon_secrets.errors import ConflictError
from cmzon_secrets.tokens import Token, Versions

__all__ = ["discarded", "promoted", "staged"]


def staged(held: Versions, token: Token, *, uri: str = "") -> Versions:
    """``held`` with ``token`` as PENDING. Raises ConflictError."""
    if held.current is not None and (held.current.id == token.id or held.current == token):
        raise _conflict(uri, f"{token.id} is CURRENT already and cannot be staged")
    if any(t.id == token.id and t != token for t in held):
        raise _conflict(uri, f"the id {token.id} is held already, with another value")
    if held.pending is None:
        return replace(held, pending=token)
    if held.pending.id == token.id:
        return held
    raise _conflict(uri, f"{held.pending.id} is PENDING, so {token.id} cannot be staged")


def promoted(
    held: Versions, token_id: str, *, replacing: str | None, now: datetime, uri: str = ""
) -> Versions:
    """``held`` after PENDING became CURRENT and CURRENT became PREVIOUS. Raises ConflictError."""
    current, pending, previous = held.current, held.pending, held.previous
    current_id = current.id if current is not None else None
    if current_id == token_id:
        return held
    if pending is None or pending.id != token_id:
        raise _conflict(uri, f"{token_id} is not PENDING, so it cannot be promoted")
    if current_id != replacing:
        raise _conflict(uri, f"CURRENT is {current_id}, not {replacing}")
    if previous is not None and previous != pending:
        raise _conflict(uri, f"{previous.id} is still held as PREVIOUS")
    return Versions(current=pending, previous=current, promoted_at=now)


def discarded(held: Versions, token_id: str, *, uri: str = "") -> Versions:
    """``held`` without this id. Raises ConflictError where it is CURRENT."""
    if held.current is not None and held.current.id == token_id:
        raise _conflict(uri, f"{token_id} is CURRENT and cannot be discarded")
    pending = _unless(held.pending, token_id)
    previous = _unless(held.previous, token_id)
    if pending is held.pending and previous is held.previous:
        return held
    return replace(held, pending=pending, previous=previous)


def _unless(token: Token | None, token_id: str) -> Token | None:
    return None if token is not None and token.id == token_id else token


def _conflict(uri: str, why: str) -> ConflictError:
    return ConflictError(
        f"{uri or 'store'} — {why}", uri=uri, hint="read the stages again and decide anew"
    )
