"""Snapshots: everything as it was, all of it or nothing."""

import json
import os
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from contextlib import closing

import pytest

from cmzon_secrets.clock import Clock
from cmzon_secrets.emulator import Emulator
from cmzon_secrets.emulator.account.account import Account
from cmzon_secrets.emulator.account.faults import Fault
from cmzon_secrets.emulator.account.history import EMULATOR
from cmzon_secrets.emulator.account.limits import Quota
from cmzon_secrets.emulator.account.messages import ROUTE
from cmzon_secrets.emulator.account.snapshots import MOST
from cmzon_secrets.emulator.account.tokens import TokenWish, deriving
from cmzon_secrets.emulator.http.answers import Refusal
from cmzon_secrets.emulator.storage.journal import Journal


def take(api, name="before"):
    answer = api.http.post("/_emulator/snapshots", json={"name": name})
    assert answer.status_code == 201, answer.text
    return answer.json()


def restore(api, name="before"):
    return api.http.post(f"/_emulator/snapshots/{name}/restore")


def names(api):
    return [snapshot["name"] for snapshot in api.http.get("/_emulator/snapshots").json()["data"]]


def everything(api):
    """All that can be read of an account."""
    return {
        "stats": api.stats(),
        "messages": api.http.get("/_emulator/messages?limit=1000").json(),
        "history": api.http.get("/_emulator/audit.jsonl").text,
        "faults": api.http.get("/_emulator/faults").json(),
        "limits": api.http.get("/_emulator/limits").json(),
        "shift": api.http.get("/_emulator/clock").json()["shift"],
    }


def life(api):
    """Something of everything; the tokens that are live and dead after it."""
    live, dead = api.issue(key="k-live", allowed_ips=["127.0.0.1"]), api.issue(expires_in=3600)
    for number in range(3):
        api.send(live["token"], key=f"k-{number}")
    api.send(dead["token"])
    api.revoke(dead["id"])
    api.send(dead["token"])
    api.control("clock", advance=86400)
    api.control("limits", per_second=40, per_day=500)
    api.fault(status=503, count=3, probability=0.5, seed=7)
    return live, dead


# What comes back


def test_everything_comes_back_as_it_was(api):
    life(api)
    take(api)
    before = everything(api)
    api.control("reset")
    api.issue()
    api.send()
    api.control("clock", advance=-500)
    assert restore(api).json() == before["stats"]
    assert everything(api) == before


def test_tokens_and_idempotency_keys_work_again_as_they_did(api):
    live, dead = life(api)
    take(api)
    api.http.delete("/_emulator/faults")
    sent = api.send(live["token"], key="k-1").json()
    api.revoke(live["id"])
    after = api.issue(key="k-after")
    restore(api)
    api.http.delete("/_emulator/faults")
    assert api.send(live["token"], key="k-1").json() == sent
    assert api.send(dead["token"]).status_code == 401
    assert api.send(after["token"]).status_code == 401
    assert api.issue(key="k-live", allowed_ips=["127.0.0.1"]) == live
    assert api.issue(key="k-after")["id"] != after["id"]


def test_a_fault_goes_on_with_the_strikes_and_the_draws_it_had_left(api):
    api.control("limits", per_second=None)
    api.fault(status=503, count=8, probability=0.5, seed=7)
    for _ in range(3):
        api.send()
    take(api)
    first = [api.send().status_code for _ in range(20)]
    restore(api)
    assert [api.send().status_code for _ in range(20)] == first
    assert first.count(503) < 8


def test_a_fault_that_was_added_since_is_gone_and_its_id_is_free(api):
    take(api)
    added = api.fault(status=500)
    restore(api)
    assert api.send().status_code == 200
    assert api.fault(status=500)["id"] == added["id"]


def test_the_limits_in_force_come_back_and_so_does_the_quota_of_the_day(api):
    api.control("limits", per_day=3)
    api.send()
    take(api)
    for _ in range(2):
        api.send()
    assert api.send().status_code == 429
    api.control("limits", per_day=None)
    restore(api)
    assert api.send().headers["x-ratelimit-remaining"] == "1"


