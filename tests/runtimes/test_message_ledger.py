"""What became of each message, on a real Redis: who may send it, and who only may say so."""

import itertools
import threading
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("redis", reason="not run: redis (its Python package is not installed)")

import redis

from cmzon_secrets.client.outbox.model import State
from cmzon_secrets.errors import ConfigurationError, ProviderUnavailable
from cmzon_secrets.runtimes.message_ledger import KEPT, MessageLedger, fingerprint

DATABASE = 7
NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def server(redis_server):
    with redis.Redis.from_url(redis_server.url(DATABASE), decode_responses=True) as client:
        client.flushdb()
        yield client


@pytest.fixture
def ledger(server, redis_server):
    ledger = MessageLedger(redis_server.url(DATABASE), account=f"acme-{next(NUMBERS)}")
    yield ledger
    ledger.close()


def depart(ledger, key="k", owner="one", *, within=60.0, trusted=False):
    return ledger.depart(key, owner, "f00d", within=within, trusted=trusted)


def entry_of(ledger, key="k"):
    (entry,) = ledger.entries(key)
    return entry


def test_a_message_that_nobody_sent_is_not_known(ledger):
    assert entry_of(ledger) is None
    assert ledger.unsettled() == []


def test_only_one_may_send_it(ledger):
    assert depart(ledger, owner="one")
    assert not depart(ledger, owner="two")
    entry = entry_of(ledger)
    assert (entry.state, entry.tries, entry.fingerprint) == (State.SENDING, 1, "f00d")


