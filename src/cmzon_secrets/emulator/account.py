"""The one account the emulator plays: its clock, tokens, messages, audit trail and faults."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from cmzon_secrets.clock import SYSTEM_CLOCK, Clock
from cmzon_secrets.emulator.audit import AuditTrail
from cmzon_secrets.emulator.clock import ShiftedClock
from cmzon_secrets.emulator.faults import Faults
from cmzon_secrets.emulator.idempotency import IdempotencyKeys
from cmzon_secrets.emulator.limits import ACCOUNT, Quota
from cmzon_secrets.emulator.messages import ROUTE, Messages
from cmzon_secrets.emulator.state import REMEMBER, Journal
from cmzon_secrets.emulator.tokens import INSERT, SCOPES, Derive, IssuedToken, Tokens, TokenWish
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
        quota: Quota = ACCOUNT,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.journal = journal
        self._derive = derive
        self._quota = quota
        self._base_clock = clock
        self._load()

    def admin_token(self) -> str:
        """The admin token itself."""
        return self.tokens.value_of(self.admin)

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
        """As new: only the admin token stays, live and unused. All of it is done, or nothing."""
        admin = replace(self.admin, revoked_at=None, last_used_at=None, last_used_ip=None)
        self.journal.replace_all((INSERT, admin.row()), (REMEMBER, ("admin", admin.id)))
        self._load()

    def _load(self) -> None:
        """Everything as the journal has it."""
        journal = self.journal
        self.clock = ShiftedClock(self._base_clock, float(journal.meta("shift") or 0.0))
        self.keys = IdempotencyKeys(journal)
        self.tokens = Tokens(journal, self.keys, self._derive)
        self.messages = Messages(journal, self.keys, self.clock, self._quota)
        self.audit = AuditTrail(journal)
        self.faults = Faults()
        self.admin = self._admin()

    def _admin(self) -> IssuedToken:
        """The admin token kept with the state; a new one where there is none or it was revoked."""
        kept = self.tokens.get(self.journal.meta("admin") or "")
        if kept is None or kept.revoked_at is not None:
            kept = self.tokens.issue(ADMIN, self.clock.timestamp())
            self.journal.now((REMEMBER, ("admin", kept.id)))
        if self.tokens.find(self.tokens.value_of(kept)) is not kept:
            raise ConfigurationError(
                "emulator state — its token-secret is not the one its tokens were made with",
                hint="remove the state folder and start anew",
            )
        return kept
