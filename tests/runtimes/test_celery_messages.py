"""The Celery task that sends a message: once per key, whatever the broker and the API do."""

import itertools
import json
import logging
import subprocess
import sys
import threading
import traceback
import urllib.request
from collections import Counter

import pytest

pytest.importorskip("celery", reason="not run: celery (not installed)")

from celery import Celery
from celery.exceptions import Reject, SoftTimeLimitExceeded
from celery.utils.log import get_logger

from cmzon_secrets import RateLimits
from cmzon_secrets.client.outbox.model import State
from cmzon_secrets.client.passage import Passage
from cmzon_secrets.errors import ConfigurationError, RequestRejected, TransportError
from cmzon_secrets.runtimes import celery_messages, message_sender
from cmzon_secrets.runtimes.celery_messages import app, forget, receipts, send_message, unsettled
from cmzon_secrets.runtimes.celery_private import HIDDEN
from cmzon_secrets.runtimes.message_sender import Settings

TO, TEXT = "+12025550123", "Your code is 314159"
ROUTE = "POST /v1/messages"
ACCOUNTS = itertools.count()


@pytest.fixture
def account(redis_server, in_its_environment, monkeypatch):
    """An account that sends: a token, a Redis, and nobody who waits for long."""
    monkeypatch.setenv("CMZON_LIMITS_URL", redis_server.url(8))
    monkeypatch.setenv("CMZON_ACCOUNT", f"acme-{next(ACCOUNTS)}")
    monkeypatch.setattr(celery_messages, "LONGEST", 0.0)
    # Shared ones are slow in the first seconds of a Redis.
    monkeypatch.setattr(RateLimits, "shared", lambda *_, per_day, **__: RateLimits(per_day=per_day))
    yield in_its_environment
    celery_messages._KEPT.close()


@pytest.fixture
def broker():
    """The standalone app, with a broker in this process; its messages can be read."""
    with app.connection_for_write("memory://") as connection, pytest.MonkeyPatch.context() as patch:
        patch.setattr(app.conf, "broker_url", "memory://")
        app.set_current()
        queue = connection.SimpleQueue("cmzon-messages")
        queue.clear()
        yield queue
    app.close()


def fault(account, **fault):
    body = json.dumps({"route": ROUTE, **fault}).encode()
    urllib.request.urlopen(f"{account.emulator.base_url}/_emulator/faults", body, 10).close()


def end_faults(account):
    url = f"{account.emulator.base_url}/_emulator/faults"
    urllib.request.urlopen(urllib.request.Request(url, method="DELETE"), timeout=10).close()


def states():
    return {entry.key: entry.state for entry in unsettled()}


# what is sent


def test_a_message_is_sent_and_its_result_is_ids_and_nothing_else(account):
    result = send_message(TO, TEXT, key="order-1")
    assert result == json.loads(json.dumps(result))
    assert set(result) == {"key", "message_id", "request_id"}
    assert result["key"] == "order-1"
    assert result["message_id"].startswith("msg_")
    assert account.messages == 1
    assert states() == {}


def test_a_message_that_is_delivered_twice_is_sent_once_and_answers_the_same(account):
    first = send_message(TO, TEXT, key="order-1")
    assert send_message(TO, TEXT, key="order-1") == first
    assert requests(account) == 1


def test_without_a_key_the_task_id_is_the_key_so_that_a_second_delivery_has_the_same(account):
    results = [send_message.apply((TO, TEXT), task_id="task-1").get() for _ in range(2)]
    assert results[0] == results[1]
    assert results[0]["key"] == "task-1"
    assert requests(account) == 1


@pytest.mark.parametrize(
    ("to", "text"), [("12025550123", TEXT), (None, TEXT), (TO, 7), (TO, "\ud800")]
)
def test_a_message_that_somebody_queued_unchecked_fails_by_itself(account, to, text):
    with pytest.raises(RequestRejected):
        send_message(to, text, key="order-1")
    assert requests(account) == 0


def test_two_workers_with_one_message_in_their_hands_send_it_once(account):
    fault(account, latency=0.3, count=2)
    outcomes = []

    def work():
        try:
            outcomes.append(send_message(TO, TEXT, key="order-1")["key"])
        except Reject as later:
            outcomes.append(later.reason)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["another worker is sending it"] * 3 + ["order-1"]
    assert requests(account) == 1


