"""What survives a restart, and what survives kill -9."""

import json
import os
import resource
import sqlite3
import stat
import subprocess
import sys
import time
import traceback
from pathlib import Path

import pytest

from cmzon_secrets.emulator import Emulator
from cmzon_secrets.emulator.account import Account
from cmzon_secrets.emulator.state import Journal
from cmzon_secrets.emulator.tokens import deriving
from cmzon_secrets.errors import ConfigurationError


def test_everything_survives_two_restarts(tmp_path, connect):
    with Emulator(state=tmp_path) as emulator:
        api = connect(emulator)
        admin = emulator.admin_token
        live, dead = api.issue(key="k1", allowed_ips=["127.0.0.1"]), api.issue()
        api.revoke(dead["id"])
        sent = api.send(live["token"], key="k2").json()
        listed = api.call("GET", "/v1/tokens", params={"name": "acme"}).json()
        before = api.stats()
    for _ in range(2):
        with Emulator(state=tmp_path) as emulator:
            api = connect(emulator)
            assert emulator.admin_token == admin
            assert api.stats() == before
            assert api.call("GET", "/v1/tokens", params={"name": "acme"}).json() == listed
            assert api.issue(key="k1", allowed_ips=["127.0.0.1"]) == live
            again = api.send(live["token"], key="k2")
            assert again.json() == sent
            assert again.headers["x-ratelimit-remaining"] == "9999"
            assert api.send(dead["token"]).status_code == 401
            before = api.stats()
            listed = api.call("GET", "/v1/tokens", params={"name": "acme"}).json()
            before["by_status"]["200"] += 1


def test_the_audit_trail_goes_on_after_a_restart(tmp_path, connect):
    for expected in (0, 2, 4):
        with Emulator(state=tmp_path) as emulator:
            api = connect(emulator)
            assert len(api.call("GET", "/v1/audit").json()["data"]) == expected
            api.send()


def test_the_shifted_clock_survives_a_restart(tmp_path, connect):
    with Emulator(state=tmp_path) as emulator:
        api = connect(emulator)
        token = api.issue(expires_in=3600)["token"]
        api.control("clock", advance=7200)
    with Emulator(state=tmp_path) as emulator:
        assert connect(emulator).send(token).status_code == 401


def test_a_reset_survives_a_restart(tmp_path, connect):
    with Emulator(state=tmp_path) as emulator:
        api = connect(emulator)
        api.send(api.issue()["token"])
        api.control("reset")
        admin = emulator.admin_token
    with Emulator(state=tmp_path) as emulator:
        assert emulator.admin_token == admin
        assert connect(emulator).stats()["tokens"] == {"live": 1, "revoked": 0}


def test_a_revoked_admin_token_stays_dead_and_a_new_one_is_made_at_the_next_start(
    tmp_path, connect
):
    with Emulator(state=tmp_path) as emulator:
        api = connect(emulator)
        old = emulator.admin_token
        api.revoke(api.call("GET", "/v1/tokens/self").json()["id"])
    with Emulator(state=tmp_path) as emulator:
        api = connect(emulator)
        assert api.call("GET", "/v1/tokens").status_code == 200
        assert api.call("GET", "/v1/tokens", old).status_code == 401


def test_the_state_folder_holds_no_token_but_the_admins(tmp_path, connect):
    with Emulator(state=tmp_path) as emulator:
        value = connect(emulator).issue(key="k1")["token"].encode()
        admin = emulator.admin_token.encode()
    holders = [f.name for f in tmp_path.iterdir() if admin in f.read_bytes()]
    assert holders == ["admin-token"]
    assert not [f.name for f in tmp_path.iterdir() if value in f.read_bytes()]


def test_only_this_user_can_read_what_lies_there(tmp_path):
    folder = tmp_path / "new" / "state"
    with Emulator(state=folder, tls=True) as emulator:
        token_file = Path(emulator.ready_line.admin_token_file)
        assert token_file.read_text() == emulator.admin_token + "\n"
        modes = {f.name: stat.S_IMODE(f.stat().st_mode) for f in folder.iterdir()}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {"admin-token", "emulator.db", "token-secret", "ca-key.pem"} <= modes.keys()
    assert set(modes.values()) == {0o600}


def test_two_emulators_cannot_share_a_state_folder(tmp_path):
    with Emulator(state=tmp_path), pytest.raises(ConfigurationError) as refused:
        Emulator(state=tmp_path).start()
    assert str(tmp_path) in refused.value.message
    assert refused.value.hint is not None
    with Emulator(state=tmp_path):
        pass  # the refused one holds nothing


def test_a_state_file_that_is_no_database_is_refused(tmp_path):
    (tmp_path / "emulator.db").write_bytes(b"not a database" * 1000)
    with pytest.raises(ConfigurationError, match="not a database"):
        Emulator(state=tmp_path).start()


