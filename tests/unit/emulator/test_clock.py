"""The emulator's own time."""

from datetime import UTC, datetime, timedelta

from cmzon_secrets.clock import Clock
from cmzon_secrets.emulator.clock import ShiftedClock, format_time, next_midnight


class StandingClock(Clock):
    def now(self) -> datetime:
        return datetime(2026, 11, 24, 12, tzinfo=UTC)

    def monotonic(self) -> float:
        return 100.0


def test_the_wall_clock_follows_forward_and_back():
    clock = ShiftedClock(StandingClock())
    clock.advance(90)
    assert clock.now() - StandingClock().now() == timedelta(seconds=90)
    clock.advance(-100)
    assert clock.now() - StandingClock().now() == timedelta(seconds=-10)


def test_the_monotonic_clock_follows_forward_only():
    clock = ShiftedClock(StandingClock())
    clock.advance(90)
    clock.advance(-100)
    assert clock.monotonic() == 190.0


def test_times_are_shown_as_rfc_3339_in_utc():
    assert format_time(0.5) == "1970-01-01T00:00:00.500000Z"
    assert format_time(None) is None


def test_a_day_ends_at_midnight_utc_on_the_last_day_of_a_month_too():
    assert next_midnight(datetime(2026, 11, 30, 23, 59, tzinfo=UTC)) == datetime(
        2026, 12, 1, tzinfo=UTC
    )
