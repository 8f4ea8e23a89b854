"""The emulator as a test of Python uses it; docs/emulator.md shows how."""

import json
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
    assert api.emulator.wait_for_message(timeout=0)["message_id"] == sent["id"]
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


def test_a_token_is_made_used_ended_and_killed_without_a_request(api):
    emulator = api.emulator
    token = emulator.issue("acme", expires_in=60, allowed_ips=["127.0.0.0/8"])
    assert set(token) == set(api.issue())
    assert (token["scopes"], token["allowed_ips"]) == (["messages:send"], ["127.0.0.0/8"])
    assert api.send(token["token"]).status_code == 200
    emulator.expire(token["id"])
    assert api.send(token["token"]).status_code == 401
    other = emulator.issue("acme", scopes=["audit:read"])
    assert api.send(other["token"]).status_code == 403
    emulator.revoke(other["id"])
    assert api.send(other["token"]).status_code == 401
    told = api.http.get("/_emulator/audit.jsonl", params={"token_id": token["id"]}).text
    done = {json.loads(line)["event"]: json.loads(line)["by"] for line in told.splitlines()}
    assert (done["issued"], done["expired_now"]) == ("control", "control")


def test_limits_are_set_one_by_one_and_faults_ended(api):
    emulator = api.emulator
    emulator.set_limits(per_second=70)
    emulator.set_limits(per_day=1)
    assert [api.send().status_code for _ in range(2)] == [200, 429]
    emulator.set_limits(per_day=None)
    limits = api.http.get("/_emulator/limits").json()
    assert (limits["per_second"], limits["per_day"]) == (70, None)
    emulator.fault(route=MESSAGES, status=503)
    assert api.send().status_code == 503
    emulator.clear_faults()
    assert api.send().status_code == 200


def test_the_dashboard_is_where_it_says(api):
    assert api.http.get(api.emulator.dashboard_url).status_code == 200


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda e: e.messages(txet="a"), "txet"),
        (lambda e: e.messages(limit=0), "limit"),
        (lambda e: e.messages(status="abc"), "status"),
        (lambda e: e.wait_for_message(to=5), "to"),
        (lambda e: e.wait_for_message(to=""), "to"),
        (lambda e: e.wait_for_message(to="1999"), "to"),
        (lambda e: e.issue(""), "name"),
        (lambda e: e.issue("a", scopes="messages:send"), "scopes"),
        (lambda e: e.issue("a", expires_in=-1), "expires_in"),
        (lambda e: e.issue("a", allowed_ips=["here"]), "allowed_ips"),
        (lambda e: e.expire("tok_unknown"), "token id"),
        (lambda e: e.set_limits(), "per_second"),
        (lambda e: e.set_limits(per_day=0), "per_day"),
        (lambda e: e.set_limits(per_minute=1), "per_minute"),
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
        Emulator.clear_faults,
        lambda e: e.set_limits(per_day=1),
        lambda e: e.issue("a"),
        lambda e: e.revoke("tok_a"),
        lambda e: e.expire("tok_a"),
        lambda e: e.dashboard_url,
    ],
)
def test_one_that_does_not_run_says_so(call):
    with pytest.raises(ConfigurationError, match="not running") as refused:
        call(Emulator())
    assert refused.value.hint


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
