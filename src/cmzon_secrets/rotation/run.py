"""One run of a rotation: performs what ``decide`` decides, and looks again after each action."""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from cmzon_secrets.clock import SYSTEM_CLOCK, Clock
from cmzon_secrets.errors import (
    AuthenticationError,
    CMzonSecretsError,
    ConflictError,
    PermissionDenied,
    RequestRejected,
    RotationError,
    TransportError,
    retold,
)
from cmzon_secrets.events import Emitter, Subscriber
from cmzon_secrets.issuer import TokenInfo, TokenIssuer, TokenRequest
from cmzon_secrets.provider import TokenStore
from cmzon_secrets.rotation.decide import decide
from cmzon_secrets.rotation.model import (
    Decision,
    Discard,
    Finding,
    Intent,
    Issue,
    ListTokens,
    Promote,
    Revoke,
    Seen,
    Stage,
    Stop,
    Verify,
)
from cmzon_secrets.rotation.policy import RotationPolicy
from cmzon_secrets.rotation.report import Action, RotationReport
from cmzon_secrets.tokens import Token, Versions

__all__ = ["Run", "account_at", "is_named", "issue_key"]

_ISSUE_KEYS = uuid.UUID("6f0c9a52-6f5e-5d0c-9d7c-3d3f0a5b8e11")
"""Namespace of our idempotency keys (RFC 9562 §5.5)."""

_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)

_PLACE_DIGITS = 16
"""Hex digits of the store's identity in our name: 64 bits, for a collision would cost live tokens."""

_MOST_KEYS_USED_UP = 3
"""Answers 409 or 422 in one run, before it is not the idempotency key that is refused."""

_MOST_STEPS = 500
"""Decisions in one run; only an issuer that contradicts itself could need more."""


def account_at(store: TokenStore, policy: RotationPolicy) -> str:
    """Our name at the issuer: the policy's, and sixteen digits of what the store is."""
    place = hashlib.sha256(store.identity.encode()).hexdigest()[:_PLACE_DIGITS]
    return f"{policy.name}-{place}"


def issue_key(seen: Seen, attempt: int, policy: RotationPolicy, now: datetime) -> str:
    """The idempotency key of an attempt to replace CURRENT: every rotator derives the same one.

    It is another one in each half of ``orphan_age``: what it gives is never so old that a sweep may
    take it, and keys that are used up by tokens that died do not block the account for ever.
    """
    current = seen.versions.current
    turn = (now - _BEGINNING) // (policy.orphan_age / 2)
    seed = f"{seen.account}/{current.id if current else 'bootstrap'}/{turn}/{attempt}"
    return str(uuid.uuid5(_ISSUE_KEYS, seed))


def is_named(token_id: str, text: str) -> bool:
    """Whether this very id stands in a text; "7" does not stand in "tok_17"."""
    return re.search(rf"(?<![\w-]){re.escape(token_id)}(?![\w-])", text) is not None


