"""The backend is down, which is bridged, or refuses, which is not."""

from __future__ import annotations

from datetime import timedelta

import pytest

from cmzon_secrets.cache import TokenCache
from cmzon_secrets.errors import (
    AccessDenied,
    InvalidToken,
    ProviderUnavailable,
    SealBroken,
    TokenNotFound,
)
from cmzon_secrets.tokens import Token


def test_through_an_outage_the_last_good_token_is_served_up_to_max_stale(cache, backend, clock):
    backend.answer = backend.DOWN
    for _ in range(12 * 60 - 1):
        clock.advance(60)
        assert cache.get() is backend.FIRST
    clock.advance(60)
    with pytest.raises(ProviderUnavailable):
        cache.get()


def test_in_an_outage_there_is_one_attempt_per_backoff_step_however_often_one_asks(
    bridging, backend, clock, events, settled
):
    calls = []
    for _ in range(10):
        for _ in range(50):
            assert bridging.get() is backend.FIRST
        settled()
        calls.append(backend.calls)
        clock.advance(bridging._state.retry_at - clock.monotonic() + 0.001)
    assert calls == list(range(2, 12))
    waits = [float(e.facts["retry_in"] or 0) for e in events]
    assert [e.name for e in events] == ["provider_unavailable"] * 10
    assert [e.facts["attempt"] for e in events] == list(range(1, 11))
    assert all(e.facts["bridged"] is True and e.token_id == "tok_1" for e in events)
    assert 0.3 < waits[0] <= 0.5
    assert all(7.5 <= wait <= 10 for wait in waits[-3:])  # it grows, up to a limit


def test_in_an_outage_that_is_known_readers_do_not_wait_for_the_next_attempt(
    bridging, backend, clock
):
    backend.shut()
    clock.advance(1)
    assert bridging.get() is backend.FIRST  # its attempt hangs in the background
    assert backend.entered.wait(20)
    assert bridging.get() is backend.FIRST


def test_after_an_outage_the_new_token_is_noticed(bridging, backend, clock, settled):
    backend.answer = backend.SECOND
    clock.advance(1)
    bridging.get()
    settled()
    assert bridging.get() is backend.SECOND


def test_an_outage_noticed_long_ago_does_not_excuse_an_old_token(bridging, backend, clock):
    backend.answer = backend.SECOND
    clock.advance(timedelta(hours=2))
    assert bridging.get() is backend.SECOND


def test_an_outage_never_serves_a_token_past_its_expiry(cold, backend, clock):
    backend.answer = Token("cmz_short", expires_at=clock.now() + timedelta(minutes=30))
    short = cold.get()
    backend.answer = backend.DOWN
    clock.advance(timedelta(minutes=29))
    assert cold.get() == short
    clock.advance(timedelta(minutes=1))
    with pytest.raises(ProviderUnavailable):
        cold.get()


def test_with_nothing_to_serve_an_outage_is_an_error_and_the_next_reader_tries_again(cold, backend):
    backend.answer = backend.DOWN
    with pytest.raises(ProviderUnavailable, match="no route"):
        cold.get()
    backend.answer = backend.FIRST
    assert cold.get() is backend.FIRST


def test_with_nothing_to_serve_a_long_outage_is_not_a_storm_of_reads(cold, backend, clock):
    backend.answer = backend.DOWN
    for _ in range(100):
        with pytest.raises(ProviderUnavailable):
            cold.get()
    assert backend.calls == 2
    clock.advance(0.51)
    backend.answer = backend.FIRST
    assert cold.get() is backend.FIRST


def test_a_subscriber_that_raises_stops_its_reader_and_nobody_else(backend, clock):
    def refuses(event):
        raise RuntimeError(event.name)

    with TokenCache(backend, clock=clock, subscriber=refuses) as cache:
        cache.get()
        backend.answer = backend.DOWN
        clock.advance(301)
        with pytest.raises(RuntimeError, match="provider_unavailable"):
            cache.get()
        assert cache.get() is backend.FIRST


@pytest.mark.parametrize("kind", [AccessDenied, TokenNotFound, SealBroken])
def test_denied_is_not_down_and_is_raised_after_the_ttl(cache, backend, clock, kind):
    backend.answer = kind("backend — no")
    clock.advance(270)
    assert cache.get() is backend.FIRST  # the TTL still holds; the background read is refused
    clock.advance(31)
    for _ in range(3):
        with pytest.raises(kind):
            cache.get()


def test_a_value_that_is_no_token_is_raised_after_the_ttl(cache, backend, clock):
    backend.answer = InvalidToken("stored token — no")
    clock.advance(301)
    with pytest.raises(InvalidToken):
        cache.get()


def test_denied_ends_the_bridge_over_an_outage(bridging, backend, clock, settled):
    backend.answer = AccessDenied("backend — no")
    clock.advance(1)
    bridging.get()
    assert bridging._background is not None
    settled()
    with pytest.raises(AccessDenied):
        bridging.get()


def test_a_refused_background_read_is_not_repeated_at_every_get(cache, backend, clock, settled):
    backend.answer = AccessDenied("backend — no")
    clock.advance(270)
    for _ in range(50):
        cache.get()
        settled()
    assert backend.calls == 2
