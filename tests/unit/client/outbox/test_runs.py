"""Sending what is in the outbox: what holds for a Client holds for an AsyncClient."""

import logging
import os
import signal
import threading
import time
import traceback
from contextlib import closing, contextmanager
from datetime import timedelta

import pytest

from cmzon_secrets import Client, RateLimits, Token
from cmzon_secrets.client.outbox import Outbox, State, run, verdicts
from cmzon_secrets.client.outbox.store import Store
from cmzon_secrets.clock import Clock
from cmzon_secrets.errors import (
    AuthenticationError,
    ConfigurationError,
    DailyLimitReached,
    PermissionDenied,
    ProviderUnavailable,
    RateLimited,
    RequestRejected,
    TransportError,
)
from unit.client.conftest import ACCEPTED, REFUSED, Reply, failing

TO, OTHER = "+12025550101", "+12025550102"
RESET = Reply(fault="reset")


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch):
    monkeypatch.setattr(verdicts, "FIRST_WAIT", 0.05)
    monkeypatch.setattr(run, "FIRST_PAUSE", 0.05)


@pytest.fixture
def open_sender(open_client, server, vault, outbox_of):
    """The outbox of a client that makes one attempt per call, unless told otherwise."""

    @contextmanager
    def opened(*, keep=timedelta(days=7), **options):
        usual = {"max_attempts": 1, "timeout": 5, "limits": RateLimits.unlimited()}
        options = {**usual, **options}
        with open_client(vault, base_url=server.url, **options) as client:
            outbox = outbox_of(client, keep=keep)
            yield outbox
            outbox.close()

    return opened


def counts(outbox):
    return {state: n for state, n in outbox.status().items() if n}


def of_one(kind):
    """By what a message says."""
    return {"rejected": failing(400), "lost": RESET, "good": ACCEPTED}[kind]


def by_text(server):
    server.answer = lambda request: of_one(request.json["text"]["body"])


# ── what is sent ────────────────────────────────────────────────────────────────────────────────


def test_everything_is_sent_once_with_its_key(sender, got):
    keys = [sender.put(f"+1202555{n:04}", "Hello") for n in range(20)]
    summary = sender.run(until_empty=True)
    assert (summary.sent, summary.unknown, summary.dead, summary.left) == (20, 0, 0, 0)
    assert sorted(message.key for message in got()) == sorted(keys)
    assert counts(sender) == {"sent": 20}
    assert sender.run(until_empty=True).sent == 0
    assert len(got()) == 20


def test_the_id_that_the_api_gave_is_kept(sender, outbox):
    sender.put(TO, "Hello")
    sender.run(until_empty=True)
    (record,) = outbox._store.look(State.SENT)
    assert (record.message_id, record.tries) == ("msg_1", 1)


def test_a_client_that_sends_no_keys_sends_none(open_sender, got):
    with open_sender(idempotency="off") as sender:
        sender.put(TO, "Hello")
        sender.run(until_empty=True)
    assert [message.key for message in got()] == [None]


def test_messages_put_in_meanwhile_by_others_are_sent_too(sender, outbox, got):
    stop = threading.Event()
    running = threading.Thread(target=sender.run, kwargs={"stop": stop})
    running.start()
    outbox.put(TO, "Hello")
    assert eventually(outbox, sent=1)
    stop.set()
    running.join(5)
    assert len(got()) == 1


def test_the_more_urgent_go_first(sender, got):
    sender.put("+12025550001", "calm")
    sender.put("+12025550002", "urgent", priority=1)
    sender.run(until_empty=True, workers=1)
    assert [message.text for message in got()] == ["urgent", "calm"]


# ── in which order ──────────────────────────────────────────────────────────────────────────────


