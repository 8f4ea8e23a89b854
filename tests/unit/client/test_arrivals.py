"""Arrivals: no sliding second at the server holds too many, as far as answers tell."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cmzon_secrets.client.arrivals import (
    LATEST_ARRIVAL,
    LATEST_DEPARTURE,
    Arrivals,
    Departure,
)


def leave(arrivals: Arrivals, at: float, answered_at: float | None = None) -> Departure:
    departure = arrivals.depart(at)
    assert isinstance(departure, Departure)
    departure.leave(at)
    departure.answered_at = answered_at
    return departure


@settings(deadline=None, max_examples=50)
@given(
    st.integers(1, 5),
    st.lists(st.tuples(st.floats(0, 0.5), st.floats(0, 0.5)), min_size=1, max_size=30),
)
def test_no_second_holds_more_departures_than_the_limit(per_second, senders):
    """Each is told to wait until he may leave, whatever the answers look like."""
    arrivals, now, left = Arrivals(per_second, 0.0), 0.0, []
    for after, latency in senders:
        now += after
        while not isinstance(found := arrivals.depart(now), Departure):
            assert 0 < found <= 1.5
            now += found
        found.leave(now)
        found.answered_at = now + latency
        left.append(now)
    for first, over in zip(left, left[per_second:], strict=False):
        assert over - first >= 1.0 - 1e-4


class Thorough(Arrivals):
    """It looks at each arrival, however few there can be."""

    def _not_answered_by(self, moment):
        return self._most


@given(
    st.integers(1, 5),
    st.lists(st.tuples(st.floats(0, 0.7), st.none() | st.floats(0, 1.5)), min_size=1, max_size=30),
)
def test_too_few_to_matter_are_not_looked_at_and_the_wait_is_the_same(per_second, senders):
    quick, thorough, now = Arrivals(per_second, 0.02), Thorough(per_second, 0.02), 0.0
    for after, latency in senders:
        now += after
        assert quick.wait(now) == thorough.wait(now)
        for arrivals in (quick, thorough):
            if isinstance(found := arrivals.depart(now), Departure):
                found.leave(now)
                found.answered_at = None if latency is None else now + latency


def test_half_of_the_jitter_is_to_spare():
    arrivals = Arrivals(2, 0.02)
    leave(arrivals, 0.0, 0.0)
    leave(arrivals, 0.5, 0.5)
    assert arrivals.depart(1.0) == pytest.approx(0.01)


def test_who_has_to_wait_has_not_left():
    arrivals = Arrivals(1, 0.0)
    leave(arrivals, 0.0, 0.0)
    assert [arrivals.depart(0.5) for _ in range(3)] == [0.5] * 3
    leave(arrivals, 1.0)


def test_an_answer_that_took_longer_than_the_quickest_may_have_arrived_later():
    arrivals = Arrivals(2, 0.0)
    leave(arrivals, 0.0, 0.3)  # it waited for a connection
    leave(arrivals, 0.4, 0.5)
    assert arrivals.depart(1.0) == pytest.approx(0.2)


def test_what_has_no_answer_may_still_be_on_its_way():
    arrivals = Arrivals(2, 0.0)
    leave(arrivals, 0.0)
    leave(arrivals, 0.1, 0.1)
    leave(arrivals, 1.1)
    assert arrivals.depart(1.2) == pytest.approx(1.0)


def test_but_not_for_ever():
    arrivals = Arrivals(1, 0.0)
    leave(arrivals, 0.0)
    leave(arrivals, 1.0 + LATEST_ARRIVAL)


def test_what_waits_for_a_connection_may_arrive_at_any_moment():
    arrivals = Arrivals(1, 0.0)
    waiting = arrivals.depart(0.0)
    assert isinstance(waiting, Departure)
    assert arrivals.depart(5.0) == pytest.approx(1.0)
    waiting.leave(5.5)
    assert arrivals.depart(6.0) == pytest.approx(0.5)
    leave(arrivals, 6.5)


def test_what_never_left_is_forgotten():
    for forgotten_at, answered_at in ((1.0, 0.0), (1.0 + LATEST_DEPARTURE, None)):
        arrivals = Arrivals(1, 0.0)
        waiting = arrivals.depart(0.0)
        assert isinstance(waiting, Departure)
        waiting.answered_at = answered_at
        leave(arrivals, forgotten_at)


@pytest.mark.parametrize(("per_second", "most", "span"), [(0.5, 1, 2.0), (2.5, 2, 0.8)])
def test_a_limit_that_is_no_whole_number_is_kept_over_another_span(per_second, most, span):
    arrivals = Arrivals(per_second, 0.0)
    for _ in range(most):
        leave(arrivals, 0.0, 0.0)
    assert arrivals.depart(0.0) == pytest.approx(span)