def test_a_clock_that_was_advanced_is_back(api):
    token = api.issue(expires_in=3600)["token"]
    take(api)
    api.control("clock", advance=60 * 86400)
    assert api.send(token).status_code == 401
    restore(api)
    assert api.send(token).status_code == 200


def test_one_snapshot_can_be_gone_back_to_many_times(api):
    take(api)
    for _ in range(3):
        api.send(key="k1")
        assert api.messages() == 1
        assert restore(api).json()["messages"] == 0


def test_a_reset_keeps_the_snapshots_and_clears_what_they_brought_back(api):
    api.fault(status=500)
    take(api)
    restore(api)
    api.control("reset")
    assert names(api) == ["before"]
    assert api.send().status_code == 200


def test_the_limits_of_a_reset_are_those_of_the_start_and_not_of_a_snapshot(connect):
    with Emulator(new_account=True) as emulator:
        api = connect(emulator)
        api.control("limits", per_day=7)
        take(api)
        restore(api)
        api.control("reset")
        assert api.send().headers["x-ratelimit-limit"] == "1000"


def test_who_watches_is_told_of_everything_that_changed(api):
    with api.http.stream("GET", "/dashboard/events") as stream:
        lines = stream.iter_lines()
        take(api)
        told = next(line for line in lines if line.startswith("data:"))
        assert told == "data: rehearsal"
        restore(api)
        told = next(line for line in lines if line.startswith("data:"))
        assert told == "data: messages rehearsal tokens"
        api.http.delete("/_emulator/snapshots/before")
        told = next(line for line in lines if line.startswith("data:"))
        assert told == "data: rehearsal"


# What goes on


class StoppedClock(Clock):
    def monotonic(self):
        return 1000.0


def test_the_second_in_progress_goes_on_so_that_no_80_more_pass_in_it(connect):
    with Emulator(clock=StoppedClock()) as emulator:
        api = connect(emulator)
        take(api)
        assert {api.send().status_code for _ in range(80)} == {200}
        restore(api)
        assert api.messages() == 0
        assert api.send().status_code == 429
        api.control("clock", advance=1)
        assert api.send().status_code == 200


def test_neither_does_it_go_on_longer_where_the_clock_is_set_back_by_a_restore(connect):
    with Emulator(clock=StoppedClock()) as emulator:
        api = connect(emulator)
        take(api)
        api.control("clock", advance=86400)
        for _ in range(80):
            api.send()
        restore(api)
        api.control("clock", advance=1)
        assert api.send().status_code == 200


def half_a_request(api, token):
    host, port = api.emulator.base_url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)), timeout=10)
    body = b'{"to": "+1234567890", "type": "text", "text": {"body": "late"}}'
    connection.sendall(
        b"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        b"Content-Length: %d\r\nAuthorization: Bearer %s\r\n\r\n" % (len(body), token.encode())
    )
    return connection, body


def status_of(connection):
    with connection, connection.makefile("rb") as answer:
        return int(answer.read().split()[1])


@pytest.mark.parametrize("back", ["reset", "snapshots/before/restore"])
def test_a_token_that_is_gone_when_the_body_arrives_is_unknown(api, back):
    take(api)
    connection, body = half_a_request(api, api.issue()["token"])
    api.control(back)
    connection.sendall(body)
    assert status_of(connection) == 401
    assert api.stats()["tokens"] == {"live": 1, "revoked": 0}
    (entry,) = api.http.get("/_emulator/messages").json()["data"]
    assert (entry["status"], entry["token_id"]) == (401, None)


def test_a_token_that_is_back_when_the_body_arrives_is_the_one_of_the_snapshot(api):
    token = api.issue()
    api.send(token["token"])
    take(api)
    for _ in range(2):
        api.send(token["token"])
    connection, body = half_a_request(api, token["token"])
    restore(api)
    connection.sendall(body)
    assert status_of(connection) == 200
    restored, written = token_counts(api, token["id"])
    assert (restored, written) == (2, 2)


def token_counts(api, token_id):
    """How many messages a token sent: as the account has it, and as its journal."""

    async def counted(account):
        row = account.journal.rows("SELECT messages FROM tokens WHERE id = ?", token_id)
        return account.tokens.get(token_id).messages, row[0][0]

    return api.emulator._await(counted)