def test_messages_to_one_recipient_arrive_in_order_and_one_at_a_time(sender, server, got):
    under_way, most = [], []

    def slow(request):
        under_way.append(request.json["to"])
        most.append(under_way.count(request.json["to"]))
        time.sleep(0.01)
        under_way.remove(request.json["to"])
        return ACCEPTED

    server.answer = slow
    sender.put_many([(f"+1202555000{n % 3}", f"{n:02}") for n in range(15)])
    sender.run(until_empty=True)
    for n in range(3):
        texts = [message.text for message in got() if message.to == f"+1202555000{n}"]
        assert texts == sorted(texts)
        assert len(texts) == 5
    assert set(most) == {1}


def test_the_next_to_a_recipient_waits_for_the_one_that_failed(open_sender, server, got):
    server.play(failing(503), failing(503))
    with open_sender() as sender:
        sender.put_many([(TO, "first"), (TO, "second")])
        sender.run(until_empty=True)
    assert [message.text for message in got()] == ["first", "first", "first", "second"]


def test_a_message_for_later_keeps_nobody_waiting_and_is_left(sender, got):
    sender.put(TO, "tomorrow", not_before=timedelta(days=1))
    sender.put(TO, "today")
    summary = sender.run(until_empty=True)
    assert [message.text for message in got()] == ["today"]
    assert (summary.sent, summary.left) == (1, 1)


def test_a_message_for_later_is_sent_when_its_time_comes(sender, got):
    began = time.monotonic()
    sender.put(TO, "soon", not_before=0.3)
    sender.put(TO, "now")
    stopped = lambda: len(got()) == 2 or time.monotonic() > began + 5  # noqa: E731
    sender.run(stop=stopped)
    assert [message.text for message in got()] == ["now", "soon"]
    assert time.monotonic() - began >= 0.3


# ── what can go wrong ───────────────────────────────────────────────────────────────────────────


def test_a_rejected_message_is_dead_with_the_reason_and_the_others_go_on(open_sender, server, got):
    by_text(server)
    with open_sender() as sender:
        key = sender.put(TO, "rejected")
        sender.put(OTHER, "good")
        sender.put(TO, "good")
        summary = sender.run(until_empty=True)
        (dead,) = sender.dead()
    assert (summary.sent, summary.dead) == (2, 1)
    assert (dead.key, dead.to, dead.state, dead.tries) == (key, TO, State.DEAD, 1)
    assert "400" in dead.reason


def test_a_lost_answer_is_unknown_and_never_sent_again_by_itself(open_sender, server, got):
    by_text(server)
    with open_sender() as sender:
        key = sender.put(TO, "lost")
        sender.put(TO, "good")
        assert sender.run(until_empty=True).unknown == 1
        assert sender.run(until_empty=True).unknown == 0
        assert [message.text for message in got()] == ["lost", "good"]
        (unknown,) = sender.unknown()
        assert unknown.key == key
        assert unknown.reason
        server.play()
        assert sender.retry(key) == 1
        sender.run(until_empty=True)
        assert counts(sender) == {"sent": 2}
    assert [message.key for message in got()].count(key) == 2


def test_where_keys_are_honoured_a_lost_answer_is_sent_again_with_the_same_key(
    open_sender, server, got
):
    server.play(RESET, RESET)
    with open_sender(idempotency="trust") as sender:
        key = sender.put(TO, "Hello")
        sender.run(until_empty=True)
        assert counts(sender) == {"sent": 1}
    assert [message.key for message in got()] == [key] * 3


@pytest.mark.parametrize(
    ("reply", "error"), [(REFUSED, AuthenticationError), (failing(403), PermissionDenied)]
)
def test_a_bad_token_ends_the_run_and_costs_no_message_anything(open_sender, server, reply, error):
    server.answer = lambda _: reply
    with open_sender() as sender:
        sender.put_many([(f"+1202555{n:04}", "Hello") for n in range(30)])
        with pytest.raises(error):
            sender.run()
        assert counts(sender) == {"pending": 30}
        server.play()
        sender.run(until_empty=True)
        assert counts(sender) == {"sent": 30}


