"""examples/celery-messages: somebody's own app, run as it is."""

import subprocess
import sys
import time
from contextlib import contextmanager

import pytest

pytestmark = pytest.mark.slow

PATIENCE = 60.0  # seconds


@pytest.fixture
def environment(sending_account, redis_server, examples):
    ours = sending_account.environment
    return {
        **ours,
        "CELERY_BROKER_URL": redis_server.url(11),
        "CMZON_ACCOUNT": "shop",
        "PYTHONPATH": f"{ours['PYTHONPATH']}:{examples / 'celery-messages'}",
    }


@pytest.fixture
def client(redis_server):
    celery = pytest.importorskip("celery", reason="not run: celery (not installed)")
    client = celery.Celery(broker=redis_server.url(11), set_as_current=False)
    yield client
    client.close()


@contextmanager
def worker(folder, environment):
    command = [sys.executable, "-m", "celery", "-A", "shop", "worker", "-c", "2"]
    queues = ["-Q", "celery,messages-urgent,messages"]
    with (folder / "worker.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, *queues], cwd=folder, stdout=log, stderr=log, env=environment
        )
    try:
        yield folder / "worker.log"
    finally:
        process.terminate()
        process.wait()


def wait_until_sent(account, count, log):
    end = time.monotonic() + PATIENCE
    while account.messages < count:
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.1)


def test_an_app_with_tasks_of_its_own_writes_to_its_customers(
    client, sending_account, environment, tmp_path
):
    with worker(tmp_path, environment) as log:
        for _ in range(2):  # whoever tells it twice writes once
            client.send_task("shop.shipped", ("4711",))
        client.send_task("shop.log_in", ("12",))
        wait_until_sent(sending_account, 2, log)
        client.send_task("shop.queue_again_what_was_lost")
        wait_until_sent(sending_account, 3, log)  # 4712, which nobody had queued
    assert sending_account.messages == 3
    assert "Traceback" not in log.read_text()
    assert "1202555" not in log.read_text()


def test_what_its_beat_sends_and_its_settings_name_are_tasks_it_has(environment, tmp_path):
    script = """
from shop import app
app.loader.import_default_modules()
named = [entry["task"] for entry in app.conf.beat_schedule.values()]
assert {*named, *app.conf.task_routes} <= set(app.tasks)
"""
    subprocess.run([sys.executable, "-c", script], env=environment, cwd=tmp_path, check=True)