def test_of_many_at_once_one_may_send_it(ledger):
    allowed = []
    barrier = threading.Barrier(8)

    def race(owner):
        barrier.wait()
        if depart(ledger, owner=owner):
            allowed.append(owner)

    threads = [threading.Thread(target=race, args=(str(n),)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(allowed) == 1


def test_one_that_asks_again_because_the_answer_was_lost_may_still_send_it(ledger):
    assert depart(ledger, owner="one")
    assert depart(ledger, owner="one")
    assert entry_of(ledger).tries == 1


def test_what_was_sent_is_known_with_its_ids_and_never_sent_again(ledger):
    depart(ledger)
    assert ledger.settle("k", "one", State.SENT, message_id="msg_1", request_id=None) is State.SENT
    entry = entry_of(ledger)
    assert (entry.state, entry.message_id, entry.request_id) == (State.SENT, "msg_1", None)
    assert not depart(ledger, owner="two", trusted=True)
    assert ledger.unsettled() == []


def test_what_was_not_accepted_may_be_sent_by_anybody(ledger):
    depart(ledger)
    assert ledger.settle("k", "one", State.PENDING, reason="503") is State.PENDING
    assert (entry_of(ledger).reason, entry_of(ledger).tries) == ("503", 1)
    assert depart(ledger, owner="two")
    assert entry_of(ledger).tries == 2


def test_a_message_that_never_left_can_be_pending_with_its_reason(ledger):
    assert ledger.settle("k", "one", State.PENDING, reason="no token") is State.PENDING
    assert [(e.key, e.state, e.tries) for e in ledger.unsettled()] == [("k", State.PENDING, 0)]


@pytest.mark.parametrize("state", [State.UNKNOWN, State.DEAD])
def test_what_is_over_is_not_sent_again(ledger, state):
    depart(ledger)
    ledger.settle("k", "one", state, reason="why")
    assert not depart(ledger, owner="two")
    assert ledger.settle("k", "two", State.PENDING, reason="late") is state
    assert entry_of(ledger).reason == "why"


def test_a_sender_that_died_leaves_an_unknown_outcome(ledger):
    depart(ledger, within=0)
    entry = entry_of(ledger)
    assert entry.state is State.UNKNOWN
    assert "died" in entry.reason
    assert [e.state for e in ledger.unsettled()] == [State.UNKNOWN]
    assert not depart(ledger, owner="two")


def test_where_keys_are_trusted_another_takes_over_from_the_dead_but_not_from_the_living(ledger):
    depart(ledger, owner="alive", within=60)
    assert not depart(ledger, owner="two", trusted=True)
    ledger.settle("k", "alive", State.UNKNOWN, reason="reset")
    assert depart(ledger, owner="two", trusted=True)


@pytest.mark.parametrize("state", [State.PENDING, State.DEAD])
def test_what_may_have_been_sent_once_is_not_made_certain_by_a_later_refusal(ledger, state):
    depart(ledger, within=0)
    assert depart(ledger, owner="two", trusted=True)
    assert ledger.settle("k", "two", state, reason="503") is State.UNKNOWN
    assert depart(ledger, owner="three", trusted=True)
    assert ledger.settle("k", "three", State.SENT) is State.SENT


def test_one_that_was_taken_for_dead_can_still_say_that_it_sent_and_nothing_else(ledger):
    depart(ledger, owner="slow", within=0)
    assert depart(ledger, owner="two", trusted=True)
    assert ledger.settle("k", "slow", State.DEAD, reason="no") is State.SENDING
    assert ledger.settle("k", "slow", State.SENT, message_id="msg_1") is State.SENT
    assert entry_of(ledger).message_id == "msg_1"


def test_the_unsettled_are_told_the_longest_unchanged_first(ledger):
    for key, state in [("a", State.DEAD), ("b", State.SENT), ("c", State.UNKNOWN)]:
        depart(ledger, key)
        ledger.settle(key, "one", state)
    depart(ledger, "d")
    told = [(entry.key, entry.state) for entry in ledger.unsettled()]
    assert sorted(told) == [("a", State.DEAD), ("c", State.UNKNOWN), ("d", State.SENDING)]


def test_only_the_unknown_and_the_dead_can_be_forgotten(ledger):
    for key, state in [("a", State.DEAD), ("b", State.SENT), ("c", State.UNKNOWN)]:
        depart(ledger, key)
        ledger.settle(key, "one", state)
    depart(ledger, "d")
    depart(ledger, "e", within=0)
    assert ledger.forget("a", "b", "c", "d", "e", "nobody's") == 3
    assert {key: entry_of(ledger, key) is None for key in "abcde"} == {
        "a": True, "b": False, "c": True, "d": False, "e": True
    }  # fmt: skip
    assert [entry.key for entry in ledger.unsettled()] == ["d"]
    assert depart(ledger, "a", owner="two")


def test_entries_are_forgotten_in_the_end(ledger, server):
    depart(ledger)
    (entry,) = server.keys(f"{ledger._entries}*")
    assert 0 < server.ttl(entry) <= KEPT.total_seconds()
    server.zadd(ledger._unsettled, {"long gone": time.time() - KEPT.total_seconds() - 5})
    assert [e.key for e in ledger.unsettled()] == ["k"]
    assert server.zcard(ledger._unsettled) == 1


def test_accounts_do_not_know_each_others_messages(ledger, redis_server):
    depart(ledger)
    other = MessageLedger(redis_server.url(DATABASE), account="other")
    assert entry_of(other) is None
    assert other.unsettled() == []
    other.close()


def test_a_fingerprint_tells_messages_apart_and_holds_neither_number_nor_text():
    first = fingerprint("k", "+12025550123", "Hi")
    assert first == fingerprint("k", "+12025550123", "Hi")
    assert first not in (
        fingerprint("k", "+12025550124", "Hi"),
        fingerprint("k", "+12025550123", "Ho"),
    )
    assert len(first) == 8


def test_a_redis_that_is_away_is_a_provider_that_is_unavailable_without_its_password():
    away = MessageLedger("redis://:hunter2@127.0.0.1:1/0", account="acme")
    for ask in (lambda: depart(away), away.unsettled):
        with pytest.raises(ProviderUnavailable, match="Redis") as caught:
            ask()
        assert "hunter2" not in repr([caught.value, caught.value.uri, caught.value.__cause__])


def test_an_url_of_something_else_is_refused():
    with pytest.raises(ConfigurationError, match="Redis URL"):
        MessageLedger("https://example.com", account="acme")


class Model:
    """What the module's table promises, for one message and senders that live or die."""

    def __init__(self):
        self.state, self.owner, self.maybe, self.over = None, None, False, False

    def depart(self, owner, within, trusted):
        lost = self.state == "unknown" or (self.state == "sending" and self.over)
        mine = self.state == "sending" and self.owner == owner  # it asks again
        free = self.state in (None, "pending") or mine or (lost and trusted)
        if free:
            self.maybe |= lost and not mine
            self.state, self.owner, self.over = "sending", owner, within == 0
        return free

    def settle(self, owner, state):
        if self.owner not in (None, owner) and state != "sent":
            return self.now
        self.state = "unknown" if self.maybe and state != "sent" else state
        self.owner = None if self.state == "pending" else owner
        return self.now

    @property
    def now(self):
        return "unknown" if self.state == "sending" and self.over else self.state


STEPS = st.one_of(
    st.tuples(st.just("depart"), st.sampled_from("abc"), st.sampled_from([0, 60]), st.booleans()),
    st.tuples(
        st.just("settle"),
        st.sampled_from("abc"),
        st.sampled_from(["pending", "sent", "unknown", "dead"]),
    ),
)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(STEPS, max_size=8))
def test_the_scripts_do_what_the_table_says_in_any_order(ledger, steps):
    key, model = f"key-{next(NUMBERS)}", Model()
    for verb, owner, *rest in steps:
        if verb == "depart":
            within, trusted = rest
            expected = model.depart(owner, within, trusted)
            assert depart(ledger, key, owner, within=within, trusted=trusted) == expected
        else:
            expected = model.settle(owner, rest[0])
            assert ledger.settle(key, owner, State(rest[0])) == expected
    entry = entry_of(ledger, key)
    assert (entry and str(entry.state)) == model.now
