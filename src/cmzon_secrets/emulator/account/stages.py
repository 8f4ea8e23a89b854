"""Which of an account's tokens is in use, as its traffic shows it.

The API cannot see the store in which a rotation keeps its stages, but it sees what each token does:
a new one that nobody sends with is waiting (PENDING), the last one that began to send is the one in
use (CURRENT), and those that sent before it are kept for who still has them (PREVIOUS). Pure: no
clock, no input, no output.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from enum import StrEnum

from cmzon_secrets.emulator.account.tokens import IssuedToken

__all__ = ["Stage", "common_name", "stages"]

_PLACE = re.compile(r"-[0-9a-f]{16}", re.ASCII)


class Stage(StrEnum):
    """Where a token stands among those of one name."""

    PENDING = "pending"
    CURRENT = "current"
    PREVIOUS = "previous"
    UNUSED = "unused"
    """Live, older than the one in use, and never sent with."""
    EXPIRED = "expired"
    REVOKED = "revoked"


def stages(tokens: Iterable[IssuedToken], now: float) -> dict[str, Stage]:
    """The stage of each token by its id, among those of one name."""
    by_name: defaultdict[str, list[IssuedToken]] = defaultdict(list)
    for token in tokens:
        by_name[common_name(token.name)].append(token)
    return {
        token.id: _stage(token, in_use, now)
        for named in by_name.values()
        for in_use in [_in_use(named, now)]
        for token in named
    }


def common_name(name: str) -> str:
    """The name that a token of this name shares with those that it succeeds.

    A rotation puts sixteen digits of its store behind the account's name; the token that it began
    with, made in the dashboard, has the name alone. They succeed each other all the same.
    """
    return name[:-17] if _PLACE.fullmatch(name[-17:]) else name


def _in_use(named: list[IssuedToken], now: float) -> IssuedToken | None:
    """The live one that was the last to send its first message."""
    sending = [token for token in named if token.live(now) and token.promoted_at is not None]
    return max(sending, key=lambda token: (token.promoted_at or 0.0, token.seq), default=None)


def _stage(token: IssuedToken, in_use: IssuedToken | None, now: float) -> Stage:
    if token.revoked_at is not None:
        return Stage.REVOKED
    if not token.live(now):
        return Stage.EXPIRED
    if token is in_use:
        return Stage.CURRENT
    if token.promoted_at is not None:
        return Stage.PREVIOUS
    return Stage.PENDING if in_use is None or token.seq > in_use.seq else Stage.UNUSED
