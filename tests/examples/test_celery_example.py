"""examples/celery: somebody's own app, run as it is."""

import subprocess
import sys
from contextlib import contextmanager

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture
def environment(fleet, redis_server, examples):
    return {
        **fleet,
        "CELERY_BROKER_URL": redis_server.url(3),
        "CELERY_RESULT_BACKEND": redis_server.url(4),
        "PYTHONPATH": f"{fleet['PYTHONPATH']}:{examples / 'celery'}",
    }


@pytest.fixture
def client(redis_server):
    celery = pytest.importorskip("celery", reason="not run: celery (not installed)")
    urls = {"broker": redis_server.url(3), "backend": redis_server.url(4)}
    client = celery.Celery(**urls, set_as_current=False)
    yield client
    client.close()


@contextmanager
def worker(folder, environment):
    command = [sys.executable, "-m", "celery", "-A", "shop", "worker"]
    options = ["--pool", "solo", "-Q", "celery,emergency"]
    with (folder / "worker.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, *options], cwd=folder, stdout=log, stderr=log, env=environment
        )
    try:
        yield
    finally:
        process.kill()
        process.wait()


def test_an_app_with_tasks_of_its_own_rotates_the_fleet_too(client, environment, tmp_path):
    with worker(tmp_path, environment):
        fan_out = client.send_task("cmzon_secrets.rotate_fleet", kwargs={"jitter": 0})
        items = [client.AsyncResult(t).get(timeout=60) for t in fan_out.get(timeout=60).values()]
        assert {item["account"]: item["state"] for item in items} == {
            "acme": "done",
            "globex": "done",
        }
        leaked = {
            "kind": "revoke",
            "token_id": items[0]["actions"][-1]["token_id"],
            "outcome": "ok",
        }
        told = [items[0]["account"], leaked["token_id"]]
        killed = client.send_task("cmzon_secrets.revoke", told, queue="emergency")
        assert leaked in killed.get(timeout=60)["actions"]


def test_what_its_beat_sends_and_its_settings_name_are_tasks_it_has(environment, tmp_path):
    script = """
from shop import app
app.loader.import_default_modules()
named = [entry["task"] for entry in app.conf.beat_schedule.values()]
assert {*named, *app.conf.task_routes, *app.conf.task_annotations} <= set(app.tasks)
"""
    subprocess.run([sys.executable, "-c", script], env=environment, cwd=tmp_path, check=True)
