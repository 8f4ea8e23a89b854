"""The contract of what creates, checks, lists and revokes tokens at CMzon."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import ClassVar

from cmzon_secrets.tokens import Token

__all__ = ["TokenInfo", "TokenIssuer", "TokenRequest"]


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """The token wanted. ``name`` marks it as ours; ``expires_in`` None: no expiry.

    ``replacing``: the token whose place it is to take, where there is one.
    """

    name: str
    scopes: tuple[str, ...] = ("messages:send",)
    expires_in: timedelta | float | None = None
    allowed_ips: tuple[str, ...] = ()
    replacing: Token | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class TokenInfo:
    """What the issuer says of a token. Fields it does not tell are None or empty."""

    id: str
    name: str = ""
    scopes: tuple[str, ...] = ()
    created_at: datetime | None = None
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None
    last_used_ip: str | None = None


class TokenIssuer(ABC):
    """Creates, checks, lists and revokes tokens. Thread-safe.

    Every method may raise APIError (TransportError where there was no answer) and IssuerError
    (an answer that breaks the API's promise).
    """

    OPTIONS: ClassVar[frozenset[str]] = frozenset()

    overlap: bool = True
    """The old token stays valid when a new one is issued. False: rotating leaves a gap."""
    lists: bool = True
    """``list`` works. False: no orphan sweep, and use of a token is unknown."""
    idempotent: bool = True
    """``issue`` with the same key again returns the same token. False: it is tried once."""
    interactive: bool = False
    """It asks a person; never to be used where nobody sits."""
    server_date: datetime | None = None
    """The API's clock in its last answer (RFC 9110 §6.6.1); None where it tells none."""

    def check_request(self, request: TokenRequest) -> None:  # noqa: B027  # most requests can be made
        """Raise ConfigurationError for a request that must not be made, as ``issue`` does; for a dry run."""

    @abstractmethod
    def issue(self, request: TokenRequest, *, idempotency_key: str) -> Token:
        """Create a token. The same key again: the same token, where ``idempotent``."""

    @abstractmethod
    def verify(self, token: Token) -> TokenInfo:
        """Ask the API with the token itself.

        Raises AuthenticationError where it is dead, PermissionDenied where this address may not
        use it.
        """

    @abstractmethod
    def revoke(self, token: Token | str) -> None:
        """Kill a token, by itself or by id. Already revoked or unknown: no error."""

    def check_revocation(self, token_id: str) -> None:  # noqa: B027  # most work without a token
        """Raise ConfigurationError where that is the token it works with itself, as far as it knows."""

    @abstractmethod
    def list(self, name: str) -> Iterator[TokenInfo]:
        """Every token of this name, revoked ones included. Raises IssuerError where not ``lists``."""

    def close(self) -> None:  # noqa: B027  # most issuers hold nothing open
        """Let go of connections."""
