"""Client and its RateLimits: what is paced, what is counted, and who shares it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from cmzon_secrets.client import Client, RateLimits
from cmzon_secrets.errors import APIError, DailyLimitReached, ServerError
from cmzon_secrets.testing.clock import ManualClock

TO, TEXT = "+4915112345678", "a private word"


def test_the_day_limit_stops_before_anything_is_sent(server, vault, events):
    clock = ManualClock(datetime(2026, 11, 24, 12, tzinfo=UTC))
    limits = RateLimits(per_day=2)
    with Client(
        vault, base_url=server.url, limits=limits, clock=clock, subscriber=events.append
    ) as client:
        client.send_message(TO, TEXT)
        client.send_message(TO, TEXT)
        with pytest.raises(DailyLimitReached) as caught:
            client.send_message(TO, TEXT)
        assert caught.value.resets_at == datetime(2026, 11, 25, tzinfo=UTC)
        assert len(server.received) == 2
        clock.advance(timedelta(hours=12))
        client.send_message(TO, TEXT)
    assert [e.name for e in events][2] == "message_failed"


def test_what_was_definitely_not_accepted_does_not_count_for_the_day(server, vault):
    with Client(vault, base_url=server.url, limits=RateLimits(per_day=1)) as client:
        for status in (400, 403, 404):
            server.say(status)
            with pytest.raises(APIError):
                client.send_message(TO, TEXT)
        server.say(500)
        with pytest.raises(ServerError):
            client.send_message(TO, TEXT)
        with pytest.raises(DailyLimitReached):
            client.send_message(TO, TEXT)


def test_clients_that_share_limits_share_the_pace_and_the_day(server, vault):
    clock = ManualClock(datetime(2026, 11, 24, 12, tzinfo=UTC))
    limits = RateLimits(per_second=10, per_day=4, arrival_jitter=0)
    begun = clock.monotonic()
    one, two = (Client(vault, base_url=server.url, limits=limits, clock=clock) for _ in range(2))
    with one, two:
        for client in (one, two, one, two):
            client.send_message(TO, TEXT)
        with pytest.raises(DailyLimitReached):
            one.send_message(TO, TEXT)
    assert clock.monotonic() - begun == pytest.approx(0.3)


def test_a_message_ready_too_close_behind_others_is_held_back(server, vault):
    clock, limits = ManualClock(), RateLimits(per_second=10)
    begun = clock.monotonic()
    for _ in range(10):  # others, held up until now, that all left at this moment
        limits.depart(begun, clock.now())
    with Client(vault, base_url=server.url, limits=limits, clock=clock) as client:
        client.send_message(TO, TEXT)
    assert clock.monotonic() - begun == pytest.approx(1.01, abs=0.001)


def test_the_limits_learn_when_a_message_left_and_when_its_answer_came(server, vault):
    clock, limits, accept = ManualClock(), RateLimits(), server.answer
    left = clock.monotonic()

    def answer(request):
        clock.advance(0.25)
        return accept(request)

    server.answer = answer
    with Client(vault, base_url=server.url, limits=limits, clock=clock) as client:
        client.send_message(TO, TEXT)
    (departure,) = limits._departures
    assert (departure.at, departure.answered_at) == (left, left + 0.25)


def test_clients_share_no_limits_unless_told_to(server, vault):
    one, two = (Client(vault, base_url=server.url) for _ in range(2))
    with one, two:
        assert one._limits is not two._limits


def test_other_calls_are_neither_paced_nor_counted(server, vault):
    clock = ManualClock()
    begun = clock.monotonic()
    limits = RateLimits(per_second=1, per_day=1)
    with Client(vault, base_url=server.url, limits=limits, clock=clock) as client:
        for _ in range(5):
            client.request("GET", "/v1/tokens/self")
        client.request("POST", "/v1/messages", json={})
        with pytest.raises(DailyLimitReached):
            client.send_message(TO, TEXT)
    assert clock.monotonic() == begun
