"""Logging in to Vault or OpenBao, and keeping the token that comes of it alive.

One ``Logins`` serves all threads of a process that use one server with the same credentials: they
share one token. It is renewed at two thirds of its life on the thread that happens to need it, and
replaced by a new login where renewals shrink (its maximum is near). A refused login is not repeated
with the same credentials for half a minute: it would lock the user out.

Sources: https://developer.hashicorp.com/vault/api-docs/auth and /concepts/tokens.
"""

from __future__ import annotations

import math
import re
import shlex
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any, TypeVar

from cmzon_secrets.answers import printable
from cmzon_secrets.clock import SYSTEM_CLOCK, Clock
from cmzon_secrets.clouds.vault_errors import Answer, OutcomeUnknown, Refused, reason
from cmzon_secrets.clouds.vault_lease import LAST_SECONDS, RENEW_AT, Denial, Lease
from cmzon_secrets.clouds.vault_place import Credentials, Source, is_credential
from cmzon_secrets.clouds.vault_wire import Request
from cmzon_secrets.deadline import Deadline
from cmzon_secrets.errors import (
    AccessDenied,
    CMzonSecretsError,
    ConfigurationError,
    ProviderUnavailable,
    TokenNotFound,
    retold,
)

__all__ = ["Lease", "Logins"]

REFUSAL_KEPT = 30.0
"""Seconds that a refusal is believed without asking for a new token again."""
FIRST_LOOK = 30.0
"""Seconds until the life of a token that was handed to us is looked up: a command is over by then."""
RENEWAL_TIMEOUT = 3.0
"""Seconds at most, of a third of the verb's: while a renewal is late the token still works."""

_SECRET_ID_PATH = re.compile(r"auth/(?P<mount>.+)/role/(?P<role>[^/]+)/secret-id")

_Refusal = TypeVar("_Refusal", bound=CMzonSecretsError)

Exchange = Callable[[Request, Deadline, str], Answer]


