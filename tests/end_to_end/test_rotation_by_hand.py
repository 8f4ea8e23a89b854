"""A token made in the dashboard is rotated with nothing but the dashboard and the stated API."""

from secrets import token_hex

import pytest

from cmzon_secrets import (
    CMzonIssuer,
    ManualIssuer,
    RotationPolicy,
    Rotator,
    Token,
    TokenRequest,
)
from cmzon_secrets.clock import SYSTEM_CLOCK
from cmzon_secrets.emulator import Emulator
from cmzon_secrets.errors import AuthenticationError
from cmzon_secrets.testing import ManualClock, MemoryStore

GRACE = 600.0
POLICY = RotationPolicy("acme", grace=GRACE, reader_ttl=300.0, request_deadline=60.0)


class Person:
    """Somebody at the dashboard, who does nothing unasked."""

    def __init__(self, emulator):
        admin = pasted(Token(emulator.admin_token), SYSTEM_CLOCK)
        self._dashboard = CMzonIssuer(admin, base_url=emulator.base_url)
        self.made = []
        self.next_paste = None
        self.heard = []

    def make(self):
        request = TokenRequest("by hand")
        token = self._dashboard.issue(request, idempotency_key=token_hex(16))
        self.made.append(token)
        return token.reveal()

    def revoke_what_was_asked_for(self):
        (wanted,) = [t for t in self.made if f"sha256:{t.fingerprint}" in self.heard[-1]]
        self._dashboard.revoke(wanted)

    def alive(self, token):
        try:
            self._dashboard.verify(token)
        except AuthenticationError:
            return False
        return True

    def close(self):
        self._dashboard.close()


@pytest.fixture(scope="module")
def emulator():
    with Emulator(strict=True) as running:
        yield running


@pytest.fixture
def person(emulator):
    somebody = Person(emulator)
    yield somebody
    somebody.close()


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def issuer(emulator, person, clock):
    made = ManualIssuer(
        base_url=emulator.base_url,
        ask=lambda prompt: person.next_paste or person.make(),
        tell=person.heard.append,
        clock=clock,
    )
    yield made
    made.close()


def pasted(token, clock):
    """A store whose CURRENT was pasted in."""
    store = MemoryStore(clock=clock)
    store.stage(token)
    store.promote(token.id, replacing=None)
    return store


def test_a_pasted_token_is_replaced_told_to_be_revoked_and_proved_dead(person, issuer, clock):
    old = Token(person.make())
    store = pasted(old, clock)
    rotator = Rotator(store, issuer, POLICY, clock=clock)

    report = rotator.run(force=True)

    assert report.state == "done", report
    new = person.made[-1]
    assert store.get() == new
    assert store.versions().previous == old
    assert person.alive(old), "nothing is revoked within the grace"
    assert len(person.heard) == 1

    clock.advance(GRACE + 1)
    report = rotator.run()

    assert f"sha256:{old.fingerprint}" in person.heard[-1]
    assert store.versions().previous == old, "not proved dead, so not forgotten"
    assert report.state in ("waiting", "attention")

    person.revoke_what_was_asked_for()
    told = len(person.heard)
    report = rotator.run()

    assert report.state == "done", report
    assert store.versions().previous is None
    assert not person.alive(old)
    assert person.alive(new)
    assert len(person.heard) == told, "what is dead need not be mentioned again"


def test_the_old_token_typed_again_changes_nothing(person, issuer, clock):
    old = Token(person.make())
    store = pasted(old, clock)
    person.next_paste = old.reveal()

    report = Rotator(store, issuer, POLICY, clock=clock).run(force=True)

    assert report.state in ("attention", "failed"), report
    assert store.versions().current == old
    assert store.versions().pending is None
    assert person.alive(old)