def test_a_state_of_a_later_version_is_refused_and_left_alone(tmp_path):
    with Emulator(state=tmp_path):
        pass
    with sqlite3.connect(tmp_path / "emulator.db") as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(ConfigurationError, match="format 99"):
        Emulator(state=tmp_path).start()


@pytest.mark.parametrize("secret", [None, "00" * 32, "zz", ""])
def test_a_state_whose_token_secret_is_lost_is_refused(tmp_path, secret):
    with Emulator(state=tmp_path):
        pass
    (tmp_path / "token-secret").unlink()
    if secret is not None:
        (tmp_path / "token-secret").write_text(secret)
    with pytest.raises(ConfigurationError):
        Emulator(state=tmp_path).start()


@pytest.mark.parametrize("place", ["a-file", "a-file/below"])
def test_a_state_folder_that_cannot_be_one_is_refused(tmp_path, place):
    (tmp_path / "a-file").write_text("")
    with pytest.raises(ConfigurationError) as refused:
        Emulator(state=tmp_path / place).start()
    assert str(tmp_path / place) in refused.value.message


@pytest.mark.slow
def test_kill_9_loses_no_message_that_is_older_than_a_flush(tmp_path, connect):
    process, ready = start_process(tmp_path)
    sent = connect(Attached(ready)).send(key="k1").json()
    time.sleep(2.0)  # many flushes; on the slowest machine at least one
    process.kill()
    process.communicate()
    with Emulator(state=tmp_path) as emulator:
        api = connect(emulator)
        assert api.messages() == 1
        assert api.send(key="k1").json() == sent


@pytest.mark.slow
def test_kill_9_loses_no_token_that_was_issued_and_no_revocation(tmp_path, connect):
    for _ in range(3):
        process, ready = start_process(tmp_path)
        api = connect(Attached(ready))
        live, dead = api.issue(key=f"k-{process.pid}"), api.issue()
        assert api.revoke(dead["id"]).status_code == 204
        process.kill()
        process.communicate()
        with Emulator(state=tmp_path) as emulator:
            api = connect(emulator)
            assert api.send(live["token"]).status_code == 200
            assert api.send(dead["token"]).status_code == 401
            assert api.issue(key=f"k-{process.pid}") == live


def test_a_full_disk_refuses_new_tokens_and_keeps_the_old_ones(tmp_path, connect):
    process, ready = start_process(tmp_path)
    try:
        api = connect(Attached(ready))
        kept = [api.issue()]
        size = (tmp_path / "emulator.db-wal").stat().st_size
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size + 30_000, -1))
        wish = {"name": "acme", "scopes": ["messages:send"]}
        while (answer := api.call("POST", "/v1/tokens", json=wish)).status_code == 201:
            kept.append(answer.json())
        assert "could not be written" in api.details(answer, 500)
        assert api.stats()["tokens"]["live"] == 1 + len(kept)
    finally:
        process.kill()
        process.communicate()
    with Emulator(state=tmp_path) as emulator:
        api = connect(emulator)
        assert api.stats()["tokens"]["live"] == 1 + len(kept)
        assert all(api.call("GET", "/v1/tokens/self", t["token"]).is_success for t in kept)


def test_a_reset_that_cannot_be_written_whole_changes_nothing():
    journal = Journal(None)
    account = Account(journal, deriving(b"secret"))
    account.advance(60)
    before = account.stats()
    journal.rows(
        "CREATE TRIGGER full BEFORE INSERT ON tokens BEGIN SELECT RAISE(FAIL, 'full'); END"
    )
    with pytest.raises(sqlite3.Error, match="full"):
        account.reset()
    again = Account(journal, deriving(b"secret"))
    assert again.admin == account.admin
    assert again.clock.shift == account.clock.shift == 60
    assert again.stats() == account.stats() == before
    journal.close()


def test_a_state_folder_that_cannot_be_written_is_refused_without_showing_a_secret(tmp_path):
    (tmp_path / "admin-token").mkdir()
    (tmp_path / "admin-token" / "in-the-way").touch()
    with pytest.raises(ConfigurationError) as refused:
        Emulator(state=tmp_path).start()
    assert "admin-token" in refused.value.message
    shown = "".join(
        traceback.TracebackException.from_exception(refused.value, capture_locals=True).format()
    )
    assert "cmz_" not in shown
    assert (tmp_path / "token-secret").read_text().strip() not in shown
    assert not list(tmp_path.glob(".*"))


class Attached:
    """An emulator in another process, seen through its ready line."""

    def __init__(self, ready):
        self.base_url = ready["base_url"]
        self.admin_token = Path(ready["admin_token_file"]).read_text().strip()


def start_process(state):
    program = (
        "import json, sys\n"
        "from dataclasses import asdict\n"
        "from cmzon_secrets.emulator import serve\n"
        "serve(lambda r: print(json.dumps(asdict(r)), flush=True), state=sys.argv[1])\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(state)], stdout=subprocess.PIPE, env=os.environ
    )
    return process, json.loads(process.stdout.readline())
