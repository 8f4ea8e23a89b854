"""The fleet as Celery tasks: two machines of two processes each, a real Redis, and deaths.

A process that dies is missed by its own worker, which queues the task again at once. A machine that
dies is missed by nobody but Redis, when its visibility timeout is over. Both happen here in the
middle of a rotation: the emulator has issued the new token and holds back the answer.
"""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from cmzon_secrets import CMzonIssuer, Token, open_store
from cmzon_secrets.errors import RotationError
from cmzon_secrets.runtimes.scheduled import rotate_configured
from cmzon_secrets.sealing_keys.key_file import generate_key_file
from servers.celery_machine import Machine, wait_for

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
SOURCE = HERE.parents[1] / "src"
PATIENCE = 90.0  # seconds; for a loaded machine
HELD_BACK = 5.0  # seconds; less than the issuer waits
PROCESSES = 2  # of each machine


class Api:
    """The emulator, a process of its own."""

    def __init__(self, told):
        self.base_url = told["base_url"]
        self.admin = Token(Path(told["admin_token_file"]).read_text().strip())

    def control(self, name, body=None):
        data = json.dumps(body).encode() if body is not None else None
        with urllib.request.urlopen(f"{self.base_url}/_emulator/{name}", data, 10) as answer:
            return json.load(answer)

    def hold_back(self, count):
        """The next so many tokens are issued, and their answers wait."""
        fault = {"latency": HELD_BACK, "after_accept": True, "count": count}
        self.control("faults", {"route": "POST /v1/tokens", **fault})

    def wait_until_held_back(self):
        """Until so many rotations are between issuing and storing."""
        wait_for(
            lambda: not self.control("faults")["data"],
            "nobody asked for a token",
            patience=PATIENCE,
        )

    @property
    def tokens(self):
        """How many are live and revoked, the admin's aside."""
        counted = self.control("stats")["tokens"]
        return counted["live"] - 1, counted["revoked"]


class Accounts:
    """Sealed files and the configuration that names them, read by workers on each task."""

    def __init__(self, folder, api):
        self.folder, self.api, self.names = folder, api, []
        self.config = folder / "cmzon-secrets.toml"
        generate_key_file(folder / "the.key")
        with self.store("admin") as store:
            store.stage(api.admin)
            store.promote(api.admin.id, replacing=None)

    def become(self, *names):
        """These accounts are configured and no others; each has a first token."""
        self.names = names
        head = f'admin = "{self._uri("admin")}"\nbase_url = "{self.api.base_url}"\n'
        # Whoever takes over derives the same key within half of it: here, whenever this test is run.
        head += '[defaults]\norphan_age = "365d"\n'
        tables = [f'[accounts.{name}]\ntoken = "{self._uri(name)}"\n' for name in names]
        draft = self.config.with_suffix(".draft")
        draft.write_text(head + "\n".join(tables))
        draft.replace(self.config)
        items = rotate_configured()
        assert Counter(item["state"] for item in items) == {"done": len(names)}

    def store(self, name):
        return open_store(self._uri(name))

    def held(self):
        """Name → what its store holds."""
        versions = {}
        for name in self.names:
            with self.store(name) as store:
                versions[name] = store.versions()
        return versions

    def _uri(self, name):
        return f"file:{self.folder / name}.sealed?key=keyfile:{self.folder / 'the.key'}"