def test_a_key_that_was_used_for_another_message_is_refused_and_the_first_stands(account):
    first = send_message(TO, TEXT, key="order-1")
    with pytest.raises(RequestRejected, match="order-1 — this key was used"):
        send_message(TO, "another text", key="order-1")
    assert send_message(TO, TEXT, key="order-1") == first
    assert requests(account) == 1


# what is not


def test_what_the_api_refuses_is_dead_and_not_tried_again(account):
    fault(account, status=422, count=1)
    for _ in range(2):
        with pytest.raises(RequestRejected, match=r"order-1 — it will not be sent: .*422"):
            send_message(TO, TEXT, key="order-1")
    assert states() == {"order-1": State.DEAD}
    assert account.messages == 0


def test_what_may_have_been_sent_is_unknown_and_not_sent_again(account):
    fault(account, reset=True, after_accept=True, count=1)
    for _ in range(2):
        with pytest.raises(TransportError, match="order-1 — nobody knows") as caught:
            send_message(TO, TEXT, key="order-1")
        assert "look it up" in caught.value.hint
    assert states() == {"order-1": State.UNKNOWN}
    assert account.messages == 1
    assert requests(account) == 1


def test_a_person_who_looked_can_have_it_sent_after_all(account):
    fault(account, reset=True, count=1)
    with pytest.raises(TransportError):
        send_message(TO, TEXT, key="order-1")
    assert forget("order-1", "order-2") == 1
    assert send_message(TO, TEXT, key="order-1")["message_id"]
    assert account.messages == 1


def test_where_the_api_is_trusted_to_honour_keys_it_is_sent_again_with_the_same(
    account, monkeypatch
):
    monkeypatch.setenv("CMZON_IDEMPOTENCY", "trust")
    monkeypatch.setenv("CMZON_SEND_DEADLINE", "3s")
    fault(account, reset=True, after_accept=True)
    with pytest.raises(Reject):
        send_message(TO, TEXT, key="order-1")
    assert states() == {"order-1": State.UNKNOWN}
    end_faults(account)
    assert send_message(TO, TEXT, key="order-1")["message_id"]
    assert account.messages == 1
    assert requests(account) > 1


def test_one_whose_worker_died_while_it_left_is_unknown(account):
    die_in_the_middle()
    with pytest.raises(TransportError, match="whoever sent it has died"):
        send_message(TO, TEXT, key="order-1")
    assert account.messages == 1


def test_one_whose_worker_died_while_it_left_is_sent_again_where_keys_are_trusted(
    account, monkeypatch
):
    die_in_the_middle()
    monkeypatch.setenv("CMZON_IDEMPOTENCY", "trust")
    assert send_message(TO, TEXT, key="order-1")["message_id"]
    assert account.messages == 1