def test_what_was_accepted_before_and_is_answered_after_leaves_no_trace(api):
    take(api)
    before = everything(api)
    api.fault(latency=0.5, after_accept=True, count=1)
    sender = threading.Thread(target=api.send, kwargs={"key": "k1"})
    sender.start()
    while api.messages() == 0:
        time.sleep(0.005)
    restore(api)
    sender.join(10)
    assert everything(api) == before
    assert api.send(key="k1").status_code == 200
    assert api.messages() == 1


def test_a_state_is_whole_after_a_restore_under_load_and_a_restart(tmp_path, connect):
    with Emulator(state=tmp_path, limits=False) as emulator:
        api = connect(emulator)
        token = api.issue()
        take(api)
        done = threading.Event()
        answers = []

        def send_on():
            while not done.is_set():
                answers.append(api.send(token["token"], key=f"k-{len(answers)}").status_code)

        sender = threading.Thread(target=send_on)
        sender.start()
        for _ in range(10):
            assert restore(api).status_code == 200
        done.set()
        sender.join()
        assert set(answers) == {200}
        ended = everything(api)
    with Emulator(state=tmp_path) as emulator:
        again = everything(connect(emulator))
        assert again["stats"] == ended["stats"]
        assert again["messages"] == ended["messages"]
        assert again["history"] == ended["history"]


# Where they lie


def test_with_a_state_folder_they_serve_the_next_emulator_too(tmp_path, connect):
    with Emulator(state=tmp_path) as emulator:
        api = connect(emulator)
        life(api)
        take(api)
        before = everything(api)
        api.control("reset")
    with Emulator(state=tmp_path) as emulator:
        api = connect(emulator)
        assert names(api) == ["before"]
        restore(api)
        assert everything(api) == before


def test_without_a_state_folder_they_end_with_the_emulator(connect):
    with Emulator() as emulator:
        take(connect(emulator))
        emulator.stop()
        emulator.start()
        assert names(connect(emulator)) == []


def test_faults_that_a_snapshot_brought_back_do_not_survive_a_restart(tmp_path, connect):
    with Emulator(state=tmp_path) as emulator:
        api = connect(emulator)
        api.fault(status=500)
        take(api)
        restore(api)
    with Emulator(state=tmp_path) as emulator:
        assert connect(emulator).send().status_code == 200


def test_the_admin_token_of_this_run_is_let_in_where_the_snapshot_has_another(tmp_path, connect):
    with Emulator(state=tmp_path) as emulator:
        api = connect(emulator)
        take(api)
        old = emulator.admin_token
        api.revoke(api.call("GET", "/v1/tokens/self").json()["id"])
    with Emulator(state=tmp_path) as emulator:
        api = connect(emulator)
        assert emulator.admin_token != old
        restore(api)
        assert api.send().status_code == 200
        assert api.send(old).status_code == 200
        assert (tmp_path / "admin-token").read_text() == f"{emulator.admin_token}\n"
        admin = emulator.admin_token
    with Emulator(state=tmp_path) as emulator:
        assert emulator.admin_token == admin


def test_an_admin_token_that_was_dead_is_dead_again_and_one_that_was_live_is_live(api):
    admin = api.call("GET", "/v1/tokens/self").json()
    take(api, "live")
    api.revoke(admin["id"])
    take(api, "dead")
    restore(api, "live")
    assert api.send().status_code == 200
    restore(api, "dead")
    assert api.send().status_code == 401


def test_only_this_user_can_read_them_and_nothing_is_left_beside_them(tmp_path, connect):
    with Emulator(state=tmp_path) as emulator:
        api = connect(emulator)
        value = api.issue()["token"].encode()
        take(api)
        restore(api)
        folder = tmp_path / "snapshots"
        assert [path.name for path in folder.iterdir()] == ["before.db"]
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert stat.S_IMODE((folder / "before.db").stat().st_mode) == 0o600
        assert value not in (folder / "before.db").read_bytes()


