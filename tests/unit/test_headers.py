"""Header fields: the times in them."""

from datetime import UTC, datetime

import pytest

from cmzon_secrets.headers import date_in, retry_after


@pytest.mark.parametrize(
    ("date", "moment"),
    [
        ("Wed, 25 Nov 2026 00:30:11 GMT", datetime(2026, 11, 25, 0, 30, 11, tzinfo=UTC)),
        (None, None),
        ("", None),
        ("yesterday", None),
        ("Wed, 25 Nov 2026 00:30:11 -0000", datetime(2026, 11, 25, 0, 30, 11, tzinfo=UTC)),
        ("Wed, 25 Nov 99999999999999999999 00:30:11 GMT", None),
        ("Fri, 31 Dec 9999 23:30:11 -0200", None),
        ("Wed, 99 Nov 2026 00:30:11 GMT", None),
    ],
)
def test_the_date_header(date, moment):
    assert date_in(date) == moment


@pytest.mark.parametrize(
    ("field", "seconds"),
    [
        ("3", 3.0),
        (" 120 ", 120.0),
        (None, 0.0),
        ("-3", 0.0),
        ("٣", 0.0),
        ("nan", 0.0),
        ("Wed, 25 Nov 2026 00:30:11 GMT", 0.0),
        ("9" * 400, float("inf")),
    ],
)
def test_how_long_to_wait(field, seconds):
    assert retry_after(field) == seconds
