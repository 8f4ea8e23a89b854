"""An issuer in memory: what a token API does, without the API."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

from cmzon_secrets.clock import SYSTEM_CLOCK, Clock
from cmzon_secrets.errors import AuthenticationError, RequestRejected
from cmzon_secrets.issuer import TokenInfo, TokenIssuer, TokenRequest
from cmzon_secrets.tokens import Token

__all__ = ["MemoryIssuer"]


class MemoryIssuer(TokenIssuer):
    """Keeps its tokens in a dict; ``use`` plays an application that sends with one."""

    def __init__(self, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._tokens: dict[str, Token] = {}
        self._infos: dict[str, TokenInfo] = {}
        self._keys: dict[str, tuple[TokenRequest, str]] = {}

    def issue(self, request: TokenRequest, *, idempotency_key: str) -> Token:
        with self._lock:
            if idempotency_key in self._keys:
                asked, token_id = self._keys[idempotency_key]
                if asked != request:
                    raise RequestRejected("token — the key was used for another one", status=422)
                return self._tokens[token_id]
            token = self._new(request)
            self._keys[idempotency_key] = (request, token.id)
            return token

    def verify(self, token: Token) -> TokenInfo:
        with self._lock:
            return self._alive(token)

    def revoke(self, token: Token | str) -> None:
        with self._lock:
            for info in list(self._infos.values()):
                same = (
                    token == info.id if isinstance(token, str) else token == self._tokens[info.id]
                )
                if same and info.revoked_at is None:
                    self._infos[info.id] = replace(info, revoked_at=self._clock.now())

    def list(self, name: str) -> Iterator[TokenInfo]:
        with self._lock:
            return iter([i for i in self._infos.values() if i.name == name])

    def use(self, token: Token, *, address: str = "192.0.2.1") -> None:
        """Send something with it. Raises AuthenticationError where it is dead."""
        with self._lock:
            info = self._alive(token)
            self._infos[info.id] = replace(
                info, last_used_at=self._clock.now(), last_used_ip=address
            )

    @property
    def live(self) -> set[str]:
        """Ids of the tokens that the API would accept now."""
        with self._lock:
            return {i.id for i in self._infos.values() if not self._is_dead(i)}

    def _new(self, request: TokenRequest) -> Token:
        now = self._clock.now()
        number = len(self._tokens) + 1
        life = request.expires_in
        if life is not None and not isinstance(life, timedelta):
            life = timedelta(seconds=life)
        token = Token(
            f"memory-issuer-token-{number:06d}",
            id=f"tok_{number}",
            scopes=request.scopes,
            issued_at=now,
            expires_at=now + life if life is not None else None,
            allowed_ips=request.allowed_ips,
        )
        self._tokens[token.id] = token
        self._infos[token.id] = TokenInfo(
            token.id, request.name, request.scopes, now, token.expires_at
        )
        return token

    def _alive(self, token: Token) -> TokenInfo:
        for token_id, known in self._tokens.items():
            if known == token and not self._is_dead(self._infos[token_id]):
                return self._infos[token_id]
        raise AuthenticationError("token — Invalid API token", status=401)

    def _is_dead(self, info: TokenInfo) -> bool:
        expired = info.expires_at is not None and self._clock.now() >= info.expires_at
        return expired or info.revoked_at is not None
