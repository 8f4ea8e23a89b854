"""Spacing: slots evenly apart, later after a pause, fewer after the API said "too many"."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmzon_secrets.client.spacing import RECOVERY, SLOWER, SLOWEST, Spacing

PACES = st.floats(0.01, 1000)
MOMENTS = st.floats(0, 1e6)


def take(spacing: Spacing, now: float) -> float:
    """When the slot is that is taken now."""
    at = now + spacing.wait(now)
    spacing.take(now)
    return at


@given(PACES, st.lists(MOMENTS, min_size=2, max_size=30))
def test_slots_are_never_closer_than_the_pace_and_never_past(pace, moments):
    spacing, before = Spacing(pace), -inf
    for now in moments:  # in any order: several threads read the clock
        at = take(spacing, now)
        assert at >= now
        assert at >= before + 1 / pace - 1e-6
        before = at


@given(PACES, MOMENTS)
def test_the_first_slot_is_at_once_and_time_without_messages_saves_up_nothing(pace, now):
    spacing = Spacing(pace)
    assert take(spacing, now) == now
    later = now + 1e6
    assert [take(spacing, later) for _ in range(3)] == pytest.approx(
        [later, later + 1 / pace, later + 2 / pace]
    )


def test_asking_takes_nothing():
    spacing = Spacing(10)
    spacing.take(0.0)
    assert [spacing.wait(0.0) for _ in range(3)] == [0.1] * 3


@given(PACES, MOMENTS, st.floats(0, 60))
def test_no_slot_lies_in_a_pause_and_a_shorter_one_does_not_end_a_longer(pace, now, pause):
    spacing = Spacing(pace)
    spacing.pause(now + pause)
    spacing.pause(now + pause / 2)
    assert take(spacing, now) >= now + pause


@given(PACES, st.lists(st.tuples(MOMENTS, st.floats(0, 60)), min_size=1, max_size=30))
def test_the_pace_never_falls_below_the_slowest_and_comes_back(pace, refusals):
    spacing, now = Spacing(pace), 0.0
    for later, pause in refusals:
        now = max(now, later)
        spacing.pause(now + pause)
        spacing.slow_down(now, left_at=now)
        assert min(pace, SLOWEST) <= spacing.pace(now) <= pace
    assert spacing.pace(now + 60 + pace / RECOVERY) == pace


def test_a_refusal_takes_a_fifth_of_the_pace_and_each_second_gives_one_back():
    spacing = Spacing(50)
    spacing.slow_down(10.0, left_at=9.9)
    assert [spacing.pace(10.0 + after) for after in (0, 1, 5, 10, 11)] == [40, 41, 45, 50, 50]


def test_the_pace_grows_again_from_the_end_of_the_pause_on():
    spacing = Spacing(50)
    spacing.pause(40.0)
    spacing.slow_down(10.0, left_at=9.9)
    assert [spacing.pace(at) for at in (10.0, 40.0, 41.0)] == [40, 40, 41]


def test_what_was_under_way_already_is_not_heeded_again_and_what_left_later_is():
    spacing = Spacing(50)
    for left_at in (9.7, 9.8, 9.9):
        spacing.slow_down(10.0, left_at=left_at)
    assert spacing.pace(10.0) == 50 * SLOWER
    spacing.slow_down(10.0, left_at=10.0)
    assert spacing.pace(10.0) == 50 * SLOWER * SLOWER


def test_a_pace_slower_than_the_slowest_stays_what_it_is():
    spacing = Spacing(0.5)
    spacing.slow_down(1.0, left_at=0.9)
    assert spacing.pace(1.0) == 0.5


def test_an_endless_pace_knows_no_slots():
    spacing = Spacing(inf)
    spacing.slow_down(1.0, left_at=0.9)
    assert [take(spacing, 1.0) for _ in range(3)] == [1.0] * 3
