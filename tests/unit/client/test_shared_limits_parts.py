"""What shared limits are made of: the URL, the two clocks, slots, shares, and the script's arithmetic."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime

import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st

from cmzon_secrets.client import RateLimits
from cmzon_secrets.client.shared.clock import ServerClock
from cmzon_secrets.client.shared.report import Report
from cmzon_secrets.client.shared.server import Told, Unreachable, Verdict
from cmzon_secrets.client.shared.share import Share
from cmzon_secrets.client.shared.slots import Slot, Slots
from cmzon_secrets.errors import ConfigurationError
from unit.client.virtual_redis import VirtualRedis
from unit.client.virtual_time import VirtualTime

DATABASE = 11
DAY = datetime(2026, 11, 30, tzinfo=UTC)


# ── arguments ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("url", "part"),
    [
        ("http://h", "unknown scheme"),
        ("sekret", "unknown scheme"),
        ("redis://", "host is missing"),
        ("redis://u:sekret@h:99999", "host or port cannot be read"),
        ("redis://u:sekret@h:0", "port is 0"),
        ("redis://u:sekret@[::1", "host or port cannot be read"),
        ("redis://u:sekret@h/zero", "number of a database"),
        ("redis://u:sekret@h?db=1", "takes no options"),
        ("unix://u:sekret@", "absolute path"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused_by_the_part_at_fault(url, part):
    with pytest.raises(ConfigurationError, match=part) as caught:
        RateLimits.shared(url, account="acme")
    assert "sekret" not in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize("account", ["", "a b", "ä", "a" * 129, "a\n", None, 7])
def test_an_account_s_name_is_plain(account):
    with pytest.raises(ConfigurationError, match=r"^account"):
        RateLimits.shared("redis://h", account=account)


@pytest.mark.parametrize("processes", [0, -1, True, 1.5, 81])
def test_as_many_processes_as_messages_a_second_at_most(processes):
    with pytest.raises(ConfigurationError, match=r"^processes"):
        RateLimits.shared("redis://h", account="acme", processes=processes)


@pytest.mark.parametrize("per_second", [None, 0, -1])
def test_a_limit_that_is_none_cannot_be_shared(per_second):
    with pytest.raises(ConfigurationError, match=r"^per_second"):
        RateLimits.shared("redis://h", account="acme", per_second=per_second)


def test_a_ca_is_for_tls_and_readable(tmp_path):
    with pytest.raises(ConfigurationError, match=r"^ca — it is for rediss"):
        RateLimits.shared("redis://h", account="acme", ca="ca.pem")
    with pytest.raises(ConfigurationError, match=r"^CA file"):
        RateLimits.shared("rediss://h", account="acme", ca=str(tmp_path / "missing.pem"))


def test_without_the_extra_the_error_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(ConfigurationError) as caught:
        RateLimits.shared("redis://h", account="acme")
    assert caught.value.hint == 'pip install "cmzon-secrets[redis]"'


# ── the server's clock ──────────────────────────────────────────────────────────────────────────


@given(
    st.floats(-1e6, 1e9),
    st.lists(st.tuples(st.floats(0, 60), st.floats(0, 0.5), st.floats(0, 0.5)), min_size=1),
)
def test_the_server_s_clock_is_known_to_half_the_quickest_round_trip(ahead, questions):
    clock, now, error = ServerClock(), 0.0, float("inf")
    for pause, there, back in questions:
        asked, now = now + pause, now + pause + there + back
        clock.learn(round((asked + there + ahead) * 1e6), asked_at=asked, answered_at=now)
        error = min(error + 2 * clock.DRIFT * (pause + there + back), (there + back) / 2)
        assert abs(clock.ours(round((now + ahead) * 1e6)) - now) <= error + 1e-5
        assert abs(clock.ours(clock.theirs(now)) - now) <= 1e-5


@pytest.mark.parametrize("step", [-7200.0, -0.5, 0.5, 7200.0])
def test_a_clock_that_was_set_is_noticed_with_the_next_answer(step):
    clock = ServerClock()
    clock.learn(round(1000e6), asked_at=0.0, answered_at=0.001)
    clock.learn(round((1001 + step) * 1e6), asked_at=1.0, answered_at=1.001)
    assert clock.ours(round((1001 + step) * 1e6)) == pytest.approx(1.0, abs=0.001)


# ── slots, shares, reports ──────────────────────────────────────────────────────────────────────


def test_whoever_is_ready_first_uses_the_first_slot_and_none_is_used_early_or_late():
    slots = Slots(patience=0.02)
    for at in (1.0, 2.0, 3.0):
        slots.grant(Slot(at, DAY, None))
        slots.take()
    assert slots.leave(0.99) is None
    assert slots.leave(2.01).at == 2.0  # the first is over
    assert slots.leave(2.01) is None  # the third is not yet
    assert slots.leave(3.02).at == 3.0


def test_a_slot_that_nobody_took_in_time_is_given_up():
    slots = Slots(patience=0.02)
    slots.grant(Slot(1.0, DAY, None))
    slots.grant(Slot(2.0, DAY, None))
    assert [slot.at for slot in slots.unused(1.5)] == [1.0]
    assert slots.next().at == 2.0


def test_a_share_begins_after_a_silence_and_sends_nothing_near_its_end():
    share = Share(10, 100, begins=1.0, ends=5.0, reason="")
    assert share.wait(0.0) == 1.0
    share.take(1.0)
    assert share.wait(1.0) == pytest.approx(0.1)
    assert 4.97 + share.wait(4.97) > 5.0
    assert share.used_at == 1.0


def test_a_share_of_nothing_waits_until_more_is_known():
    assert Share(0, 100, begins=0.0, reason="").wait(10.0) >= 1.0
    assert Share(10, 0, begins=0.0, ends=14.0, reason="").wait(10.0) >= 4.0


def test_what_may_be_told_twice_counts_too_many_rather_than_too_few():
    lost, report = Report(), Report()
    lost.count(3, DAY)
    lost.count(-1, DAY.replace(hour=1))
    report.count(2, DAY)
    report.add_back(lost)
    assert report.facts(ServerClock())["owed"] == [[DAY.timestamp(), 5]]


NOW = 1_795_521_600 * 10**6
ENDS, YEAR = NOW // 10**6 + 3600, 365 * 86_400 * 10**6


@pytest.mark.parametrize(
    "reply",
    [
        (NOW, 0, NOW + YEAR, 0, -1, ENDS, 1, 1, 0),
        (NOW, 1, NOW + YEAR, 0, -1, ENDS, 1, 1, 0),
        (NOW, 0, 2**200, 0, -1, ENDS, 1, 1, 0),
        (NOW, 0, NOW, 0, -1, ENDS, 1, 1, NOW + YEAR),
        (NOW, 0, NOW, 0, -1, 10**15, 1, 1, 0),
        (NOW, 0, NOW, 0, -1, -(10**14), 1, 1, 0),
    ],
)
def test_figures_that_the_script_never_tells_are_no_answer(reply):
    with pytest.raises(Unreachable, match="makes no sense"):
        Told.from_reply(reply)
    assert Told.from_reply((NOW, 0, NOW, 0, -1, ENDS, 1, 1, 0)).verdict is Verdict.GRANTED


# ── the script ──────────────────────────────────────────────────────────────────────────────────


class Model:
    """The script's arithmetic, as one would say it: GCRA with a burst of one, and a count."""

    def __init__(self, pace, per_day):
        self.pace, self.per_day = pace, per_day
        self.free_at, self.sent, self.paused_until = 0.0, 0, 0.0
        self.lowered_to, self.lowered_at = pace, None

    def pace_at(self, now):
        if self.lowered_at is None:
            return self.pace
        return min(self.pace, self.lowered_to + (now - self.lowered_at))

    def ask(self, now, owed, pause, refused):
        self.sent = max(0, self.sent + owed)
        self.paused_until = max(self.paused_until, now + pause)
        if refused:
            self.lowered_to, self.lowered_at = max(1.0, self.pace_at(now) * 0.8), now
        at = max(now, self.free_at, self.paused_until)
        if self.sent >= self.per_day:
            return Verdict.DAY_OVER, at
        if at - now > 0.5:
            return Verdict.LATER, at
        self.free_at = at + 1 / self.pace_at(now)
        self.sent += 1
        return Verdict.GRANTED, at


