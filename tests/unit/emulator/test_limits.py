"""80 messages in any sliding second, 10,000 or 1,000 in a UTC day."""

import threading
import time
from datetime import UTC, datetime, timedelta

import httpx2
import pytest

from cmzon_secrets.emulator import Emulator
from cmzon_secrets.emulator.account.limits import ACCOUNT, UNLIMITED, Limits, Quota
from cmzon_secrets.errors import ConfigurationError
from cmzon_secrets.testing import ManualClock

PER_SECOND = 80
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


def accepted(limits: Limits, times: list[float]) -> list[bool]:
    """Which of the messages offered at these monotonic times are taken."""
    answers = []
    for at in times:
        answers.append(limits.wait(NOON, at) == 0.0)
        if answers[-1]:
            limits.take(NOON, at)
    return answers


def test_eighty_fit_into_a_second_and_the_next_one_waits_for_the_first_to_leave_it():
    limits = Limits(ACCOUNT)
    assert accepted(limits, [0.5] * 81) == [True] * 80 + [False]
    assert limits.wait(NOON, 0.75) == pytest.approx(0.75)
    assert limits.wait(NOON, 1.5) == 0.0


def test_the_second_slides_so_a_burst_across_its_edge_is_not_let_through():
    limits = Limits(ACCOUNT)
    assert all(accepted(limits, [0.99] * 80))
    assert not any(accepted(limits, [1.01] * 80))


def test_no_sliding_second_ever_holds_more_than_eighty_whatever_is_offered():
    limits = Limits(ACCOUNT)
    offered = [n / 200 for n in range(2000)]
    taken = [at for at, ok in zip(offered, accepted(limits, offered), strict=True) if ok]
    assert max(sum(at < other <= at + 1 for other in taken) for at in taken) <= PER_SECOND
    assert len(taken) >= 9 * PER_SECOND  # and it does not refuse more than it must
    assert limits.busiest == PER_SECOND


def test_without_limits_nothing_waits_and_the_busiest_second_is_still_known():
    limits = Limits(UNLIMITED)
    assert all(accepted(limits, [n / 16_384 for n in range(20_000)]))
    assert limits.busiest == 16_384
    assert limits.headers(NOON) == {}


def test_the_day_ends_at_midnight_utc():
    limits = Limits(Quota(80, 2))
    late = NOON.replace(hour=23, minute=59)
    for _ in range(2):
        limits.take(late, 0.0)
    assert limits.wait(late, 10.0) == 60.0
    assert limits.wait(late + timedelta(minutes=1), 70.0) == 0.0
    assert limits.headers(late)["X-RateLimit-Remaining"] == "0"
    assert limits.headers(late + timedelta(minutes=1))["X-RateLimit-Remaining"] == "2"


@pytest.fixture
def clock():
    return ManualClock(NOON)


@pytest.fixture
def standing(clock, connect):
    """An emulator for which no time passes but what the test lets pass."""
    with Emulator(clock=clock, new_account=True) as emulator:
        yield connect(emulator)


def test_the_eighty_first_message_of_a_second_is_answered_429_with_the_wait(standing):
    answers = [standing.send() for _ in range(PER_SECOND + 1)]
    refused = answers[-1]
    assert [answer.status_code for answer in answers[:-1]] == [200] * PER_SECOND
    assert refused.status_code == 429
    assert refused.json() == {
        "error": {"code": 429, "message": "Rate limit exceeded", "retry_after": 1}
    }
    assert refused.headers["retry-after"] == "1"
    assert standing.stats()["messages"] == PER_SECOND
    assert standing.stats()["max_per_sliding_second"] == PER_SECOND


def test_advancing_the_clock_by_a_second_makes_room_and_setting_it_back_does_not(standing):
    for _ in range(PER_SECOND):
        standing.send()
    standing.control("clock", advance=-3600)
    assert standing.send().status_code == 429
    standing.control("clock", advance=0.5)
    assert standing.send().status_code == 429
    standing.control("clock", advance=0.5)
    assert standing.send().status_code == 200


def test_an_emulator_without_limits_accepts_all_and_has_no_quota_to_tell(clock, connect):
    with Emulator(clock=clock, limits=False) as emulator:
        api = connect(emulator)
        answers = [api.send() for _ in range(PER_SECOND + 1)]
        assert {answer.status_code for answer in answers} == {200}
        assert not [name for name in answers[-1].headers if name.startswith("x-ratelimit")]
        assert api.stats()["max_per_sliding_second"] == PER_SECOND + 1
        assert api.control("reset")["max_per_sliding_second"] == 0
        assert {api.send().status_code for _ in range(PER_SECOND + 1)} == {200}


def test_what_was_sent_without_limits_counts_once_they_are_back(clock, connect, tmp_path):
    with Emulator(clock=clock, limits=False, state=tmp_path) as emulator:
        connect(emulator).send()
    with Emulator(clock=clock, state=tmp_path) as emulator:
        assert connect(emulator).send().headers["x-ratelimit-remaining"] == "9998"


def test_no_limits_and_those_of_a_new_account_contradict_each_other():
    with pytest.raises(ConfigurationError, match="cannot both be meant"):
        Emulator(limits=False, new_account=True)


def test_bad_requests_and_repeated_keys_use_up_nothing(api):
    api.send(key="k1")
    for _ in range(PER_SECOND):
        api.send(key="k1")
        api.send(message={})
    assert api.messages() == 1
    assert api.stats()["max_per_sliding_second"] == 1


def test_eight_threads_that_send_as_fast_as_they_can_are_held_to_eighty_a_second(emulator):
    statuses: list[int] = []
    started = time.monotonic()

    def hammer() -> None:
        with httpx2.Client(base_url=emulator.base_url, trust_env=False, timeout=30.0) as http:
            message = {"to": "+1234567890", "type": "text", "text": {"body": "x"}}
            headers = {"Authorization": f"Bearer {emulator.admin_token}"}
            while time.monotonic() < started + 2.5:
                statuses.append(
                    http.post("/v1/messages", json=message, headers=headers).status_code
                )

    threads = [threading.Thread(target=hammer) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stats = emulator.stats()
    assert set(statuses) == {200, 429}
    assert stats["messages"] == statuses.count(200)
    assert stats["by_status"] == {"200": statuses.count(200), "429": statuses.count(429)}
    assert stats["max_per_sliding_second"] <= PER_SECOND
    assert statuses.count(200) <= PER_SECOND * (time.monotonic() - started + 1)


@pytest.mark.slow
def test_a_new_account_sends_a_thousand_a_day_and_then_waits_for_midnight(standing, clock):
    for _ in range(1000 // 50):
        assert {standing.send().status_code for _ in range(50)} == {200}
        clock.advance(1)
    refused = standing.send()
    wait = 12 * 3600 - 20
    assert refused.status_code == 429
    assert refused.headers["x-ratelimit-limit"] == "1000"
    assert refused.headers["x-ratelimit-remaining"] == "0"
    assert refused.json()["error"]["retry_after"] == wait
    assert refused.headers["retry-after"] == str(wait)
    clock.advance(wait - 1)
    assert standing.send().status_code == 429
    clock.advance(1)
    assert standing.send().headers["x-ratelimit-remaining"] == "999"
    standing.control("clock", advance=-2)  # back in the day that is used up
    assert standing.send().status_code == 429
