"""Durations as people write them, read and written."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmzon_secrets.durations import format_duration, parse_duration


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("30d", timedelta(days=30)),
        ("24h", timedelta(hours=24)),
        ("15m", timedelta(minutes=15)),
        ("90s", timedelta(seconds=90)),
        ("90", timedelta(seconds=90)),
        ("1.5h", timedelta(minutes=90)),
        (90, timedelta(seconds=90)),
        (0.5, timedelta(seconds=0.5)),
    ],
)
def test_durations_are_read(given, meant):
    assert parse_duration(given) == meant


@pytest.mark.parametrize(
    "given",
    ["", "d", "30 d", "30D", "30w", "-1d", "0", 0, -5, "1e3", "nan", "inf", float("inf"), float("nan"),
     True, None, [], "999999999d", "٣d", "1d2h"],
)  # fmt: skip
def test_anything_else_is_no_duration(given):
    with pytest.raises(ValueError, match="30d"):
        parse_duration(given)


@pytest.mark.parametrize(
    ("span", "written"),
    [
        (timedelta(days=30), "30d"),
        (timedelta(hours=24), "24h"),
        (timedelta(minutes=6), "6m"),
        (timedelta(minutes=90), "90m"),
        (timedelta(seconds=361), "361s"),
        (timedelta(seconds=0.5), "0.5s"),
        (timedelta(0), "0s"),
        (timedelta(seconds=-5), "0s"),
    ],
)
def test_they_are_written_in_the_largest_unit_without_a_fraction(span, written):
    assert format_duration(span) == written


@given(st.timedeltas(min_value=timedelta(microseconds=1), max_value=timedelta(days=366)))
def test_what_is_written_can_be_read_again(span):
    assert parse_duration(format_duration(span)) == span
