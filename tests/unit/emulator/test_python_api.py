"""The emulator as a test of Python uses it; docs/emulator.md shows how."""

import os
import re
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cmzon_secrets.emulator import Emulator
from cmzon_secrets.errors import ConfigurationError

PAGE = Path(__file__).parents[3] / "docs" / "emulator.md"
MESSAGES = "POST /v1/messages"
TO = "+1234567890"


def test_what_the_page_shows_passes(tmp_path):
    shown = re.findall(r"<!-- file: (\S+) -->\n```python\n(.*?)```\n", PAGE.read_text(), re.DOTALL)
    ((name, text),) = shown
    (tmp_path / name).write_text(text)
    plugin = ("-p", "cmzon_secrets.testing.pytest_plugin", "-p", "no:cacheprovider")
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", *plugin, str(tmp_path)],
        capture_output=True,
        check=False,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
    )
    assert ran.returncode == 0, ran.stdout
    assert "3 passed" in ran.stdout


def test_messages_are_those_of_the_control(api):
    for text in ("one", "two"):
        api.send(message={"to": TO, "type": "text", "text": {"body": text}})
    api.send("unknown-token")
    emulator = api.emulator
    assert emulator.messages() == api.http.get("/_emulator/messages").json()["data"]
    assert [message["text"] for message in emulator.messages(status="2xx", limit=1)] == ["one"]
    assert [message["status"] for message in emulator.messages(status=401)] == [401]
    assert emulator.messages(after=emulator.messages()[-1]["seq"]) == []


def test_a_wait_gives_the_message_that_came_before_or_comes_later(api):
    sent = api.send().json()
    assert api.emulator.wait_for_message(timeout=0)["id"] == sent["id"]
    with ThreadPoolExecutor() as pool:
        waited = pool.submit(api.emulator.wait_for_message, idempotency_key="k1")
        api.send(key="k1")
        assert waited.result(10)["idempotency_key"] == "k1"


def test_a_wait_in_vain_says_what_came_instead(api):
    api.send()
    with pytest.raises(TimeoutError) as in_vain:
        api.emulator.wait_for_message(0.05, text="password")
    assert str(in_vain.value) == (
        "within 0.05 s no message matched;"
        " 1 other came, to +1234567890 with status 200: 'Hello from CMzon!'"
    )


def test_reset_advance_snapshot_restore_and_fault_do_what_the_controls_do(api):
    emulator = api.emulator
    token = api.issue(expires_in=3600)["token"]
    emulator.snapshot("before")
    emulator.advance(3600)
    assert api.send(token).status_code == 401
    emulator.restore("before")
    assert api.send(token).status_code == 200
    fault = emulator.fault(route=MESSAGES, status=503, count=1)
    assert api.http.get("/_emulator/faults").json() == {"data": [fault]}
    assert api.send(token).status_code == 503
    emulator.reset()
    assert api.send(token).status_code == 401


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda e: e.messages(txet="a"), "txet"),
        (lambda e: e.messages(limit=0), "limit"),
        (lambda e: e.messages(status="abc"), "status"),
        (lambda e: e.wait_for_message(to=5), "to"),
        (lambda e: e.wait_for_message(timeout=-1), "timeout"),
        (lambda e: e.wait_for_message(timeout="10"), "timeout"),
        (lambda e: e.advance("60"), "advance"),
        (lambda e: e.advance(float("nan")), "advance"),
        (lambda e: e.snapshot("../a"), "name"),
        (lambda e: e.snapshot(5), "name"),
        (lambda e: e.restore("unknown"), "name"),
        (lambda e: e.fault(status=500), "route"),
        (lambda e: e.fault(route=MESSAGES, status=200), "status"),
        (lambda e: e.fault(route=MESSAGES, stauts=500), "stauts"),
    ],
)
def test_a_wrong_argument_is_named(running, call, named):
    with pytest.raises(ConfigurationError) as refused:
        call(running)
    assert refused.value.message.startswith(f"emulator {named} — ")


@pytest.fixture(scope="module")
def running():
    with Emulator() as emulator:
        yield emulator


@pytest.mark.parametrize(
    "call",
    [
        Emulator.stats,
        Emulator.messages,
        Emulator.wait_for_message,
        Emulator.reset,
        lambda e: e.advance(1),
        lambda e: e.snapshot("a"),
        lambda e: e.restore("a"),
        lambda e: e.fault(route=MESSAGES, status=500),
    ],
)
def test_one_that_does_not_run_says_so(call):
    with pytest.raises(ConfigurationError, match="not running"):
        call(Emulator())


def test_a_stop_ends_waits_of_other_threads_at_once(emulator, caplog):
    ended = []

    def wait_on():
        try:
            emulator.wait_for_message(timeout=300)
        except ConfigurationError as error:
            ended.append(error.message)

    waiting = [threading.Thread(target=wait_on) for _ in range(5)]
    for thread in waiting:
        thread.start()
    began = time.monotonic()
    emulator.stop()
    for thread in waiting:
        thread.join(10)
    assert time.monotonic() - began < 5
    assert set(ended) <= {
        "emulator — it was stopped meanwhile",
        "emulator — it is not running",
    }
    assert len(ended) == 5
    assert caplog.records == []


def test_many_threads_can_use_it_while_it_is_used(api):
    emulator = api.emulator

    def use(number):
        emulator.snapshot(f"n-{number}")
        emulator.advance(1)
        return len(emulator.messages(limit=1000)), emulator.stats()["messages"]

    with ThreadPoolExecutor(8) as pool:
        used = [pool.submit(use, number) for number in range(16)]
        for _ in range(20):
            assert api.send().status_code == 200
        assert all(listed <= accepted for listed, accepted in (u.result(30) for u in used))
    assert api.http.get("/_emulator/clock").json()["shift"] == 16
