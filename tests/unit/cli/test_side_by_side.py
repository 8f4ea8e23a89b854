"""The same done to many things at once, told in their order."""

from __future__ import annotations

import threading
import weakref

import pytest

from cmzon_secrets.cli.failures import TYPED
from cmzon_secrets.cli.side_by_side import AT_A_TIME, side_by_side

PATIENCE = 60.0  # seconds


def test_results_come_in_the_order_of_the_things_whoever_is_first():
    later = threading.Event()

    def work(number):
        if number == 0:
            assert later.wait(PATIENCE)
        if number == 5:
            later.set()
        return number

    assert list(side_by_side(work, range(10))) == list(range(10))


def test_no_more_than_sixteen_are_under_way():
    under_way, most, lock = 0, 0, threading.Lock()
    all_here = threading.Barrier(AT_A_TIME)

    def work(number):
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        all_here.wait(PATIENCE)
        with lock:
            under_way -= 1

    list(side_by_side(work, range(3 * AT_A_TIME)))
    assert most == AT_A_TIME


def test_what_goes_wrong_is_raised_in_its_turn():
    def work(number):
        if number == 2:
            raise ZeroDivisionError
        return number

    results = side_by_side(work, range(5))
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_one_thing_needs_no_thread():
    assert list(side_by_side(lambda _: threading.current_thread(), [1])) == [
        threading.current_thread()
    ]


def test_what_was_typed_is_known_beside_as_well():
    TYPED.set(["status", "file:t"])
    assert list(side_by_side(lambda _: TYPED.get(), [1, 2])) == [["status", "file:t"]] * 2


def test_what_is_told_is_not_kept():
    class Held:
        pass

    results = side_by_side(lambda _: Held(), range(3))
    first = weakref.ref(next(results))
    next(results)
    assert first() is None
