"""A verb ends when its time is up, whatever the service does."""

import contextvars
import os
import threading
import time

import pytest

from cmzon_secrets.deadline import Deadline, GivenUp, stop_if_given_up
from cmzon_secrets.errors import ProviderUnavailable
from cmzon_secrets.testing import ManualClock

URI = "somewhere://place"


def test_a_call_returns_what_the_function_returns():
    deadline = Deadline(5, uri=URI)
    assert deadline.call(divmod, 7, 2) == (3, 1)
    assert deadline.call(lambda *, name: name, name="x") == "x"


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), SystemExit(3)])
def test_a_call_raises_what_the_function_raises(error):
    def fail():
        raise error

    with pytest.raises(type(error)) as caught:
        Deadline(5, uri=URI).call(fail)
    assert caught.value is error


def test_a_call_that_never_ends_is_not_waited_for():
    release = threading.Event()
    begun = time.monotonic()
    with pytest.raises(ProviderUnavailable, match="no answer within 1 s") as caught:
        Deadline(0.1, uri=URI).call(release.wait)
    release.set()
    assert time.monotonic() - begun < 5
    assert caught.value.uri == URI
    assert caught.value.retryable


def test_all_calls_share_one_deadline():
    clock = ManualClock()
    deadline = Deadline(10, uri=URI, clock=clock)
    deadline.call(clock.advance, 6)
    assert deadline.remaining == 4
    deadline.call(clock.advance, 6)
    called = []
    with pytest.raises(ProviderUnavailable):
        deadline.call(called.append, 1)
    assert called == []


def test_a_pause_that_would_end_too_late_is_not_begun():
    clock = ManualClock()
    deadline = Deadline(10, uri=URI, clock=clock)
    deadline.pause(6)
    assert deadline.remaining == 4
    with pytest.raises(ProviderUnavailable):
        deadline.pause(4)
    assert deadline.remaining == 4


def test_a_call_sees_the_context_of_its_caller():
    where = contextvars.ContextVar("where", default="nowhere")
    where.set("here")
    assert Deadline(5, uri=URI).call(where.get) == "here"


def test_the_thread_of_a_call_does_not_keep_the_process_alive():
    inside = Deadline(5, uri=URI).call(threading.current_thread)
    assert inside.daemon
    assert inside is not threading.current_thread()


def test_what_nobody_waits_for_is_stopped_before_it_is_sent():
    late, sent, stopped = threading.Event(), [], threading.Event()

    def log_in_and_send():
        late.wait()
        try:
            stop_if_given_up()
        except GivenUp:
            stopped.set()
            raise
        sent.append(1)

    with pytest.raises(ProviderUnavailable):
        Deadline(0.1, uri=URI).call(log_in_and_send)
    late.set()
    assert stopped.wait(10)
    assert sent == []


def test_what_is_waited_for_is_sent():
    Deadline(5, uri=URI).call(stop_if_given_up)
    stop_if_given_up()


def test_a_child_process_makes_threads_of_its_own():
    deadline = Deadline(30, uri=URI)
    deadline.call(str)
    child = os.fork()
    if child == 0:
        os._exit(deadline.call(lambda: 7))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
