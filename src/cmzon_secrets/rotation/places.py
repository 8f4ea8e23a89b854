"""The place of one account: that it is there, that it is written in its turn, that it is nobody else's."""

from __future__ import annotations

import shlex
import threading
from collections.abc import Callable

from cmzon_secrets.clock import Clock
from cmzon_secrets.errors import ConfigurationError, TokenNotFound
from cmzon_secrets.provider import TokenStore
from cmzon_secrets.tokens import Token, Versions

__all__ = ["Claims", "GuardedStore", "Pace", "require_place"]


def require_place(store: TokenStore, *, create: bool = False) -> None:
    """Refuse a secret that is not there in a cloud, for its name may be mistyped; or make it empty.

    A store that simply makes itself, like a sealed file, has neither ``exists`` nor ``create``.
    Raises TokenNotFound.
    """
    exists = getattr(store, "exists", None)
    if exists is None or exists():
        return
    if not create:
        raise TokenNotFound(
            f"{store.uri} — there is no such secret",
            uri=store.uri,
            hint=f"if that is the right name, make it with: cmzon-secrets put --create {shlex.quote(store.uri)}",
        )
    store.create()  # type: ignore[attr-defined]  # who tells whether it exists can make it


class Pace:
    """So many a second, evenly, whoever asks. Thread-safe; first come, first served."""

    def __init__(self, per_second: float, clock: Clock) -> None:
        self._interval = 1 / per_second
        self._clock = clock
        self._free_at = float("-inf")
        self._lock = threading.Lock()

    def wait(self) -> None:
        """Take the next free moment and sleep until then."""
        with self._lock:
            now = self._clock.monotonic()
            moment = max(now, self._free_at)
            self._free_at = moment + self._interval
        self._clock.sleep(moment - now)


class Claims:
    """Who has which place, by its identity: two accounts in one place would replace each other's token."""

    def __init__(self) -> None:
        self._owners: dict[str, str] = {}
        self._lock = threading.Lock()

    def claim(self, identity: str, name: str, uri: str) -> None:
        """Raises ConfigurationError where another account was here before."""
        with self._lock:
            owner = self._owners.setdefault(identity, name)
        if owner != name:
            raise ConfigurationError(
                f"{uri} — account {name} names the same place as account {owner}",
                hint="each account needs a place of its own: give one of them another token URI",
            )


class GuardedStore(TokenStore):
    """A store that must be there already, and whose writes wait for their turn.

    ``pace``: what the service bears, shared with the other accounts there. ``claim`` is told the
    identity before anything is written, and may refuse it.
    """

    def __init__(
        self,
        store: TokenStore,
        *,
        pace: Pace | None = None,
        claim: Callable[[str], None] = lambda identity: None,  # noqa: ARG005  # nobody else is there
    ) -> None:
        self._store = store
        self._pace = pace
        self._claim = claim
        self._found = False
        self.cas = store.cas

    @property
    def uri(self) -> str:
        return self._store.uri

    @property
    def identity(self) -> str:
        identity = self._store.identity
        self._claim(identity)
        return identity

    @property
    def rotating_natively(self) -> str | None:
        return self._store.rotating_natively

    def get(self) -> Token:
        return self._store.get()

    def versions(self) -> Versions:
        held = self._store.versions()
        if not self._found and not any(held):
            require_place(self._store)
        self._found = True
        return held

    def stage(self, token: Token) -> None:
        self._take_turn()
        self._store.stage(token)

    def stage_as(self, version_id: str, token: Token, *, rotation_token: str | None = None) -> None:
        self._take_turn()
        self._store.stage_as(version_id, token, rotation_token=rotation_token)

    def promote(self, token_id: str, *, replacing: str | None) -> None:
        self._take_turn()
        self._store.promote(token_id, replacing=replacing)

    def discard(self, token_id: str) -> None:
        self._take_turn()
        self._store.discard(token_id)

    def close(self) -> None:
        self._store.close()

    def _take_turn(self) -> None:
        if self._pace is not None:
            self._pace.wait()