class Run:
    """One run: what it has seen so far and what it has done."""

    def __init__(
        self,
        store: TokenStore,
        issuer: TokenIssuer,
        policy: RotationPolicy,
        *,
        clock: Clock,
        subscriber: Subscriber | None,
        may_list: bool,
        outcome: str = "ok",
    ) -> None:
        self._store = store
        self._issuer = issuer
        self._policy = policy
        self._clock = clock
        self._ok = outcome
        self._emit = Emitter(subscriber, uri=store.uri, clock=clock)
        self._actions: list[Action] = []
        self._abandoned: list[str] = []
        self._blind: CMzonSecretsError | None = None
        self._tried_at: dict[str, datetime] = {}
        self._keys_used_up = 0
        self._began = clock.now(), clock.monotonic()
        self._looked_at = clock.now()
        self._seen = Seen(
            Versions(),
            account="",
            may_list=may_list and issuer.lists,
            overlap=issuer.overlap,
            idempotent=issuer.idempotent,
            interactive=issuer.interactive,
        )

    @property
    def listed(self) -> bool:
        """Whether the issuer was asked for its list in this run."""
        return self._seen.listing is not None

    @property
    def _given_up(self) -> list[str]:
        """What was taken out of the store in this run, and may be alive."""
        return self._abandoned

    # ── the loop ────────────────────────────────────────────────────────────────────────────

    def go(self, intent: Intent) -> RotationReport:
        """Look, decide and perform, until told to stop. What goes wrong is in the report."""
        return self._ended(lambda: self._reconcile(intent))

    def _ended(self, work: Callable[[], RotationReport]) -> RotationReport:
        try:
            report = work()
        except ConflictError as error:
            # Nothing is revoked after a lost race: the token that looks unused may just have won.
            self._emit("rotation_conflict")
            report = self._report(
                Stop("waiting", f"another writer was first: {error}", self._clock.now())
            )
        except CMzonSecretsError as error:
            report = self._report(Stop("failed", str(error)), error)
        self._emit("rotation_finished", state=report.state, reason=report.reason)
        return report

    def _reconcile(self, intent: Intent) -> RotationReport:
        self._look()
        self._introduce()
        steps, bound = 0, _MOST_STEPS
        while steps < bound:
            decision = decide(self._seen, intent, self._policy, self._looked_at)
            if isinstance(decision, Stop):
                return self._report(decision)
            self._perform(decision)
            steps += 1
            bound = max(bound, _MOST_STEPS + len(self._seen.listing or ()))  # each may be an orphan
        raise RotationError(
            f"{self._store.uri} — no end after {steps} steps",
            hint="the issuer's answers contradict each other; look at the actions of this report",
        )

    def _look(self) -> None:
        # What is decided goes by the time of the look: a call that takes long, or a clock that is
        # set meanwhile, ends no grace. Another run may have begun a rollback since.
        began, since = self._began
        elapsed = timedelta(seconds=self._clock.monotonic() - since)
        self._looked_at = min(self._clock.now(), began + elapsed)
        held = self._store.versions()
        self._seen = replace(self._seen, versions=held, native=self._store.rotating_natively)

    def _introduce(self) -> None:
        """Our name at the issuer: two stores never take each other's tokens for their orphans."""
        self._seen = replace(self._seen, account=account_at(self._store, self._policy))

    # ── performing one decision ─────────────────────────────────────────────────────────────

    def _perform(self, decision: Decision) -> None:
        match decision:
            case Verify(token):
                self._verify(token)
            case ListTokens():
                self._list()
            case Issue(attempt):
                self._issue(attempt)
            case Stage(token):
                self._stage(token)
                self._did("stage", "token_staged", token.id)
            case Promote():
                self._promote(decision)
            case Revoke():
                self._revoke_unless_adopted(decision)
            case Discard():
                self._discard(decision)
        if isinstance(decision, Stage | Promote | Discard):
            self._look()

    def _stage(self, token: Token) -> None:
        if self._seen.native is not None:  # an emergency: its version is the only one there can be
            self._store.stage_as(self._seen.native, token)
        else:
            self._store.stage(token)

    def _verify(self, token: Token) -> None:
        found = self._try(token)
        self._learn(token.id, found)
        if found.state != "silent":
            self._compare_clocks()
        self._emit("token_verified", token.id, state=found.state)
        self._notice_late_use(token)

    def _try(self, token: Token) -> Finding:
        try:
            info = self._issuer.verify(token)
        except AuthenticationError:
            return Finding("dead")
        except PermissionDenied as error:
            return Finding("forbidden", reason=str(error))
        except CMzonSecretsError as error:
            return Finding("silent", reason=str(error))
        if info.revoked_at is not None or (token.has_issuer_id and info.id != token.id):
            return Finding("silent", reason=f"the issuer contradicts itself about {token.id}")
        return Finding("alive", info)

    def _promote(self, decision: Promote) -> None:
        token_id = decision.token_id
        if self._tried_long_ago(token_id):
            self._ask_anew(token_id)
            return
        self._store.promote(token_id, replacing=decision.replacing)
        self._seen = replace(self._seen, promoted=True, issued=None)
        # Somebody may have killed it between our look and our move, where a store guards
        # CURRENT alone.
        self._ask_anew(token_id)
        self._did("promote", "token_promoted", token_id, replacing=decision.replacing)

    def _tried_long_ago(self, token_id: str) -> bool:
        """In a run that was suspended since, for so long that others may have revoked it."""
        tried_at = self._tried_at[token_id]
        return abs(self._clock.now() - tried_at) > self._policy.orphan_age / 4

    def _list(self) -> None:
        try:
            listing = tuple(self._issuer.list(self._seen.account))
        except CMzonSecretsError as error:
            self._seen = replace(self._seen, list_failed=True)
            self._blind = None if error.retryable else error
            self._failed("list", "", error)
            return
        self._seen = replace(self._seen, listing=listing)
        self._compare_clocks()
        if self._seen.versions.previous is not None:
            self._notice_late_use(self._seen.versions.previous)

    def _issue(self, attempt: int) -> None:
        key = self._key(attempt)
        request = TokenRequest(
            self._seen.account,
            scopes=self._policy.scopes,
            expires_in=self._policy.expires_in,
            allowed_ips=self._policy.allowed_ips,
            replacing=self._seen.versions.current,
        )
        try:
            issued = self._issue_once_more_if_unanswered(request, key)
        except TransportError as error:
            if self._issuer.lists or not error.may_have_been_sent:
                raise
            self._failed("issue", "", error)
            self._seen = replace(self._seen, issue_lost=True)
            return
        except RequestRejected as error:
            self._keys_used_up += 1
            if error.status not in (409, 422) or self._keys_used_up == _MOST_KEYS_USED_UP:
                raise self._rejected(error) from error
            # The key was used with another policy; the next attempt has a key of its own.
            self._seen = replace(self._seen, issued=None, attempt=attempt + 1)
            return
        self._seen = replace(self._seen, issued=issued, attempt=attempt)
        self._did("issue", "token_issued", issued.id, attempt=attempt)

    def _key(self, attempt: int) -> str:
        return issue_key(self._seen, attempt, self._policy, self._clock.now())

    def _rejected(self, error: RequestRejected) -> RequestRejected:
        """It is not the key, it is what the policy asks for."""
        scopes = ", ".join(self._policy.scopes)
        told = retold(error, str(error))
        if not any(scope in str(error) for scope in self._policy.scopes):
            told = retold(error, f"{error} (asked for: {scopes})")
        told.hint = (
            "mend the policy: the API may know a scope by another name, or refuse "
            f"allowed_ips or expires_in; it was asked for the scopes {scopes}"
        )
        return told

    def _issue_once_more_if_unanswered(self, request: TokenRequest, key: str) -> Token:
        try:
            return self._issuer.issue(request, idempotency_key=key)
        except CMzonSecretsError as error:
            if not (error.retryable and self._issuer.idempotent):
                raise
        return self._issuer.issue(request, idempotency_key=key)

    def _revoke(self, token: Token | str, token_id: str) -> None:
        try:
            self._issuer.revoke(token)
            if isinstance(token, Token):
                self._prove_dead(token)
        except CMzonSecretsError as error:
            self._failed("revoke", token_id, error)
            if isinstance(token, Token) and token in self._seen.loose:
                self._give_up(token_id)
            else:
                self._not_revoked(token_id)
            return
        self._seen = replace(self._seen, revoked=self._seen.revoked | {token_id})
        self._did("revoke", "token_revoked", token_id, orphan=isinstance(token, str))

    def _revoke_unless_adopted(self, decision: Revoke) -> None:
        """What the store does not hold is killed only after another look: it may do so by now."""
        if isinstance(decision.token, str) or decision.token in self._seen.loose:
            looked = self._seen.versions
            self._look()
            held = tuple(self._seen.versions)
            loose = tuple(token for token in self._seen.loose if token not in held)
            self._seen = replace(self._seen, loose=loose)
            if self._seen.versions != looked or decision.token in held:
                return
            self._revoke(decision.token, decision.token_id)
            self._look()  # for it may have been adopted just before it died
            if self._seen.versions.find(decision.token_id) is not None:
                self._ask_anew(decision.token_id)
        else:
            self._revoke(decision.token, decision.token_id)

    def _prove_dead(self, token: Token) -> None:
        found = self._try(token)
        self._learn(token.id, found)
        if found.state != "dead":
            raise RotationError(
                f"{token.id} — still accepted after its revocation"
                if found.state == "alive"
                else f"{token.id} — its death could not be proved: {found.reason}"
            )

    def _discard(self, decision: Discard) -> None:
        token_id = decision.token_id
        token = self._seen.versions.find(token_id)
        self._store.discard(token_id)
        if decision.revoke_next and token is not None:
            self._seen = replace(self._seen, loose=(*self._seen.loose, token))
        if decision.abandoned:
            self._give_up(token_id if token is None else self._seen.issuers_id(token))
        self._did("discard", "token_discarded", token_id)

    def _give_up(self, token_id: str) -> None:
        self._abandoned.append(token_id)
        self._not_revoked(token_id)
        self._emit("revoke_abandoned", token_id)

    # ── telling ─────────────────────────────────────────────────────────────────────────────

    def _learn(self, token_id: str, found: Finding) -> None:
        self._tried_at[token_id] = self._clock.now()
        self._seen = replace(self._seen, findings={**self._seen.findings, token_id: found})

    def _ask_anew(self, token_id: str) -> None:
        """What is known of this token may have changed since it was learned."""
        findings = {i: found for i, found in self._seen.findings.items() if i != token_id}
        self._seen = replace(self._seen, findings=findings, listing=None)

    def _not_revoked(self, token_id: str) -> None:
        self._seen = replace(self._seen, unrevoked=self._seen.unrevoked | {token_id})

    def _compare_clocks(self) -> None:
        """Right after an answer, so that what it tells is fresh.

        The machine's clock, also where a run was given another one: that one is no machine's.
        """
        theirs = self._issuer.server_date
        if theirs is not None:
            self._seen = replace(self._seen, ahead=SYSTEM_CLOCK.now() - theirs)

    def _notice_late_use(self, token: Token) -> None:
        """PREVIOUS used after its grace: a forgotten reader, or a thief."""
        seen = self._seen
        known = seen.finding(token)
        info: TokenInfo | None = known.info if known is not None else None
        if token != seen.obstacle or info is None or info.last_used_at is None:
            return
        promoted_at = seen.versions.promoted_at
        if promoted_at is not None and info.last_used_at > promoted_at + self._policy.grace:
            self._emit("previous_used_after_grace", token.id, address=info.last_used_ip)

    def _did(self, kind: str, event: str, token_id: str, **facts: str | int | bool | None) -> None:
        self._actions.append(Action(kind, token_id, self._ok))
        self._emit(event, token_id, **facts)

    def _failed(self, kind: str, token_id: str, error: CMzonSecretsError) -> None:
        self._actions.append(Action(kind, token_id, f"failed: {error}"))
        self._emit(f"{kind}_failed", token_id or None, reason=str(error))

    def _report(self, stop: Stop, error: CMzonSecretsError | None = None) -> RotationReport:
        state, reason = stop.state, stop.reason
        if self._blind is not None and state in ("done", "waiting"):
            state, reason = "attention", f"the issuer cannot be asked: {self._blind}"
        given_up = self._given_up
        if given_up and state in ("done", "waiting"):
            state = "attention"
        elif state in ("failed", "attention"):
            given_up = [token_id for token_id in given_up if not is_named(token_id, reason)]
        if given_up:
            ids = ", ".join(given_up)
            reason = f"given up unrevoked, may still be alive: {ids}" + (reason and f"; {reason}")
        if state == "failed" and error is None:
            error = RotationError(f"{self._store.uri} — {reason}")
        return RotationReport(state, tuple(self._actions), reason, stop.next_due, error)
