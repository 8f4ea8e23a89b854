"""A token that the API refused: it is asked for again, bridges nothing, and causes no storm."""

from __future__ import annotations

import threading

import pytest

from cmzon_secrets.errors import ProviderUnavailable
from cmzon_secrets.tokens import Token


@pytest.fixture
def reading(cache, backend, clock):
    """The backend was asked in the background, hangs, and will answer what it held then."""

    def begin():
        backend.shut()
        clock.advance(270)
        cache.get()
        assert backend.entered.wait(20)

    return begin


def test_after_invalidate_the_next_get_asks_the_backend(cold, backend):
    backend.answer = backend.SECOND
    cold.invalidate(backend.FIRST)  # nothing kept yet: nothing to do
    assert cold.get() is backend.SECOND
    backend.answer = backend.THIRD
    cold.invalidate(Token(backend.SECOND.reveal()))  # equal is enough
    assert cold.get() is backend.THIRD


def test_invalidating_a_token_that_is_no_longer_kept_changes_nothing(cache, backend):
    cache.invalidate(backend.SECOND)
    assert cache.get() is backend.FIRST
    assert backend.calls == 1


def test_a_dead_token_never_bridges_an_outage(cache, backend, clock):
    backend.answer = backend.DOWN
    cache.invalidate(backend.FIRST)
    for wait in (0, 1, 301):
        clock.advance(wait)
        with pytest.raises(ProviderUnavailable):
            cache.get()
    backend.answer = backend.SECOND
    clock.advance(60)
    assert cache.get() is backend.SECOND


def test_a_dead_token_handed_out_once_more_never_bridges_an_outage_either(cache, backend, clock):
    cache.invalidate(backend.FIRST)
    assert cache.get() is backend.FIRST  # the backend still hands it out
    backend.answer = backend.DOWN
    clock.advance(1)
    with pytest.raises(ProviderUnavailable):
        cache.get()


def test_a_token_refused_in_an_outage_is_asked_for_at_once(bridging, backend):
    backend.answer = backend.SECOND
    bridging.invalidate(backend.FIRST)
    assert bridging.get() is backend.SECOND


def test_a_token_that_stays_dead_is_read_ever_more_rarely(cache, backend, clock):
    for _ in range(6000):  # ten minutes of sends that are all refused
        cache.invalidate(cache.get())
        clock.advance(0.1)
    assert 60 <= backend.calls <= 100
    backend.answer = backend.SECOND
    clock.advance(10)
    assert cache.get() is backend.SECOND


def test_a_token_that_was_refused_once_and_works_again_is_kept_for_a_whole_ttl_in_the_end(
    cache, backend, clock
):
    cache.invalidate(backend.FIRST)
    for _ in range(3):
        cache.get()
        clock.advance(1)
    assert backend.calls == 3  # the first read, the one after the refusal, the one after its hold
    for _ in range(200):
        cache.get()
        clock.advance(1)
    assert backend.calls == 3


def test_a_read_that_began_before_the_refusal_does_not_bring_the_dead_token_back(
    cache, backend, reading
):
    reading()
    backend.answer = backend.SECOND
    cache.invalidate(backend.FIRST)
    seen = []
    reader = threading.Thread(target=lambda: seen.append(cache.get()))
    reader.start()
    backend.gate.set()
    reader.join(20)
    assert seen == [backend.SECOND]
    assert cache.get() is backend.SECOND
    assert backend.calls == 3


def test_a_read_that_began_before_the_refusal_may_bring_the_new_token(
    cache, backend, reading, settled
):
    backend.answer = backend.SECOND
    reading()
    cache.invalidate(backend.FIRST)
    backend.gate.set()
    settled()
    assert cache.get() is backend.SECOND
    assert backend.calls == 2
