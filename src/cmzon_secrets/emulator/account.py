"""The one account the emulator plays: its clock, tokens, messages, audit trail and faults."""

from __future__ import annotations

from typing import Any

from cmzon_secrets.clock import SYSTEM_CLOCK, Clock
from cmzon_secrets.emulator.audit import AuditTrail
from cmzon_secrets.emulator.clock import ShiftedClock
from cmzon_secrets.emulator.faults import Faults
from cmzon_secrets.emulator.idempotency import IdempotencyKeys
from cmzon_secrets.emulator.limits import NEW_ACCOUNT_PER_DAY, PER_DAY
from cmzon_secrets.emulator.messages import ROUTE, Messages
from cmzon_secrets.emulator.state import Journal
from cmzon_secrets.emulator.tokens import SCOPES, Derive, IssuedToken, Tokens, TokenWish
from cmzon_secrets.errors import ConfigurationError

__all__ = ["Account"]

ADMIN = TokenWish("emulator-admin", SCOPES)


class Account:
    """Everything the API knows. Used by the server's thread alone while it runs.

    ``derive`` makes the tokens' values. Raises ConfigurationError where the journal was written
    with another one.
    """

    def __init__(
        self,
        journal: Journal,
        derive: Derive,
        *,
        new_account: bool = False,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.journal = journal
        self.clock = ShiftedClock(clock, float(journal.meta("shift") or 0.0))
        self.keys = IdempotencyKeys(journal)
        self.tokens = Tokens(journal, self.keys, derive)
        self.messages = Messages(
            journal,
            self.keys,
            self.clock,
            per_day=NEW_ACCOUNT_PER_DAY if new_account else PER_DAY,
        )
        self.audit = AuditTrail(journal)
        self.faults = Faults()
        self.admin = self._admin()

    def stats(self) -> dict[str, Any]:
        """What ``GET /_emulator/stats`` answers."""
        return {
            "messages": self.messages.count,
            "distinct_idempotency_keys": self.keys.count(ROUTE),
            "by_status": {str(status): n for status, n in sorted(self.audit.by_status.items())},
            "tokens": self.tokens.counts(self.clock.timestamp()),
            "max_per_sliding_second": self.messages.limits.busiest,
        }

    def advance(self, seconds: float) -> None:
        """Shift the clock; remembered with the state."""
        self.clock.advance(seconds)
        self.journal.remember("shift", self.clock.shift)

    def reset(self) -> None:
        """As new: only the admin token stays, live and unused."""
        self.journal.clear()
        self.clock.clear()
        self.keys.clear()
        self.messages.clear()
        self.audit.clear()
        self.faults.clear()
        self.tokens.keep_only(self.admin)
        self._remember_admin(self.admin)

    def _admin(self) -> IssuedToken:
        """The admin token kept with the state; a new one where there is none or it was revoked."""
        kept = self.tokens.get(self.journal.meta("admin") or "")
        if kept is None or kept.revoked_at is not None:
            kept = self.tokens.issue(ADMIN, self.clock.timestamp())
            self._remember_admin(kept)
        if self.tokens.find(self.tokens.value_of(kept)) is not kept:
            raise ConfigurationError(
                "emulator state — its token-secret is not the one its tokens were made with",
                hint="remove the state folder and start anew",
            )
        return kept

    def _remember_admin(self, admin: IssuedToken) -> None:
        self.journal.remember("admin", admin.id)
        self.journal.now()
