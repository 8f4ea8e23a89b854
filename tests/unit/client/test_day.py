"""DayCount: the day's messages, whatever clocks do and whatever the API says of its own count."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmzon_secrets.client.day import DayCount, next_midnight
from cmzon_secrets.client.usage import Quota
from cmzon_secrets.errors import DailyLimitReached

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
MIDNIGHT = datetime(2026, 11, 25, tzinfo=UTC)
DAY, HOUR, SECOND = timedelta(days=1), timedelta(hours=1), timedelta(seconds=1)


def sent(count: DayCount, now: datetime, messages: int) -> None:
    for _ in range(messages):
        count.take(now)


def left(count: DayCount, now: datetime) -> int:
    """How many go out until the day is full."""
    taken = 0
    try:
        while True:
            count.take(now)
            taken += 1
    except DailyLimitReached:
        return taken


# ── the day ─────────────────────────────────────────────────────────────────────────────────────


@given(st.integers(1, 50), st.lists(st.timedeltas(timedelta(0), 3 * DAY), max_size=30))
def test_no_utc_day_holds_more_than_the_limit(per_day, moments):
    count, now = DayCount(per_day), NOON
    taken: dict[datetime, int] = {}
    for later in moments:
        now += later
        taken[next_midnight(now)] = taken.get(next_midnight(now), 0) + left(count, now)
    assert set(taken.values()) <= {per_day}


def test_the_day_is_the_utc_day_wherever_the_clock_stands():
    count = DayCount(1)
    assert count.take(datetime.fromisoformat("2026-11-25T01:00:00+05:00")) == MIDNIGHT
    with pytest.raises(DailyLimitReached) as caught:
        count.take(NOON)
    assert caught.value.resets_at == MIDNIGHT


def test_a_full_day_stays_full_until_its_last_moment():
    count = DayCount(2)
    sent(count, NOON, 2)
    with pytest.raises(DailyLimitReached):
        count.check(MIDNIGHT - timedelta(microseconds=1))
    count.check(MIDNIGHT)


def test_what_is_given_back_may_be_sent_again_on_the_same_day_only():
    count = DayCount(1)
    today = count.take(NOON)
    count.give_back(today)
    assert left(count, NOON) == 1
    count.take(NOON + DAY)
    count.give_back(today)
    assert left(count, NOON + DAY) == 0


def test_nothing_is_given_back_that_was_not_taken():
    count = DayCount(1)
    count.turn(NOON)
    count.give_back(count.ends)
    assert left(count, NOON) == 1


def test_without_a_limit_messages_are_counted_all_the_same():
    count = DayCount(None)
    sent(count, NOON, 20_000)
    assert count.sent == 20_000


# ── clocks that are set ─────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("back", [SECOND, 2 * timedelta(minutes=1), HOUR, 12 * HOUR])
def test_a_clock_set_back_over_midnight_does_not_undo_the_count(back):
    count = DayCount(1)
    count.take(MIDNIGHT + SECOND)
    assert left(count, MIDNIGHT + SECOND - back) == 0


def test_a_clock_that_was_years_ahead_does_not_block_for_years():
    count = DayCount(1)
    count.take(NOON + 9000 * DAY)
    assert left(count, NOON) == 1


# ── what the API says ───────────────────────────────────────────────────────────────────────────


def test_where_less_is_left_than_was_counted_here_others_send_too():
    count = DayCount(10_000)
    sent(count, NOON, 5)
    count.heed(Quota(10_000, 40, MIDNIGHT), NOON)
    assert left(count, NOON) == 40


@given(st.integers(0, 250), st.integers(0, 1000))
def test_what_others_sent_is_not_held_against_a_limit_below_the_apis(here, elsewhere):
    count = DayCount(250)
    sent(count, NOON, here)
    remaining = max(0, 1000 - here - elsewhere)
    count.heed(Quota(1000, remaining, MIDNIGHT), NOON)
    assert left(count, NOON) == min(250 - here, remaining)


def test_without_a_limit_of_ours_the_api_s_count_is_told():
    count = DayCount(None)
    count.heed(Quota(1000, 400, MIDNIGHT), NOON)
    assert count.sent == 600


@given(st.integers(0, 100), st.integers(0, 100))
def test_never_is_more_sent_than_was_counted_here(here, said):
    count = DayCount(100)
    sent(count, NOON, here)
    count.heed(Quota(100, said, MIDNIGHT), NOON)
    assert left(count, NOON) == min(100 - here, said)


def test_a_lower_limit_of_the_api_is_heeded_and_a_higher_is_not():
    for stated, allowed in ((1000, 1000), (50_000, 10_000)):
        count = DayCount(10_000)
        count.heed(Quota(stated, stated, MIDNIGHT), NOON)
        assert count.limit == allowed


def test_a_lower_limit_holds_for_the_day_it_was_said_of():
    count = DayCount(10_000)
    count.heed(Quota(1000, 1000, MIDNIGHT), NOON)
    count.turn(NOON + DAY)
    assert count.limit == 10_000


def test_a_day_that_ends_at_another_hour_there_ends_so_here_and_so_do_the_next():
    count, ends = DayCount(10), NOON + HOUR
    sent(count, NOON, 3)
    count.heed(Quota(10, 7, ends), NOON)
    sent(count, ends, 1)
    count.heed(Quota(10, 9, ends + DAY), ends)
    assert count.ends == ends + DAY
    assert left(count, ends + DAY - SECOND) == 9
    assert left(count, ends + DAY) == 10
    assert count.ends == ends + 2 * DAY


@pytest.mark.parametrize("window", [SECOND, HOUR, 11 * HOUR])
def test_the_end_of_a_shorter_window_is_not_the_first_days(window):
    count = DayCount(50)
    sent(count, NOON, 40)
    count.heed(Quota(45, 5, NOON + window), NOON)
    assert left(count, NOON + window - SECOND) == 5
    assert left(count, NOON + window) == 5
    count.heed(Quota(4_800, 4_799, NOON + 2 * window), NOON + window)
    assert left(count, MIDNIGHT - SECOND) == 0
    assert left(count, MIDNIGHT) == 50


def test_an_end_without_what_is_left_does_not_undo_the_count():
    count = DayCount(50)
    sent(count, NOON, 40)
    count.heed(Quota(50, 10, NOON + HOUR), NOON)
    count.heed(Quota(50, None, NOON + HOUR + DAY), NOON + 2 * HOUR)
    assert left(count, NOON + 2 * HOUR) == 10


def test_an_end_after_midnight_is_the_days_that_began_a_day_before():
    count = DayCount(50)
    sent(count, NOON, 40)
    count.heed(Quota(50, 10, MIDNIGHT + HOUR), NOON)
    assert left(count, MIDNIGHT + HOUR - SECOND) == 10
    assert left(count, MIDNIGHT + HOUR) == 50


def test_an_answer_of_yesterday_that_comes_after_midnight_spoils_no_new_day():
    """By a clock that is a little behind the API's, or because it was long on its way."""
    count = DayCount(100)
    sent(count, NOON, 99)
    count.turn(MIDNIGHT)
    for quota in (Quota(100, 1, MIDNIGHT), Quota(100, 1, None)):
        count.heed(quota, MIDNIGHT + SECOND)
    assert left(count, MIDNIGHT + SECOND) == 100


def test_the_apis_new_day_begins_here_too_though_our_clock_is_behind():
    count = DayCount(100)
    sent(count, NOON, 99)
    before_midnight = MIDNIGHT - SECOND
    count.heed(Quota(100, 98, MIDNIGHT + DAY), before_midnight)
    assert count.ends == MIDNIGHT + DAY
    count.heed(Quota(100, 0, MIDNIGHT), before_midnight)  # an older answer
    assert left(count, MIDNIGHT + HOUR) == 98


def test_a_quota_of_a_minute_is_not_taken_for_the_days_again_and_again():
    count, now = DayCount(10_000), NOON
    for _ in range(60):
        now += timedelta(minutes=1)
        sent(count, now, 100)
        count.heed(Quota(4_800, 4_700, now + timedelta(seconds=30)), now)
    assert count.sent == 6_000
    assert count.limit == 10_000


def test_where_no_day_is_named_it_is_today():
    count = DayCount(100)
    sent(count, NOON, 1)
    count.heed(Quota(100, 7, None), NOON)
    assert left(count, NOON) == 7


def test_a_limit_without_what_is_left_is_a_limit():
    count = DayCount(100)
    count.heed(Quota(10, None, MIDNIGHT), NOON)
    assert left(count, NOON) == 10
