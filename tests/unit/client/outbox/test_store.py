"""The store against a model of it: any order of steps, by several runners, at any time.

The model is a list that is searched anew each time; the store has indexes and a memory of what a
message waits for. They must say the same, and in the end every message must have been offered.
"""

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from cmzon_secrets.client.outbox.model import State, Waiting
from cmzon_secrets.client.outbox.owners import new_owner
from cmzon_secrets.client.outbox.store import Store
from cmzon_secrets.client.outbox.verdicts import Verdict

LEASE = 60.0
OWNERS = st.sampled_from(["elsewhere/1/a", "elsewhere/2/b"])
PENDING, SENDING, SENT, UNKNOWN, DEAD = State
OPEN = (PENDING, SENDING)


@dataclass
class Message:
    seq: int
    key: str
    to: str
    not_before: float
    due: float
    priority: int
    state: State = PENDING
    owner: str | None = None
    until: float = 0.0
    tries: int = 0
    changed: float = 0.0

    @property
    def held(self):
        return self.state in OPEN and self.owner is not None


class Outboxes(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.store = Store(Path(self.folder.name) / "outbox")
        self.messages = []
        self.now = 1000.0
        self.last = 0

    def teardown(self):
        self._drain()
        self.store.close()
        self.folder.cleanup()

    @rule(
        to=st.sampled_from("abc"),
        delay=st.sampled_from([0, 0, 0, 5, 50]),
        priority=st.sampled_from([0, 0, 1]),
    )
    def put(self, to, delay, priority):
        self.last += 1
        key, moment = f"key-{self.last}", self.now + delay
        assert self.store.put([Waiting(key, to, "text", moment, priority)], self.now) == 1
        self.messages.append(Message(self.last, key, to, moment, moment, priority))

    @rule(seconds=st.sampled_from([1, 10, 70, 70]))
    def wait(self, seconds):
        self.now += seconds

    @rule(owner=OWNERS, most=st.integers(1, 3))
    def lease(self, owner, most):
        until = self.now + LEASE
        expected = sorted(filter(self._is_next, self.messages), key=lambda m: (-m.priority, m.seq))
        leased = self.store.lease(owner, most, now=self.now, until=until)
        assert [message.key for message in leased] == [m.key for m in expected[:most]]
        for message in expected[:most]:
            message.owner, message.until = owner, until

    @precondition(lambda self: self.messages)
    @rule(data=st.data())
    def start(self, data):
        message, owner = self._pick(data, lambda m: m.held)
        may = message.state is PENDING and message.owner == owner
        until = self.now + LEASE
        assert self.store.start(message.seq, owner, now=self.now, until=until) is may
        if may:
            message.state, message.until = SENDING, until
            message.tries += 1

    @precondition(lambda self: self.messages)
    @rule(
        data=st.data(),
        state=st.sampled_from([PENDING, SENT, UNKNOWN, DEAD]),
        wait=st.sampled_from([0.0, 5.0]),
    )
    def settle(self, data, state, wait):
        message, owner = self._pick(data, lambda m: m.owner)
        verdict = Verdict(state, wait=wait if state is PENDING else 0.0)
        self.store.settle(message.seq, owner, verdict, self.now)
        if message.owner == owner and message.state in (*OPEN, UNKNOWN):
            message.state, message.owner = state, None
            message.due, message.changed = self.now + verdict.wait, self.now

    @rule(owner=OWNERS)
    def renew(self, owner):
        self.store.renew(owner, self.now + LEASE)
        for message in self.messages:
            if message.held and message.owner == owner:
                message.until = self.now + LEASE

    @rule(owner=OWNERS, trusted=st.booleans())
    def end(self, owner, trusted):
        self.store.let_go(owner, reason="why", trusted=trusted, now=self.now)
        self._let_go(owner, trusted)

    @rule(trusted=st.booleans())
    def recover(self, trusted):
        self.store.recover("elsewhere/3/c", trusted=trusted, now=self.now)
        for owner in {message.owner for message in self.messages if message.held}:
            if max(m.until for m in self.messages if m.held and m.owner == owner) < self.now:
                self._let_go(owner, trusted)

    @precondition(lambda self: self.messages)
    @rule(data=st.data())
    def retry(self, data):
        message, _ = self._pick(data, lambda m: m.state in (UNKNOWN, DEAD))
        may = message.state in (UNKNOWN, DEAD)
        assert self.store.retry([message.key], None, self.now) == may
        if may:
            message.state, message.owner, message.tries = PENDING, None, 0
            message.not_before = message.due = self.now

    @precondition(lambda self: self.messages)
    @rule(data=st.data())
    def drop(self, data):
        message, _ = self._pick(data, lambda m: m.state is PENDING)
        may = not message.held
        assert self.store.drop([message.key], None, self.now) == may
        if may:
            self.messages.remove(message)

    @rule()
    def purge(self):
        old = [m for m in self.messages if m.state is SENT and m.changed < self.now - 30]
        assert self.store.purge(self.now - 30) == len(old)
        self.messages = [message for message in self.messages if message not in old]

    @invariant()
    def they_agree(self):
        for state in State:
            found = [(r.key, r.tries) for r in self.store.look(state)]
            assert found == [(m.key, m.tries) for m in self.messages if m.state is state]
        counts = self.store.counts()
        assert counts["pending"] == sum(1 for m in self.messages if m.state in OPEN)
        assert self.store.is_drained(self.now) is not any(map(self._counts_now, self.messages))

    @invariant()
    def nothing_can_be_sent_before_the_next_try(self):
        moment = self.store.next_try(self.now)
        if moment is None or moment <= self.now:
            return
        assert not any(message.held for message in self.messages)
        first: dict[str, Message] = {}
        for message in filter(self._counts_now, self.messages):
            first.setdefault(message.to, message)
        assert min(message.due for message in first.values()) >= moment

    @invariant()
    def of_one_recipient_only_one_is_held(self):
        held = [message.to for message in self.messages if message.held]
        assert len(held) == len(set(held))

    def _pick(self, data, likely):
        """A message and an owner: mostly one for which the step does something, by whom it does."""
        fit = [message for message in self.messages if likely(message)]
        if not fit or data.draw(st.integers(0, 4)) == 0:
            return data.draw(st.sampled_from(self.messages)), data.draw(OWNERS)
        message = data.draw(st.sampled_from(fit))
        return message, message.owner or data.draw(OWNERS)

    def _counts_now(self, message):
        return message.state in OPEN and message.not_before <= self.now

    def _is_next(self, message):
        if message.state is not PENDING or message.owner or message.due > self.now:
            return False
        others = [m for m in self.messages if m.to == message.to and m is not message]
        return not any(m.held or (m.seq < message.seq and self._counts_now(m)) for m in others)

    def _let_go(self, owner, trusted):
        for message in self.messages:
            if message.held and message.owner == owner:
                if message.state is SENDING and not trusted:
                    message.state = UNKNOWN  # and still its owner's: he may know better
                    message.changed = self.now
                else:
                    message.state, message.owner = PENDING, None

    def _drain(self):
        """Every message that is open is offered sooner or later."""
        self.now += 1000
        self.recover(trusted=True)
        left = {message.seq for message in self.messages if message.state in OPEN}
        while found := self.store.lease("elsewhere/4/d", 10, now=self.now, until=self.now + LEASE):
            for message in found:
                left.remove(message.seq)
                self.store.settle(message.seq, "elsewhere/4/d", Verdict(SENT), self.now)
        assert not left


TestOutboxes = Outboxes.TestCase
TestOutboxes.settings = settings(
    max_examples=30,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


@pytest.fixture
def store(path):
    store = Store(path)
    store.put([Waiting("key", "a", "text", 1000.0, 0)], 1000.0)
    yield store
    store.close()


def test_the_next_try_is_known_where_all_that_is_due_waits_for_it(store):
    assert store.next_try(1000.0) is None, "one can be sent now"
    store.put([Waiting("behind it", "a", "text", 1000.0, 0)], 1000.0)
    store.put([Waiting("for later", "b", "text", 1500.0, 0)], 1000.0)
    (message,) = store.lease("elsewhere/1/a", 1, now=1000.0, until=1060.0)
    assert store.next_try(1000.0) is None, "one is held"
    store.settle(message.seq, "elsewhere/1/a", Verdict(State.PENDING, wait=900.0), 1000.0)
    assert store.next_try(1000.0) == 1900.0


def sending(store, owner, now=1000.0):
    """The one message, on its way."""
    (message,) = store.lease(owner, 1, now=now, until=now + LEASE)
    assert store.start(message.seq, owner, now=now, until=now + LEASE)
    return message


def states(store):
    return {state: len(found) for state in State if (found := store.look(state))}


def test_what_was_on_its_way_when_the_lease_ended_is_unknown(store):
    sending(store, "elsewhere/1/a")
    store.recover("elsewhere/2/b", trusted=False, now=1000.0 + LEASE)
    assert states(store) == {SENDING: 1}
    store.recover("elsewhere/2/b", trusted=False, now=1001.0 + LEASE)
    assert states(store) == {UNKNOWN: 1}


def test_one_that_comes_late_still_knows_best(store):
    message = sending(store, "elsewhere/1/a")
    store.recover("elsewhere/2/b", trusted=False, now=1001.0 + LEASE)
    store.settle(message.seq, "elsewhere/1/a", Verdict(SENT, message_id="msg_1"), 1100.0)
    assert states(store) == {SENT: 1}


def test_the_lease_of_a_process_that_is_gone_need_not_be_waited_for(store):
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, new_owner().encode())
        os._exit(0)
    os.waitpid(child, 0)
    gone = os.read(reading, 200).decode()
    os.close(reading)
    os.close(writing)
    sending(store, gone)
    store.recover(new_owner(), trusted=False, now=1001.0)
    assert states(store) == {UNKNOWN: 1}


def test_a_living_process_keeps_its_lease(store):
    sending(store, new_owner())
    store.recover(new_owner(), trusted=False, now=1001.0)
    assert states(store) == {SENDING: 1}
