"""Messages as Celery tasks: machines of four processes each, a real Redis, the limits of one account, and deaths.

The emulator keeps what it accepted, with the key of each, and every request: what the workers say of
a message is compared with what the API knows of it.
"""

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from servers.celery_machine import Machine, wait_for

pytest.importorskip("celery", reason="not run: celery (not installed)")

from celery import Celery

from cmzon_secrets.client.outbox.model import State
from cmzon_secrets.runtimes.celery_private import HIDDEN
from cmzon_secrets.runtimes.message_sender import Settings

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
SOURCE = HERE.parents[1] / "src"
PROCESSES = 4  # of each machine
ROUTE = "POST /v1/messages"
TEXT = "Your code is 314159"
URGENT, QUEUE = "cmzon-messages-urgent", "cmzon-messages"
TAKEN = "(SELECT min(seq), * FROM exchanges WHERE message_id IS NOT NULL GROUP BY message_id)"
"""Of what the emulator keeps: each message that it took, by the request that first brought it."""


class Api:
    """The emulator, a process of its own; once it is stopped, what it knows."""

    def __init__(self, folder, process):
        told = json.loads(process.stdout.readline())
        self.process = process
        self.base_url = told["base_url"]
        self.token = Path(told["admin_token_file"]).read_text().strip()
        self._database = folder / "emulator.db"

    def control(self, name, body=None, method=None):
        data = json.dumps(body).encode() if body is not None else None
        url = f"{self.base_url}/_emulator/{name}"
        with urllib.request.urlopen(
            urllib.request.Request(url, data, method=method), timeout=10
        ) as answer:
            return json.loads(answer.read() or b"null")

    def fault(self, **fault):
        self.control("faults", {"route": ROUTE, **fault})

    @property
    def stats(self):
        return self.control("stats")

    def stop(self):
        self.process.terminate()
        self.process.wait()

    def rows(self, query):
        with closing(sqlite3.connect(self._database)) as database:
            return database.execute(query).fetchall()

    @property
    def accepted(self):
        """The key of every message that it took."""
        return Counter(key for (key,) in self.rows(f"SELECT idempotency_key FROM {TAKEN}"))

    @property
    def repeated(self):
        """How many requests were honoured by their key only: it took that message before."""
        (found,) = self.rows(
            f"SELECT count(*) FROM audit WHERE route = '{ROUTE}' AND status = 200"
            f" AND request_id NOT IN (SELECT id FROM {TAKEN})"
        )
        return found[0]


