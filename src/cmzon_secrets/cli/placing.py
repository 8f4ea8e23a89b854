"""How a token from outside becomes CURRENT, by the store's own verbs, undone where it fails."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from cmzon_secrets.errors import CMzonSecretsError, ConflictError
from cmzon_secrets.provider import TokenStore
from cmzon_secrets.tokens import Token

__all__ = ["Placed", "place"]


@dataclass(frozen=True, slots=True)
class Placed:
    """What became of a token. ``changed`` is False where it was CURRENT already."""

    token: Token
    changed: bool
    replaced: Token | None = None
    forgotten: tuple[Token, ...] = ()


def place(store: TokenStore, token: Token, *, discard: bool) -> Placed:
    """Make ``token`` CURRENT; what was CURRENT becomes PREVIOUS. Already CURRENT: no change.

    ``discard`` forgets another PENDING or PREVIOUS in the way, unrevoked; without it they are a
    ConflictError with the remedy. Where it fails or is interrupted, CURRENT is what it was.
    """
    held = store.versions()
    if held.current is not None and held.current == token:
        return Placed(held.current, changed=False)
    known = next((t for t in held if t == token), None)
    token = known or token  # the store knows its id and times better
    pending = held.pending if held.pending != token else None
    previous = held.previous if held.previous != token else None
    if not discard:
        _refuse(store, pending, previous)
    try:
        if pending is not None:
            store.discard(pending.id)
        store.stage(token)
        if previous is not None:
            store.discard(previous.id)
        store.promote(token.id, replacing=held.current.id if held.current is not None else None)
    except BaseException:  # Ctrl-C too: a PENDING left behind would be in the way of rotation
        if known is None:
            with suppress(CMzonSecretsError):
                store.discard(token.id)
        raise
    forgotten = tuple(t for t in (pending, previous) if t is not None)
    return Placed(token, changed=True, replaced=held.current, forgotten=forgotten)


def _refuse(store: TokenStore, pending: Token | None, previous: Token | None) -> None:
    if pending is not None:
        raise ConflictError(
            f"{store.uri} — {pending.id} is PENDING there, left by a rotation",
            uri=store.uri,
            hint="finish it with `cmzon-secrets rotate`, or give --discard-previous to forget it unrevoked",
        )
    if previous is not None:
        raise ConflictError(
            f"{store.uri} — {previous.id} is PREVIOUS there and not revoked yet",
            uri=store.uri,
            hint="let `cmzon-secrets rotate` revoke it after its grace, or give --discard-previous to forget it unrevoked",
        )