def test_a_list_tells_names_times_and_sizes_the_newest_first(api):
    taken = [take(api, name) for name in ("b", "a")]
    assert taken[0]["size"] > 0
    assert taken[0]["at"].endswith("Z")
    assert api.http.get("/_emulator/snapshots").json() == {"data": taken[::-1]}


def test_the_same_name_again_replaces(api):
    take(api)
    api.send()
    take(api)
    api.send()
    assert names(api) == ["before"]
    assert restore(api).json()["messages"] == 1


def test_a_deleted_one_is_gone_and_deleting_it_again_is_no_error(api):
    take(api)
    for _ in range(2):
        assert api.http.delete("/_emulator/snapshots/before").status_code == 204
    assert names(api) == []
    assert "name — unknown; known: none" in api.details(restore(api), 404)


def test_an_unknown_name_is_404_and_told_which_are_known(api):
    take(api, "a")
    take(api, "b")
    for name in ("c", "a.db", "..", "%2e%2e", "A"):
        answer = api.http.post(f"/_emulator/snapshots/{name}/restore")
        assert answer.status_code == 404
    assert api.details(restore(api, "c"), 404) == "name — unknown; known: a, b"


BAD_NAMES = [
    None,
    "",
    ".hidden",
    "..",
    "a/b",
    "../a",
    "a b",
    "é",
    "a\n",
    "-a",
    "_a",
    "a\0",
    "x" * 61,
    5,
]


def test_a_name_that_cannot_be_a_files_is_refused(api):
    for name in BAD_NAMES:
        answer = api.http.post("/_emulator/snapshots", json={"name": name})
        assert api.details(answer).startswith("name — "), name
    assert names(api) == []


def test_a_plain_name_is_taken(api):
    for name in ("a", "0", "A.b-c_d", "a..b", "x" * 60):
        assert take(api, name)["name"] == name
        assert restore(api, name).status_code == 200


def test_a_field_that_is_unknown_is_refused(api):
    answer = api.http.post("/_emulator/snapshots", json={"name": "a", "nmae": "b"})
    assert api.details(answer).startswith("nmae — unknown")


def test_there_is_an_end_to_how_many_there_can_be_but_none_to_replacing(tmp_path, connect):
    with Emulator(state=tmp_path) as emulator:
        api = connect(emulator)
        take(api, "n-0")
        content = (tmp_path / "snapshots" / "n-0.db").read_bytes()
        for number in range(1, MOST):
            (tmp_path / "snapshots" / f"n-{number}.db").write_bytes(content)
        answer = api.http.post("/_emulator/snapshots", json={"name": "one-more"})
        assert api.details(answer).startswith(f"name — there are {MOST} snapshots already")
        take(api, "n-0")
        api.http.delete("/_emulator/snapshots/n-1")
        take(api, "one-more")


# What cannot be used


def set_version(path, version):
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA user_version = {version}")


def change(path, statement, *values):
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(statement, values)


def flip_a_page(path):
    content = bytearray(path.read_bytes())
    content[4096:8192] = os.urandom(4096)
    path.write_bytes(content)


DAMAGE = {
    "format 99": lambda path: set_version(path, 99),
    "not a database": lambda path: path.write_bytes(b"rubbish" * 1000),
    "a flipped page": flip_a_page,
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:20000]),
    "empty": lambda path: path.write_bytes(b""),
    "a list that is none": lambda path: change(path, "UPDATE tokens SET scopes = 'x'"),
    "headers that are none": lambda path: change(
        path, "UPDATE exchanges SET request_headers = 'x'"
    ),
    "faults that are none": lambda path: change(
        path, "UPDATE meta SET value = '[{\"odd\": 1}]' WHERE name = 'faults'"
    ),
    "limits that are gone": lambda path: change(path, "DELETE FROM meta WHERE name = 'quota'"),
    "a shift that is none": lambda path: change(
        path, "INSERT OR REPLACE INTO meta VALUES ('shift', 'x')"
    ),
    "a shift beyond time": lambda path: change(
        path, "INSERT OR REPLACE INTO meta VALUES ('shift', '1e300')"
    ),
    "tokens of another secret": lambda path: change(path, "UPDATE tokens SET sha256 = 'x'"),
    "a time beyond time": lambda path: change(path, "UPDATE tokens SET created_at = 1e300"),
    "a time that is none": lambda path: change(path, "UPDATE token_events SET at = 'abc'"),
    "a trigger": lambda path: change(
        path, "CREATE TRIGGER t AFTER DELETE ON exchanges BEGIN DELETE FROM tokens; END"
    ),
    "a view that never ends in the place of a table": lambda path: (
        change(path, "DROP TABLE exchanges"),
        change(
            path,
            "CREATE VIEW exchanges AS WITH RECURSIVE n(seq) AS"
            " (SELECT 1 UNION ALL SELECT seq + 1 FROM n) SELECT seq FROM n",
        ),
    ),
}


