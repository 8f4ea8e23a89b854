"""The one account the emulator plays: its clock, tokens, messages, audit trails and faults.

What somebody does to it goes through here, whether the API, a control or the dashboard asked for it,
and is told to whoever watches in one place. What comes of requests (a message accepted, a use of a
token, an exchange to keep) the parts take in themselves.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from copy import copy
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

from cmzon_secrets.clock import SYSTEM_CLOCK, Clock
from cmzon_secrets.emulator.account.changes import EVERYTHING, REHEARSAL, TOKENS, Changes
from cmzon_secrets.emulator.account.exchanges import Exchanges
from cmzon_secrets.emulator.account.faults import Effect, Fault, Faults
from cmzon_secrets.emulator.account.history import EMULATOR, History, Origin
from cmzon_secrets.emulator.account.idempotency import IdempotencyKeys, Use
from cmzon_secrets.emulator.account.limits import ACCOUNT, NEW_ACCOUNT, Quota
from cmzon_secrets.emulator.account.messages import ROUTE, Messages
from cmzon_secrets.emulator.account.record import RequestRecord
from cmzon_secrets.emulator.account.snapshots import Snapshot, Snapshots, unusable
from cmzon_secrets.emulator.account.tokens import (
    INSERT,
    SCOPES,
    Derive,
    IssuedToken,
    Tokens,
    TokenWish,
)
from cmzon_secrets.emulator.account.usage import Usage
from cmzon_secrets.emulator.clock import ShiftedClock
from cmzon_secrets.emulator.http.answers import Refusal
from cmzon_secrets.emulator.storage.journal import REMEMBER, Journal
from cmzon_secrets.errors import ConfigurationError

__all__ = ["UNREADABLE", "Account"]

UNREADABLE = (
    *(sqlite3.Error, ValueError, TypeError, LookupError, OverflowError, RecursionError),
    Refusal,
)
"""What loading raises where a journal does not hold what was written there."""

ADMIN = TokenWish("emulator-admin", SCOPES)
WRONG_SECRET = "its token-secret is not the one its tokens were made with"  # noqa: S105  # about one


class Account:
    """Everything the API knows. Used by the server's thread alone while it runs.

    ``derive`` makes the tokens' values. ``quota`` are the limits at the start and after a reset.
    ``strict``: fields that the API does not know are refused. ``snapshots``: the folder they lie in.
    Raises ConfigurationError where the journal was written with another ``derive``.
    """

    def __init__(
        self,
        journal: Journal,
        derive: Derive,
        *,
        quota: Quota = ACCOUNT,
        strict: bool = False,
        snapshots: Path = Path("snapshots"),
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.journal = journal
        self.strict = strict
        self.admin: IssuedToken
        self.changes = Changes()
        self.snapshots = Snapshots(snapshots)
        self._derive = derive
        self._quota = quota
        self._base_clock = clock
        self._load(quota)
        if not self.admin.live(self.clock.timestamp()):
            self.admin = self._new_admin()

    def admin_token(self) -> str:
        """The admin token itself."""
        return self.tokens.value_of(self.admin)

    def stats(self) -> dict[str, Any]:
        """What ``GET /_emulator/stats`` answers."""
        return {
            "messages": self.messages.count,
            "distinct_idempotency_keys": self.keys.count(ROUTE),
            "by_status": {str(status): n for status, n in sorted(self.record.by_status.items())},
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

    def expire(self, token_id: str, origin: Origin) -> None:
        """End a token's time for good; an unknown or dead one is no error."""
        if self.tokens.expire(token_id, self.clock.timestamp(), origin):
            self.changes.tell(TOKENS)

    def clear_messages(self) -> None:
        """Forget what was sent and answered; what it counted for, it still counts for."""
        self.exchanges.clear()

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
        self._load_anew(self._quota)

    def snapshot(self, name: str) -> Snapshot:
        """Keep everything as it is now, faults and limits too, to go back to. Raises Refusal."""
        faults = json.dumps([fault.kept() for fault in self.faults])
        quota = json.dumps(astuple(self.messages.limits.quota))
        taken = self.snapshots.take(
            *(name, self.journal, (REMEMBER, ("faults", faults)), (REMEMBER, ("quota", quota)))
        )
        self.changes.tell(REHEARSAL)
        return taken

    def delete_snapshot(self, name: str) -> None:
        """Forget a snapshot; a name that is not there is no error. Raises Refusal where it stays."""
        self.snapshots.delete(name)
        self.changes.tell(REHEARSAL)

    def restore(self, name: str) -> None:
        """Everything as it was, but for what goes on: the second in progress, and this admin token.

        Raises Refusal, and nothing has changed then.
        """
        limits = self.messages.limits
        with closing(self.snapshots.read(name)) as kept:
            tried = self._tried(name, kept)
            try:
                self.journal.become(kept)
            except sqlite3.Error as error:
                raise unusable(name, error) from error
        self._load_anew(tried.messages.limits.quota, tried.faults)
        self.messages.limits.go_on_from(limits)

    def _tried(self, name: str, kept: Journal) -> Account:
        """This account with what a snapshot holds: whatever is wrong with that shows here."""
        tried: Account = copy(self)  # every part that follows the journal is made anew by loading
        tried.journal = kept
        try:
            tried._load(Quota(*json.loads(kept.meta("quota") or "")))
            tried.faults = Faults(tried._restored_faults())
            tried._take_admin(self.admin)
        except UNREADABLE as error:
            raise unusable(name, error) from error
        except ConfigurationError as error:
            raise unusable(name, WRONG_SECRET) from error
        return tried

    def _restored_faults(self) -> list[Fault]:
        tokens = {token.id for token in self.tokens}
        kept = json.loads(self.journal.meta("faults") or "")
        return [Fault.restored(fault, tokens=tokens) for fault in kept]

    def _take_admin(self, admin: IssuedToken) -> None:
        """Others go on with the admin token that they have: one that was made since is let in."""
        if self.tokens.get(admin.id) is None:
            last = max((token.seq for token in self.tokens), default=0)
            self.journal.write((INSERT, replace(admin, seq=last + 1).row()))
        self.journal.write((REMEMBER, ("admin", admin.id)))

    def _load_anew(self, quota: Quota, faults: Iterable[Fault] = ()) -> None:
        """What the journal has now, while time goes on, and the count of what others may wait for."""
        clock, exchanges = self.clock, self.exchanges
        self._load(quota, faults)
        self.clock.go_on_from(clock)
        self.exchanges.go_on_from(exchanges)
        self.changes.tell(*EVERYTHING)

    def _load(self, quota: Quota, faults: Iterable[Fault] = ()) -> None:
        """Everything as the journal has it."""
        journal = self.journal
        self.era = object()
        """Another one after each reset and restore: what was done in one before is forgotten."""
        self.clock = ShiftedClock(self._base_clock, float(journal.meta("shift") or 0.0))
        self.keys = IdempotencyKeys(journal)
        self.history = History(journal)
        self.tokens = Tokens(journal, self.keys, self.history, self._derive)
        self.usage = Usage(self.tokens, self.history, self.clock, self.changes)
        self.messages = Messages(journal, self.keys, self.clock, quota)
        self.exchanges = Exchanges(journal, self.changes)
        self.record = RequestRecord(journal)
        self.faults = Faults(faults)
        self._check_secret()
        self.admin = self.tokens.get(journal.meta("admin") or "") or self._new_admin()

    def _check_secret(self) -> None:
        """All tokens of a state have their values from one secret: any of them tells."""
        token = next(iter(self.tokens), None)
        if token is not None and self.tokens.find(self.tokens.value_of(token)) is not token:
            raise ConfigurationError(
                f"emulator state — {WRONG_SECRET}", hint="remove the state folder and start anew"
            )

    def _new_admin(self) -> IssuedToken:
        admin = self.tokens.issue(ADMIN, self.clock.timestamp(), EMULATOR)
        self.journal.write((REMEMBER, ("admin", admin.id)))
        return admin
