"""Stand-ins for a dry run: they answer like the real store and issuer, and change neither."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from datetime import datetime

from cmzon_secrets.clock import Clock
from cmzon_secrets.errors import AuthenticationError
from cmzon_secrets.issuer import TokenInfo, TokenIssuer, TokenRequest
from cmzon_secrets.provider import TokenStore
from cmzon_secrets.stages import discarded, promoted, staged
from cmzon_secrets.tokens import Token, Versions

__all__ = ["DryRunIssuer", "DryRunStore"]


class DryRunStore(TokenStore):
    """The real stages as they were read, changed in memory only."""

    def __init__(self, store: TokenStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._held: Versions | None = None

    @property
    def uri(self) -> str:
        return self._store.uri

    @property
    def identity(self) -> str:
        # Asking an empty store for its identity may create it.
        return self._store.identity if any(self.versions()) else "dry run"

    @property
    def rotating_natively(self) -> str | None:
        return self._store.rotating_natively

    def get(self) -> Token:
        return self._store.get()

    def versions(self) -> Versions:
        if self._held is None:
            self._held = self._store.versions()
        return self._held

    def stage(self, token: Token) -> None:
        self._held = staged(self.versions(), token, uri=self.uri)

    def promote(self, token_id: str, *, replacing: str | None) -> None:
        self._held = promoted(
            self.versions(), token_id, replacing=replacing, now=self._clock.now(), uri=self.uri
        )

    def discard(self, token_id: str) -> None:
        self._held = discarded(self.versions(), token_id, uri=self.uri)


class DryRunIssuer(TokenIssuer):
    """Asks the real issuer what only reads; pretends the rest."""

    def __init__(self, issuer: TokenIssuer) -> None:
        self._issuer = issuer
        self._revoked: set[str] = set()
        self._issued: set[str] = set()
        self.overlap = issuer.overlap
        self.lists = issuer.lists

    @property
    def server_date(self) -> datetime | None:  # type: ignore[override]  # of the issuer that is asked
        return self._issuer.server_date

    def issue(self, request: TokenRequest, *, idempotency_key: str) -> Token:  # noqa: ARG002
        # No key is needed where nothing is issued.
        self._issuer.check_request(request)
        token = Token(secrets.token_urlsafe(32), id="(new)", scopes=request.scopes)
        self._issued.add(token.id)
        return token

    def verify(self, token: Token) -> TokenInfo:
        if token.id in self._revoked:
            raise AuthenticationError(f"{token.id} — revoked in this dry run", status=401)
        if token.id in self._issued:
            return TokenInfo(token.id)
        return self._issuer.verify(token)

    def revoke(self, token: Token | str) -> None:
        self._revoked.add(token if isinstance(token, str) else token.id)

    def list(self, name: str) -> Iterator[TokenInfo]:
        return self._issuer.list(name)
