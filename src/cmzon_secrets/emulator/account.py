"""The one account the emulator plays: its clock, tokens, messages, audit trails and faults.

Whatever changes it goes through here, whether the API, a control or the dashboard asked for it, so
that it is recorded and told to whoever watches in one place.
"""

from __future__ import annotations

from typing import Any

from cmzon_secrets.clock import SYSTEM_CLOCK, Clock
from cmzon_secrets.emulator.audit import AuditTrail
from cmzon_secrets.emulator.changes import EVERYTHING, REHEARSAL, TOKENS, Changes
from cmzon_secrets.emulator.clock import ShiftedClock
from cmzon_secrets.emulator.exchanges import Exchanges
from cmzon_secrets.emulator.faults import Effect, Fault, Faults
from cmzon_secrets.emulator.history import EMULATOR, History, Origin
from cmzon_secrets.emulator.idempotency import IdempotencyKeys, Use
from cmzon_secrets.emulator.limits import ACCOUNT, NEW_ACCOUNT, Quota
from cmzon_secrets.emulator.messages import ROUTE, Messages
from cmzon_secrets.emulator.state import REMEMBER, Journal
from cmzon_secrets.emulator.tokens import INSERT, SCOPES, Derive, IssuedToken, Tokens, TokenWish
from cmzon_secrets.emulator.usage import Usage
from cmzon_secrets.errors import ConfigurationError

__all__ = ["Account"]

ADMIN = TokenWish("emulator-admin", SCOPES)


class Account:
    """Everything the API knows. Used by the server's thread alone while it runs.

    ``derive`` makes the tokens' values. ``quota`` are the limits at the start and after a reset.
    ``strict``: fields that the API does not know are refused. Raises ConfigurationError where the
    journal was written with another ``derive``.
    """

    def __init__(
        self,
        journal: Journal,
        derive: Derive,
        *,
        quota: Quota = ACCOUNT,
        strict: bool = False,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.journal = journal
        self.strict = strict
        self.changes = Changes()
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

    def issue(self, wish: TokenWish, origin: Origin, use: Use | None = None) -> IssuedToken:
        """Make a token, or find the one that the same key made."""
        token = self.tokens.issue(wish, self.clock.timestamp(), origin, use)
        self.changes.tell(TOKENS)
        return token

    def revoke(self, token_id: str, origin: Origin) -> None:
        """Kill a token for good; an unknown or dead one is no error."""
        if self.tokens.revoke(token_id, self.clock.timestamp(), origin):
            self.changes.tell(TOKENS)

    def add_fault(self, body: dict[str, Any], routes: list[str]) -> Fault:
        """Put a fault in force. Raises Refusal naming the field at fault."""
        fault = Fault.parse(body, routes=routes, tokens={token.id for token in self.tokens})
        self.faults.add(fault)
        self.changes.tell(REHEARSAL)
        return fault

    def end_fault(self, fault_id: str) -> None:
        """End one fault."""
        self.faults.end(fault_id)
        self.changes.tell(REHEARSAL)

    def clear_faults(self) -> None:
        """End every fault."""
        self.faults.clear()
        self.changes.tell(REHEARSAL)

    def strike(self, route: str, token: IssuedToken | None, *, accepted: bool) -> Effect:
        """What the faults do to one request."""
        token_id = token.id if token is not None else None
        effect = self.faults.strike(route, token_id, accepted=accepted)
        if effect.struck:
            self.changes.tell(REHEARSAL)
        return effect

    def set_quota(self, quota: Quota) -> None:
        """Other limits, until a reset or the end; what was sent so far still counts."""
        self.messages.limits.quota = quota
        self.changes.tell(REHEARSAL)

    @property
    def usual_quota(self) -> bool:
        """Whether the limits are the vendor's."""
        return self.messages.limits.quota in (ACCOUNT, NEW_ACCOUNT)

    def advance(self, seconds: float) -> None:
        """Shift the clock; remembered with the state."""
        self.clock.advance(seconds)
        self.journal.remember("shift", self.clock.shift)
        self.usage.notice_expiries()
        self.changes.tell(*EVERYTHING)  # ages and days are others now

    def reset(self) -> None:
        """As new: only the admin token stays, live and unused. All of it is done, or nothing."""
        admin = self.admin
        new = IssuedToken(
            *(admin.seq, admin.id, admin.sha256, admin.name, admin.scopes, admin.allowed_ips),
            created_at=self._base_clock.now().timestamp(),
        )
        self.journal.replace_all(
            (INSERT, new.row()),
            (REMEMBER, ("admin", new.id)),
            self.history.line(new.created_at, "issued", new.id, EMULATOR),
        )
        self._load()
        self.changes.tell(*EVERYTHING)

    def _load(self) -> None:
        """Everything as the journal has it."""
        journal = self.journal
        self.clock = ShiftedClock(self._base_clock, float(journal.meta("shift") or 0.0))
        self.keys = IdempotencyKeys(journal)
        self.history = History(journal)
        self.tokens = Tokens(journal, self.keys, self.history, self._derive)
        self.usage = Usage(self.tokens, self.history, self.clock, self.changes)
        self.messages = Messages(journal, self.keys, self.clock, self._quota)
        self.exchanges = Exchanges(journal, self.changes)
        self.audit = AuditTrail(journal)
        self.faults = Faults()
        self.admin = self._admin()

    def _admin(self) -> IssuedToken:
        """The admin token kept with the state; a new one where there is none or it was revoked."""
        kept = self.tokens.get(self.journal.meta("admin") or "")
        if kept is None or kept.revoked_at is not None:
            kept = self.tokens.issue(ADMIN, self.clock.timestamp(), EMULATOR)
            self.journal.now((REMEMBER, ("admin", kept.id)))
        if self.tokens.find(self.tokens.value_of(kept)) is not kept:
            raise ConfigurationError(
                "emulator state — its token-secret is not the one its tokens were made with",
                hint="remove the state folder and start anew",
            )
        return kept