def test_no_error_of_a_run_shows_a_number_or_a_text(open_sender, server, caplog):
    caplog.set_level(logging.DEBUG)
    server.answer = lambda request: failing(403, details=f"not to {TO}: {request.json['text']}")
    with open_sender() as sender:
        sender.put(TO, "a secret text")
        with pytest.raises(PermissionDenied) as refused:
            sender.run()
    told = traceback.TracebackException.from_exception(refused.value, capture_locals=True)
    ours = [line for line in told.format() if "test_runs.py" not in line]
    for text in (TO, "secret text", "cmz_first_value"):
        assert text not in "".join(ours) + caplog.text


def test_an_outage_of_the_token_store_is_waited_for(open_sender, vault, outbox):
    vault.token = ProviderUnavailable("down", uri="test:vault")
    with open_sender() as sender:
        sender.put_many([(f"+1202555{n:04}", "Hello") for n in range(20)])
        threading.Timer(0.3, lambda: setattr(vault, "token", Token("cmz_back"))).start()
        sender.run(until_empty=True)
        assert counts(sender) == {"sent": 20}
    assert {record.tries for record in outbox._store.look(State.SENT)} == {1}


def test_draining_gives_up_on_an_outage_that_lasts(open_sender, server, monkeypatch):
    monkeypatch.setattr(run, "PATIENCE", 0.2)
    server.stop()
    with open_sender() as sender:
        sender.put(TO, "Hello")
        with pytest.raises(TransportError):
            sender.run(until_empty=True)
        assert counts(sender) == {"pending": 1}


def test_a_failure_now_and_then_slows_nobody_down(open_sender, server, monkeypatch):
    monkeypatch.setattr(run, "FIRST_PAUSE", 60.0)
    replies = iter([ACCEPTED, failing(503)] * 50)
    server.answer = lambda _: next(replies, ACCEPTED)
    with open_sender() as sender:
        sender.put_many([(f"+1202555{n:04}", "Hello") for n in range(30)])
        began = time.monotonic()
        assert sender.run(until_empty=True, workers=4).sent == 30
        assert time.monotonic() - began < 30


def test_what_the_api_fails_on_again_and_again_is_dead_at_last(open_sender, server, got):
    server.answer = lambda _: failing(500)
    with open_sender() as sender:
        sender.put(TO, "Hello")
        sender.run(until_empty=True, max_tries=2)
        (dead,) = sender.dead()
    assert (len(got()), dead.tries) == (2, 2)
    assert "500" in dead.reason


def test_draining_ends_at_once_where_the_api_asks_to_wait_for_long(open_sender, server):
    server.answer = lambda _: failing(429, retry_after=86400)
    began = time.monotonic()
    with open_sender() as sender:
        sender.put_many([(f"+1202555{n:04}", "Hello") for n in range(300)])
        with pytest.raises(RateLimited) as asked:
            sender.run(until_empty=True, workers=1)
        assert asked.value.retry_after == 86400
        assert counts(sender) == {"pending": 300}
    assert len(server.received) == 1
    assert time.monotonic() - began < 30


def test_draining_does_not_wait_for_what_is_to_be_tried_again_much_later(open_sender, server, got):
    replies = iter([failing(429, retry_after=86400)])
    server.answer = lambda _: next(replies, ACCEPTED)
    began = time.monotonic()
    with open_sender() as sender:
        sender.put(TO, "Hello")
        with pytest.raises(RateLimited):
            sender.run(until_empty=True)
    with open_sender() as sender:  # the limit was lifted since
        sender.put(OTHER, "Hello")
        with pytest.raises(ProviderUnavailable, match=r"before \d{4}-\d\d-\d\d \d\d:\d\d UTC"):
            sender.run(until_empty=True)
        assert counts(sender) == {"pending": 1, "sent": 1}
    assert time.monotonic() - began < 30


