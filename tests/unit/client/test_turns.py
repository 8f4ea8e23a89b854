"""Turns: one is next, everybody gets there, and nobody who went away is waited for."""

from __future__ import annotations

import os
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmzon_secrets.client.turns import GONE_AFTER, Turns

PLACES = st.lists(st.tuples(st.integers(-3, 3), st.floats(0, 100)), min_size=1, max_size=40)


@given(PLACES)
def test_the_more_urgent_first_then_who_waits_longer_then_who_came_first(places):
    turns = Turns()
    tickets = {turns.join(*place): (-place[0], place[1], n) for n, place in enumerate(places)}
    served = []
    while (ticket := turns.next()) is not None:
        served.append(tickets[ticket])
        turns.leave(ticket)
    assert served == sorted(tickets.values())


@given(PLACES, st.data())
def test_whoever_leaves_exactly_one_is_next_and_that_one_is_called(places, data):
    turns, called = Turns(), set()
    tickets = [turns.join(*place) for place in places]
    for ticket in tickets:
        ticket.on_call(lambda t=ticket: called.add(t))
    for ticket in data.draw(st.permutations(tickets)):
        turns.leave(ticket)
        waiting = [t for t in tickets if not t.left]
        following = [t for t in waiting if t.called]
        assert following == [turns.next()] if waiting else turns.next() is None
        assert called.issuperset(following)


def test_who_is_next_already_is_called_at_once():
    turns, called = Turns(), []
    turns.join(0, 0.0).on_call(lambda: called.append(True))
    assert called == [True]


def test_a_more_urgent_one_who_comes_is_next_and_the_other_is_called_again_later():
    turns, called = Turns(), []
    patient = turns.join(0, 0.0)
    urgent = turns.join(1, 5.0)
    assert (patient.called, urgent.called) == (False, True)
    patient.on_call(lambda: called.append("patient"))
    assert called == []
    turns.leave(urgent)
    assert called == ["patient"]


def test_leaving_twice_calls_nobody_twice():
    turns, called = Turns(), []
    first, second = turns.join(0, 0.0), turns.join(0, 1.0)
    second.on_call(lambda: called.append(True))
    turns.leave(first)
    turns.leave(first)
    assert called == [True]


def test_who_was_not_seen_for_a_while_is_passed_over_and_has_his_old_place_once_he_is_back():
    turns, called = Turns(), []
    gone = [turns.join(0, since) for since in (0.0, 1.0, 2.0)]
    assert [turns.is_next(ticket, 2.0) for ticket in gone] == [True, False, False]
    here = turns.join(0, 3.0)
    assert not turns.is_next(here, 2.0 + GONE_AFTER)
    assert turns.is_next(here, 2.1 + GONE_AFTER)  # all of them at once
    behind = turns.join(0, 4.0)
    assert not turns.is_next(behind, 2.1 + GONE_AFTER)
    behind.on_call(lambda: called.append("behind"))
    assert turns.is_next(gone[1], 9.0)
    turns.leave(gone[1])
    assert here.called
    turns.leave(here)
    assert called == ["behind"]
    assert [ticket.called for ticket in gone] == [False] * 3


def test_whoever_looks_calls_the_one_behind_those_who_are_gone():
    turns, called = Turns(), []
    turns.is_next(turns.join(0, 0.0), 0.0)
    second, third = turns.join(0, 1.0), turns.join(0, 2.0)
    turns.is_next(second, GONE_AFTER)
    second.on_call(lambda: called.append("second"))
    assert not turns.is_next(third, GONE_AFTER + 0.1)
    assert called == ["second"]


def test_a_thousand_threads_each_have_their_turn():
    turns, order, threads = Turns(), [], 200

    def wait_and_leave() -> None:
        for _ in range(5):
            ticket = turns.join(0, 0.0)
            while not ticket.called:
                called = threading.Event()
                ticket.on_call(called.set)
                assert called.wait(20)
            order.append(True)
            turns.leave(ticket)

    waiting = [threading.Thread(target=wait_and_leave) for _ in range(threads)]
    for thread in waiting:
        thread.start()
    for thread in waiting:
        thread.join(20)
    assert len(order) == 5 * threads
    assert turns.next() is None


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_nobody_waits_in_a_forked_child():
    turns = Turns()
    ticket = turns.join(0, 0.0)
    child = os.fork()
    if child == 0:
        turns.leave(ticket)
        os._exit(0 if turns.join(0, 1.0).called else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert ticket.called
