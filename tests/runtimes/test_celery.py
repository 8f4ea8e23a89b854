"""The Celery tasks themselves: what they answer, what they queue, and in whose app."""

import json
import logging
import subprocess
import sys
import urllib.request
from datetime import UTC, datetime, timedelta

import pytest

pytest.importorskip("celery", reason="not run: celery (not installed)")

from celery import Celery

from cmzon_secrets import open_store
from cmzon_secrets.errors import ConfigurationError, RotationError
from cmzon_secrets.runtimes import scheduled
from cmzon_secrets.runtimes.celery import JITTER, STALE, app, revoke, rotate_account, rotate_fleet
from cmzon_secrets.sealing_keys.key_file import generate_key_file

TASKS = ("cmzon_secrets.rotate_account", "cmzon_secrets.rotate_fleet", "cmzon_secrets.revoke")


@pytest.fixture
def fleet(tmp_path, cmzon_emulator, monkeypatch):
    """A function: accounts of these names; name → the URI of its store."""
    generate_key_file(tmp_path / "the.key")
    monkeypatch.setenv("CMZON_SECRETS_CONFIG", str(tmp_path / "cmzon-secrets.toml"))
    monkeypatch.setenv("CMZON_ADMIN_URI", "env:ADMIN")
    monkeypatch.setenv("ADMIN", cmzon_emulator.admin_token)

    def configure(*names, extra=""):
        uris = {
            name: f"file:{tmp_path / name}?key=keyfile:{tmp_path / 'the.key'}" for name in names
        }
        tables = [f'[accounts.{name}]\ntoken = "{uri}"\n' for name, uri in uris.items()]
        head = f'base_url = "{cmzon_emulator.base_url}"\n'
        (tmp_path / "cmzon-secrets.toml").write_text(head + "\n".join(tables) + extra)
        return uris

    return configure


@pytest.fixture
def broker():
    """The standalone app, with a broker in this process; empty, and its messages can be read."""
    with app.connection_for_write("memory://") as connection, pytest.MonkeyPatch.context() as patch:
        patch.setattr(app.conf, "broker_url", "memory://")
        app.set_current()
        for queue in app.conf.task_queues:
            connection.SimpleQueue(queue).clear()
        yield lambda queue: _messages(connection.SimpleQueue(queue))
    app.close()


def _messages(queue):
    messages = []
    while queue.qsize():
        messages.append(queue.get(block=False))
    return messages


def test_an_account_that_is_rotated_answers_with_its_item(fleet):
    uri = fleet("acme")["acme"]
    item = rotate_account("acme")
    assert item == json.loads(json.dumps(item))
    assert (item["account"], item["uri"], item["state"]) == ("acme", uri, "done")
    with open_store(uri) as store:
        assert item["actions"][-1] == {
            "kind": "promote",
            "token_id": store.get().id,
            "outcome": "ok",
        }


def test_an_account_that_is_not_due_is_left_alone_unless_forced(fleet):
    fleet("acme")
    rotate_account("acme")
    assert rotate_account("acme")["actions"] == []
    assert rotate_account("acme", force=True)["actions"] != []