def kept_fault(**changed):
    fault = Fault("POST /v1/messages", status=500, id="flt_1")
    return json.dumps([{**fault.kept(), **changed}])


META = {
    "faults": [
        *("", "5", "[5]", "[[]]", "[{}]", "[" * 5000, "null"),
        kept_fault(latency="x"),
        kept_fault(latency=1e300),
        kept_fault(status=99),
        kept_fault(count=0.5),
        kept_fault(probability=2),
        kept_fault(route=None),
        kept_fault(token="tok_of_nobody"),
        kept_fault(drawn=-1),
        kept_fault(drawn=2**60),
        kept_fault(drawn=2, struck=3),
        kept_fault(id="flt_x"),
        kept_fault(id=7),
    ],
    "quota": [
        *("", "5", "[1]", "[1, 2, 3]", '["x", 1]', "[0, 1]", "[true, 1]", "[1.5, 1]", "[1, 1e400]"),
        f"[1, {10**9 + 1}]",
        "[" * 5000,
    ],
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_one_that_cannot_be_used_is_refused_by_name_and_nothing_changes(tmp_path, connect, damage):
    with Emulator(state=tmp_path) as emulator:
        api = connect(emulator)
        api.send()
        take(api)
        life(api)
        before = everything(api)
        path = tmp_path / "snapshots" / "before.db"
        DAMAGE[damage](path)
        content = path.read_bytes()
        details = api.details(restore(api), 409)
        assert details.startswith("snapshot before — ")
        assert details.endswith("; nothing has changed")
        assert everything(api) == before
        assert path.read_bytes() == content
    with Emulator(state=tmp_path) as emulator:
        assert everything(connect(emulator))["messages"] == before["messages"]


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in META.items() for value in values]
)
def test_faults_and_limits_in_it_are_checked_as_those_that_are_asked_for(tmp_path, name, value):
    with closing(Journal(None)) as journal:
        account = Account(journal, deriving(b"secret"), snapshots=tmp_path)
        account.snapshot("before")
        change(tmp_path / "before.db", "UPDATE meta SET value = ? WHERE name = ?", value, name)
        quota = account.messages.limits.quota
        with pytest.raises(Refusal) as refused:
            account.restore("before")
        assert refused.value.status == 409
        assert (list(account.faults), account.messages.limits.quota) == ([], quota)


def test_a_fault_that_was_drawn_for_very_often_is_back_at_once_and_goes_on_as_it_would(tmp_path):
    with closing(Journal(None)) as journal:
        account = Account(journal, deriving(b"secret"), snapshots=tmp_path)
        fault = {"route": ROUTE, "status": 500, "probability": 0.5, "seed": 7}
        account.add_fault(fault, [ROUTE]).drawn = 10**12
        account.snapshot("before")
        goes_on = [fault.strikes() for fault in account.faults for _ in range(50)]
        account.restore("before")
        assert [fault.strikes() for fault in account.faults for _ in range(50)] == goes_on
        assert len(set(goes_on)) == 2