class FleetMachine(Machine):
    """Its worker rotates accounts."""

    def __init__(self, name, folder):
        env = {**os.environ, "PYTHONPATH": f"{SOURCE}:{HERE}", "WARM_ACCOUNT": "warm"}
        super().__init__(name, folder, "fleet_app", "-c", str(PROCESSES), "-l", "DEBUG", env=env)

    def process_in_the_middle(self, app):
        """The id of a process that is rotating an account right now."""
        tasks = app.control.inspect([self.name], timeout=5, limit=1).active()[self.name]
        return next(task["worker_pid"] for task in tasks if task["type"].endswith("rotate_account"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fleet")


@pytest.fixture(scope="module")
def api(folder):
    command = [sys.executable, "-m", "cmzon_secrets.cli", "emulator", "--port", "0", "--json"]
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=folder, env=environment) as process:
        yield Api(json.loads(process.stdout.readline()))
        process.terminate()


@pytest.fixture(scope="module")
def environment(redis_server, folder):
    """What workers find in theirs, and this process with them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CELERY_BROKER_URL", redis_server.url(1))
        patch.setenv("CELERY_RESULT_BACKEND", redis_server.url(2))
        patch.setenv("CMZON_SECRETS_CONFIG", str(folder / "cmzon-secrets.toml"))
        patch.delenv("CMZON_ADMIN_URI", raising=False)
        yield


@pytest.fixture(scope="module")
def accounts(environment, folder, api):
    return Accounts(folder, api)


@pytest.fixture(scope="module")
def app(redis_server):
    """A program that knows the tasks by name only."""
    celery = pytest.importorskip("celery", reason="not run: celery (not installed)")
    app = celery.Celery(
        broker=redis_server.url(1), backend=redis_server.url(2), set_as_current=False
    )
    app.conf.task_default_queue = "cmzon-secrets"
    app.conf.task_routes = {"cmzon_secrets.revoke": {"queue": "cmzon-secrets-emergency"}}
    yield app
    app.close()


@pytest.fixture(scope="module")
def machines(accounts, folder):
    accounts.become("warm")
    machines = [FleetMachine(name, folder) for name in ("one", "two")]
    try:
        for machine in machines:
            machine.wait_until_ready(PATIENCE)
        yield machines
    finally:
        for machine in machines:
            machine.cut_power()


@pytest.fixture
def queue(app):
    """Queues a task by its name; its result."""
    return lambda task, *args, **options: app.send_task(f"cmzon_secrets.{task}", args, options)


def test_two_fan_outs_at_once_rotate_every_account_once(app, queue, api, accounts, machines):
    accounts.become(*(f"twice-{number:02}" for number in range(12)))
    before = accounts.held()
    issued, _ = api.tokens
    fan_outs = [queue("rotate_fleet", force=True, jitter=jitter) for jitter in (0, 0.5)]
    states = Counter(item["state"] for item in outcomes(app, *fan_outs))
    assert states["done"] >= 12
    assert set(states) <= {"done", "waiting"}
    assert_rotated_once(accounts, before)
    assert api.tokens == (issued + 12, 0)


def test_four_processes_with_the_same_account_in_their_hands_rotate_it_once(
    queue, api, accounts, machines
):
    accounts.become("wanted")
    before = accounts.held()
    issued, _ = api.tokens
    crowd = len(machines) * PROCESSES
    api.hold_back(crowd)
    results = [queue("rotate_account", "wanted", force=True) for _ in range(crowd)]
    api.wait_until_held_back()  # all four have asked for its new token, and none has stored one
    assert {r.get(timeout=PATIENCE)["state"] for r in results} <= {"done", "waiting"}
    assert_rotated_once(accounts, before)
    assert api.tokens == (issued + 1, 0)


def test_an_alert_has_a_leaked_token_killed_and_replaced_by_its_id(queue, api, accounts, machines):
    accounts.become("leaky")
    leaked = accounts.held()["leaky"].current
    issued, revoked = api.tokens
    item = queue("revoke", "leaky", leaked.id).get(timeout=PATIENCE)
    assert item["state"] == "done"
    assert api.tokens == (issued, revoked + 1)
    replaced = accounts.held()
    assert_alive(api, replaced)
    queue("revoke", "leaky", leaked.id).get(timeout=PATIENCE)  # delivered twice
    assert accounts.held() == replaced
    assert_alive(api, replaced)


def test_no_secret_reaches_a_log_or_the_broker(queue, redis_server, api, accounts, machines):
    accounts.become("discreet")
    queue("rotate_account", "discreet", force=True).get(timeout=PATIENCE)
    api.control("faults", {"route": "POST /v1/tokens", "status": 401, "count": 1})
    failing = queue("revoke", "discreet", accounts.held()["discreet"].current.id)
    with pytest.raises(RotationError, match="discreet"):
        failing.get(timeout=PATIENCE)
    shown = [failing.traceback, *results_in(redis_server)]
    shown += [machine.log.read_text() for machine in machines]
    assert "DEBUG" in shown[-1]
    assert failing.id in "".join(shown)
    values = [token.reveal() for token in (*accounts.held()["discreet"], api.admin)]
    for value in (*values, redis_server.password):
        assert not any(value in text for text in shown)


def test_a_process_and_a_machine_die_in_the_middle_and_every_account_is_rotated_once(
    app, queue, api, accounts, machines
):
    accounts.become(*(f"account-{number:02}" for number in range(40)))
    before = accounts.held()
    issued, revoked = api.tokens
    first, second = machines

    api.hold_back(len(machines) * PROCESSES)
    fan_out = queue("rotate_fleet", force=True, jitter=0)
    api.wait_until_held_back()
    os.kill(first.process_in_the_middle(app), signal.SIGKILL)

    api.hold_back(len(machines) * PROCESSES)
    api.wait_until_held_back()
    assert second.process_in_the_middle(app)
    second.cut_power()

    items = outcomes(app, fan_out)
    assert Counter(item["state"] for item in items) == {"done": 40}
    assert {item["account"] for item in items} == set(accounts.names)
    assert_rotated_once(accounts, before)
    assert_alive(api, accounts.held())
    assert api.tokens == (issued + 40, revoked)  # so none is alive that no store holds


def outcomes(app, *fan_outs):
    """The items of all accounts that these fan-outs have queued, when the last has ended."""
    ids = [task for fan_out in fan_outs for task in fan_out.get(timeout=PATIENCE).values()]
    return [app.AsyncResult(task).get(timeout=PATIENCE) for task in ids]


def assert_rotated_once(accounts, before):
    for name, held in accounts.held().items():
        assert held.previous == before[name].current, name
        assert held.current != held.previous
        assert held.pending is None


def assert_alive(api, held):
    tokens = [token for versions in held.values() for token in versions]
    with closing(CMzonIssuer("env:NOT_NEEDED", base_url=api.base_url)) as issuer:
        assert len({issuer.verify(token).id for token in tokens}) == len(tokens)


def results_in(server):
    from redis import Redis

    with Redis.from_url(server.url(2), decode_responses=True) as client:
        return client.mget(client.keys("celery-task-meta-*"))