def test_a_rotation_that_failed_is_a_failed_task_and_its_item_an_error_in_the_log(
    fleet, cmzon_emulator, caplog
):
    fleet("acme")
    refuse(cmzon_emulator, "POST /v1/tokens")
    with pytest.raises(RotationError, match="acme — "):
        rotate_account("acme")
    (line,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert json.loads(line.getMessage())["item"]["state"] == "failed"


def test_a_rotation_that_needs_a_person_is_a_warning_in_the_log_and_no_failure(
    fleet, cmzon_emulator, caplog
):
    fleet("acme")
    rotate_account("acme")
    refuse(cmzon_emulator, "GET /v1/tokens")
    assert rotate_account("acme")["state"] == "attention"
    (line,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert json.loads(line.getMessage())["item"]["account"] == "acme"


def test_each_step_is_a_line_of_json_in_the_log(fleet, caplog):
    fleet("acme")
    with caplog.at_level(logging.INFO):
        item = rotate_account("acme")
    lines = [
        json.loads(record.getMessage()) for record in caplog.records if record.name != "httpx2"
    ]
    steps = [line["event"] for line in lines if "event" in line]
    assert steps[-2:] == ["token_promoted", "rotation_finished"]
    assert lines[-1] == {"item": item}


def test_an_unknown_account_is_refused_with_those_there_are(fleet):
    fleet("acme")
    with pytest.raises(ConfigurationError, match="it has no account 'acne'") as caught:
        rotate_account("acne")
    assert caught.value.hint == "accounts there: acme"


def test_an_account_added_to_the_file_is_known_without_a_restart(fleet):
    fleet("acme")
    rotate_account("acme")
    fleet("acme", "globex")
    assert rotate_account("globex")["state"] == "done"


def test_a_file_that_has_not_changed_is_not_read_again_for_every_account(fleet, monkeypatch):
    fleet("acme")
    rotate_account("acme")
    monkeypatch.setattr(scheduled, "load_config", lambda path: pytest.fail("it was read again"))
    assert rotate_account("acme")["state"] == "done"


def test_an_alert_kills_a_token_by_its_id(fleet):
    uri = fleet("acme")["acme"]
    rotate_account("acme")
    with open_store(uri) as store:
        leaked = store.get()
        assert revoke("acme", leaked.id)["state"] == "done"
        assert store.get() != leaked
        assert store.versions().previous is None


@pytest.mark.parametrize("token_id", [None, "", 7])
def test_an_alert_that_names_no_token_kills_none(fleet, token_id):
    uri = fleet("acme")["acme"]
    rotate_account("acme")
    with open_store(uri) as store:
        before = store.versions()
        with pytest.raises(ConfigurationError, match="token_id"):
            revoke("acme", token_id)
        assert store.versions() == before


def test_a_fan_out_queues_every_account_once_each_at_its_own_moment(fleet, broker):
    names = [f"account-{number}" for number in range(20)]
    fleet(*names)
    begun = datetime.now(UTC)
    sent = rotate_fleet(force=True)
    messages = broker("cmzon-secrets")
    assert {m.headers["id"]: m.payload[0][0] for m in messages} == {i: n for n, i in sent.items()}
    assert sorted(sent) == sorted(names)
    assert all(m.payload[1] == {"force": True} for m in messages)
    moments = {datetime.fromisoformat(m.headers["eta"]) for m in messages}
    assert len(moments) == 20
    assert begun <= min(moments)
    assert max(moments) < datetime.now(UTC) + timedelta(seconds=JITTER)


def test_accounts_that_nobody_begins_with_do_not_pile_up(fleet, broker):
    fleet("acme")
    rotate_fleet()
    (message,) = broker("cmzon-secrets")
    left = datetime.fromisoformat(message.headers["expires"]) - datetime.now(UTC)
    assert left <= STALE + timedelta(seconds=JITTER)


def test_without_jitter_every_account_is_ready_at_once(fleet, broker):
    fleet("acme", "bcme")
    rotate_fleet(jitter=0)
    assert [m.headers["eta"] for m in broker("cmzon-secrets")] == [None, None]


def test_a_jitter_that_is_no_duration_is_refused_before_anything_is_queued(fleet, broker):
    fleet("acme")
    with pytest.raises(ConfigurationError, match="jitter"):
        rotate_fleet(jitter=-1)
    assert broker("cmzon-secrets") == []


def test_an_emergency_does_not_wait_behind_the_fleet(broker):
    revoke.apply_async(("acme", "tok_1"))
    assert broker("cmzon-secrets") == []
    assert len(broker("cmzon-secrets-emergency")) == 1


def test_the_standalone_app_has_its_tasks_a_schedule_and_patience_beyond_its_jitter():
    assert set(app.tasks) >= set(TASKS)
    (entry,) = app.conf.beat_schedule.values()
    assert entry["task"] == rotate_fleet.name
    assert app.conf.broker_transport_options["visibility_timeout"] > JITTER


@pytest.mark.parametrize("name", TASKS)
def test_an_app_that_includes_the_module_has_tasks_that_survive_their_worker(name):
    theirs = Celery("theirs", include=["cmzon_secrets.runtimes.celery"], set_as_current=False)
    theirs.loader.import_default_modules()
    task = theirs.tasks[name]
    assert task.acks_late
    assert task.reject_on_worker_lost
    assert not task.ignore_result


def test_without_celery_the_error_names_the_extra():
    script = """
import sys
sys.modules["celery"] = None
from cmzon_secrets.errors import ConfigurationError
try:
    import cmzon_secrets.runtimes.celery
except ConfigurationError as error:
    print(error, error.hint)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert 'pip install "cmzon-secrets[celery]"' in done.stdout


def refuse(emulator, route):
    fault = json.dumps({"route": route, "status": 403}).encode()
    urllib.request.urlopen(f"{emulator.base_url}/_emulator/faults", fault, 10).close()
