"""Ctrl-C in the middle of every command: one line, exit code 130, nothing lost or half done."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import time
import urllib.request
from contextlib import contextmanager

import pytest

TOKEN = "cmz_" + "Kanarienvogel" * 3
CTRL_C = "\x03"


@contextmanager
def held_up(emulator, route):
    """The API takes its time over ``route``."""
    faults = f"{emulator.base_url}/_emulator/faults"
    body = json.dumps({"route": route, "latency": 30, "count": 1}).encode()
    headers = {"Content-Type": "application/json"}
    urllib.request.urlopen(urllib.request.Request(faults, body, headers)).close()
    yield
    urllib.request.urlopen(urllib.request.Request(faults, method="DELETE")).close()


@contextmanager
def locked(path):
    """Another writer holds the sealed file."""
    with open(f"{path}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def wait_until_busy(process, emulator=None, requests=0):
    """The command is past its start: it sleeps, or its request has arrived."""
    end = time.monotonic() + 30
    while time.monotonic() < end and process.poll() is None:
        if emulator is None:
            time.sleep(1.5)
            return
        if emulator.stats()["by_status"] != requests:
            return
        time.sleep(0.05)


def assert_interrupted(done, command):
    assert done.code == 130, done
    assert "Traceback" not in done.err
    assert f"error: {command} — interrupted" in done.err


def test_at_the_question_of_an_emergency_nothing_was_begun(cli, sealed, api):
    assert cli("rotate", sealed).code == 0
    terminal = cli.on_terminal("revoke", sealed)
    terminal.expect("[y/N] ")
    terminal.type(CTRL_C)
    assert terminal.end() == 130
    assert "revoke — interrupted, nothing was changed\n" in terminal.shown
    assert "ALIVE" not in terminal.shown


def test_at_a_prompt_the_terminal_echoes_again(cli, sealed):
    terminal = cli.on_terminal("put", sealed)
    terminal.expect("Token (not shown): ")
    terminal.type("half a tok" + CTRL_C)
    assert terminal.end() == 130
    assert "half a tok" not in terminal.shown
    assert "put — interrupted" in terminal.shown
    assert "Traceback" not in terminal.shown
    assert cli("get", sealed).code == 1


@pytest.mark.parametrize("command", ["get", "status", "rotate", "send"])
def test_at_the_question_for_a_passphrase(cli, command):
    uri = "file:p.sealed?key=passphrase:"
    variables = {"CMZON_SECRETS_PASSPHRASE": "correct horse"}
    assert cli("put", uri, stdin=TOKEN, **variables).code == 0
    options = {"rotate": ["--issuer", "manual"], "send": ["--to", "+12025550123", "--text", "hi"]}
    terminal = cli.on_terminal(command, uri, *options.get(command, []))
    terminal.expect("Passphrase: ")
    terminal.type(CTRL_C)
    assert terminal.end() == 130
    assert f"{command} — interrupted" in terminal.shown
    assert "Traceback" not in terminal.shown
    assert cli("get", uri, "--reveal", **variables).out == TOKEN + "\n"


def test_while_put_waits_for_its_input(cli, sealed, interrupt):
    read_end, write_end = os.pipe()
    process = cli.start("put", sealed, stdin=read_end)
    os.close(read_end)
    wait_until_busy(process)
    assert_interrupted(interrupt(process), "put")
    os.close(write_end)


@pytest.mark.parametrize("command", ["put", "rekey", "copy"])
def test_while_a_writer_waits_for_the_lock(cli, put, interrupt, command):
    uri = put()
    cli("keygen", "new.key")
    before = (cli.folder / "token.sealed").read_bytes()
    words = {
        "put": ["put", uri, "--from-env", "SECOND"],
        "rekey": ["rekey", uri, "--key", "keyfile:new.key"],
        "copy": ["copy", "env:SECOND", uri, "--yes"],
    }[command]
    with locked(cli.folder / "token.sealed"):
        process = cli.start(*words, SECOND="cmz_second")
        wait_until_busy(process)
        assert_interrupted(interrupt(process), command)
    assert (cli.folder / "token.sealed").read_bytes() == before
    assert not [p for p in cli.folder.iterdir() if "tmp" in p.name]
    assert cli(*words, SECOND="cmz_second").code == 0


def test_while_a_message_is_under_way(cli, sealed, api, interrupt):
    assert cli("rotate", sealed).code == 0
    with held_up(api, "POST /v1/messages"):
        process = cli.start("send", sealed, "--to", "+12025550123", "--text", "hi")
        wait_until_busy(process)
        done = interrupt(process)
    assert_interrupted(done, "send")
    assert "the message may have been sent" in done.err


@pytest.mark.parametrize("route", ["POST /v1/tokens", "GET /v1/tokens/self"])
def test_a_rotation_goes_on_where_it_was_stopped(cli, sealed, api, interrupt, route):
    assert cli("rotate", sealed).code == 0
    before = json.loads(cli("get", sealed, "--json").out)["items"][0]["id"]
    with held_up(api, route):
        process = cli.start("rotate", sealed, "--force")
        wait_until_busy(process)
        done = interrupt(process)
    assert_interrupted(done, "rotate")
    assert "the same command goes on" in done.err
    assert json.loads(cli("get", sealed, "--json").out)["items"][0]["id"] == before
    assert cli("rotate", sealed, "--force").code == 0
    assert json.loads(cli("get", sealed, "--json").out)["items"][0]["id"] != before
    assert cli("send", sealed, "--to", "+12025550123", "--text", "hi").code == 0


def test_an_emergency_says_that_the_token_may_live_and_how_to_repeat(cli, sealed, api, interrupt):
    assert cli("rotate", sealed).code == 0
    leaked = json.loads(cli("get", sealed, "--json").out)["items"][0]["id"]
    with held_up(api, "DELETE /v1/tokens/{id}"):
        process = cli.start("revoke", sealed, "--yes")
        wait_until_busy(process)
        done = interrupt(process)
    assert_interrupted(done, "revoke")
    assert "STILL ALIVE" in done.err
    assert f"--id {leaked}" in done.err
    assert cli("revoke", sealed, "--id", leaked, "--yes").code == 0
    assert json.loads(cli("get", sealed, "--json").out)["items"][0]["id"] != leaked
    assert cli("send", sealed, "--to", "+12025550123", "--text", "hi").code == 0


def test_at_the_question_whether_to_revoke_nothing_has_happened(cli, sealed, api):
    assert cli("rotate", sealed).code == 0
    terminal = cli.on_terminal("revoke", sealed)
    terminal.expect("[y/N] ")
    terminal.type(CTRL_C)
    assert terminal.end() == 130
    assert cli("send", sealed, "--to", "+12025550123", "--text", "hi").code == 0


@pytest.mark.slow
def test_quickstart_leaves_nothing_running(cli, interrupt):
    process = cli.start("quickstart")
    assert process.stderr is not None
    while "messages" not in process.stderr.readline():
        pass
    time.sleep(1)
    done = interrupt(process)
    assert done.code == 130
    assert "quickstart — interrupted" in done.err
    assert "Traceback" not in done.err
    assert done.out == ""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_quickstart_ends_in_good_order_by_other_signals_too(cli, number):
    folder = cli.folder / "temporary"
    folder.mkdir()
    process = cli.start("quickstart", TMPDIR=str(folder))
    assert process.stderr is not None
    while "messages" not in process.stderr.readline():
        pass
    assert list(folder.iterdir())
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, list(folder.iterdir())) == (128 + number, [])
    assert "quickstart — interrupted" in err
    assert "Traceback" not in err


def test_an_emulator_that_is_told_to_survive_its_terminal_does(cli):
    process = cli.start("emulator", "--json", nohup=True)
    assert process.stdout is not None
    ready = json.loads(process.stdout.readline())
    process.send_signal(signal.SIGHUP)
    urllib.request.urlopen(f"{ready['base_url']}/_emulator/stats").close()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 0


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_emulator_ends_in_good_order(cli, signal_number):
    process = cli.start("emulator", "--json")
    assert process.stdout is not None
    ready = json.loads(process.stdout.readline())
    assert os.path.exists(ready["admin_token_file"])
    process.send_signal(signal_number)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, "")
    assert not os.path.exists(ready["admin_token_file"])