def test_draining_gives_up_where_another_run_holds_what_is_left(
    open_sender, server, path, monkeypatch
):
    monkeypatch.setattr(run, "LONGEST_IDLE", 0.3)
    with open_sender() as sender, closing(Store(path)) as store:
        sender.put(TO, "Hello")
        now = time.time()
        store.lease("elsewhere/1/a", 1, now=now, until=now + 60)
        with pytest.raises(ProviderUnavailable, match="another run holds it"):
            sender.run(until_empty=True)
    assert server.received == []


def test_draining_goes_on_for_as_long_as_something_happens(open_sender, server, monkeypatch):
    monkeypatch.setattr(run, "LONGEST_IDLE", 0.3)

    def slow(_):
        time.sleep(0.2)
        return ACCEPTED

    server.answer = slow
    with open_sender() as sender:
        sender.put_many([(TO, "Hello")] * 4)
        assert sender.run(until_empty=True).sent == 4


def test_a_run_whose_outbox_is_removed_says_so(sender, server, path):
    def removing(_):
        path.unlink(missing_ok=True)
        return ACCEPTED

    server.answer = removing
    sender.put_many([(TO, "Hello")] * 3)
    with pytest.raises(ProviderUnavailable, match="removed or replaced"):
        sender.run(until_empty=True)
    assert len(server.received) == 1


def test_at_the_end_of_the_day_whoever_holds_a_slot_still_sends(open_sender, server, got):
    limits = RateLimits(per_second=50, per_day=20)
    with open_sender(limits=limits) as sender:
        sender.put_many([(f"+1202555{n:04}", "Hello") for n in range(60)])
        with pytest.raises(DailyLimitReached):
            sender.run(until_empty=True)
        assert counts(sender) == {"pending": 40, "sent": 20}


def test_at_the_end_of_the_day_draining_ends_and_says_until_when(open_sender, got):
    with open_sender(limits=RateLimits(per_second=None, per_day=3)) as sender:
        sender.put_many([(f"+1202555{n:04}", "Hello") for n in range(10)])
        with pytest.raises(DailyLimitReached) as reached:
            sender.run(until_empty=True)
        assert reached.value.resets_at
        assert counts(sender) == {"pending": 7, "sent": 3}
    assert len(got()) == 3


class Shifted(Clock):
    """The machine's clock, and a while ahead of it."""

    ahead = timedelta()

    def now(self):
        return super().now() + self.ahead


def test_the_end_of_the_day_is_waited_for_where_nothing_is_to_be_drained(open_sender, outbox):
    clock, stop = Shifted(), threading.Event()
    with open_sender(limits=RateLimits(per_second=None, per_day=3), clock=clock) as sender:
        sender.put_many([(f"+1202555{n:04}", "Hello") for n in range(5)])
        running = threading.Thread(target=sender.run, kwargs={"stop": stop})
        running.start()
        assert eventually(outbox, sent=3, pending=2)
        clock.ahead = timedelta(days=1)
        assert eventually(outbox, sent=5)
        stop.set()
        running.join(10)


def eventually(outbox, **expected):
    patience = time.monotonic() + 10
    while counts(outbox) != expected and time.monotonic() < patience:
        time.sleep(0.01)
    return counts(outbox) == expected


def test_many_rejections_in_a_row_are_not_the_messages_fault(open_sender, server, monkeypatch):
    monkeypatch.setattr(run, "REJECTED_IN_A_ROW", 10)
    server.answer = lambda _: failing(404)
    with open_sender() as sender:
        sender.put_many([(f"+1202555{n:04}", "Hello") for n in range(60)])
        with pytest.raises(RequestRejected):
            sender.run(until_empty=True, workers=4)
        assert 10 <= sender.status()["dead"] < 20
        assert sender.retry(state="dead") >= 10
        assert counts(sender) == {"pending": 60}


