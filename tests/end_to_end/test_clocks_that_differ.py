"""A rotator and an API whose clocks differ: no grace ends early, and what is dead is replaced."""

from datetime import UTC, datetime, timedelta

import pytest

from cmzon_secrets import CMzonIssuer, RotationPolicy, Rotator
from cmzon_secrets.emulator import Emulator
from cmzon_secrets.testing import ManualClock, MemoryStore

HOUR = timedelta(hours=1)


@pytest.fixture
def emulator():
    with Emulator() as emulator:
        yield emulator


@pytest.fixture
def issuer(emulator, monkeypatch):
    monkeypatch.setenv("ADMIN", emulator.admin_token)
    issuer = CMzonIssuer("env:ADMIN", base_url=emulator.base_url)
    yield issuer
    issuer.close()


@pytest.fixture
def rotate(issuer):
    clock = ManualClock(datetime.now(UTC))
    store = MemoryStore(clock=clock)

    def run(*, ours=timedelta(0), force=False, **policy):
        clock.advance(ours.total_seconds())
        rotator = Rotator(store, issuer, RotationPolicy("acme", grace=HOUR, **policy), clock=clock)
        return rotator.run(force=force), store.versions()

    return run


def test_a_token_that_died_by_the_apis_clock_is_replaced(emulator, rotate):
    _, before = rotate(expires_in=timedelta(days=7))
    emulator.advance(timedelta(days=8))
    report, after = rotate(expires_in=timedelta(days=7))
    assert report.state == "done"
    assert after.current not in (None, before.current)


def test_so_is_one_that_was_expired_in_the_dashboard_while_the_clock_was_ahead(emulator, rotate):
    _, before = rotate()
    emulator.advance(timedelta(days=60))
    emulator.expire(before.current.id)
    report, after = rotate()
    assert report.state == "done"
    assert after.current not in (None, before.current)


def test_a_machine_whose_clock_is_ahead_revokes_nothing_within_its_grace(emulator, rotate):
    rotate()
    rotate(force=True)
    emulator.advance(-2 * HOUR)
    report, held = rotate(ours=2 * HOUR)
    assert report.state == "attention"
    assert "this machine's clock is 2h ahead of the API's" in report.reason
    assert held.previous is not None
    assert emulator.stats()["tokens"]["revoked"] == 0
    emulator.advance(2 * HOUR)
    report, held = rotate()
    assert (report.state, held.previous) == ("done", None)
    assert emulator.stats()["tokens"]["revoked"] == 1