QUESTIONS = st.lists(
    st.tuples(
        st.sampled_from([0.001, 0.005, 0.01, 0.3, 2.0]),  # seconds since the one before
        st.sampled_from([0, 0, 0, 0, 3, -1]),  # messages owed
        st.sampled_from([0, 0, 0, 0, 0, 0.2, 3.0]),  # a pause, in seconds
        st.sampled_from([False] * 9 + [True]),  # one too many
    ),
    min_size=1,
    max_size=60,
)


@pytest.fixture(scope="module")
def connection(redis_server):
    with redis.Redis.from_url(redis_server.url(DATABASE)) as connection:
        yield connection


@settings(max_examples=50, deadline=None)
@given(QUESTIONS, st.sampled_from([5.0, 40.0, 76.0]), st.integers(1, 60))
def test_the_script_does_what_the_model_does(connection, questions, pace, per_day):
    server = VirtualRedis(connection, VirtualTime())
    time, figures = server._time, {"member": "one", "pace": pace, "most": 1000, "span": 1e6}
    question = {**figures, "per_day": per_day, "lead": 0, "late": [], "owed": []}
    first = server.ask(question)  # a new account begins after a second
    time.seconds, begun = 2.0, first.now / 1e6
    model = Model(pace, per_day)
    for pause_before, owed, pause, refused in questions:
        time.seconds += pause_before
        asked = {**question, "wanted": True, "owed": [[first.ends, owed]]}
        now = round((begun + time.seconds) * 1e6)
        if pause:
            asked["paused_until"] = now + round(pause * 1e6)
        if refused:
            asked["left_at"] = now
        told = server.ask(json.loads(json.dumps(asked)))
        verdict, at = model.ask(time.seconds, owed, pause, refused)
        assert told.verdict is verdict
        assert told.at / 1e6 - begun == pytest.approx(at, abs=1e-3)
        assert told.sent == model.sent
