"""Many threads and processes at once, and how a cache ends."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
import weakref
from collections.abc import Callable

import pytest

from cmzon_secrets.cache import TokenCache
from cmzon_secrets.clock import Clock
from cmzon_secrets.errors import AccessDenied, ConfigurationError
from cmzon_secrets.tokens import Token


def together(count: int, action: Callable[[], Token]) -> list[Token | Exception]:
    """What ``count`` threads get that call ``action`` at the same moment."""
    barrier, outcomes = threading.Barrier(count), []

    def one() -> None:
        barrier.wait(60)
        try:
            outcomes.append(action())
        except Exception as error:
            outcomes.append(error)

    threads = [threading.Thread(target=one) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return outcomes


def eventually(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline, "it never came to hold"
        time.sleep(0.002)


class Reader(threading.Thread):
    """Asks once, and keeps what it got; it hangs in the backend when this returns."""

    def __init__(self, cache, backend) -> None:
        super().__init__()
        self._cache = cache
        self.got: Token | None = None
        backend.shut()
        self.start()
        assert backend.entered.wait(20)

    def run(self) -> None:
        self.got = self._cache.get()


# ── many threads ────────────────────────────────────────────────────────────────────────────


def test_a_thousand_threads_on_a_cold_cache_are_one_call(cold, backend):
    backend.hang_for(0.5)
    assert together(1000, cold.get) == [backend.FIRST] * 1000
    assert backend.calls == 1


def test_a_thousand_threads_on_a_cold_cache_share_one_failure(cold, backend):
    backend.answer = AccessDenied("backend — no", uri=backend.uri)
    backend.hang_for(0.5)
    outcomes = together(1000, cold.get)
    assert {type(o) for o in outcomes} == {AccessDenied}
    assert {str(o) for o in outcomes} == {"backend — no"}
    assert len({id(o) for o in outcomes}) == 1000  # a traceback belongs to one thread
    assert backend.calls == 1


@pytest.mark.parametrize("replaced", [True, False], ids=["replaced", "stays dead"])
def test_a_thousand_threads_with_the_same_dead_token_are_one_read(cache, backend, replaced):
    expected = backend.SECOND if replaced else backend.FIRST
    backend.answer = expected
    backend.hang_for(0.5)

    def refused():
        cache.invalidate(backend.FIRST)
        return cache.get()

    assert together(1000, refused) == [expected] * 1000
    assert backend.calls == 2


def test_the_age_of_a_token_counts_from_the_start_of_the_read(cold, backend, clock):
    reader = Reader(cold, backend)
    clock.advance(299)  # a slow backend: what it hands out is that old already
    backend.gate.set()
    reader.join(20)
    backend.answer = backend.SECOND
    clock.advance(2)
    assert cold.get() is backend.SECOND


def test_an_interrupted_reader_leaves_nobody_waiting(cold, backend):
    backend.shut()
    interrupted = backend.get

    def first_is_interrupted():
        backend.get = interrupted
        interrupted()
        raise KeyboardInterrupt

    backend.get = first_is_interrupted
    seen = []

    def read():
        try:
            seen.append(cold.get())
        except KeyboardInterrupt as stop:
            seen.append(stop)

    threads = [threading.Thread(target=read) for _ in range(2)]
    threads[0].start()
    assert backend.entered.wait(20)
    threads[1].start()
    backend.gate.set()
    for thread in threads:
        thread.join(20)
    assert backend.FIRST in seen
    assert [type(s) for s in seen if s is not backend.FIRST] == [KeyboardInterrupt]


def test_rotation_under_readers_is_seen_by_all_within_the_ttl(backend):
    stop, seen = threading.Event(), set()
    with TokenCache(backend, ttl=0.2, clock=Clock()) as cache:

        def read():
            while not stop.is_set():
                seen.add(cache.get().id)
                time.sleep(0.001)

        threads = [threading.Thread(target=read) for _ in range(8)]
        for thread in threads:
            thread.start()
        for token in (backend.SECOND, backend.THIRD):
            time.sleep(0.3)
            backend.answer = token
        eventually(lambda: "tok_3" in seen)
        stop.set()
        for thread in threads:
            thread.join(20)
    assert seen == {"tok_1", "tok_2", "tok_3"}


# ── processes ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_keeps_the_token_and_reads_for_itself(cache, backend, clock):
    backend.shut()
    clock.advance(270)
    cache.get()  # the parent's background thread hangs in the backend, as may any lock
    assert backend.entered.wait(20)
    with cache._lock:
        child = os.fork()
        if child == 0:
            signal.alarm(30)  # a deadlock ends
            os._exit(in_the_child(cache, backend, clock))
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def in_the_child(cache, backend, clock) -> int:
    try:
        backend.renew_in_child()
        assert cache.get() is backend.FIRST
        backend.answer = backend.SECOND
        clock.advance(301)
        eventually(lambda: cache.get() is backend.SECOND)
    except BaseException:
        return 1
    return 0


# ── ends ────────────────────────────────────────────────────────────────────────────────────


def test_no_thread_runs_before_it_is_needed_nor_after_close(backend, clock):
    before = threading.active_count()
    cache = TokenCache(backend, clock=clock)
    cache.get()
    assert threading.active_count() == before
    backend.shut()
    clock.advance(270)
    cache.get()
    assert threading.active_count() == before + 1
    threading.Timer(0.05, backend.gate.set).start()
    cache.close()
    assert not any(t.name == "cmzon-token-refresh" for t in threading.enumerate())


def test_closing_forgets_the_token_and_leaves_the_provider_to_its_owner(cache, backend):
    cache.close()
    cache.close()
    assert not backend.closed
    with pytest.raises(ConfigurationError, match="closed"):
        cache.get()
    assert backend.calls == 1


def test_a_read_that_ends_after_close_is_handed_to_who_waits_and_not_kept(cold, backend):
    reader = Reader(cold, backend)
    cold.close()
    backend.gate.set()
    reader.join(20)
    assert reader.got is backend.FIRST
    with pytest.raises(ConfigurationError):
        cold.get()


def test_a_cache_that_is_dropped_is_collected(backend):
    cache = TokenCache(backend)
    cache.get()
    gone = weakref.ref(cache)
    del cache
    gc.collect()
    assert gone() is None
