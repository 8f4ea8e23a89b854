"""The four steps of a rotation that AWS Secrets Manager itself has begun: create, set, test, finish.

The service chooses the id of the new version (``ClientRequestToken``) and calls step after step,
each perhaps more than once, and perhaps not to the end. So each looks first what is done already, and a
version that is AWSCURRENT by now makes every step a no-op.

A new token's idempotency key is not the version's id but the one that every rotator derives: a
schedule that comes at the same moment gets the same token, and none is left over.

A native rotation has no step that revokes. PREVIOUS is revoked by a schedule, or by the next
``createSecret``, which refuses while PREVIOUS is in its grace: promoting would push it out alive.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from cmzon_secrets.clock import SYSTEM_CLOCK, Clock
from cmzon_secrets.errors import (
    AuthenticationError,
    ConfigurationError,
    ConflictError,
    PermissionDenied,
    RotationError,
    shielded,
)
from cmzon_secrets.events import Emitter, Subscriber
from cmzon_secrets.issuer import TokenIssuer
from cmzon_secrets.provider import TokenStore
from cmzon_secrets.records import format_time
from cmzon_secrets.rotation import Action, RotationPolicy, RotationReport, Rotator
from cmzon_secrets.tokens import Token, Versions

__all__ = ["STEPS", "NativeStore", "Rotation"]


class NativeStore(Protocol):
    """What a store with native rotation offers beyond the four verbs; ``version_id`` is the service's."""

    def stage_as(
        self, version_id: str, token: Token, *, rotation_token: str | None = None
    ) -> None: ...
    def pending_as(self, version_id: str) -> Token | None: ...
    def is_current(self, version_id: str) -> bool: ...


@dataclass(frozen=True)
class Rotation:
    """One native rotation: where, by whom, and under which version. ``native`` is ``store`` again."""

    store: TokenStore
    native: NativeStore
    issuer: TokenIssuer
    policy: RotationPolicy
    version_id: str
    pass_on: Callable[[], str | None] = lambda: None
    """The event's ``RotationToken``; a closure, so that no repr shows it."""
    clock: Clock = SYSTEM_CLOCK
    subscriber: Subscriber | None = None

    @shielded
    def perform(self, step: str) -> RotationReport:
        """One step. Raises what stands in its way: the service repeats it, or gives up and tells."""
        if step not in STEPS:
            raise ConfigurationError(
                "event — its Step is unknown", hint=f"valid: {', '.join(STEPS)}"
            )
        if self.issuer.interactive:
            raise ConfigurationError(f"{self.store.uri} — its issuer asks a person; here is none")
        return STEPS[step](self)

    def create(self) -> RotationReport:
        """Issue a token, try it, and store it under this version."""
        if self._has_token():
            return RotationReport("done", reason="this version has its token already")
        rotator = Rotator(
            _Reserved(self),
            self.issuer,
            self.policy,
            clock=self.clock,
            subscriber=self.subscriber,
        )
        report = rotator.prepare()
        if report.state != "done":
            raise report.error or _not_now(self, report)
        if not self._has_token():
            raise ConflictError(
                f"{self.store.uri} — another token is PENDING there, not one of this rotation",
                uri=self.store.uri,
                hint="a scheduled run (an event {}) finishes it; then this step succeeds",
            )
        return report

    def set(self) -> RotationReport:
        """Nothing to set: whoever issues a token makes it valid. That it is, is asked."""
        self._require_accepted()
        return RotationReport("done", reason="nothing to set: the issuer knows the token")

    def test(self) -> RotationReport:
        """Ask the API with the new token itself.

        Where native rotation is set up and does not begin at once, this step alone is tried by the service,
        with a version that it has announced and nobody has filled.
        """
        self.store.versions()
        if self.store.rotating_natively == self.version_id:
            return RotationReport("done", reason="nothing to test: this version has no token yet")
        self._require_accepted()
        return RotationReport("done", reason="the API accepts the new token")

    def finish(self) -> RotationReport:
        """Promote, where CURRENT is still the one that was looked at."""
        token, current = self.native.pending_as(self.version_id), self.store.versions().current
        if token is None:
            return self._finish_again(current)
        replacing = current.id if current is not None else None
        self.store.promote(token.id, replacing=replacing)
        self._emit("token_promoted", token.id, replacing=replacing)
        return RotationReport("done", (Action("promote", token.id),))

    def _finish_again(self, current: Token | None) -> RotationReport:
        if current is None or not self.native.is_current(self.version_id):
            raise self._no_token()
        # A step that died may have left AWSPENDING on it; a repeated promotion takes it off.
        self.store.promote(current.id, replacing=None)
        return RotationReport("done", reason="this version is CURRENT already")

    def _require_accepted(self) -> None:
        token = self.native.pending_as(self.version_id)
        if token is None:
            if not self.native.is_current(self.version_id):
                raise self._no_token()
            return
        try:
            info = self.issuer.verify(token)
        except AuthenticationError as error:
            self._emit("token_verified", token.id, state="dead")
            raise self._refused(token, "the API refuses it (401)", _DEAD) from error
        except PermissionDenied as error:
            self._emit("token_verified", token.id, state="forbidden")
            raise self._refused(token, "the API refuses it from here (403)", _FORBIDDEN) from error
        if info.revoked_at is not None:
            raise self._refused(token, "it is revoked", _DEAD)
        self._emit("token_verified", token.id, state="alive")

    def _has_token(self) -> bool:
        return (
            self.native.is_current(self.version_id)
            or self.native.pending_as(self.version_id) is not None
        )

    def _no_token(self) -> RotationError:
        return RotationError(
            f"{self.store.uri} — version {self.version_id} has no token",
            hint="createSecret comes first; a rotation that was cancelled has to begin anew",
        )

    def _refused(self, token: Token, why: str, remedy: str) -> RotationError:
        return RotationError(f"{self.store.uri} — the new token {token.id}: {why}", hint=remedy)

    @property
    def _emit(self) -> Emitter:
        return Emitter(self.subscriber, uri=self.store.uri, clock=self.clock)


