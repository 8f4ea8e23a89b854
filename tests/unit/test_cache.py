"""TokenCache: what readers see while backends, clocks and tokens misbehave."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest

from cmzon_secrets.cache import TokenCache
from cmzon_secrets.clock import Clock
from cmzon_secrets.errors import (
    AccessDenied,
    CMzonSecretsError,
    ConfigurationError,
    InvalidToken,
    ProviderUnavailable,
    SealBroken,
    TokenNotFound,
)
from cmzon_secrets.events import Event
from cmzon_secrets.provider import TokenProvider
from cmzon_secrets.testing.clock import ManualClock
from cmzon_secrets.tokens import Token

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
FIRST, SECOND, THIRD = (Token(f"cmz_value{n}", id=f"tok_{n}") for n in (1, 2, 3))
DOWN = ProviderUnavailable("backend — no route", uri="test:backend")


class Backend(TokenProvider):
    """Answers what ``answer`` holds; while ``gate`` is shut, calls hang in it."""

    uri = "test:backend"

    def __init__(self, answer: Token | Exception = FIRST) -> None:
        self.answer = answer
        self.calls = 0
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.closed = False
        self._lock = threading.Lock()

    def get(self) -> Token:
        with self._lock:
            self.calls += 1
        answer = self.answer  # what the backend held when it was asked
        self.entered.set()
        assert self.gate.wait(30)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def shut(self) -> None:
        self.entered.clear()
        self.gate.clear()

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOW)


@pytest.fixture
def backend() -> Backend:
    return Backend()


@pytest.fixture
def events() -> list[Event]:
    return []


@pytest.fixture
def cache(backend: Backend, clock: ManualClock, events: list[Event]) -> Iterator[TokenCache]:
    with TokenCache(backend, clock=clock, subscriber=events.append) as cache:
        yield cache
        backend.gate.set()


def eventually(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline, "it never came to hold"
        time.sleep(0.002)


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


def slowly(backend: Backend, seconds: float) -> None:
    """Let calls hang that long, counted from the first."""
    backend.shut()

    def release() -> None:
        backend.entered.wait(60)
        time.sleep(seconds)
        backend.gate.set()

    threading.Thread(target=release).start()


# ── within the TTL ──────────────────────────────────────────────────────────────────────────


def test_a_warm_cache_asks_the_backend_once_in_a_whole_soft_ttl(
    cache: TokenCache, backend: Backend, clock: ManualClock
) -> None:
    for _ in range(220):
        assert cache.get() is FIRST
        clock.advance(1)
    assert backend.calls == 1


def test_it_is_a_provider_that_names_the_place_it_reads_from(
    cache: TokenCache, backend: Backend
) -> None:
    assert isinstance(cache, TokenProvider)
    assert cache.uri == backend.uri
    assert repr(cache) == "<TokenCache test:backend>"


def test_past_the_soft_ttl_readers_go_on_while_one_thread_reads(
    cache: TokenCache, backend: Backend, clock: ManualClock
) -> None:
    cache.get()
    backend.answer = SECOND
    backend.shut()
    clock.advance(270)
    assert [cache.get() for _ in range(1000)] == [FIRST] * 1000  # the backend still hangs
    backend.gate.set()
    eventually(lambda: cache.get() is SECOND)
    assert backend.calls == 2


def test_the_background_read_starts_at_four_fifths_of_the_ttl_give_or_take(
    clock: ManualClock,
) -> None:
    starts = []
    for _ in range(50):
        backend = Backend()
        with TokenCache(backend, ttl=100, clock=clock) as cache:
            cache.get()
            second = 0
            while backend.calls == 1:
                second += 1
                clock.advance(1)
                cache.get()
                if cache._background is not None:
                    cache._background.join()
        starts.append(second)
    assert all(75 <= start <= 86 for start in starts)
    assert len(set(starts)) > 3  # a fleet does not read in one burst


def test_past_the_hard_ttl_a_reader_gets_what_the_backend_holds_now(
    cache: TokenCache, backend: Backend, clock: ManualClock
) -> None:
    cache.get()
    backend.answer = SECOND
    clock.advance(301)
    assert cache.get() is SECOND


def test_the_age_of_a_token_counts_from_the_start_of_the_read(
    cache: TokenCache, backend: Backend, clock: ManualClock
) -> None:
    backend.shut()
    reader = threading.Thread(target=cache.get)
    reader.start()
    assert backend.entered.wait(20)
    clock.advance(299)  # a slow backend: what it hands out is that old already
    backend.gate.set()
    reader.join(20)
    backend.answer = SECOND
    clock.advance(2)
    assert cache.get() is SECOND


@pytest.mark.parametrize("ttl", [60, 60.0, timedelta(minutes=1)])
def test_durations_are_seconds_or_timedeltas(
    backend: Backend, clock: ManualClock, ttl: timedelta | float
) -> None:
    with TokenCache(backend, ttl=ttl, max_stale=ttl, clock=clock) as cache:
        cache.get()
        clock.advance(40)
        cache.get()
        assert backend.calls == 1
        clock.advance(21)
        cache.get()
        assert backend.calls == 2


@pytest.mark.parametrize("wrong", [-1, float("nan"), float("inf"), True, "60", None])
@pytest.mark.parametrize("name", ["ttl", "max_stale"])
def test_a_duration_that_is_none_is_refused_by_name(
    backend: Backend, name: str, wrong: object
) -> None:
    with pytest.raises(ConfigurationError, match=f"^{name} — "):
        TokenCache(backend, **{name: wrong})  # type: ignore[arg-type]


def test_a_ttl_of_zero_reads_every_time(backend: Backend, clock: ManualClock) -> None:
    with TokenCache(backend, ttl=0, clock=clock) as cache:
        cache.get()
        cache.get()
    assert backend.calls == 2


# ── many threads ────────────────────────────────────────────────────────────────────────────


def test_a_thousand_threads_on_a_cold_cache_are_one_call(
    cache: TokenCache, backend: Backend
) -> None:
    slowly(backend, 0.5)
    assert together(1000, cache.get) == [FIRST] * 1000
    assert backend.calls == 1


def test_a_thousand_threads_on_a_cold_cache_share_one_failure(
    cache: TokenCache, backend: Backend
) -> None:
    backend.answer = AccessDenied("backend — no", uri=backend.uri)
    slowly(backend, 0.5)
    outcomes = together(1000, cache.get)
    assert {type(o) for o in outcomes} == {AccessDenied}
    assert {str(o) for o in outcomes} == {"backend — no"}
    assert len({id(o) for o in outcomes}) == 1000  # a traceback belongs to one thread
    assert backend.calls == 1


def test_a_thousand_threads_with_the_same_dead_token_are_one_read(
    cache: TokenCache, backend: Backend
) -> None:
    dead = cache.get()
    backend.answer = SECOND
    slowly(backend, 0.5)

    def refused() -> Token:
        cache.invalidate(dead)
        return cache.get()

    assert together(1000, refused) == [SECOND] * 1000
    assert backend.calls == 2


def test_a_thousand_threads_with_a_token_that_stays_dead_are_one_read(
    cache: TokenCache, backend: Backend
) -> None:
    dead = cache.get()
    slowly(backend, 0.5)

    def refused() -> Token:
        cache.invalidate(dead)
        return cache.get()

    assert together(1000, refused) == [FIRST] * 1000
    assert backend.calls == 2


def test_an_interrupted_reader_leaves_nobody_waiting(cache: TokenCache, backend: Backend) -> None:
    backend.shut()
    interrupted = backend.get

    def first_is_interrupted() -> Token:
        backend.get = interrupted  # type: ignore[method-assign]
        interrupted()
        raise KeyboardInterrupt

    backend.get = first_is_interrupted  # type: ignore[method-assign]
    seen: list[object] = []

    def read() -> None:
        try:
            seen.append(cache.get())
        except KeyboardInterrupt as stop:
            seen.append(stop)

    threads = [threading.Thread(target=read) for _ in range(2)]
    threads[0].start()
    assert backend.entered.wait(20)
    threads[1].start()
    backend.gate.set()
    for thread in threads:
        thread.join(20)
    assert FIRST in seen
    assert [type(s) for s in seen if s is not FIRST] == [KeyboardInterrupt]


# ── the backend is down ─────────────────────────────────────────────────────────────────────


def test_through_an_outage_the_last_good_token_is_served_up_to_max_stale(
    cache: TokenCache, backend: Backend, clock: ManualClock
) -> None:
    cache.get()
    backend.answer = DOWN
    for _ in range(12 * 60 - 1):
        clock.advance(60)
        assert cache.get() is FIRST
    clock.advance(60)
    with pytest.raises(ProviderUnavailable):
        cache.get()


def test_in_an_outage_there_is_one_attempt_per_backoff_step_however_often_one_asks(
    cache: TokenCache, backend: Backend, clock: ManualClock, events: list[Event]
) -> None:
    cache.get()
    backend.answer = DOWN
    clock.advance(301)
    calls = []
    for _ in range(10):
        for _ in range(50):
            assert cache.get() is FIRST
        if cache._background is not None:
            cache._background.join(20)
        calls.append(backend.calls)
        clock.advance(cache._retry_at - clock.monotonic() + 0.001)
    assert calls == list(range(2, 12))
    waits = [float(e.facts["retry_in"] or 0) for e in events]
    assert [e.name for e in events] == ["provider_unavailable"] * 10
    assert [e.facts["attempt"] for e in events] == list(range(1, 11))
    assert all(e.facts["bridged"] is True and e.token_id == "tok_1" for e in events)
    assert 0.3 < waits[0] <= 0.5
    assert all(7.5 <= wait <= 10 for wait in waits[-3:])  # it grows, up to a limit


def test_in_an_outage_that_is_known_readers_do_not_wait_for_the_next_attempt(
    cache: TokenCache, backend: Backend, clock: ManualClock
) -> None:
    cache.get()
    backend.answer = DOWN
    clock.advance(301)
    assert cache.get() is FIRST
    backend.shut()
    clock.advance(1)
    assert cache.get() is FIRST  # its attempt hangs in the background
    assert backend.entered.wait(20)
    assert cache.get() is FIRST


def test_after_an_outage_the_new_token_is_noticed(
    cache: TokenCache, backend: Backend, clock: ManualClock
) -> None:
    cache.get()
    backend.answer = DOWN
    clock.advance(301)
    cache.get()
    backend.answer = SECOND
    clock.advance(1)
    cache.get()
    eventually(lambda: cache.get() is SECOND)


def test_an_outage_noticed_long_ago_does_not_excuse_an_old_token(
    cache: TokenCache, backend: Backend, clock: ManualClock
) -> None:
    cache.get()
    backend.answer = DOWN
    clock.advance(301)
    cache.get()
    backend.answer = SECOND
    clock.advance(timedelta(hours=2))
    assert cache.get() is SECOND


def test_an_outage_never_serves_a_token_past_its_expiry(
    cache: TokenCache, backend: Backend, clock: ManualClock
) -> None:
    backend.answer = Token("cmz_short", expires_at=NOW + timedelta(minutes=30))
    short = cache.get()
    backend.answer = DOWN
    clock.advance(timedelta(minutes=29))
    assert cache.get() == short
    clock.advance(timedelta(minutes=1))
    with pytest.raises(ProviderUnavailable):
        cache.get()


def test_with_nothing_to_serve_an_outage_is_an_error_and_the_next_reader_tries_again(
    cache: TokenCache, backend: Backend
) -> None:
    backend.answer = DOWN
    with pytest.raises(ProviderUnavailable, match="no route"):
        cache.get()
    backend.answer = FIRST
    assert cache.get() is FIRST


def test_with_nothing_to_serve_a_long_outage_is_not_a_storm_of_reads(
    cache: TokenCache, backend: Backend, clock: ManualClock
) -> None:
    backend.answer = DOWN
    for _ in range(100):
        with pytest.raises(ProviderUnavailable):
            cache.get()
    assert backend.calls == 2
    clock.advance(0.51)
    backend.answer = FIRST
    assert cache.get() is FIRST


@pytest.mark.parametrize("kind", [AccessDenied, TokenNotFound, SealBroken])
def test_denied_is_not_down_and_is_raised_after_the_ttl(
    cache: TokenCache, backend: Backend, clock: ManualClock, kind: type[CMzonSecretsError]
) -> None:
    cache.get()
    backend.answer = kind("backend — no")
    clock.advance(270)
    assert cache.get() is FIRST  # the TTL still holds; the background read is refused
    clock.advance(31)
    for _ in range(3):
        with pytest.raises(kind):
            cache.get()


def test_a_value_that_is_no_token_is_raised_after_the_ttl(
    cache: TokenCache, backend: Backend, clock: ManualClock
) -> None:
    cache.get()
    backend.answer = InvalidToken("stored token — no")
    clock.advance(301)
    with pytest.raises(InvalidToken):
        cache.get()


def test_denied_ends_the_bridge_over_an_outage(
    cache: TokenCache, backend: Backend, clock: ManualClock
) -> None:
    cache.get()
    backend.answer = DOWN
    clock.advance(301)
    cache.get()
    backend.answer = AccessDenied("backend — no")
    clock.advance(1)
    cache.get()
    assert cache._background is not None
    cache._background.join(20)
    with pytest.raises(AccessDenied):
        cache.get()


def test_a_refused_background_read_is_not_repeated_at_every_get(
    cache: TokenCache, backend: Backend, clock: ManualClock
) -> None:
    cache.get()
    backend.answer = AccessDenied("backend — no")
    clock.advance(270)
    for _ in range(50):
        cache.get()
        if cache._background is not None:
            cache._background.join(20)
    assert backend.calls == 2


# ── expiry and clocks ───────────────────────────────────────────────────────────────────────


def test_a_token_is_read_again_before_it_expires(
    cache: TokenCache, backend: Backend, clock: ManualClock
) -> None:
    backend.answer = Token("cmz_short", expires_at=NOW + timedelta(seconds=20))
    cache.get()
    backend.answer = SECOND
    clock.advance(18)
    cache.get()
    eventually(lambda: cache.get() is SECOND)


def test_a_token_expired_by_this_clock_is_handed_out_but_not_kept(
    cache: TokenCache, backend: Backend, clock: ManualClock, events: list[Event]
) -> None:
    backend.answer = Token("cmz_old", id="tok_old", expires_at=NOW - timedelta(minutes=10))
    for _ in range(5):
        assert cache.get() == backend.answer
    assert backend.calls == 1  # no storm
    assert [(e.name, e.token_id) for e in events] == [("token_expired", "tok_old")]
    clock.advance(1)
    cache.get()
    assert backend.calls == 2


def test_a_token_expired_by_this_clock_does_not_bridge_an_outage(
    cache: TokenCache, backend: Backend, clock: ManualClock
) -> None:
    backend.answer = Token("cmz_old", expires_at=NOW - timedelta(minutes=10))
    cache.get()
    backend.answer = DOWN
    clock.advance(1)
    with pytest.raises(ProviderUnavailable):
        cache.get()


def test_a_wall_clock_that_jumps_moves_no_ttl(
    cache: TokenCache, backend: Backend, clock: ManualClock
) -> None:
    cache.get()
    for jump in (timedelta(days=365), -timedelta(days=365)):
        clock.set_wall_clock(NOW + jump)
        cache.get()
    assert backend.calls == 1
    backend.answer = SECOND
    clock.advance(301)
    assert cache.get() is SECOND


# ── a token the API refused ─────────────────────────────────────────────────────────────────


def test_after_invalidate_the_next_get_asks_the_backend(
    cache: TokenCache, backend: Backend
) -> None:
    backend.answer = SECOND
    cache.invalidate(FIRST)  # nothing kept yet: nothing to do
    assert cache.get() is SECOND
    backend.answer = THIRD
    cache.invalidate(Token(SECOND.reveal()))  # equal is enough
    assert cache.get() is THIRD


def test_invalidating_a_token_that_is_no_longer_kept_changes_nothing(
    cache: TokenCache, backend: Backend
) -> None:
    cache.get()
    cache.invalidate(SECOND)
    assert cache.get() is FIRST
    assert backend.calls == 1


def test_a_dead_token_never_bridges_an_outage(
    cache: TokenCache, backend: Backend, clock: ManualClock
) -> None:
    cache.get()
    backend.answer = DOWN
    cache.invalidate(FIRST)
    for wait in (0, 1, 301):
        clock.advance(wait)
        with pytest.raises(ProviderUnavailable):
            cache.get()
    backend.answer = SECOND
    clock.advance(60)
    assert cache.get() is SECOND


def test_a_dead_token_handed_out_once_more_never_bridges_an_outage_either(
    cache: TokenCache, backend: Backend, clock: ManualClock
) -> None:
    cache.invalidate(cache.get())
    assert cache.get() is FIRST  # the backend still hands it out
    backend.answer = DOWN
    clock.advance(1)
    with pytest.raises(ProviderUnavailable):
        cache.get()


def test_a_token_refused_in_an_outage_is_asked_for_at_once(
    cache: TokenCache, backend: Backend, clock: ManualClock
) -> None:
    cache.get()
    backend.answer = DOWN
    clock.advance(301)
    cache.get()
    backend.answer = SECOND
    cache.invalidate(FIRST)
    assert cache.get() is SECOND


def test_a_token_that_stays_dead_is_read_ever_more_rarely(
    cache: TokenCache, backend: Backend, clock: ManualClock
) -> None:
    cache.get()
    for _ in range(6000):  # ten minutes of sends that are all refused
        cache.invalidate(cache.get())
        clock.advance(0.1)
    assert 60 <= backend.calls <= 100
    backend.answer = SECOND
    clock.advance(10)
    assert cache.get() is SECOND


def test_a_token_that_was_refused_once_and_works_again_is_kept_for_a_whole_ttl_in_the_end(
    cache: TokenCache, backend: Backend, clock: ManualClock
) -> None:
    cache.get()
    cache.invalidate(FIRST)
    for _ in range(3):
        cache.get()
        clock.advance(1)
    assert backend.calls == 3  # the first read, the one after the refusal, the one after its hold
    for _ in range(200):
        cache.get()
        clock.advance(1)
    assert backend.calls == 3


def test_a_refused_token_expired_by_this_clock_is_read_again_at_once(
    cache: TokenCache, backend: Backend
) -> None:
    backend.answer = Token("cmz_old", expires_at=NOW - timedelta(minutes=10))
    old = cache.get()
    backend.answer = SECOND
    cache.invalidate(old)
    assert cache.get() is SECOND


def test_a_read_that_began_before_the_refusal_does_not_bring_the_dead_token_back(
    cache: TokenCache, backend: Backend, clock: ManualClock
) -> None:
    cache.get()
    backend.shut()
    clock.advance(270)
    cache.get()  # a background read has asked, and will answer FIRST
    assert backend.entered.wait(20)
    backend.answer = SECOND
    cache.invalidate(FIRST)
    seen: list[Token] = []
    reader = threading.Thread(target=lambda: seen.append(cache.get()))
    reader.start()
    backend.gate.set()
    reader.join(20)
    assert seen == [SECOND]
    assert cache.get() is SECOND
    assert backend.calls == 3


def test_a_read_that_began_before_the_refusal_may_bring_the_new_token(
    cache: TokenCache, backend: Backend, clock: ManualClock
) -> None:
    cache.get()
    backend.answer = SECOND
    backend.shut()
    clock.advance(270)
    cache.get()
    assert backend.entered.wait(20)
    cache.invalidate(FIRST)
    backend.gate.set()
    eventually(lambda: cache._reading is None)
    assert cache.get() is SECOND
    assert backend.calls == 2


# ── threads, processes, ends ────────────────────────────────────────────────────────────────


def test_no_thread_runs_before_it_is_needed_nor_after_close(
    backend: Backend, clock: ManualClock
) -> None:
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


def test_closing_forgets_the_token_and_leaves_the_provider_to_its_owner(
    cache: TokenCache, backend: Backend
) -> None:
    cache.get()
    cache.close()
    cache.close()
    assert not backend.closed
    with pytest.raises(ConfigurationError, match="closed"):
        cache.get()
    assert backend.calls == 1


def test_a_read_that_ends_after_close_is_handed_to_who_waits_and_not_kept(
    cache: TokenCache, backend: Backend
) -> None:
    backend.shut()
    seen: list[Token] = []
    reader = threading.Thread(target=lambda: seen.append(cache.get()))
    reader.start()
    assert backend.entered.wait(20)
    cache.close()
    backend.gate.set()
    reader.join(20)
    assert seen == [FIRST]
    with pytest.raises(ConfigurationError):
        cache.get()


def test_a_cache_that_is_dropped_is_collected(backend: Backend) -> None:
    cache = TokenCache(backend)
    cache.get()
    gone = weakref.ref(cache)
    del cache
    gc.collect()
    assert gone() is None


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_keeps_the_token_and_reads_for_itself(
    cache: TokenCache, backend: Backend, clock: ManualClock
) -> None:
    cache.get()
    backend.shut()
    clock.advance(270)
    cache.get()  # the parent's background thread hangs in the backend, as may any lock
    assert backend.entered.wait(20)
    with cache._lock:
        child = os.fork()
        if child == 0:
            signal.alarm(30)  # a deadlock ends
            os._exit(_in_the_child(cache, backend, clock))
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def _in_the_child(cache: TokenCache, backend: Backend, clock: ManualClock) -> int:
    try:
        backend.gate = threading.Event()
        backend.gate.set()
        backend._lock = threading.Lock()
        assert cache.get() is FIRST
        backend.answer = SECOND
        clock.advance(301)
        eventually(lambda: cache.get() is SECOND)
    except BaseException:
        return 1
    return 0


def test_a_subscriber_that_raises_stops_its_reader_and_nobody_else(
    backend: Backend, clock: ManualClock
) -> None:
    def refuses(event: Event) -> None:
        raise RuntimeError(event.name)

    with TokenCache(backend, clock=clock, subscriber=refuses) as cache:
        cache.get()
        backend.answer = DOWN
        clock.advance(301)
        with pytest.raises(RuntimeError, match="provider_unavailable"):
            cache.get()
        assert cache.get() is FIRST


def test_rotation_under_readers_is_seen_by_all_within_the_ttl() -> None:
    backend, stop = Backend(), threading.Event()
    seen: set[str] = set()
    with TokenCache(backend, ttl=0.2, clock=Clock()) as cache:

        def read() -> None:
            while not stop.is_set():
                seen.add(cache.get().id)
                time.sleep(0.001)

        threads = [threading.Thread(target=read) for _ in range(8)]
        for thread in threads:
            thread.start()
        for token in (SECOND, THIRD):
            time.sleep(0.3)
            backend.answer = token
        eventually(lambda: "tok_3" in seen)
        stop.set()
        for thread in threads:
            thread.join(20)
    assert seen == {"tok_1", "tok_2", "tok_3"}