# ── stopping, and several at once ───────────────────────────────────────────────────────────────


def test_stopped_it_finishes_what_is_on_the_wire_and_gives_the_rest_back(sender, server, outbox):
    stop = threading.Event()

    def slow(_):
        stop.set()
        time.sleep(0.2)
        return ACCEPTED

    server.answer = slow
    sender.put_many([(f"+1202555{n:04}", "Hello") for n in range(40)])
    summary = sender.run(stop=stop)
    assert summary.unknown == 0
    assert summary.sent == len(server.received) < 40
    assert summary.left == 40 - summary.sent
    other = outbox._store.lease("another", 50, now=time.time(), until=time.time() + 60)
    assert len(other) == summary.left


def test_interrupted_by_ctrl_c_it_ends_likewise(server, vault, path):
    def slow(_):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.2)
        return ACCEPTED

    server.answer = slow
    with Client(vault, base_url=server.url) as client, client.outbox(path) as outbox:
        outbox.put_many([(f"+1202555{n:04}", "Hello") for n in range(20)])
        with pytest.raises(KeyboardInterrupt):
            outbox.run(workers=1)
        assert outbox.status() == {"pending": 19, "sent": 1, "unknown": 0, "dead": 0}


def test_several_runners_send_every_message_once(open_client, server, vault, outbox_of, got):
    errors = []

    def drain():
        with open_client(vault, base_url=server.url, limits=RateLimits.unlimited()) as client:
            try:
                outbox = outbox_of(client)
                outbox.run(until_empty=True, workers=8)
                outbox.close()
            except Exception as error:
                errors.append(error)

    with open_client(vault, base_url=server.url) as client:
        outbox = outbox_of(client)
        outbox.put_many([(f"+12025550{n % 20:03}", f"{n:03}") for n in range(90)])
        threads = [threading.Thread(target=drain) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not errors
        assert counts(outbox) == {"sent": 90}
        outbox.close()
    assert len({message.key for message in got()}) == len(got()) == 90
    for n in range(20):
        texts = [message.text for message in got() if message.to == f"+12025550{n:03}"]
        assert texts == sorted(texts)


def test_progress_is_told_and_at_the_end_all_of_it(sender):
    told = []
    sender.put_many([(TO, "Hello"), (OTHER, "Hello")])
    sender.run(until_empty=True, progress=told.append)
    assert told[0] == {"pending": 2, "sent": 0, "unknown": 0, "dead": 0}
    assert told[-1] == {"pending": 0, "sent": 2, "unknown": 0, "dead": 0}


def test_sent_messages_are_forgotten_after_a_while(open_sender):
    with open_sender(keep=0.05) as sender:
        sender.put(TO, "Hello")
        assert sender.run(until_empty=True).sent == 1
        time.sleep(0.1)
        sender.run(until_empty=True)
        assert counts(sender) == {}


@pytest.mark.parametrize("workers", [0, -1, 1.5, True])
def test_workers_must_be_a_number_above_zero(sender, workers):
    sender.put(TO, "Hello")
    with pytest.raises(ConfigurationError, match="workers"):
        sender.run(until_empty=True, workers=workers)
    assert counts(sender) == {"pending": 1}


@pytest.mark.parametrize("stop", [5, "now", True])
def test_a_stop_must_be_one_that_can_be_asked(sender, stop):
    sender.put(TO, "Hello")
    with pytest.raises(ConfigurationError, match=f"stop — .*, got {type(stop).__name__}"):
        sender.run(until_empty=True, stop=stop)
    assert counts(sender) == {"pending": 1}


def test_a_stop_that_breaks_ends_the_run_with_its_error(sender, path):
    sender.put(TO, "Hello")
    with pytest.raises(ZeroDivisionError):
        sender.run(stop=lambda: 1 / 0)
    with Outbox(path) as outbox:
        assert outbox.status()["pending"] == 1
