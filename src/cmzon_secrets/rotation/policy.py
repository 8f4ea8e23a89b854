"""What a rotation must obey, refused at once where its numbers contradict each other."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from cmzon_secrets.durations import format_duration
from cmzon_secrets.errors import ConfigurationError

__all__ = ["Duration", "RotationPolicy"]

Duration = timedelta | float
"""A timedelta, or seconds."""

READERS_MAX_STALE = timedelta(hours=12)
"""TokenCache's default ``max_stale``: how long a reader may go on through a backend outage."""

_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+", re.ASCII)  # RFC 6749 §3.3 scope-token


@dataclass(frozen=True, slots=True, init=False)
class RotationPolicy:
    """When a token is replaced, and how long the replaced one stays valid.

    ``grace`` must outlast every reader: one that took the old token just before the promotion keeps
    it ``reader_ttl`` and may use it in a request that lasts ``request_deadline``. ``renew_before``
    None means a quarter of the token's life, at least ``grace``. ``revoke_limit`` ends the patience
    with a PREVIOUS still in use, counted from its promotion. ``orphan_age`` is how old a token that
    no store holds must be before it is taken for lost. ``allow_gap`` accepts an issuer whose new
    token kills the old one.

    Raises ConfigurationError, with the arithmetic, where no rotation could be safe.
    """

    name: str
    scopes: tuple[str, ...]
    rotate_every: timedelta
    expires_in: timedelta | None
    grace: timedelta
    renew_before: timedelta | None
    reader_ttl: timedelta
    request_deadline: timedelta
    revoke_limit: timedelta
    orphan_age: timedelta
    allowed_ips: tuple[str, ...]
    allow_gap: bool

    def __init__(
        self,
        name: str,
        *,
        scopes: Iterable[str] = ("messages:send",),
        rotate_every: Duration = timedelta(days=30),
        expires_in: Duration | None = None,
        grace: Duration = timedelta(hours=24),
        renew_before: Duration | None = None,
        reader_ttl: Duration = 300.0,
        request_deadline: Duration = 60.0,
        revoke_limit: Duration = timedelta(days=7),
        orphan_age: Duration = timedelta(hours=1),
        allowed_ips: Iterable[str] = (),
        allow_gap: bool = False,
    ) -> None:
        fill = object.__setattr__
        fill(self, "name", _checked_name(name))
        fill(self, "scopes", _checked_scopes(scopes))
        fill(self, "allowed_ips", _checked_ips(allowed_ips))
        fill(self, "allow_gap", bool(allow_gap))
        for field, given in (
            ("rotate_every", rotate_every),
            ("grace", grace),
            ("reader_ttl", reader_ttl),
            ("request_deadline", request_deadline),
            ("revoke_limit", revoke_limit),
            ("orphan_age", orphan_age),
        ):
            fill(self, field, _duration(field, given))
        for field, optional in (("expires_in", expires_in), ("renew_before", renew_before)):
            fill(self, field, None if optional is None else _duration(field, optional))
        self._refuse_contradictions()

    @property
    def reader_window(self) -> timedelta:
        """How long after its replacement a token may still be used by an honest reader."""
        return self.reader_ttl + self.request_deadline

    def renewal_margin(self, life: timedelta | None) -> timedelta:
        """How long before its expiry a token that lives so long is to be replaced."""
        if self.renew_before is not None:
            return self.renew_before
        return self.grace if life is None else max(life / 4, self.grace)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is legal but probably not meant."""
        if self.grace > READERS_MAX_STALE:
            return ()
        grace, stale = format_duration(self.grace), format_duration(READERS_MAX_STALE)
        return (
            f"grace {grace} is not longer than the {stale} for which a reader may go on "
            "with its last token through a backend outage: one that does will see a 401",
        )

    def _refuse_contradictions(self) -> None:
        grace, window = format_duration(self.grace), format_duration(self.reader_window)
        if self.grace < self.reader_window:
            raise _refused(
                self,
                f"grace {grace} < reader_ttl {format_duration(self.reader_ttl)} + request_deadline "
                f"{format_duration(self.request_deadline)} = {window}: a token would be revoked "
                "while readers use it",
                f"set grace to at least {window}",
            )
        if self.revoke_limit < self.grace:
            raise _refused(
                self,
                f"revoke_limit {format_duration(self.revoke_limit)} < grace {grace}: "
                "both count from the promotion",
                "raise revoke_limit",
            )
        if self.expires_in is not None:
            self._refuse_expiry(self.expires_in, grace)

    def _refuse_expiry(self, expires_in: timedelta, grace: str) -> None:
        margin = self.renew_before
        if margin is None:
            margin = max(expires_in / 4, self.grace)
        before = format_duration(margin)
        if margin < self.grace:
            raise _refused(
                self,
                f"renew_before {before} < grace {grace}: the old token would expire within its grace",
                "raise renew_before",
            )
        if expires_in <= margin + self.grace:
            raise _refused(
                self,
                f"expires_in {format_duration(expires_in)} ≤ renew_before {before} + grace {grace}: "
                "a new token would be due before the last one is retired",
                "raise expires_in, or shorten grace",
            )


def _refused(policy: RotationPolicy, why: str, hint: str) -> ConfigurationError:
    return ConfigurationError(f"rotation policy {policy.name!r} — {why}", hint=hint)


def _duration(field: str, given: object) -> timedelta:
    problem = f"rotation policy — {field} must be a timedelta or seconds, and more than zero"
    if isinstance(given, timedelta):
        span = given
    elif isinstance(given, int | float) and not isinstance(given, bool):
        try:
            span = timedelta(seconds=given)
        except (OverflowError, ValueError):
            raise ConfigurationError(problem) from None
    else:
        raise ConfigurationError(problem)
    if span <= timedelta(0):
        raise ConfigurationError(problem)
    return span


def _checked_name(name: object) -> str:
    if not isinstance(name, str) or not name.strip() or not name.isprintable() or len(name) > 100:
        raise ConfigurationError("rotation policy — name must be 1 to 100 printable characters")
    return name


def _checked_scopes(scopes: Iterable[str]) -> tuple[str, ...]:
    result = (scopes,) if isinstance(scopes, str) else tuple(scopes)
    if not result:
        raise ConfigurationError("rotation policy — scopes is empty: the token could do nothing")
    for scope in result:
        if not isinstance(scope, str) or _SCOPE.fullmatch(scope) is None:
            raise ConfigurationError(f"rotation policy — {scope!r} is not a scope (RFC 6749 §3.3)")
    return result


def _checked_ips(ips: Iterable[str]) -> tuple[str, ...]:
    result = (ips,) if isinstance(ips, str) else tuple(ips)
    for entry in result:
        try:
            ipaddress.ip_network(entry, strict=False)
        except ValueError:
            raise ConfigurationError(
                f"rotation policy — allowed_ips: {entry!r} is not an IP address or network"
            ) from None
    return result