@pytest.mark.parametrize("name", ["a-directory", "a-link", "a-circle", "a-pipe"])
def test_what_is_no_file_is_no_snapshot_and_does_no_harm(api, tmp_path, connect, name):
    with Emulator(state=tmp_path) as emulator:
        api = connect(emulator)
        take(api)
        path = tmp_path / "snapshots" / f"{name}.db"
        {
            "a-directory": path.mkdir,
            "a-link": lambda: path.symlink_to(tmp_path / "emulator.db"),
            "a-circle": lambda: path.symlink_to(path),
            "a-pipe": lambda: os.mkfifo(path),
        }[name]()
        assert names(api) == ["before"]
        assert api.http.get("/dashboard/rehearse").status_code == 200
        assert api.details(restore(api, name), 404) == "name — unknown; known: before"
        deleted = api.http.delete(f"/_emulator/snapshots/{name}")
        if name == "a-directory":
            assert api.details(deleted, 500) == "snapshot a-directory — Is a directory"
            path.rmdir()
        assert deleted.status_code in (204, 500)
        assert not path.is_symlink()
        assert not path.exists()
        assert (tmp_path / "emulator.db").exists()


def test_what_was_being_taken_when_the_emulator_was_killed_is_gone_at_the_next_start(
    tmp_path, connect
):
    with Emulator(state=tmp_path) as emulator:
        api = connect(emulator)
        take(api)
    program = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from cmzon_secrets.emulator import Emulator\n"
        "emulator = Emulator(state=sys.argv[1])\n"
        "emulator.start()\n"
        "Path.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "emulator.snapshot('half')\n"
    )
    ended = subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False)
    assert ended.returncode == -signal.SIGKILL
    (left,) = (tmp_path / "snapshots").glob(".*")
    assert list(left.iterdir())
    (tmp_path / "snapshots" / ".others").mkdir()
    with Emulator(state=tmp_path) as emulator:
        assert names(connect(emulator)) == ["before"]
    assert {path.name for path in (tmp_path / "snapshots").iterdir()} == {"before.db", ".others"}


def test_one_of_a_later_format_says_which_this_version_reads(tmp_path, connect):
    with Emulator(state=tmp_path) as emulator:
        api = connect(emulator)
        take(api)
        set_version(tmp_path / "snapshots" / "before.db", 99)
        assert "it has format 99; this version reads up to" in api.details(restore(api), 409)


def test_one_of_another_token_secret_says_so(tmp_path, connect):
    with Emulator(state=tmp_path / "other") as emulator:
        take(connect(emulator))
    with Emulator(state=tmp_path / "own") as emulator:
        api = connect(emulator)
        take(api)
        other = tmp_path / "other" / "snapshots" / "before.db"
        (tmp_path / "own" / "snapshots" / "before.db").write_bytes(other.read_bytes())
        assert "token-secret" in api.details(restore(api), 409)
        assert api.send().status_code == 200


def test_a_restore_that_cannot_be_written_whole_changes_nothing(tmp_path):
    with closing(Journal(tmp_path / "emulator.db")) as journal:
        account = Account(journal, deriving(b"secret"), snapshots=tmp_path)
        for _ in range(200):
            account.issue(TokenWish("acme", ("messages:send",)), EMULATOR)
        account.snapshot("large")
        account.reset()
        account.advance(60)
        account.set_quota(Quota(5, 5))
        journal.rows("VACUUM")
        pages = journal.rows("PRAGMA page_count")[0][0]
        journal.rows(f"PRAGMA max_page_count = {pages}")
        before = (account.stats(), account.clock.shift, account.messages.limits.quota)
        with pytest.raises(Refusal) as refused:
            account.restore("large")
        assert "full" in refused.value.details
        assert (account.stats(), account.clock.shift, account.messages.limits.quota) == before
        again = Account(journal, deriving(b"secret"))
        assert (again.stats(), again.clock.shift) == before[:2]


def test_a_snapshot_that_cannot_be_written_leaves_the_one_before_it(tmp_path, connect):
    with Emulator(state=tmp_path) as emulator:
        api = connect(emulator)
        (tmp_path / "snapshots" / "before.db").mkdir(parents=True)
        answer = api.http.post("/_emulator/snapshots", json={"name": "before"})
        assert api.details(answer, 500).startswith("snapshot before — ")
        assert [path.name for path in (tmp_path / "snapshots").iterdir()] == ["before.db"]
        assert api.send().status_code == 200
