"""Logging in to Vault or OpenBao, and keeping the token that comes of it alive.

One ``Logins`` serves all threads of a process that use one server with the same credentials: they
share one token. It is renewed at two thirds of its life on the thread that happens to need it, and
replaced by a new login where renewals shrink (its maximum is near). A refused login is not repeated
with the same credentials for half a minute: it would lock the user out.

Sources: https://developer.hashicorp.com/vault/api-docs/auth and /concepts/tokens.
"""

from __future__ import annotations

import math
import random
import re
import shlex
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

from cmzon_secrets.clock import SYSTEM_CLOCK, Clock
from cmzon_secrets.clouds.vault_answers import Answer, OutcomeUnknown, Refused
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
RENEW_AT = 2 / 3
"""Of a token's life, give or take a tenth: not all processes of a fleet at once."""
LAST_SECONDS, LAST_PART = 5.0, 0.1
"""What is left of a life when it is no longer renewed but replaced: the longer of the two."""
FIRST_LOOK = 30.0
"""Seconds until the life of a token that was handed to us is looked up: a command is over by then."""
RENEWAL_TIMEOUT = 3.0
"""Seconds at most, of a third of the verb's: while a renewal is late the token still works."""

_SECRET_ID_PATH = re.compile(r"auth/(?P<mount>.+)/role/(?P<role>[^/]+)/secret-id")

Exchange = Callable[[Request, Deadline, str], Answer]


@dataclass(frozen=True, slots=True)
class Lease:
    """A token and its life, in seconds of the monotonic clock; ``ends`` and ``due`` are infinite for
    one that does not end. ``ttl``: its first life, None where that is not known."""

    token: str = field(repr=False)
    ttl: float | None = None
    ends: float = math.inf
    due: float = math.inf
    renewable: bool = False

    @classmethod
    def of(cls, token: str, seconds: float, *, renewable: bool, now: float) -> Lease:
        """One of this length from ``now``; 0 seconds is a token without end."""
        if seconds <= 0:
            return cls(token, 0.0)
        # Not for safety: so that a fleet that started together does not renew together.
        due = now + seconds * RENEW_AT * random.uniform(0.9, 1.1)  # noqa: S311
        return cls(token, seconds, now + seconds, due, renewable)

    def is_shorter_than(self, before: Lease) -> bool:
        """After a renewal: the maximum is near. A second is what the server's rounding takes."""
        return self.ttl is not None and before.ttl is not None and self.ttl < before.ttl - 1

    def nearly_over(self, now: float) -> bool:
        """Too little is left to renew it."""
        life = self.ttl or math.inf
        return self.ends - now < min(max(LAST_SECONDS, LAST_PART * life), life / 4)


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
        self._denials: dict[str, tuple[bool, float]] = {}
        self._refusal: tuple[dict[str, str], AccessDenied, float] | None = None
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

    def after_denial(self, used: Lease, what: str, deadline: Deadline, uri: str) -> Lease | None:
        """The server denied ``what`` to ``used``: another token to try once, or None: it is meant.

        A login for each denied call would fill the server with tokens, so a denial is remembered.
        """
        newest = self._lease
        if newest is None or newest.token == used.token:
            if self._may_log_in and self._remembered(what) is not None:
                return None
            newest = self._replaced(used, deadline, uri)
        return None if newest.token == used.token else newest

    def is_known(self, used: Lease, what: str, deadline: Deadline, uri: str) -> bool:
        """Whether the server knows the token to which it denied ``what``: asked for once in a while."""
        known = self._remembered(what)
        if known is None:
            known = self._looks_known(used, deadline, uri)
            now = self._clock.monotonic()
            kept = {k: v for k, v in self._denials.items() if v[1] > now}
            self._denials = {**kept, what: (known, now + REFUSAL_KEPT)}
        return known

    def _remembered(self, what: str) -> bool | None:
        known, until = self._denials.get(what, (None, 0.0))
        return known if until > self._clock.monotonic() else None

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
            return self._lease_of(_auth(self._exchange(request, deadline, uri), uri))
        except Refused as refusal:
            error = self._login_refused(refusal, uri)
            self._refusal = (payload, error, self._clock.monotonic() + REFUSAL_KEPT)
            raise error from None
        except TokenNotFound as error:
            raise ConfigurationError(
                f"{uri} — no auth method is mounted at auth/{self._credentials.mount}",
                hint="check auth= and auth_mount=: bao auth list",
            ) from error

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
        token, now = self._given(self._credentials.secret, uri), self._clock.monotonic()
        kept = self._lease
        same = kept is not None and kept.token == token
        lease = kept if kept is not None and same else Lease(token)
        return replace(lease, due=now + FIRST_LOOK)

    def _payload(self, deadline: Deadline, uri: str) -> dict[str, str]:
        ours = self._credentials
        if ours.auth != "approle":
            payload = {"jwt": self._given(ours.secret, uri)}
            return payload | ({"role": ours.role} if ours.role else {})
        payload = {"role_id": self._given(ours.role_id, uri)}
        if ours.wrapped:
            payload["secret_id"] = self._unwrapped(deadline, uri)
        elif ours.secret is not None:  # a role may be bound to addresses instead
            payload["secret_id"] = self._given(ours.secret, uri)
        return payload

    def _given(self, source: Source | None, uri: str) -> str:
        if source is None:
            what = "VAULT_ROLE_ID" if self._credentials.auth == "approle" else "VAULT_JWT_FILE"
            raise AccessDenied(f"{uri} — no credentials: {what} is not set", uri=uri)
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
            wrapping = self._given(self._credentials.secret, uri)
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


_INTERCEPTED = (
    "is not valid: it is expired, or somebody unwrapped it before us: it may have been intercepted",
    "if it cannot have expired, revoke the secret IDs of the role first; then make a new one",
)
_ANSWER_LOST = ("was sent to be unwrapped, and the answer was lost", "make a new one")


def _for(uri: str, error: AccessDenied) -> AccessDenied:
    """The same to another who asks."""
    return retold(error, f"{uri} — {error.message.partition(' — ')[2]}", uri=uri)


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
