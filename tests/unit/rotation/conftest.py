"""An account that rotates in memory, with a clock moved by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cmzon_secrets.events import Event
from cmzon_secrets.rotation import RotationPolicy, RotationReport, Rotator
from cmzon_secrets.testing import ManualClock, MemoryStore
from cmzon_secrets.testing.memory_issuer import MemoryIssuer
from cmzon_secrets.tokens import Token

HOUR, DAY = 3600.0, 86400.0


class Account:
    """A store, an issuer and their common clock; every run is a new Rotator, as in a cron job."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.store = MemoryStore(clock=self.clock)
        self.issuer = MemoryIssuer(clock=self.clock)
        self.policy = RotationPolicy("acme")
        self.events: list[Event] = []

    def rotator(self) -> Rotator:
        return Rotator(
            self.store, self.issuer, self.policy, clock=self.clock, subscriber=self.events.append
        )

    def run(self, *, force: bool = False) -> RotationReport:
        return self.rotator().run(force=force)

    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)

    def hold(self, **stages: Token | None) -> None:
        """What somebody else put into the store, past its verbs."""
        self.store._memory.save(replace(self.store.versions(), **stages))

    @property
    def current(self) -> Token:
        return self.store.get()

    @property
    def previous(self) -> Token | None:
        return self.store.versions().previous

    def told(self) -> list[str]:
        return [event.name for event in self.events]


@pytest.fixture
def account() -> Account:
    return Account()


@pytest.fixture
def rotated(account: Account) -> Account:
    """An account whose token was rotated once a moment ago: CURRENT tok_2, PREVIOUS tok_1."""
    account.run()
    account.pass_time(DAY)
    account.run(force=True)
    account.events.clear()
    return account
