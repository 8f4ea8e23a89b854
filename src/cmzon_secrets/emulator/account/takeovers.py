"""To which token of a name its traffic moved, time after time.

It moves to a token with the first message that is accepted with it. It moves back to one that was
replaced, after a rollback, once that one has carried as many messages in a row as it had before: 3 at
least, 100 at most. While readers still have different tokens in their caches both are sent with, for
minutes, and that alone is no way back.

What counts is the order in which things happened: the clock may be moved forward and back.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from cmzon_secrets.emulator.account.history import History
from cmzon_secrets.emulator.account.tokens import IssuedToken

__all__ = ["Takeover", "Takeovers", "as_of", "common_name", "in_use"]

FEWEST, MOST = 3, 100
"""Messages in a row with which the traffic has come back to a token."""

_PLACE = re.compile(r"-[0-9a-f]{16}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Takeover:
    """The traffic of a name moved to this token. ``at`` is in Unix seconds of the account's clock."""

    token: IssuedToken
    at: float


class Takeovers:
    """Those of every name, as the audit trail tells them, and the messages that lead to the next."""

    def __init__(self, tokens: Iterable[IssuedToken], history: History) -> None:
        self._by_name: defaultdict[str, list[Takeover]] = defaultdict(list)
        self._last: dict[str, tuple[IssuedToken, int]] = {}
        for takeover in _told(list(tokens), history):
            self._add(takeover)

    @property
    def by_name(self) -> Mapping[str, Sequence[Takeover]]:
        """By common name, in the order in which they happened."""
        return self._by_name

    def carried(self, token: IssuedToken, now: float) -> bool:
        """Whether the traffic has moved to a token with one more message, which it has not counted yet."""
        name = common_name(token.name)
        before, row = self._last.get(name, (token, 0))
        row = row + 1 if before is token else 1
        self._last[name] = token, row
        if token.promoted_at is not None:
            carrying = in_use(self._by_name[name], now)
            earlier = token.messages + 1 - row
            if carrying is token or row < min(MOST, max(FEWEST, earlier)):
                return False
        self._add(Takeover(token, now))
        return True

    def _add(self, takeover: Takeover) -> None:
        self._by_name[common_name(takeover.token.name)].append(takeover)


def common_name(name: str) -> str:
    """The name that a token of this name shares with those that it succeeds.

    A rotation puts sixteen digits of its store behind the account's name; the token that it began
    with, made in the dashboard, has the name alone. They succeed each other all the same.
    """
    return name[:-17] if _PLACE.fullmatch(name[-17:]) else name


def in_use(takeovers: Sequence[Takeover], now: float) -> IssuedToken | None:
    """Of those of one name the live token to which the traffic moved last."""
    live = (takeover.token for takeover in reversed(takeovers) if takeover.token.live(now))
    return next(live, None)


def as_of(takeovers: Sequence[Takeover], now: float) -> list[Takeover]:
    """The same, each no later than those that followed it, and than now.

    A clock that was set back leaves some in a time that is still to come.
    """
    found = []
    for takeover in reversed(takeovers):
        now = min(now, takeover.at)
        found.append(replace(takeover, at=now))
    return found[::-1]


def _told(tokens: list[IssuedToken], history: History) -> list[Takeover]:
    """What the audit trail tells, after those first messages of which it has no entry.

    It has none where it is younger than the token: in a state of format 1, and of an admin token
    that is newer than the snapshot that was gone back to.
    """
    by_id = {token.id: token for token in tokens}
    told = [Takeover(by_id[id_], at) for id_, at in history.moments("promoted") if id_ in by_id]
    known = {takeover.token.id for takeover in told}
    untold = [
        Takeover(token, token.promoted_at)
        for token in tokens
        if token.promoted_at is not None and token.id not in known
    ]
    return sorted(untold, key=lambda takeover: takeover.at) + told
