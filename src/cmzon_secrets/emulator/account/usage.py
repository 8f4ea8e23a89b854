"""What the API notices of tokens while they are used: when, whence, and what became of it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping

from cmzon_secrets.emulator.account.changes import TOKENS, Changes
from cmzon_secrets.emulator.account.history import EMULATOR, Event, History, Origin
from cmzon_secrets.emulator.account.takeovers import Takeovers
from cmzon_secrets.emulator.account.tokens import IssuedToken, Tokens
from cmzon_secrets.emulator.clock import ShiftedClock

__all__ = ["ACTIVITY_KEPT", "Usage"]

ACTIVITY_KEPT = 900
"""Seconds for which the messages of each second are remembered, by token."""

_ONCE: tuple[Event, ...] = ("refused", "address_refused", "scope_refused")
"""Told once for each token and address: what is refused is tried again and again."""


class Usage:
    """The notes on every token, kept with it, and the turning points, kept in the history."""

    def __init__(
        self, tokens: Tokens, history: History, clock: ShiftedClock, changes: Changes
    ) -> None:
        self._tokens = tokens
        self._history = history
        self._clock = clock
        self._changes = changes
        self.takeovers = Takeovers(tokens, history)
        self._seen_from = history.known("used_from") | history.known("first_used")
        self._turned_away = {(event, *who) for event in _ONCE for who in history.known(event)}
        self._expired = {token_id for token_id, _ in history.known("expired")}
        self._activity: defaultdict[str, Counter[int]] = defaultdict(Counter)

    def used(self, token: IssuedToken, origin: Origin) -> None:
        """A live token came from an address it may come from."""
        now = self._clock.timestamp()
        if token.first_used_at is None:
            token.first_used_at = now
            self._turn("first_used", token, origin)
        elif (token.id, origin.ip) not in self._seen_from:
            self._turn("used_from", token, origin)
        self._seen_from.add((token.id, origin.ip))
        token.last_used_at, token.last_used_ip = now, origin.ip
        self._tokens.note_use(token)

    def verified(self, token: IssuedToken, origin: Origin) -> None:
        """A token asked about itself, which is no use."""
        if token.verified_at is None:
            token.verified_at = self._clock.timestamp()
            self._turn("verified", token, origin)
            self._tokens.note_use(token)

    def carried(self, token: IssuedToken, origin: Origin) -> None:
        """A message was accepted with it."""
        now = self._clock.timestamp()
        moved = self.takeovers.carried(token, now)
        if token.promoted_at is None:
            token.promoted_at = now
        if moved:
            self._turn("promoted", token, origin)
        token.messages += 1
        self._count(token.id, int(now))
        self._tokens.note_use(token)

    def refused(self, token: IssuedToken, origin: Origin) -> None:
        """A dead token was used."""
        token.refused += 1
        token.last_refused_at = self._clock.timestamp()
        self.turned_away("refused", token, origin)
        self._tokens.note_use(token)

    def turned_away(self, event: Event, token: IssuedToken, origin: Origin) -> None:
        """A token was not let in: ``refused``, ``address_refused`` or ``scope_refused``."""
        told = (event, token.id, origin.ip)
        if told not in self._turned_away:
            self._turned_away.add(told)
            self._turn(event, token, origin)

    def notice_expiries(self) -> None:
        """Note the tokens whose time is over."""
        now = self._clock.timestamp()
        for token in self._tokens:
            end = token.expires_at
            if (
                end is None
                or token.id in self._expired
                or token.revoked_at is not None
                or token.ended
                or now < end
            ):
                continue
            self._expired.add(token.id)
            self._history.append(end, "expired", token.id, EMULATOR)
            self._changes.tell(TOKENS)

    def activity(self, token_id: str) -> Mapping[int, int]:
        """Messages accepted with a token by Unix second, of the last ``ACTIVITY_KEPT``."""
        return self._activity.get(token_id, {})

    def _turn(self, event: Event, token: IssuedToken, origin: Origin) -> None:
        self._history.append(self._clock.timestamp(), event, token.id, origin)
        self._changes.tell(TOKENS)

    def _count(self, token_id: str, second: int) -> None:
        seconds = self._activity[token_id]
        seconds[second] += 1
        if len(seconds) > ACTIVITY_KEPT:
            del seconds[min(seconds)]
