"""``Rotator``: the token of one account, rotated."""

from __future__ import annotations

from typing import Literal

from cmzon_secrets.clock import SYSTEM_CLOCK, Clock
from cmzon_secrets.errors import ConfigurationError
from cmzon_secrets.events import Subscriber
from cmzon_secrets.issuer import TokenIssuer
from cmzon_secrets.provider import TokenStore
from cmzon_secrets.rotation.dry_run import DryRunIssuer, DryRunStore
from cmzon_secrets.rotation.emergency_run import EmergencyRun
from cmzon_secrets.rotation.model import Intent, Prepare, Retire, Rollback, Scheduled
from cmzon_secrets.rotation.policy import RotationPolicy
from cmzon_secrets.rotation.report import RotationReport
from cmzon_secrets.rotation.run import Run

__all__ = ["Rotator"]


class Rotator:
    """Rotates the token of one account: reconcile until there is nothing to do or something to wait for.

    Safe to run from many processes at once and to kill at any instant. ``store`` holds the
    stages, ``issuer`` makes and revokes tokens. Events tell each step, with ids, never values.
    """

    def __init__(
        self,
        store: TokenStore,
        issuer: TokenIssuer,
        policy: RotationPolicy,
        *,
        clock: Clock | None = None,
        subscriber: Subscriber | None = None,
    ) -> None:
        self._store = store
        self._issuer = issuer
        self._policy = policy
        self._clock = clock or SYSTEM_CLOCK
        self._subscriber = subscriber
        self._listed_at: float | None = None

    def run(self, *, force: bool = False, dry_run: bool = False) -> RotationReport:
        """Rotate where due, revoke what outlived its grace, sweep what was lost.

        ``force`` makes CURRENT due now; it does not shorten a grace. ``dry_run`` changes nothing
        and reports what would be done. Errors of store and issuer are in the report, not raised.
        """
        return self._go(Scheduled(force), dry_run=dry_run)

    def rollback(self, *, dry_run: bool = False) -> RotationReport:
        """Make PREVIOUS CURRENT again, while it is alive; what was CURRENT gets its grace."""
        return self._go(Rollback(), dry_run=dry_run)

    def retire(self) -> RotationReport:
        """Revoke PREVIOUS where its grace is over, and nothing else.

        ``done``: there is none left. ``waiting``: it is in its grace, or in use.
        """
        return self._go(Retire(), dry_run=False)

    def prepare(self) -> RotationReport:
        """Issue, verify and stage a successor, due or not, and leave its promotion to somebody else.

        For a service that promotes by itself. ``done``: it is PENDING, perhaps since an earlier run.
        ``waiting``: PREVIOUS is in its grace, or the new token is not accepted yet.
        """
        return self._go(Prepare(), dry_run=False)

    def revoke(
        self,
        *,
        stage: Literal["current", "pending", "previous"] = "current",
        token_id: str | None = None,
        replace: bool = True,
    ) -> RotationReport:
        """Kill a token now, without grace: the one in ``stage``, or ``token_id`` wherever it is.

        CURRENT is replaced first unless ``replace`` is False; what else is in PREVIOUS and PENDING
        is revoked with it. Repeat a run that died by ``token_id``, so that the good new token is
        not taken for the leaked one. ``token_id`` without ``replace`` needs the issuer only, where
        the store is out of reach. State ``failed`` until the death is proved. Raises ConfigurationError for an
        unknown stage.
        """
        if stage not in ("current", "pending", "previous"):
            raise ConfigurationError("stage — unknown; valid: current, pending, previous")
        run = self._emergency()
        return self._after(run, run.kill(stage, token_id, replacing=replace))

    def revoke_all(self, *, replace: bool = True) -> RotationReport:
        """Kill everything issued under this account's name, without grace, for a fresh successor.

        What is held dies as with ``revoke``; so does every token of our name in the issuer's list,
        however old and whether in use or not. ``replace`` False: no successor, CURRENT stays dead.
        State ``failed`` with ``STILL ALIVE`` for what could not be proved dead; for a token known by
        its id alone the list is the proof. A repeat is safe, but replaces CURRENT once more: it
        cannot know that the token was made by the run before it.
        """
        run = self._emergency()
        return self._after(run, run.kill_all(replacing=replace))

    def _emergency(self) -> EmergencyRun:
        return EmergencyRun(
            self._store,
            self._issuer,
            self._policy,
            clock=self._clock,
            subscriber=self._subscriber,
            may_list=True,
        )

    def _go(self, intent: Intent, *, dry_run: bool) -> RotationReport:
        run = Run(
            DryRunStore(self._store, self._clock) if dry_run else self._store,
            DryRunIssuer(self._issuer) if dry_run else self._issuer,
            self._policy,
            clock=self._clock,
            subscriber=None if dry_run else self._subscriber,
            may_list=self._list_is_due(),
            outcome="planned" if dry_run else "ok",
        )
        return self._after(run, run.go(intent))

    def _after(self, run: Run, report: RotationReport) -> RotationReport:
        if run.listed:
            self._listed_at = self._clock.monotonic()
        return report

    def _list_is_due(self) -> bool:
        """The sweep looks no more often than a token can become an orphan."""
        if self._listed_at is None:
            return True
        waited = self._clock.monotonic() - self._listed_at
        return waited >= self._policy.orphan_age.total_seconds()
