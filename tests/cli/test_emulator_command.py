"""``emulator``: what it says when it is ready, to people and to programs, and what it keeps."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest

from cmzon_secrets.cli.emulator import LIMITS_ARE_OFF

PAGE = Path(__file__).parents[2] / "docs" / "dashboard.md"


@contextmanager
def running(cli, *options):
    """The ready line of an emulator, which ends in good order afterwards."""
    process = cli.start("emulator", "--json", *options)
    assert process.stdout is not None
    yield json.loads(process.stdout.readline())
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    told = f"{LIMITS_ARE_OFF}\n" if "--no-limits" in options else ""
    assert (process.returncode, out, err) == (0, "", told)


def stats(ready):
    context = ssl.create_default_context(cafile=ready["ca"]) if ready["ca"] else None
    with urllib.request.urlopen(f"{ready['base_url']}/_emulator/stats", context=context) as answer:
        return json.load(answer)


def sent(ready, message):
    """The status with which a message is answered."""
    with open(ready["admin_token_file"]) as file:
        token = file.read().strip()
    request = urllib.request.Request(
        f"{ready['base_url']}/v1/messages",
        json.dumps(message).encode(),
        {"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code


def test_it_says_where_it_is_in_one_line_of_json(cli):
    with running(cli) as ready:
        assert set(ready) == {"base_url", "dashboard_url", "admin_token_file", "ca"}
        assert ready["base_url"].startswith("http://127.0.0.1:")
        assert stats(ready)["messages"] == 0


def test_to_people_it_says_the_same_in_words(cli):
    terminal = cli.on_terminal("emulator")
    terminal.expect("Ctrl-C ends it")
    assert "http://127.0.0.1:" in terminal.shown
    assert "export CMZON_BASE_URL=http://127.0.0.1:" in terminal.shown
    terminal.type("\x03")
    assert terminal.end() == 0
    assert "Traceback" not in terminal.shown


def test_its_help_names_the_dashboard(cli):
    assert "dashboard" in cli("emulator", "--help").out


def test_what_it_says_with_tls_sends_there(cli, sealed):
    terminal = cli.on_terminal("emulator", "--tls", NO_COLOR="1")
    terminal.expect("Ctrl-C ends it")
    facts = dict(re.findall(r"^(\S.*?)  +(\S+)$", terminal.shown, re.MULTILINE))
    setting, ca = re.search(r"export (\S+), with (--ca \S+) for each", terminal.shown).groups()
    api = {"CMZON_ADMIN_URI": "env:ADMIN", "ADMIN": Path(facts["admin token"]).read_text().strip()}
    api |= [setting.split("=")]
    assert shlex.split(ca) == ["--ca", facts["CA"]]
    for command in (["rotate"], ["send", "--to", "+12025550123", "--text", "hi"]):
        done = cli(*command, sealed, *shlex.split(ca), **api)
        assert done.code == 0, done.err
    terminal.type("\x03")
    assert terminal.end() == 0


@pytest.mark.slow
def test_what_the_page_says_of_a_rotation_under_load_can_be_watched(cli):
    section = (
        PAGE.read_text().split("### Watch your own rotation under load\n")[1].split("\n## ")[0]
    )
    (sender,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    (cli.folder / "sender.py").write_text(sender)
    start, *steps = re.findall(r"^\$ (.*)$", section, re.MULTILINE)
    _, command, *options = shlex.split(start)
    options[options.index("8025")] = "0"  # that one may be taken here
    assert (command, len(steps)) == ("emulator", 6)
    with running(cli, *options) as ready:
        script = "\n".join([*_as_here(cli), *steps]).replace(
            "http://127.0.0.1:8025", ready["base_url"]
        )
        with _in_a_group(cli, script.replace("--rotate-every 10s", "--rotate-every 1s")):
            _wait_until(lambda: stats(ready)["tokens"]["revoked"] >= 1)
        seen = stats(ready)
    assert seen["messages"] > 100
    assert (
        seen["by_status"]["401"] == seen["tokens"]["revoked"]
    )  # each proved dead, no send refused


def _as_here(cli):
    ours = {"cmzon-secrets": cli.words(), "python": [sys.executable]}
    return [f'{name}() {{ {shlex.join(words)} "$@"; }}' for name, words in ours.items()]


@contextmanager
def _in_a_group(cli, script):
    shell = subprocess.Popen(
        ["bash", "-c", script],
        cwd=cli.folder,
        env=cli.environment,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        os.killpg(shell.pid, signal.SIGKILL)
        shell.wait()


def _wait_until(come):
    end = time.monotonic() + 50
    while not come():
        assert time.monotonic() < end
        time.sleep(0.2)


def test_with_tls_it_names_the_ca_to_trust(cli):
    with running(cli, "--tls", "--host", "localhost") as ready:
        assert ready["base_url"].startswith("https://127.0.0.1:")
        assert stats(ready)["messages"] == 0


def test_with_state_tokens_and_messages_survive(cli, sealed):
    def environment(ready):
        with open(ready["admin_token_file"]) as file:
            admin = file.read().strip()
        return {
            "CMZON_BASE_URL": ready["base_url"],
            "CMZON_ADMIN_URI": "env:ADMIN",
            "ADMIN": admin,
        }

    message = ["send", sealed, "--to", "+12025550123", "--text", "hi"]
    for count in (1, 2):
        with running(cli, "--state", "state") as ready:
            assert cli("rotate", sealed, **environment(ready)).code == 0
            assert cli(*message, **environment(ready)).code == 0
            assert stats(ready)["messages"] == count
            assert stats(ready)["tokens"] == {"live": 2, "revoked": 0}


def test_a_new_account_has_the_smaller_daily_limit(cli):
    with running(cli, "--new-account") as ready:
        with open(ready["admin_token_file"]) as file:
            token = file.read().strip()
        request = urllib.request.Request(
            f"{ready['base_url']}/v1/messages",
            json.dumps({"to": "+12025550123", "type": "text", "text": {"body": "hi"}}).encode(),
            {"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request) as answer:
            assert answer.headers["X-RateLimit-Limit"] == "1000"


def test_without_limits_it_says_so_and_refuses_no_rate(cli):
    process = cli.start("emulator", "--json", "--no-limits")
    ready = json.loads(process.stdout.readline())
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 0
    assert set(ready) == {"base_url", "dashboard_url", "admin_token_file", "ca"}
    assert err.startswith("limits are off: ")


@pytest.mark.parametrize(("options", "status"), [([], 200), (["--strict"], 400)])
def test_a_field_that_the_api_does_not_know_is_refused_only_strictly(cli, options, status):
    with running(cli, *options) as ready:
        message = {"to": "+12025550123", "type": "text", "text": {"body": "hi"}, "preview": True}
        assert sent(ready, message) == status


def test_no_limits_and_those_of_a_new_account_are_refused_together(cli):
    done = cli("emulator", "--no-limits", "--new-account")
    assert (done.code, done.out) == (2, "")
    assert "cannot both be meant" in done.err
