"""``quickstart``: the main job on real input; its account is true, and it can be repeated."""

from __future__ import annotations

import json
import re
import time
from urllib.parse import urljoin
from urllib.request import urlopen

import pytest

from cmzon_secrets.cli import quickstart, story
from cmzon_secrets.errors import ConfigurationError
from cmzon_secrets.http.exchange import Target


@pytest.mark.slow
def test_the_token_changes_three_times_and_no_message_is_lost(cli):
    done = cli("quickstart", "--json")
    (item,) = json.loads(done.out)["items"]
    assert (done.code, item["faults"], item["went_well"]) == (0, [], True), done.err
    assert item["sent"] == item["accepted"] > 100
    assert (item["failed"], item["unauthorized"]) == (0, 0)
    assert (item["issued"], item["revoked"]) == (4, 3)
    assert re.search(
        r"watch it: http://127\.0\.0\.1:\d+/dashboard/rotation$", done.err.splitlines()[0]
    )
    assert [word for word in ("first rotation", "second rotation", "emergency") if word in done.err]
    held = json.loads(cli("get", item["uri"], "--json").out)["items"][0]
    assert (held["scopes"], held["allowed_ips"]) == (["messages:send"], ["127.0.0.1"])


@pytest.mark.slow
def test_on_a_terminal_it_counts_live_and_a_second_run_starts_anew(cli):
    folder = cli.folder / "demo"
    for _ in range(2):
        terminal = cli.on_terminal("quickstart", "--dir", str(folder))
        terminal.expect("messages sent, 0 failed")
        assert terminal.end() == 0
        assert "no message was lost" in terminal.shown
        assert str(folder / "token.sealed") in terminal.shown


@pytest.mark.slow
def test_with_keep_the_dashboard_stays_and_messages_go_on_until_ctrl_c(cli):
    terminal = cli.on_terminal("quickstart", "--keep", NO_COLOR="1")
    terminal.expect("and Ctrl-C ends it")
    assert "no message was lost" in terminal.shown
    told = int(re.search(r"messages accepted +(\d+)", terminal.shown)[1])
    dashboard = re.search(r"the dashboard is (http://\S+),", terminal.shown)[1]
    stats = urljoin(dashboard, "/_emulator/stats")
    end = time.monotonic() + 20
    while messages_in(stats) < told + 5 and time.monotonic() < end:
        time.sleep(0.1)
    assert messages_in(stats) >= told + 5
    terminal.type("\x03")
    assert terminal.end() == 0
    assert "Traceback" not in terminal.shown


def messages_in(stats):
    with urlopen(stats) as answer:
        return json.load(answer)["messages"]


def test_what_to_try_next_is_written_as_it_was_started(tmp_path, monkeypatch):
    ours = tmp_path / "tools" / "cmzon-secrets"
    ours.parent.mkdir()
    ours.touch(mode=0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "/nowhere")
    assert quickstart._as_started("tools/cmzon-secrets") == "tools/cmzon-secrets"
    assert quickstart._as_started(str(ours)) == "tools/cmzon-secrets"
    monkeypatch.chdir("/")
    assert quickstart._as_started("/elsewhere/cmzon-secrets") == "elsewhere/cmzon-secrets"
    monkeypatch.chdir(ours.parent)
    assert quickstart._as_started("/elsewhere/cmzon-secrets") == "/elsewhere/cmzon-secrets"
    assert quickstart._as_started("/site-packages/cmzon_secrets/cli/__main__.py") == "cmzon-secrets"
    monkeypatch.setenv("PATH", str(ours.parent))
    assert quickstart._as_started(str(ours)) == "cmzon-secrets"


def test_a_sealed_file_that_no_quickstart_made_is_not_touched(tmp_path):
    sealed = tmp_path / "token.sealed"
    sealed.write_text("precious")
    with pytest.raises(ConfigurationError, match="no quickstart made it"):
        story.prepare_folder(tmp_path)
    assert sealed.read_text() == "precious"


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="not a directory"):
        story.prepare_folder(tmp_path / "file" / "below")


@pytest.mark.slow
def test_a_send_that_fails_is_a_fault_and_is_counted(tmp_path, monkeypatch):
    armed = []

    def wait(seconds, senders):
        if not armed:
            armed.append(True)
            client = senders._client
            attempts, client._max_attempts = client._max_attempts, 1
            session = client._session
            session.open()
            true_target, session._target = session._target, Target("http://127.0.0.1:9", 1.0, None)
            ends = time.monotonic() + 10
            while senders.count("failed") == 0 and time.monotonic() < ends:
                time.sleep(0.01)
            session._target, client._max_attempts = true_target, attempts
        time.sleep(seconds)

    heard = []

    def tell(heading, text):
        heard.append(heading)

    outcome = story.tell_story(story.prepare_folder(tmp_path), tell, wait)
    assert outcome.failed > 0
    assert not outcome.went_well
    assert "a send failed: http://127.0.0.1:9 — no answer" in outcome.faults[0]
    assert outcome.sent == outcome.accepted
    assert heard[0] == "emulator"
