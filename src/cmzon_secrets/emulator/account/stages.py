"""Which of an account's tokens is in use, as its traffic shows it.

The API cannot see the store in which a rotation keeps its stages, but it sees what each token does:
a new one that nobody sends with is waiting (PENDING), the one to which the traffic moved last is the
one in use (CURRENT), and the others that sent are kept for who still has them (PREVIOUS). Pure: no
clock, no input, no output.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum

from cmzon_secrets.emulator.account.takeovers import Takeover, common_name, in_use
from cmzon_secrets.emulator.account.tokens import IssuedToken

__all__ = ["Stage", "stages"]


class Stage(StrEnum):
    """Where a token stands among those of one name."""

    PENDING = "pending"
    CURRENT = "current"
    PREVIOUS = "previous"
    UNUSED = "unused"
    """Live, older than the one in use, and never sent with."""
    EXPIRED = "expired"
    REVOKED = "revoked"


def stages(
    tokens: Iterable[IssuedToken], takeovers: Mapping[str, Sequence[Takeover]], now: float
) -> dict[str, Stage]:
    """The stage of each token by its id; ``takeovers`` are those of each common name."""
    by_name: defaultdict[str, list[IssuedToken]] = defaultdict(list)
    for token in tokens:
        by_name[common_name(token.name)].append(token)
    return {
        token.id: _stage(token, carrying, now)
        for name, named in by_name.items()
        for carrying in [in_use(takeovers.get(name, ()), now)]
        for token in named
    }


def _stage(token: IssuedToken, carrying: IssuedToken | None, now: float) -> Stage:
    if token.revoked_at is not None:
        return Stage.REVOKED
    if not token.live(now):
        return Stage.EXPIRED
    if token is carrying:
        return Stage.CURRENT
    if token.promoted_at is not None:
        return Stage.PREVIOUS
    return Stage.PENDING if carrying is None or token.seq > carrying.seq else Stage.UNUSED