class SendingMachine(Machine):
    """Its worker sends messages."""

    def __init__(self, name, folder, environment, level):
        options = ["-c", str(PROCESSES), "-l", level, "-Q", f"{URGENT},{QUEUE}"]
        super().__init__(name, folder, "messages_app", *options, env=environment)

    def kill_a_process(self):
        children = Path(f"/proc/{self.worker.pid}/task/{self.worker.pid}/children")
        with suppress(ProcessLookupError):
            os.kill(int(random.choice(children.read_text().split())), signal.SIGKILL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("messages")


@pytest.fixture
def api(tmp_path):
    command = [sys.executable, "-m", "cmzon_secrets.cli", "emulator", "--port", "0", "--json"]
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    with subprocess.Popen(
        [*command, "--state", str(tmp_path)], stdout=subprocess.PIPE, env=environment
    ) as process:
        api = Api(tmp_path, process)
        yield api
        api.stop()


@pytest.fixture
def environment(redis_server, api, request):
    """What the workers find in theirs."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("CMZON_")}
    return {
        **ours,
        "CELERY_BROKER_URL": redis_server.url(9),
        "CELERY_RESULT_BACKEND": redis_server.url(10),
        "CMZON_ACCOUNT": request.node.name.partition("[")[0][:60],
        "CMZON_BASE_URL": api.base_url,
        "CMZON_SEND_DEADLINE": "3s",
        "CMZON_TOKEN_URI": "env:CMZON_TOKEN",
        "CMZON_TOKEN": api.token,
        "PYTHONPATH": f"{SOURCE}:{HERE}",
    }


@pytest.fixture
def start(tmp_path, environment):
    """A function that starts machines of these names, and waits until they are ready."""
    machines = []

    def start_all(*names, level="INFO"):
        started = [SendingMachine(name, tmp_path, environment, level) for name in names]
        machines.extend(started)
        for machine in started:
            machine.wait_until_ready()
        return started

    yield start_all
    for machine in machines:
        machine.cut_power()


@pytest.fixture
def app(redis_server):
    """A program that knows the task by name only."""
    app = Celery(broker=redis_server.url(9), backend=redis_server.url(10), set_as_current=False)
    for database in (9, 10):
        with connected(redis_server, database) as client:
            client.flushdb()
    yield app
    app.close()


@pytest.fixture
def ledger(environment, redis_server):
    with closing(Settings.found(environment, redis_url=redis_server.url(9)).ledger()) as ledger:
        yield ledger


def connected(server, database):
    from redis import Redis

    return Redis.from_url(server.url(database), decode_responses=True)


def queue(app, keys, *, to=QUEUE):
    """Queue a message for each of these keys."""
    with app.producer_or_acquire() as producer:
        for key in keys:
            app.send_task(
                "cmzon_secrets.send_message",
                (f"+1202555{key[-4:]}", TEXT),
                {"key": key},
                queue=to,
                producer=producer,
            )


def keys_of(name, count):
    return [f"{name}-{number:04}" for number in range(count)]


def is_empty(server):
    """Whether no message waits, no worker has one in its hands, and none is on its way to one."""
    with connected(server, 9) as client:
        for _ in range(5):
            if client.exists(QUEUE, URGENT, "unacked"):
                return False
            time.sleep(0.1)
        return True


def states(ledger, keys):
    """Key → its state; None: nobody began with it."""
    entries = ledger.entries(*keys)
    return {key: entry and entry.state for key, entry in zip(keys, entries, strict=True)}


@pytest.mark.paced
def test_two_machines_saturate_the_limit_and_never_pass_it_and_the_urgent_go_first(
    api, app, start, ledger, record_property
):
    start("one", "two")
    keys, urgent = keys_of("order", 400), keys_of("urgent", 10)
    queue(app, keys)
    wait_for(lambda: api.stats["messages"] >= 100, "nothing is sent")
    queue(app, urgent, to=URGENT)
    wait_for(lambda: api.stats["messages"] == 410, "not all are sent")

    assert api.stats["max_per_sliding_second"] <= 80
    api.stop()
    assert api.accepted == Counter([*keys, *urgent])
    order = [key for (key,) in api.rows(f"SELECT idempotency_key FROM {TAKEN} ORDER BY seq")]
    assert max(map(order.index, urgent)) < 200
    times = [at for (at,) in api.rows(f"SELECT at FROM {TAKEN} ORDER BY seq")]
    pace = 200 / min(late - early for early, late in zip(times, times[200:], strict=False))
    record_property("pace", pace)
    print(f"{pace:.1f} messages a second")
    assert 60 < pace <= 80  # 78 where nothing else runs: the most that the spacing allows


def test_processes_and_a_machine_die_in_the_middle_and_no_message_is_sent_twice_or_lost(
    api, app, start, ledger, redis_server
):
    first, second = start("one", "two")
    api.fault(latency=0.15, probability=0.3, seed=1)
    api.fault(latency=0.15, probability=0.3, seed=2, after_accept=True)
    api.fault(reset=True, probability=0.03, seed=3, after_accept=True)
    api.fault(status=500, probability=0.05, seed=4)
    keys = keys_of("order", 250)
    queue(app, sorted(keys + keys[::4]))  # some are delivered twice, to two workers at once
    for _ in range(4):
        time.sleep(0.3)
        first.kill_a_process()
        second.kill_a_process()
    second.cut_power()
    (third,) = start("three")
    for _ in range(3):
        time.sleep(0.3)
        third.kill_a_process()

    wait_for(lambda: is_empty(redis_server), "the queue is not empty", first.log)
    lost = [key for key, state in states(ledger, keys).items() if state is None]
    assert len(lost) <= 1  # by Redis, when the machine died that it had just answered
    queue(app, lost)
    wait_for(lambda: is_empty(redis_server), "the queue is not empty", first.log)
    assert api.stats["max_per_sliding_second"] <= 80
    api.stop()
    accepted, known = api.accepted, states(ledger, keys)
    print(Counter(known.values()))
    assert set(accepted.values()) == {1}
    assert api.repeated == 0
    sent = {key for key, state in known.items() if state is State.SENT}
    unknown = {key for key, state in known.items() if state is State.UNKNOWN}
    assert sent <= set(accepted) <= sent | unknown
    assert len(sent) > 200
    assert {e.key for e in ledger.unsettled()} == set(keys) - sent


def test_number_and_text_stand_in_the_messages_bodies_and_nowhere_else(
    api, app, start, redis_server, ledger
):
    (machine,) = start("one", level="DEBUG")
    api.fault(status=400, count=1)
    api.fault(reset=True, count=1)
    api.fault(status=403, count=1)
    api.fault(latency=1.0, count=4, after_accept=True)
    asked = app.control.inspect([machine.name], timeout=5)
    with events(app) as seen:
        queue(app, keys_of("order", 6))
        wait_for(lambda: api.stats["messages"], "nothing is sent", machine.log)
        active = asked.active()[machine.name]
        queried = asked.query_task(*(task["id"] for task in active))
        wait_for(lambda: len(results(redis_server)) == 6, "not all have ended", machine.log)
    stored = results(redis_server)
    assert {event["type"] for event in seen} >= {"task-received", "task-rejected", "task-failed"}
    shown = [machine.log.read_text(), repr(seen), *stored, repr(active), repr(queried)]
    shown += [repr(entry) for entry in ledger.unsettled()]
    with connected(redis_server, 9) as client:
        shown += [repr(client.hgetall(name)) for name in client.keys("cmzon-secrets:*:message:*")]
    assert "DEBUG" in shown[0]
    assert "Traceback" not in shown[0]
    assert HIDDEN in repr(active)
    assert HIDDEN in repr(queried)
    for text in shown:
        for secret in (TEXT, "1202555000", api.token, redis_server.password):
            assert secret not in text


@contextmanager
def events(app):
    """All that workers tell while the block runs."""
    seen = []
    with app.connection() as connection:
        receiver = app.events.Receiver(connection, handlers={"*": seen.append})
        thread = threading.Thread(target=receiver.capture, kwargs={"wakeup": False})
        thread.start()
        try:
            yield seen
        finally:
            receiver.should_stop = True
            thread.join()


def results(server):
    """Of the tasks that have ended, as they are stored."""
    with connected(server, 10) as client:
        stored = client.mget(client.keys("celery-task-meta-*") or ["none"])
    return [
        text for text in stored if text and json.loads(text)["status"] in ("SUCCESS", "FAILURE")
    ]
