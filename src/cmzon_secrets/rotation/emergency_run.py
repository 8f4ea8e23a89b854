"""The run of an emergency: finds the token that is meant, and ends only with its proved death."""

from __future__ import annotations

import hmac
import uuid
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

from cmzon_secrets.errors import (
    CMzonSecretsError,
    ConfigurationError,
    ConflictError,
    RotationError,
)
from cmzon_secrets.rotation.model import Emergency, Revoke, Stop
from cmzon_secrets.rotation.orphans import held_ids, unheld
from cmzon_secrets.rotation.report import RotationReport
from cmzon_secrets.rotation.run import Run, is_named
from cmzon_secrets.tokens import Token

__all__ = ["EmergencyRun"]

_MOST_CONFLICTS = 5
"""Lost races after which an emergency gives up."""


class EmergencyRun(Run):
    """A run that kills one token, and whatever has to die with it."""

    _trusts_nothing = False
    """Not even a token that a run which died was given just now: the successor is a fresh one."""

    def _key(self, attempt: int) -> str:
        return str(uuid.uuid4()) if self._trusts_nothing else super()._key(attempt)

    @property
    def _given_up(self) -> list[str]:
        """Also what is still held: an emergency leaves nothing to the next run."""
        seen = self._seen
        living = [t for t in seen.versions if t.id in seen.unrevoked and not seen.dead(t)]
        return list(dict.fromkeys([*self._abandoned, *map(seen.issuers_id, living)]))

    def kill(self, stage: str, token_id: str | None, *, replacing: bool) -> RotationReport:
        """The emergency: the token in ``stage``, or ``token_id`` wherever it is."""
        return self._ended(lambda: self._kill(stage, token_id, replacing))

    def kill_all(self, *, replacing: bool) -> RotationReport:
        """Everything under this account's name dies, a fresh successor excepted."""
        return self._ended(lambda: self._kill_all(replacing))

    def _kill_all(self, replacing: bool) -> RotationReport:
        self._look()
        self._introduce()
        self._emit("emergency_started", stage="all")
        self._trusts_nothing = True
        held = tuple(self._seen.versions)
        report = self._report(Stop("done", "nothing is held"))
        if held:
            others = frozenset(token.id for token in held[1:])
            report = self._kill_held(Emergency(held[0].id, also=others, replace=replacing))
        doubtful = self._kill_what_is_not_held()
        report = replace(report, actions=tuple(self._actions))
        if not doubtful:
            return report
        if report.state == "failed":
            unnamed = [living for living in doubtful if not is_named(living, report.reason)]
            return replace(report, reason="; ".join([report.reason, *unnamed]))
        reason = f"STILL ALIVE: {', '.join(doubtful)}; {report.reason}"
        error = RotationError(
            f"{self._store.uri} — {reason}", hint="repeat it: cmzon-secrets revoke --all"
        )
        return replace(report, state="failed", reason=reason, error=error)

    def _kill_what_is_not_held(self) -> list[str]:
        """Revoke what is listed as ours and held nowhere; returns what may be alive after that."""
        living = self._list_living()
        for token_id in living or ():
            self._revoke_unless_adopted(Revoke(token_id))
        if living:
            living = self._list_living()
        doubtful = ["tokens that the issuer does not list"] if living is None else living
        proved = {i.id for i in self._seen.listing or () if i.revoked_at is not None}
        return [*doubtful, *(i for i in self._given_up if i not in proved and i not in doubtful)]

    def _list_living(self) -> list[str] | None:
        """The ids listed as alive under our name that the store does not hold; None: who knows?"""
        if not self._seen.may_list:
            return None
        self._look()
        for token in self._seen.versions:
            if not token.has_issuer_id and token.id not in self._seen.findings:
                self._learn(token.id, self._try(token))
        self._seen = replace(self._seen, listing=None, list_failed=False)
        self._list()
        held = held_ids(self._seen)
        if self._seen.listing is None or held is None:
            return None
        theirs = self._clock.now() - max(
            self._seen.ahead, timedelta(0)
        )  # they end by the API's clock
        return [info.id for info in unheld(self._seen, held, theirs)]

    def _kill(self, stage: str, token_id: str | None, replacing: bool) -> RotationReport:
        try:
            self._look()
        except CMzonSecretsError:
            if token_id is None or replacing:
                raise
            return self._kill_by_id(token_id)  # only the issuer is needed, not the store
        held = self._seen.versions
        leaked = self._holding(token_id) if token_id is not None else getattr(held, stage)
        if leaked is None:
            if token_id is not None:
                return self._kill_unheld(token_id, replacing)
            return self._report(Stop("done", f"nothing is held as {stage.upper()}"))
        self._emit("emergency_started", leaked.id, stage="by id" if token_id else stage)
        with_it: frozenset[str] = frozenset()
        if replacing and held.current == leaked:
            with_it = frozenset(t.id for t in held if t != leaked)
        return self._kill_held(Emergency(leaked.id, also=with_it, replace=replacing))

    def _kill_held(self, intent: Emergency) -> RotationReport:
        """It has succeeded only when the leaked token is proved dead."""
        try:
            report = self._insist(intent)
        except CMzonSecretsError as error:
            report = self._report(Stop("failed", str(error)), error)
        known = self._seen.findings.get(intent.leaked)
        if known is not None and known.state == "dead":
            return report
        living = dict.fromkeys([intent.leaked, *self._given_up])
        reason = f"STILL ALIVE: {', '.join(living)}; {report.reason}"
        hint = f"repeat it by the id: cmzon-secrets revoke --id {intent.leaked}"
        if isinstance(report.error, ConfigurationError) and report.error.hint:
            # A repeat alone would end as this one did.
            hint = f"{report.error.hint}; then {hint}"
        elif self._cannot_be_named(intent.leaked):
            hint = (
                "only the token itself could tell its id, and it is refused with 403 from here: revoke it"
                f" in the dashboard; or, from an address that it allows, {hint}"
            )
        elif intent.replace:
            hint += " (where issuing is what fails: with --no-replace)"
        alive = RotationError(f"{self._store.uri} — {reason}", hint=hint)
        return replace(report, state="failed", reason=reason, error=alive)

    def _cannot_be_named(self, token_id: str) -> bool:
        """Whether a revocation from here fails each time: by a fingerprint nobody can revoke."""
        held = (*self._seen.versions, *self._seen.loose)
        pasted = next((t for t in held if t.id == token_id and not t.has_issuer_id), None)
        return pasted is not None and self._try(pasted).state == "forbidden"

    def _insist(self, intent: Emergency) -> RotationReport:
        """A rotation that moves the stages meanwhile must not save the leaked token."""
        for _ in range(_MOST_CONFLICTS):
            with suppress(ConflictError):
                return self._reconcile(intent)
        return self._reconcile(intent)

    def _kill_unheld(self, token_id: str, replacing: bool) -> RotationReport:
        unresolved = [
            t.id
            for t in self._seen.versions
            if not t.has_issuer_id
            and (found := self._seen.findings.get(t.id))
            and found.state in ("forbidden", "silent")
        ]
        if replacing and unresolved:
            reason = f"STILL ALIVE: {token_id} may be {unresolved[0]}, which cannot be resolved from here"
            hint = "name the stage instead, or kill it without a successor: --no-replace"
            error = RotationError(f"{self._store.uri} — {reason}", hint=hint)
            return self._report(Stop("failed", reason), error)
        return self._kill_by_id(token_id)

    def _kill_by_id(self, token_id: str) -> RotationReport:
        """It is in no stage, or the store is out of reach."""
        self._emit("emergency_started", token_id, stage="by id")
        try:
            self._issuer.check_revocation(token_id)
            self._issuer.revoke(token_id)
            end = self._evidence(token_id)
        except CMzonSecretsError as error:
            self._failed("revoke", token_id, error)
            return self._report(Stop("failed", f"STILL ALIVE: {error}"), error)
        self._did("revoke", "token_revoked", token_id, orphan=True)
        return self._report(end)

    def _evidence(self, token_id: str) -> Stop:
        """An id alone cannot be tried at the API; the list of our own tokens can be looked at."""
        if not any(self._seen.versions):  # nor could we tell our name
            return Stop(
                "done",
                f"the issuer accepted the revocation of {token_id}; it accepts any id, and nothing held here "
                "shows that this one is right: compare it",
            )
        if self._issuer.lists:
            self._introduce()
            self._list()
        listed = next((i for i in self._seen.listing or () if i.id == token_id), None)
        if listed is None:
            return Stop(
                "attention",
                f"the issuer accepted the revocation of {token_id}; it is not known as one of this "
                "account's tokens, so check the id: its death cannot be proved from here",
            )
        if listed.revoked_at is None:
            raise RotationError(f"{token_id} — still listed as alive after its revocation")
        return Stop("done", f"{token_id} is dead")

    def _holding(self, token_id: str) -> Token | None:
        """The held token with this id, also where the store knows it by its fingerprint only."""
        held = self._seen.versions
        if (token := held.find(token_id)) is not None:
            return token
        if any(hmac.compare_digest(t.reveal(), token_id) for t in held):
            raise ConfigurationError(
                "revoke — that is the token itself, not its id (it is not repeated here)",
                hint="ids are shown by: cmzon-secrets status",
            )
        for token in held:
            if not token.has_issuer_id:
                self._learn(token.id, self._try(token))
                known = self._seen.findings[token.id]
                if known.info is not None and known.info.id == token_id:
                    return token
        return None