def die_in_the_middle():
    """A worker sends order-1, and is gone before it can enter what became of it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(message_sender, "MARGIN", -30.0)  # so that its time is over at once
        patch.setattr(message_sender.MessageSender, "_enter", dies)
        with pytest.raises(Died):
            send_message(TO, TEXT, key="order-1")
    celery_messages._KEPT.close()


class Died(BaseException):
    pass


def dies(*_, **__):
    raise Died


# what comes again


@pytest.mark.parametrize("status", [401, 403, 503, 500])
def test_what_is_not_the_messages_fault_puts_it_back_until_it_is_mended(account, status):
    fault(account, status=status, retry_after=60)  # so that no call waits for it
    for _ in range(2):
        with pytest.raises(Reject) as caught:
            send_message(TO, TEXT, key="order-1")
        assert caught.value.requeue
    (entry,) = unsettled()
    assert (entry.key, entry.state, entry.tries) == ("order-1", State.PENDING, 2)
    assert str(status) in entry.reason
    end_faults(account)
    assert send_message(TO, TEXT, key="order-1")["message_id"]
    assert account.messages == 1


def test_a_time_limit_that_strikes_before_it_leaves_puts_it_back(account):
    def struck(*_, **__):
        raise SoftTimeLimitExceeded
        yield

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Passage, "departure", struck)
        with pytest.raises(Reject, match="SoftTimeLimitExceeded"):
            send_message(TO, TEXT, key="order-1")
    assert states() == {"order-1": State.PENDING}
    assert send_message(TO, TEXT, key="order-1")["message_id"]
    assert account.messages == 1


def test_a_message_that_the_api_cannot_digest_dies_in_the_end(account, monkeypatch):
    monkeypatch.setattr(message_sender, "MAX_TRIES", 3)
    fault(account, status=500, retry_after=60)
    for _ in range(2):
        with pytest.raises(Reject):
            send_message(TO, TEXT, key="order-1")
    with pytest.raises(RequestRejected, match="500"):
        send_message(TO, TEXT, key="order-1")
    assert states() == {"order-1": State.DEAD}


def test_when_the_day_is_over_messages_wait_where_they_are(account, monkeypatch):
    monkeypatch.setenv("CMZON_PER_DAY", "1")
    send_message(TO, TEXT, key="order-1")
    with pytest.raises(Reject, match="daily limit"):
        send_message(TO, TEXT, key="order-2")
    (entry,) = unsettled()
    assert (entry.key, entry.state, entry.tries) == ("order-2", State.PENDING, 0)
    assert requests(account) == 1


def test_a_token_that_is_missing_kills_no_message(account):
    current = account.store.versions().current
    account.store.close()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CMZON_TOKEN_URI", "env:NOWHERE")
        with pytest.raises(Reject, match="NOWHERE"):
            send_message(TO, TEXT, key="order-1")
        assert states() == {"order-1": State.PENDING}
        celery_messages._KEPT.close()
        patch.setenv("NOWHERE", current.reveal())
        assert send_message(TO, TEXT, key="order-1")["message_id"]


def test_nothing_is_sent_that_cannot_be_entered(account, monkeypatch):
    monkeypatch.setenv("CMZON_LIMITS_URL", "redis://:hunter2@127.0.0.1:1/0")
    with pytest.raises(Reject, match="Redis") as caught:
        send_message(TO, TEXT, key="order-1")
    assert "hunter2" not in str(caught.value)
    assert requests(account) == 0


@pytest.mark.parametrize("name", ["CMZON_ACCOUNT", "CMZON_TOKEN_URI"])
def test_a_worker_that_is_not_configured_loses_no_message_and_says_what_is_missing(
    account, monkeypatch, caplog, name
):
    monkeypatch.delenv(name)
    with pytest.raises(Reject, match=name) as caught:
        send_message(TO, TEXT, key="order-1")
    assert caught.value.requeue
    assert name in caplog.text


# what is shown


def test_who_only_looks_needs_no_token(account, monkeypatch):
    send_message(TO, TEXT, key="order-1")
    monkeypatch.delenv("CMZON_TOKEN_URI")
    found = receipts("order-1", "order-2")
    assert (found["order-1"].state, found["order-2"]) == (State.SENT, None)
    assert unsettled() == []


def test_each_message_that_needs_somebody_is_a_line_of_json_without_number_and_text(
    account, caplog
):
    outcomes = [("a", 403, Reject), ("b", 504, TransportError), ("c", 400, RequestRejected)]
    with caplog.at_level(logging.DEBUG):
        for key, status, error in outcomes:
            fault(account, status=status, count=1)
            with pytest.raises(error):
                send_message(TO, TEXT, key=key)
    ours = [r for r in caplog.records if r.levelno >= logging.WARNING]
    told = [(r.levelname, json.loads(r.getMessage())["message"]) for r in ours]
    assert [(level, line["key"], line["state"]) for level, line in told] == [
        ("WARNING", "a", "pending"),
        ("ERROR", "b", "unknown"),
        ("ERROR", "c", "dead"),
    ]
    assert TO[1:] not in caplog.text
    assert TEXT not in caplog.text


def test_what_cannot_be_sent_is_refused_before_it_is_queued(broker):
    for args, options in [
        (("12025550123", TEXT), {}),
        ((TO, ""), {}),
        ((TO, TEXT), {"key": "with space"}),
        ((TO, TEXT), {"priority": "high"}),
    ]:
        with pytest.raises(RequestRejected):
            send_message.delay(*args, **options)
    with pytest.raises(TypeError):
        send_message.delay(TO)
    assert broker.qsize() == 0


def test_a_queued_message_shows_its_arguments_in_its_body_only(broker):
    send_message.delay(TO, TEXT, key="order-1")
    send_message.si(TO, message=TEXT).apply_async()
    for _ in range(2):
        message = broker.get(block=False)
        assert message.payload[0][0] == TO
        assert message.headers["argsrepr"] == message.headers["kwargsrepr"] == HIDDEN
        assert TO not in repr(message.headers)


def test_what_the_pool_logs_of_the_messages_it_applies_is_not_shown(caplog):
    with caplog.at_level(logging.DEBUG):
        get_logger("celery.pool").debug("TaskPool: Apply %s (args:%s kwargs:%s)", max, TEXT, TO)
    assert caplog.messages == [f"TaskPool: Apply {max} (args:{HIDDEN} kwargs:{HIDDEN})"]


def test_no_frame_of_ours_that_an_error_leaves_behind_holds_number_or_text(account):
    fault(account, status=400, count=1)
    with pytest.raises(RequestRejected) as caught:
        send_message(TO, TEXT, key="order-1")
    ours = [
        frame.f_locals
        for frame, _ in traceback.walk_tb(caught.value.__traceback__)
        if "cmzon_secrets" in frame.f_code.co_filename
    ]
    assert ours
    assert TEXT not in repr(ours)
    assert TO not in repr(ours)


# how it is configured


def test_every_setting_has_its_variable():
    found = Settings.found(
        {
            "CMZON_TOKEN_URI": "env:TOKEN",
            "CMZON_LIMITS_URL": "redis://:hunter2@there/1",
            "CMZON_ACCOUNT": "acme",
            "CMZON_IDEMPOTENCY": "trust",
            "CMZON_SEND_DEADLINE": "10s",
            "CMZON_PER_DAY": "1000",
            "CMZON_PROCESSES": "16",
        }
    )
    assert (found.trusted, found.deadline.total_seconds()) == (True, 10.0)
    assert (found.per_day, found.processes) == (1000, 16)
    assert "hunter2" not in repr(found)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CMZON_IDEMPOTENCY", "off"),
        ("CMZON_SEND_DEADLINE", "soon"),
        ("CMZON_SEND_DEADLINE", "1h"),
        ("CMZON_PER_DAY", "0"),
        ("CMZON_PROCESSES", "many"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused_by_its_name(name, value):
    needed = {"CMZON_TOKEN_URI": "env:TOKEN", "CMZON_ACCOUNT": "acme", name: value}
    with pytest.raises(ConfigurationError, match=name):
        Settings.found(needed, redis_url="redis://there/0")


@pytest.mark.parametrize(
    ("url", "taken"),
    [
        ("redis://there/0", "redis://there/0"),
        ("rediss://there/0?ssl_cert_reqs=required", "rediss://there/0"),
        ("amqp://there", ""),
        ("redis://a/0;redis://b/0", ""),
        (["redis://a/0", "redis://b/0"], ""),
        (None, ""),
    ],
)
def test_the_brokers_redis_is_taken_where_it_is_one(url, taken):
    assert celery_messages._redis_of(url) == taken


def test_an_app_that_includes_the_module_has_a_task_that_survives_its_worker():
    theirs = Celery(
        "theirs", include=["cmzon_secrets.runtimes.celery_messages"], set_as_current=False
    )
    theirs.loader.import_default_modules()
    task = theirs.tasks["cmzon_secrets.send_message"]
    assert task.acks_late
    assert task.reject_on_worker_lost


def test_the_standalone_app_takes_the_urgent_first_and_misses_a_dead_machine_soon():
    assert list(app.conf.task_queues) == ["cmzon-messages-urgent", "cmzon-messages"]
    options = app.conf.broker_transport_options
    assert options["queue_order_strategy"] == "priority"
    longest = message_sender.LONGEST_DEADLINE.total_seconds() + celery_messages.LONGEST
    assert longest < send_message.soft_time_limit < send_message.time_limit
    assert send_message.time_limit < options["visibility_timeout"]


def test_without_celery_the_error_names_the_extra():
    script = """
import sys
sys.modules["celery"] = None
from cmzon_secrets.errors import ConfigurationError
try:
    import cmzon_secrets.runtimes.celery_messages
except ConfigurationError as error:
    print(error, error.hint)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert 'pip install "cmzon-secrets[celery]"' in done.stdout


def requests(account):
    """How many messages reached the API, whatever it answered."""
    asked = urllib.request.Request(
        f"{account.emulator.base_url}/v1/audit",
        headers={"Authorization": f"Bearer {account.emulator.admin_token}"},
    )
    with urllib.request.urlopen(asked, timeout=10) as answer:
        return Counter(entry["route"] for entry in json.load(answer)["data"])[ROUTE]
