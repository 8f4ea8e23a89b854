"""A backend that changes, fails and hangs as a test says, and a cache that has read it once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest

from cmzon_secrets.cache import TokenCache
from cmzon_secrets.errors import ProviderUnavailable
from cmzon_secrets.events import Event
from cmzon_secrets.provider import TokenProvider
from cmzon_secrets.testing.clock import ManualClock
from cmzon_secrets.tokens import Token


class Backend(TokenProvider):
    """Answers what ``answer`` holds; while ``gate`` is shut, calls hang in it."""

    uri = "test:backend"
    FIRST, SECOND, THIRD = (Token(f"cmz_value{n}", id=f"tok_{n}") for n in (1, 2, 3))
    DOWN = ProviderUnavailable("backend — no route", uri=uri)

    def __init__(self) -> None:
        self.answer: Token | Exception = self.FIRST
        self.calls = 0
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.closed = False
        self._lock = threading.Lock()

    def get(self) -> Token:
        with self._lock:
            self.calls += 1
        answer = self.answer  # what the backend held when it was asked
        self.entered.set()
        assert self.gate.wait(30)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def shut(self) -> None:
        self.entered.clear()
        self.gate.clear()

    def hang_for(self, seconds: float) -> None:
        """Let calls hang that long, counted from the first."""
        self.shut()

        def release() -> None:
            self.entered.wait(60)
            time.sleep(seconds)
            self.gate.set()

        threading.Thread(target=release).start()

    def renew_in_child(self) -> None:
        """What a backend of its own has in a forked child: no lock held, nothing that hangs."""
        self._lock = threading.Lock()
        self.gate = threading.Event()
        self.gate.set()

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(datetime(2026, 11, 24, 12, tzinfo=UTC))


@pytest.fixture
def backend() -> Backend:
    return Backend()


@pytest.fixture
def events() -> list[Event]:
    return []


@pytest.fixture
def cold(backend: Backend, clock: ManualClock, events: list[Event]) -> Iterator[TokenCache]:
    """A cache with a TTL of 300 seconds that was asked for nothing yet."""
    with TokenCache(backend, clock=clock, subscriber=events.append) as cache:
        yield cache
        backend.gate.set()


@pytest.fixture
def cache(cold: TokenCache, backend: Backend) -> TokenCache:
    """… and one that has just read FIRST."""
    assert cold.get() is backend.FIRST
    return cold


@pytest.fixture
def bridging(cache: TokenCache, backend: Backend, clock: ManualClock) -> TokenCache:
    """… and one past its TTL that has just found the backend down."""
    backend.answer = backend.DOWN
    clock.advance(301)
    assert cache.get() is backend.FIRST
    return cache


@pytest.fixture
def settled(cold: TokenCache) -> Callable[[], None]:
    """Wait until no background read is under way."""

    def wait() -> None:
        if cold._background is not None:
            cold._background.join(20)
            assert not cold._background.is_alive()

    return wait