STEPS: Mapping[str, Callable[[Rotation], RotationReport]] = {
    "createSecret": Rotation.create,
    "setSecret": Rotation.set,
    "testSecret": Rotation.test,
    "finishSecret": Rotation.finish,
}
"""By the names that the service gives them."""

_DEAD = (
    "let a scheduled run drop it: invoke this function with {}; "
    "then begin again: aws secretsmanager rotate-secret --secret-id NAME"
)
_FORBIDDEN = (
    "allowed_ips must hold the address from which this function calls; or a scope is missing"
)


def _not_now(rotation: Rotation, report: RotationReport) -> RotationError:
    until = f" (until {format_time(report.next_due)})" if report.next_due is not None else ""
    return RotationError(
        f"{rotation.store.uri} — not now: {report.reason}{until}",
        hint="the service tries again; rotate at longer intervals than grace, and let a schedule "
        "revoke what outlived it",
    )


class _Reserved(TokenStore):
    """The store of a native rotation, where staging means: under the version the service chose."""

    def __init__(self, rotation: Rotation) -> None:
        self._rotation = rotation
        self._store = rotation.store
        self.cas = rotation.store.cas

    @property
    def uri(self) -> str:
        return self._store.uri

    @property
    def identity(self) -> str:
        return self._store.identity

    @property
    def rotating_natively(self) -> str | None:
        found = self._store.rotating_natively
        return found if found != self._rotation.version_id else None

    def get(self) -> Token:
        return self._store.get()

    def versions(self) -> Versions:
        return self._store.versions()

    def stage(self, token: Token) -> None:
        rotation = self._rotation
        rotation.native.stage_as(rotation.version_id, token, rotation_token=rotation.pass_on())

    def promote(self, token_id: str, *, replacing: str | None) -> None:
        self._store.promote(token_id, replacing=replacing)

    def discard(self, token_id: str) -> None:
        self._store.discard(token_id)
