"""What a backend's author writes for StoreSuite, and the fixtures the tests are made of."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import pytest

from cmzon_secrets.clock import SYSTEM_CLOCK, Clock
from cmzon_secrets.provider import TokenStore
from cmzon_secrets.testing.conformance.suite import Suite
from cmzon_secrets.tokens import Token, Versions

__all__ = ["Open", "StoreHooks", "bootstrap", "facts", "new_token", "rotate_to", "seen"]

Open = Callable[[], TokenStore]
Facts = tuple[object, ...]


class StoreHooks(Suite):
    """Required: the fixture ``new_place`` and ``open``. The other hooks are excused in ``cannot``.

    A *place* is whatever your backend needs to find one secret: a path, a name and a client.
    """

    precision: ClassVar[timedelta] = timedelta(microseconds=1)
    """The finest time the backend keeps."""
    takes_clock: ClassVar[bool] = True
    """``promoted_at`` comes from the clock given to ``open``. False: from the service."""
    clock_skew: ClassVar[timedelta] = timedelta(seconds=5)
    """How far the service's clock may be from ours where ``takes_clock`` is False."""
    first_stage_is_current: ClassVar[bool] = False
    """The service makes the first value it ever gets CURRENT (AWS)."""
    guards_pending: ClassVar[bool] = True
    """``promote`` compares PENDING in the same step as CURRENT. False (AWS): it and a ``discard`` of
    the same token at the same moment may both succeed; then the token is CURRENT."""
    racers: ClassVar[int] = 4
    race_rounds: ClassVar[int] = 5
    model_examples: ClassVar[int] = 25
    model_steps: ClassVar[int] = 20
    max_crash_points: ClassVar[int] = 40
    """Tests of slow services take fewer of each; crash points are then picked evenly."""

    @pytest.fixture
    def new_place(self) -> Callable[[], Any]:
        """A function that makes a clean, empty place at each call."""
        raise NotImplementedError("override the fixture new_place")

    def open(self, place: Any, clock: Clock) -> TokenStore:
        """A fresh handle on the place, as another process would open it."""
        raise NotImplementedError("override open(place, clock)")

    def opener(self, place: Any) -> Callable[[], TokenStore]:
        """The same for a real second process: picklable, e.g. ``partial(open_store, uri)``."""
        raise NotImplementedError

    def aliases(self, place: Any) -> Sequence[TokenStore]:
        """Handles on the place, each addressed in another way."""
        raise NotImplementedError

    def paste(self, place: Any, text: str) -> None:
        """Make ``text`` the CURRENT value by hand, without this package."""
        raise NotImplementedError

    def steps(self, place: Any, step: Callable[[], None]) -> AbstractContextManager[object]:
        """Call ``step`` around every low-level call while entered; see ``testing.interposed``."""
        raise NotImplementedError

    def denied(self, place: Any) -> TokenStore:
        """A handle that the backend refuses everything."""
        raise NotImplementedError

    def unreachable(self, place: Any) -> TokenStore:
        """A handle whose backend does not answer."""
        raise NotImplementedError

    @pytest.fixture
    def opened(self) -> Iterator[Callable[..., TokenStore]]:
        """``opened(place, clock)``: a handle that is closed when the test ends."""
        with ExitStack() as handles:
            yield lambda place, clock=SYSTEM_CLOCK: handles.enter_context(self.open(place, clock))

    @pytest.fixture
    def place(self, new_place: Callable[[], Any]) -> Any:
        """A clean, empty place."""
        return new_place()

    @pytest.fixture
    def again(self, place: Any, opened: Callable[..., TokenStore]) -> Open:
        """Opens the place once more."""
        return lambda: opened(place)

    @pytest.fixture
    def store(self, again: Open) -> TokenStore:
        """A handle on the clean place."""
        return again()


def new_token(value: str | None = None, **metadata: Any) -> Token:
    """A token like an issuer's, never the same twice."""
    metadata.setdefault("id", f"tok_{secrets.token_hex(8)}")
    metadata.setdefault("scopes", ("messages:send",))
    metadata.setdefault("issued_at", datetime.now(UTC).replace(microsecond=0))
    return Token(value or f"cmz_{secrets.token_urlsafe(32)}", **metadata)


def bootstrap(store: TokenStore, token: Token | None = None) -> Token:
    """Make a token CURRENT in an empty store."""
    token = token or new_token()
    store.stage(token)
    store.promote(token.id, replacing=None)
    return token


def rotate_to(store: TokenStore, token: Token, *, replacing: Token) -> Token:
    """Stage and promote."""
    store.stage(token)
    store.promote(token.id, replacing=replacing.id)
    return token


def facts(token: Token | None) -> Facts | None:
    """Everything a token is, its value as fingerprint: comparable, printable, complete."""
    if token is None:
        return None
    return (
        token.id,
        token.fingerprint,
        token.scopes,
        token.issued_at,
        token.expires_at,
        token.allowed_ips,
    )


def seen(view: Versions) -> dict[str, Facts | None]:
    """The three stages, comparable and printable."""
    return {
        "CURRENT": facts(view.current),
        "PENDING": facts(view.pending),
        "PREVIOUS": facts(view.previous),
    }
