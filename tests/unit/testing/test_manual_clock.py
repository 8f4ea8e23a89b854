"""A clock that moves only when it is told to."""

from datetime import UTC, datetime, timedelta

from cmzon_secrets.testing import ManualClock

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


def test_time_stands_still():
    clock = ManualClock(NOON)
    assert clock.now() == clock.now() == NOON
    assert clock.monotonic() == clock.monotonic()


def test_advance_moves_both_clocks():
    clock = ManualClock(NOON)
    began = clock.monotonic()
    clock.advance(1.5)
    clock.advance(timedelta(minutes=1))
    assert clock.now() == NOON + timedelta(seconds=61.5)
    assert clock.monotonic() - began == 61.5


def test_sleep_returns_at_once_and_time_has_passed():
    clock = ManualClock(NOON)
    clock.sleep(3600)
    clock.sleep(-5)
    assert clock.now() == NOON + timedelta(hours=1)


def test_a_wall_clock_that_is_set_does_not_move_the_monotonic_one():
    clock = ManualClock(NOON)
    began = clock.monotonic()
    clock.set_wall_clock(NOON - timedelta(days=1))
    assert clock.now() == NOON - timedelta(days=1)
    assert clock.monotonic() == began


def test_without_a_time_it_begins_now_in_utc():
    assert abs(ManualClock().now() - datetime.now(UTC)) < timedelta(minutes=1)
    assert ManualClock().now().tzinfo is UTC