class Logins:
    """The token of one place, for all threads. ``exchange`` sends a request to its server."""

    def __init__(
        self, credentials: Credentials, exchange: Exchange, *, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self._credentials = credentials
        self._exchange = exchange
        self._clock = clock
        self._lease: Lease | None = None
        self._lock = threading.Lock()
        self._denials: dict[str, Denial] = {}
        self._refusal: tuple[dict[str, str], CMzonSecretsError, float] | None = None
        self._secret_id: str | None = None
        self._unwrapping: AccessDenied | None = None

    def after_fork(self) -> None:
        """In a child: the token is kept, the lock is not."""
        self._lock = threading.Lock()

    def current(self, deadline: Deadline, uri: str) -> Lease:
        """The token to use now: kept, renewed, or of a new login.

        Raises AccessDenied, ConfigurationError or ProviderUnavailable.
        """
        lease = self._lease
        if lease is None:
            return self._replaced(None, deadline, uri)
        if self._clock.monotonic() < lease.due:
            return lease
        return self._prolonged(lease, deadline, uri)

    def surrendered(self) -> Lease | None:
        """The token of a login of our own, forgotten here; None where it was handed to us."""
        lease, self._lease = (self._lease, None) if self._may_log_in else (None, self._lease)
        return lease

    def after_denial(self, used: Lease, what: str, deadline: Deadline, uri: str) -> Lease | None:
        """The server denied ``what`` to ``used``: another token to try once, or None: it is meant.

        A login for each denied call would fill the server with tokens, so a denial is remembered.
        """
        newest = self._lease
        if newest is None or newest.token == used.token:
            if self._may_log_in and self._remembered(what):
                return None
            newest = self._replaced(used, deadline, uri)
        return None if newest.token == used.token else newest

    def is_known(self, used: Lease, what: str, deadline: Deadline, uri: str) -> bool:
        """Whether the server knows the token to which it denied ``what``: asked for once in a while."""
        denial = self._remembered(what)
        if denial is None or denial.token != used.token:
            known = self._looks_known(used, deadline, uri)
            now = self._clock.monotonic()
            denial = Denial(used.token, known, now + REFUSAL_KEPT)
            kept = {k: d for k, d in self._denials.items() if d.until > now}
            self._denials = {**kept, what: denial}
        return denial.known

    def _remembered(self, what: str) -> Denial | None:
        denial = self._denials.get(what)
        return denial if denial and denial.until > self._clock.monotonic() else None

    def _looks_known(self, lease: Lease, deadline: Deadline, uri: str) -> bool:
        request = Request("GET", "auth/token/lookup-self", token=lease.token, repeatable=True)
        try:
            self._exchange(request, deadline, uri)
        except Refused as refusal:
            # A hint only, and all there is: a token that is known lacks a policy, and the server
            # counts its reasons; to one that it does not know it says nothing but no.
            return refusal.said.startswith("1 error occurred")
        except ProviderUnavailable:
            pass  # it was there a moment ago, and said no
        return True

    # one at a time

    @contextmanager
    def _alone(self, deadline: Deadline) -> Iterator[None]:
        lock = self._lock
        if not lock.acquire(timeout=deadline.remaining):
            raise deadline.passed()
        try:
            yield
        finally:
            lock.release()

    def _replaced(self, used: Lease | None, deadline: Deadline, uri: str) -> Lease:
        """A token that is not ``used``; whoever waits here takes what the first one got."""
        with self._alone(deadline):
            if self._lease is None or (used is not None and self._lease.token == used.token):
                self._lease = self._logged_in(deadline, uri)
            return self._lease

    def _prolonged(self, lease: Lease, deadline: Deadline, uri: str) -> Lease:
        """Renewed or replaced by one thread, while others go on with what they have."""
        if self._lock.locked() and self._clock.monotonic() < lease.ends:
            return lease
        with self._alone(deadline):
            if self._lease is lease:
                self._lease = self._after_due(lease, deadline, uri)
            return self._lease or lease

    def _after_due(self, lease: Lease, deadline: Deadline, uri: str) -> Lease:
        now = self._clock.monotonic()
        left = lease.ends - now
        patience = min(RENEWAL_TIMEOUT, deadline.remaining / 3)
        brief = Deadline(patience, uri=uri, clock=self._clock) if left > patience else deadline
        if lease.ttl is None:
            return self._looked_up(lease, brief, uri)
        if lease.renewable and not lease.nearly_over(now):
            with suppress(Refused, CMzonSecretsError):
                renewed = self._renewed(lease, brief, uri)
                shorter = self._may_log_in and renewed.is_shorter_than(lease)
                if renewed.ttl and not shorter:  # 0 is less than a second here, not without end
                    return renewed
        try:
            return self._logged_in(brief, uri)
        except CMzonSecretsError:
            if left <= 0:
                raise
            return replace(lease, due=now + min(LAST_SECONDS, left / 2))

    def _renewed(self, lease: Lease, deadline: Deadline, uri: str) -> Lease:
        path = "auth/token/renew-self"
        request = Request("POST", path, json={}, token=lease.token, repeatable=True)
        return self._lease_of(_auth(self._exchange(request, deadline, uri), uri))

    def _looked_up(self, lease: Lease, deadline: Deadline, uri: str) -> Lease:
        """A token that was handed to us, with the life that the server says it has."""
        path = "auth/token/lookup-self"
        now = self._clock.monotonic()
        try:
            data = self._exchange(
                Request("GET", path, token=lease.token, repeatable=True), deadline, uri
            ).body.get("data")
        except ProviderUnavailable:
            return replace(lease, due=now + FIRST_LOOK)
        except (Refused, CMzonSecretsError):
            return replace(lease, due=math.inf)  # it may not look: it works as long as it works
        data = data if isinstance(data, dict) else {}
        seconds, whole = _seconds(data.get("ttl")), _seconds(data.get("creation_ttl"))
        if whole and not seconds:
            seconds = 0.5  # less than a second is told as 0, and so is no end
        renewable = data.get("renewable") is True
        found = Lease.of(lease.token, seconds, renewable=renewable, now=now)
        return replace(found, due=now) if seconds < whole * (1 - RENEW_AT) else found

    # logging in

    def _logged_in(self, deadline: Deadline, uri: str) -> Lease:
        if not self._may_log_in:
            return self._handed_over(uri)
        payload = self._payload(deadline, uri)
        self._spare(payload, uri)
        path = f"auth/{self._credentials.mount}/login"
        request = Request("POST", path, json=payload, repeatable=True)
        try:
            auth = _auth(self._exchange(request, deadline, uri), uri)
        except Refused as refusal:
            raise self._noted(self._login_refused(refusal, uri), payload) from None
        except TokenNotFound as error:
            raise ConfigurationError(
                f"{uri} — no auth method is mounted at auth/{self._credentials.mount}",
                hint="check auth= and auth_mount=: bao auth list",
            ) from error
        other = self._other_role(auth)
        if other is not None:
            raise self._noted(self._is_other_role(other, uri), payload)
        return self._lease_of(auth)

    def _other_role(self, auth: dict[str, Any]) -> str | None:
        """The AppRole that its role ID belongs to, where the URI names another."""
        metadata = auth.get("metadata")
        found = metadata.get("role_name") if isinstance(metadata, dict) else None
        asked = self._credentials.role if self._credentials.auth == "approle" else None
        return found if asked and isinstance(found, str) and found != asked else None

    def _is_other_role(self, other: str, uri: str) -> ConfigurationError:
        source, role = self._credentials.role_id, self._credentials.role
        return ConfigurationError(
            f"{uri} — {source.name if source else ''} is that of the role {printable(other)!r},"
            f" and the URI says role={role}",
            hint="correct one of the two",
        )

    def _noted(self, error: _Refusal, payload: dict[str, str]) -> _Refusal:
        """``error``, which for a while is the answer to ``payload`` without asking again."""
        self._refusal = (payload, error, self._clock.monotonic() + REFUSAL_KEPT)
        return error

    @property
    def _may_log_in(self) -> bool:
        return self._credentials.auth != "token"

    def _spare(self, payload: dict[str, str], uri: str) -> None:
        """Raise the refusal again that the server gave to these very credentials a moment ago."""
        if self._refusal is not None:
            refused, error, until = self._refusal
            if refused == payload and self._clock.monotonic() < until:
                raise _for(uri, error)

    def _handed_over(self, uri: str) -> Lease:
        token = self._given("token", self._credentials.secret, uri)
        now = self._clock.monotonic()
        kept = self._lease
        same = kept is not None and kept.token == token
        lease = kept if kept is not None and same else Lease(token)
        return replace(lease, due=now + FIRST_LOOK)

    def _payload(self, deadline: Deadline, uri: str) -> dict[str, str]:
        ours = self._credentials
        if ours.auth != "approle":
            payload = {"jwt": self._given("jwt", ours.secret, uri)}
            return payload | ({"role": ours.role} if ours.role else {})
        role_id = self._given("role_id", ours.role_id, uri)
        if ours.wrapped:
            return {"role_id": role_id, "secret_id": self._unwrapped(deadline, uri)}
        return {"role_id": role_id, "secret_id": self._given("secret_id", ours.secret, uri)}

    def _given(self, what: str, source: Source | None, uri: str) -> str:
        if source is None:
            said, hint = _NOT_GIVEN[what]
            role = shlex.quote(
                f"auth/{self._credentials.mount}/role/{self._credentials.role or 'ROLE'}"
            )
            hint = hint.format(role=role)
            raise AccessDenied(f"{uri} — no credentials: {said}", uri=uri, hint=hint)
        return source.read(uri)

    def _login_refused(self, refusal: Refused, uri: str) -> AccessDenied:
        return AccessDenied(
            f"{uri} — {self._credentials} was refused: {refusal.said}",
            uri=uri,
            hint=self._credentials.remedy,
        )

    def _lease_of(self, auth: dict[str, Any]) -> Lease:
        return Lease.of(
            str(auth["client_token"]),
            _seconds(auth.get("lease_duration")),
            renewable=auth.get("renewable") is True,
            now=self._clock.monotonic(),
        )

    # a wrapped secret ID: https://developer.hashicorp.com/vault/docs/concepts/response-wrapping

    def _unwrapped(self, deadline: Deadline, uri: str) -> str:
        """The secret ID, unwrapped once in the life of this process, or not at all."""
        if self._unwrapping is not None:
            raise _for(uri, self._unwrapping)
        if self._secret_id is None:
            wrapping = self._given("secret_id", self._credentials.secret, uri)
            request = Request("POST", "sys/wrapping/unwrap", token=wrapping)
            try:
                self._check_origin(wrapping, deadline, uri)
                body = self._exchange(request, deadline, uri).body
            except Refused:
                self._unwrapping = self._unwrapping_failed(_INTERCEPTED, uri)
                raise self._unwrapping from None
            except OutcomeUnknown as error:
                self._unwrapping = self._unwrapping_failed(_ANSWER_LOST, uri)
                raise self._unwrapping from error
            self._secret_id = _member(body, "data", "secret_id", uri)
        return self._secret_id

    def _check_origin(self, wrapping: str, deadline: Deadline, uri: str) -> None:
        """Raise AccessDenied unless the server wrapped a secret ID of our role: anybody can wrap
        anything, and whoever intercepted it could have wrapped another's."""
        request = Request("POST", "sys/wrapping/lookup", json={"token": wrapping}, repeatable=True)
        body = self._exchange(request, deadline, uri).body
        path = _member(body, "data", "creation_path", uri)
        found = _SECRET_ID_PATH.fullmatch(path)
        mount, role = self._credentials.mount, self._credentials.role
        if found is None or found["mount"] != mount or (role and found["role"] != role):
            raise AccessDenied(
                f"{uri} — what is wrapped in {self._name()} is no secret ID of this role:"
                f" it was made at {path[:80]!r}",
                uri=uri,
                hint="somebody may have put another in its place: find out who, and make a new one",
            )

    def _unwrapping_failed(self, why: tuple[str, str], uri: str) -> AccessDenied:
        said, hint = why
        path = shlex.quote(self._credentials.role_path)
        return AccessDenied(
            f"{uri} — the wrapped secret ID in {self._name()} {said}",
            uri=uri,
            hint=f"{hint}: bao write -wrap-ttl=5m -force {path}",
        )

    def _name(self) -> str:
        return self._credentials.secret.name if self._credentials.secret else ""


_NOT_GIVEN = {
    "token": ("there is no token", "export VAULT_TOKEN"),
    "jwt": ("VAULT_JWT_FILE is not set", "export VAULT_JWT_FILE=PATH, a file with the JWT alone"),
    "role_id": (
        "VAULT_ROLE_ID is not set",
        "export VAULT_ROLE_ID; to see it: bao read {role}/role-id",
    ),
    "secret_id": (
        "there is no secret ID",
        "set VAULT_SECRET_ID, VAULT_SECRET_ID_FILE or VAULT_WRAPPED_SECRET_ID;"
        " to make one: bao write -force {role}/secret-id",
    ),
}
"""Which credential → what is said where it is missing, and the remedy."""

_INTERCEPTED = (
    "is not valid: it is expired, or somebody unwrapped it before us: it may have been intercepted",
    "if it cannot have expired, revoke the secret IDs of the role first; then make a new one",
)
_ANSWER_LOST = ("was sent to be unwrapped, and the answer was lost", "make a new one")


def _for(uri: str, error: _Refusal) -> _Refusal:
    """The same to another who asks."""
    return retold(error, f"{uri} — {reason(error)}", uri=uri)


def _auth(answer: Answer, uri: str) -> dict[str, Any]:
    auth = answer.body.get("auth")
    if isinstance(auth, dict) and isinstance(auth.get("client_token"), str):
        if is_credential(auth["client_token"]):
            return auth
        if auth.get("mfa_requirement"):
            raise ConfigurationError(
                f"{uri} — this login asks for a second factor", hint="use a role for machines"
            )
    raise ConfigurationError(f"{uri} — the answer to a login holds no token")


def _member(body: dict[str, Any], outer: str, inner: str, uri: str) -> str:
    data = body.get(outer)
    value = data.get(inner) if isinstance(data, dict) else None
    if not isinstance(value, str):
        raise ConfigurationError(f"{uri} — the server's answer has no {inner}")
    return value


def _seconds(value: object) -> float:
    good = isinstance(value, int | float) and not isinstance(value, bool) and value > 0
    return float(value) if good else 0.0  # type: ignore[arg-type]  # a number, as just asked
