"""How long a token is kept: the TTL, the token's own expiry, and clocks that jump."""

from __future__ import annotations

from datetime import timedelta

import pytest

from cmzon_secrets.cache import TokenCache
from cmzon_secrets.errors import ConfigurationError, ProviderUnavailable
from cmzon_secrets.provider import TokenProvider
from cmzon_secrets.tokens import Token


@pytest.fixture
def expired(backend, clock):
    """The backend hands out a token past its expiry by this machine's clock."""
    backend.answer = Token("cmz_old", id="tok_old", expires_at=clock.now() - timedelta(minutes=10))
    return backend.answer


def test_a_warm_cache_asks_the_backend_once_in_a_whole_soft_ttl(cold, backend, clock):
    for _ in range(220):
        assert cold.get() is backend.FIRST
        clock.advance(1)
    assert backend.calls == 1


def test_it_is_a_provider_that_names_the_place_it_reads_from(cold, backend):
    assert isinstance(cold, TokenProvider)
    assert cold.uri == backend.uri
    assert repr(cold) == "<TokenCache test:backend>"


def test_past_the_soft_ttl_readers_go_on_while_one_thread_reads(cache, backend, clock, settled):
    backend.answer = backend.SECOND
    backend.shut()
    clock.advance(270)
    assert [cache.get() for _ in range(1000)] == [backend.FIRST] * 1000  # the backend still hangs
    backend.gate.set()
    settled()
    assert cache.get() is backend.SECOND
    assert backend.calls == 2


def test_the_background_read_starts_at_four_fifths_of_the_ttl_give_or_take(backend, clock):
    starts = []
    for _ in range(50):
        backend.calls = 0
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


def test_past_the_hard_ttl_a_reader_gets_what_the_backend_holds_now(cache, backend, clock):
    backend.answer = backend.SECOND
    clock.advance(301)
    assert cache.get() is backend.SECOND


@pytest.mark.parametrize("ttl", [60, 60.0, timedelta(minutes=1)])
def test_durations_are_seconds_or_timedeltas(backend, clock, ttl):
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
def test_a_duration_that_is_none_is_refused_by_name(backend, name, wrong):
    with pytest.raises(ConfigurationError, match=f"^{name} — "):
        TokenCache(backend, **{name: wrong})


def test_a_ttl_of_zero_reads_every_time(backend, clock):
    with TokenCache(backend, ttl=0, clock=clock) as cache:
        cache.get()
        cache.get()
    assert backend.calls == 2


def test_a_token_is_read_again_before_it_expires(cold, backend, clock, settled):
    backend.answer = Token("cmz_short", expires_at=clock.now() + timedelta(seconds=20))
    cold.get()
    backend.answer = backend.SECOND
    clock.advance(18)
    cold.get()
    settled()
    assert cold.get() is backend.SECOND


def test_a_token_expired_by_this_clock_is_handed_out_but_not_kept(
    cold, backend, clock, events, expired
):
    for _ in range(5):
        assert cold.get() == expired
    assert backend.calls == 1  # no storm
    assert [(e.name, e.token_id) for e in events] == [("token_expired", "tok_old")]
    clock.advance(1)
    cold.get()
    assert backend.calls == 2


def test_a_token_expired_by_this_clock_does_not_bridge_an_outage(cold, backend, clock, expired):
    assert cold.get() == expired
    backend.answer = backend.DOWN
    clock.advance(1)
    with pytest.raises(ProviderUnavailable):
        cold.get()


def test_a_refused_token_expired_by_this_clock_is_read_again_at_once(cold, backend, expired):
    assert cold.get() == expired
    backend.answer = backend.SECOND
    cold.invalidate(expired)
    assert cold.get() is backend.SECOND


def test_a_wall_clock_that_jumps_moves_no_ttl(cache, backend, clock):
    now = clock.now()
    for jump in (timedelta(days=365), -timedelta(days=365)):
        clock.set_wall_clock(now + jump)
        cache.get()
    assert backend.calls == 1
    backend.answer = backend.SECOND
    clock.advance(301)
    assert cache.get() is backend.SECOND
