"""What survives a restart, and what survives kill -9."""

import hashlib
import json
import os
import resource
import signal
import sqlite3
import stat
import subprocess
import sys
import time
import traceback
from contextlib import closing
from pathlib import Path

import pytest

from cmzon_secrets.emulator import Emulator
from cmzon_secrets.emulator.account.account import Account
from cmzon_secrets.emulator.account.tokens import deriving
from cmzon_secrets.emulator.storage import opening
from cmzon_secrets.emulator.storage.journal import Journal
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
        api = connect(emulator)
        token = api.issue(key="k1")["token"]
        api.send(token, key=token)  # somebody will
        api.issue(key=token)
        api.control("clock", advance=1)
        api.http.post("/_emulator/snapshots", json={"name": "before"})
        admin, value = emulator.admin_token.encode(), token.encode()
    lying = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.name for path in lying} >= {"emulator.db", "before.db"}
    assert [path.name for path in lying if admin in path.read_bytes()] == ["admin-token"]
    assert not [path.name for path in lying if value in path.read_bytes()]


def test_a_key_is_known_again_after_a_restart_though_only_its_hash_is_kept(tmp_path, connect):
    with Emulator(state=tmp_path) as emulator:
        sent = connect(emulator).send(key="a-key-of-its-own").json()
    assert query(tmp_path, "SELECT key_sha256 FROM idempotency") == [
        (hashlib.sha256(b"a-key-of-its-own").hexdigest(),)
    ]
    with Emulator(state=tmp_path) as emulator:
        assert connect(emulator).send(key="a-key-of-its-own").json() == sent


def test_only_this_user_can_read_what_lies_there(tmp_path):
    folder = tmp_path / "new" / "state"
    with Emulator(state=folder, tls=True) as emulator:
        token_file = Path(emulator.ready_line.admin_token_file)
        assert token_file.read_text() == emulator.admin_token + "\n"
        modes = {f.name: stat.S_IMODE(f.stat().st_mode) for f in folder.iterdir()}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {"admin-token", "emulator.db", "token-secret", "ca-key.pem"} <= modes.keys()
    assert set(modes.values()) == {0o600}


def test_two_emulators_cannot_share_a_state_folder_and_the_second_says_who_has_it(tmp_path):
    process, _ = start_process(tmp_path)
    try:
        refused = refusal(tmp_path)
        name = Path(f"/proc/{process.pid}/comm").read_text().strip()
        where = tmp_path / "emulator.db"
        assert refused.message == (
            f"emulator state {where} — in use by {name} (process {process.pid})"
        )
        assert refused.hint == "stop what uses it, or choose another --state folder"
    finally:
        process.kill()
        process.communicate()
    with Emulator(state=tmp_path):
        pass  # the refused one holds nothing


def test_an_emulator_of_the_same_process_keeps_its_lock_when_a_second_one_is_refused(tmp_path):
    with Emulator(state=tmp_path):
        for _ in range(2):
            assert "in use by this process" in refusal(tmp_path).message
        process = subprocess.Popen(
            [*SERVE, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        _, said = process.communicate(timeout=30)
        assert f"(process {os.getpid()})" in said.decode()


def test_who_has_it_cannot_always_be_known_and_is_not_guessed_then(used, monkeypatch):
    monkeypatch.setattr(opening, "process_locking", lambda path: None)
    with Emulator(state=used):
        assert "in use by another process" in refusal(used).message


def test_a_state_of_a_later_version_is_refused_and_left_byte_for_byte_alone(used):
    edit(used, "PRAGMA journal_mode = DELETE", "PRAGMA user_version = 99")
    before = files(used)
    refused = refusal(used)
    assert "it has format 99; this version reads up to 2" in refused.message
    assert refused.hint == "use the version that wrote it, or choose another --state folder"
    assert files(used) == before


def test_a_later_version_that_was_killed_finds_everything_it_had_written(used):
    with closing(sqlite3.connect(used / "emulator.db")) as db:
        db.execute("PRAGMA wal_autocheckpoint = 0")
        db.execute("PRAGMA user_version = 99")
        left = files(used)
    for name, content in left.items():
        (used / name).write_bytes(content)
    assert "format 99" in refusal(used).message
    assert not list(used.glob("*damaged*"))
    assert query(used, "PRAGMA user_version") == [(99,)]
    assert query(used, "SELECT count(*) FROM exchanges") == [(40,)]


@pytest.mark.parametrize("version", [0, 1, 2, 7])
def test_a_database_of_another_program_is_refused_and_left_alone(tmp_path, version):
    database = tmp_path / "emulator.db"
    edit(tmp_path, "CREATE TABLE games (name)", f"PRAGMA user_version = {version}")
    before = database.read_bytes()
    refused = refusal(tmp_path)
    assert "a database of another program" in refused.message
    assert refused.hint == "choose another --state folder"
    assert database.read_bytes() == before
    assert not list(tmp_path.glob("*damaged*"))


def garbage(database):
    database.write_bytes(b"not a database" * 1000)


def truncated(database):
    database.write_bytes(database.read_bytes()[:-5000])


def page_overwritten(database):
    content = bytearray(database.read_bytes())
    middle = len(content) // 2 // 4096 * 4096
    content[middle : middle + 4096] = bytes(reversed(content[middle : middle + 4096]))
    database.write_bytes(content)


def garbage_beside_its_log(database):
    garbage(database)
    Path(f"{database}-wal").write_bytes(b"what was written last")


def emptied_beside_its_log(database):
    database.write_bytes(b"")
    Path(f"{database}-wal").write_bytes(b"what was written last")


DAMAGES = [garbage, garbage_beside_its_log, truncated, page_overwritten, emptied_beside_its_log]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_state_is_refused_kept_aside_and_the_next_start_begins_anew(
    used, damage, connect
):
    database = used / "emulator.db"
    damage(database)
    damaged = files(used)
    kept = used / "emulator.db.damaged-1"
    refused = refusal(used)
    assert f"emulator state {database} — damaged: " in refused.message
    assert f"kept as {kept}; start again for an empty account" in refused.hint
    assert kept.read_bytes() == damaged["emulator.db"]
    log = files(used).get("emulator.db.damaged-1-wal", b"")
    assert log == damaged.get("emulator.db-wal", b"")
    with Emulator(state=used) as emulator:
        api = connect(emulator)
        assert api.messages() == 0
        assert api.send().status_code == 200
    assert kept.read_bytes() == damaged["emulator.db"]


BROKEN_ROWS = [
    "UPDATE tokens SET scopes = '[\"messages:send'",
    "UPDATE tokens SET scopes = 'null'",
    "UPDATE tokens SET allowed_ips = '[\"nowhere\"]'",
    "UPDATE tokens SET name = CAST(x'ff' AS TEXT)",
    "UPDATE exchanges SET notes = ''",
    "UPDATE exchanges SET request_headers = '[[\"a\", '",
    "UPDATE days SET day = 'yesterday'",
    "INSERT OR REPLACE INTO meta VALUES ('shift', 'far')",
    "INSERT OR REPLACE INTO meta VALUES ('busiest', 'many')",
    "INSERT OR REPLACE INTO meta VALUES ('shift', '1e300')",
    "INSERT OR REPLACE INTO meta VALUES ('shift', 'nan')",
    "UPDATE tokens SET created_at = 'abc'",
    "UPDATE tokens SET created_at = 9e300",
    "UPDATE tokens SET expires_at = 1e11",
    "UPDATE tokens SET messages = -1",
    "UPDATE tokens SET seq = 9223372036854775807 WHERE name = 'acme'",
    "UPDATE tokens SET scopes = '{}'",
    "UPDATE tokens SET scopes = '\"messages:send\"'",
    "UPDATE tokens SET scopes = '[[\"messages:send\"]]'",
    "UPDATE exchanges SET at = 1e300",
    "UPDATE exchanges SET notes = '1'",
    "UPDATE exchanges SET request_headers = '{}'",
    "UPDATE exchanges SET request_headers = '[\"ab\"]'",
    'UPDATE exchanges SET request_headers = \'[["a", "b", "c"]]\'',
    "UPDATE exchanges SET response_headers = '[[\"a\", 1]]'",
    "UPDATE exchanges SET text = x'00ff'",
    "UPDATE exchanges SET status = 'fine'",
    "UPDATE token_events SET at = 'zz'",
    "UPDATE token_events SET event = 'eaten'",
    "UPDATE days SET accepted = -5",
    f"INSERT OR REPLACE INTO meta VALUES ('busiest', '{'9' * 5000}')",
]
OTHER_THINGS = [
    "CREATE TRIGGER t AFTER INSERT ON exchanges BEGIN DELETE FROM tokens; END",
    "CREATE VIEW v AS SELECT * FROM tokens",
    "CREATE TABLE more (x)",
    "CREATE INDEX more ON tokens (name)",
    "DROP INDEX exchanges_by_recipient",
    "ALTER TABLE days ADD COLUMN more TEXT",
]


@pytest.mark.parametrize("broken", BROKEN_ROWS)
def test_rows_that_are_not_what_was_written_there_are_damage_too(used, broken):
    edit(used, broken)
    assert "damaged" in refusal(used).message
    assert (used / "emulator.db.damaged-1").exists()
    with Emulator(state=used):
        pass


@pytest.mark.parametrize("other", OTHER_THINGS)
def test_a_state_with_anything_but_the_tables_of_its_format_is_not_used(used, other):
    edit(used, other)
    assert "damaged: its tables are not those of format 2" in refusal(used).message


def test_neither_is_one_in_which_a_table_is_a_view_that_never_ends(used):
    edit(
        used,
        "DROP TABLE exchanges",
        "CREATE VIEW exchanges AS WITH RECURSIVE n(seq) AS"
        " (SELECT 1 UNION ALL SELECT seq + 1 FROM n) SELECT seq FROM n",
    )
    assert "damaged" in refusal(used).message


class Careless(sqlite3.Connection):
    """As SQLite is where nobody built it otherwise."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.execute("PRAGMA secure_delete = OFF")


def test_what_is_forgotten_is_gone_from_the_database(tmp_path, connect, monkeypatch):
    opened = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *a, **kw: opened(*a, factory=Careless, **kw))
    with Emulator(state=tmp_path) as emulator:
        api = connect(emulator)
        text = {"body": "to be forgotten"}
        api.send(message={"to": "+1234567890", "type": "text", "text": text})
    assert b"to be forgotten" in (tmp_path / "emulator.db").read_bytes()
    with Emulator(state=tmp_path) as emulator:
        connect(emulator).control("reset")
    assert b"to be forgotten" not in (tmp_path / "emulator.db").read_bytes()


def test_what_was_kept_aside_before_is_never_overwritten(tmp_path):
    database = tmp_path / "emulator.db"
    (tmp_path / "emulator.db.damaged-2-wal").write_bytes(b"a log whose database is gone")
    for number in (1, 3, 4):
        database.write_bytes(b"not a database, time %d" % number * 100)
        assert f"damaged-{number};" in refusal(tmp_path).hint
    for number in (1, 3, 4):
        kept = (tmp_path / f"emulator.db.damaged-{number}").read_bytes()
        assert kept.startswith(b"not a database, time %d" % number)
    assert (tmp_path / "emulator.db.damaged-2-wal").read_bytes() == b"a log whose database is gone"


def test_a_move_aside_that_is_cut_short_leaves_no_log_that_a_new_database_could_take_for_its_own(
    used, monkeypatch
):
    database, log = used / "emulator.db", used / "emulator.db-wal"
    garbage(database)
    log.write_bytes(b"what was written last")
    rename, moved = Path.rename, []

    def renamed_once(path, target):
        if moved:
            raise KeyboardInterrupt  # stands for kill -9
        moved.append(path)
        return rename(path, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", renamed_once)
        with pytest.raises(KeyboardInterrupt):
            Journal(database)
    assert not database.exists()
    assert "its write-ahead log is not" in refusal(used).message
    assert (used / "emulator.db.damaged-2-wal").read_bytes() == b"what was written last"
    assert not log.exists()


def test_a_damaged_state_that_cannot_be_moved_is_refused_all_the_same(used, monkeypatch):
    garbage(used / "emulator.db")

    def cannot(path, target):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "rename", cannot)
    assert "could not be moved aside (Operation not permitted)" in refusal(used).hint


def test_a_lock_is_not_damage_and_moves_nothing(used):
    held = sqlite3.connect(used / "emulator.db")
    held.execute("BEGIN EXCLUSIVE")
    try:
        assert "in use by this process" in refusal(used).message
    finally:
        held.close()
    assert_whole(used)


def test_a_log_that_cannot_be_opened_is_not_damage_and_moves_nothing(used):
    (used / "emulator.db-wal").mkdir()
    assert "unable to open database file" in refusal(used).message
    (used / "emulator.db-wal").rmdir()
    assert_whole(used)


def test_a_full_disk_is_not_damage_and_moves_nothing(used):
    program = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from cmzon_secrets.emulator.storage.journal import Journal\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
        "Journal(Path(sys.argv[1]))\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, str(used / "emulator.db")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "ConfigurationError" in ended.stderr
    assert "damaged" not in ended.stderr
    assert_whole(used)


@pytest.mark.parametrize(
    ("code", "damaged"),
    [
        (sqlite3.SQLITE_CORRUPT, True),
        (sqlite3.SQLITE_CORRUPT_INDEX, True),
        (sqlite3.SQLITE_NOTADB, True),
        (sqlite3.SQLITE_IOERR, False),
        (sqlite3.SQLITE_IOERR_READ, False),
        (sqlite3.SQLITE_BUSY, False),
        (sqlite3.SQLITE_CANTOPEN, False),
        (sqlite3.SQLITE_FULL, False),
        (sqlite3.SQLITE_READONLY, False),
    ],
)
def test_only_what_says_that_the_file_is_broken_is_damage(code, damaged):
    error = sqlite3.DatabaseError("as SQLite says it")
    error.sqlite_errorcode = code
    assert opening._is_damage(error) is damaged


OLD_FORMAT = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE tokens (
  seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, sha256 TEXT NOT NULL UNIQUE,
  name TEXT NOT NULL, scopes TEXT NOT NULL, allowed_ips TEXT NOT NULL, created_at REAL NOT NULL,
  expires_at REAL, revoked_at REAL, last_used_at REAL, last_used_ip TEXT);
CREATE TABLE messages (
  seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, recipient TEXT NOT NULL, body TEXT NOT NULL,
  token_id TEXT NOT NULL, request_id TEXT NOT NULL, accepted_at REAL NOT NULL,
  idempotency_key TEXT);
CREATE TABLE idempotency (
  route TEXT NOT NULL, key TEXT NOT NULL, fingerprint TEXT NOT NULL, result_id TEXT NOT NULL,
  PRIMARY KEY (route, key)) WITHOUT ROWID;
CREATE TABLE audit (
  seq INTEGER PRIMARY KEY, at REAL NOT NULL, method TEXT NOT NULL, route TEXT, status INTEGER,
  token_id TEXT, ip TEXT NOT NULL, request_id TEXT NOT NULL);
PRAGMA user_version = 1;
"""


@pytest.fixture
def old(tmp_path, connect):
    """A folder as format 1 left it: a live token that sent two messages, one that never did."""
    (tmp_path / "token-secret").write_text("11" * 32)
    with Emulator(state=tmp_path / "new") as emulator:  # for a fingerprint of today's body
        connect(emulator).send(key="k1")
    ((fingerprint,),) = query(tmp_path / "new", "SELECT fingerprint FROM idempotency")
    value = deriving(bytes.fromhex("11" * 32))
    with closing(sqlite3.connect(tmp_path / "emulator.db")) as db, db:
        db.execute("PRAGMA journal_mode = WAL")
        db.executescript(OLD_FORMAT)
        for seq, token_id, name in ((1, "tok_a", "emulator-admin"), (2, "tok_b", "acme")):
            digest = hashlib.sha256(value(token_id).encode()).hexdigest()
            scopes = '["messages:send", "tokens:manage", "audit:read"]'
            used = (2000.0, "127.0.0.1") if name == "acme" else (None, None)
            row = (seq, token_id, digest, name, scopes, "[]", 1000.0, None, None, *used)
            db.execute(f"INSERT INTO tokens VALUES ({', '.join('?' * 11)})", row)
        for seq, at in ((1, 1500.0), (2, 2000.0)):
            row = (seq, f"msg_{seq}", f"+123456789{seq}", f"text {seq}", "tok_b", f"req_{seq}", at)
            key = "k1" if seq == 1 else value("tok_b")  # a token in the wrong header
            db.execute("INSERT INTO messages VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (*row, key))
            row = (seq, at, "POST", "POST /v1/messages", 200, "tok_b", "127.0.0.1", f"req_{seq}")
            db.execute("INSERT INTO audit VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
        db.execute(
            "INSERT INTO idempotency VALUES ('POST /v1/messages', 'k1', ?, 'msg_1')", (fingerprint,)
        )
        db.execute(
            "INSERT INTO idempotency VALUES ('POST /v1/messages', ?, ?, 'msg_2')",
            (value("tok_b"), fingerprint),
        )
        db.execute("INSERT INTO meta VALUES ('admin', 'tok_a')")
        db.execute("INSERT INTO meta VALUES ('shift', '86400.0')")
    db.close()
    return tmp_path, value("tok_b")


def test_a_state_of_format_1_is_brought_up_to_date_with_everything_in_it(old, connect):
    folder, value = old
    for messages in (2, 3):  # the second start finds format 2
        with Emulator(state=folder) as emulator:
            api = connect(emulator)
            assert api.messages() == messages
            assert api.control("clock", advance=0)["shift"] == 86400.0
            assert api.send(value, key="k1").json()["id"] == "msg_1"
            assert api.send(value).status_code == 200
            first, second, *_ = api.call("GET", "/v1/audit").json()["data"]
            assert [first["request_id"], second["request_id"]] == ["req_1", "req_2"]
    kept = query(folder, "SELECT recipient, text, status, message_id, at FROM exchanges LIMIT 2")
    assert kept == [
        ("+1234567891", "text 1", 200, "msg_1", 1500.0),
        ("+1234567892", "text 2", 200, "msg_2", 2000.0),
    ]
    noted = "SELECT name, messages, promoted_at FROM tokens ORDER BY seq"
    assert query(folder, noted) == [("emulator-admin", 0, None), ("acme", 4, 1500.0)]
    began = "SELECT first_used_at FROM tokens WHERE name = 'acme'"
    assert query(folder, began) == [(1500.0,)]
    assert query(folder, "SELECT accepted FROM days WHERE day = '1970-01-01'") == [(2,)]
    assert query(folder, "PRAGMA user_version") == [(2,)]
    assert value.encode() not in (folder / "emulator.db").read_bytes()
    keys = {key for (key,) in query(folder, "SELECT key_sha256 FROM idempotency")}
    assert keys == {hashlib.sha256(key.encode()).hexdigest() for key in ("k1", value)}


@pytest.mark.parametrize(
    "broken",
    [
        "UPDATE messages SET accepted_at = 'abc'",
        "UPDATE idempotency SET key = x'ff' WHERE key = 'k1'",
        "CREATE TRIGGER t AFTER DELETE ON tokens BEGIN DELETE FROM audit; END",
    ],
)
def test_a_state_of_format_1_is_checked_before_anything_is_made_of_it(old, broken):
    folder, _ = old
    edit(folder, broken)
    assert "damaged" in refusal(folder).message


def test_kill_9_in_the_middle_of_bringing_it_up_to_date_leaves_format_1_whole(old):
    folder, _ = old
    program = (
        "import os, signal, sqlite3, sys\n"
        "from pathlib import Path\n"
        "from cmzon_secrets.emulator.storage.journal import Journal\n"
        "class Dying(sqlite3.Connection):\n"
        "    def executescript(self, script):\n"
        "        before, last, _ = script.partition('DROP TABLE messages;')\n"
        "        super().executescript(before + last)\n"
        "        if not last:\n"
        "            return\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "connect = sqlite3.connect\n"
        "sqlite3.connect = lambda *args, **kw: connect(*args, factory=Dying, **kw)\n"
        "Journal(Path(sys.argv[1]))\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, str(folder / "emulator.db")], check=False
    )
    assert ended.returncode == -signal.SIGKILL
    assert query(folder, "PRAGMA user_version") == [(1,)]
    assert query(folder, "SELECT count(*) FROM messages") == [(2,)]
    with Emulator(state=folder) as emulator:
        assert emulator.stats()["messages"] == 2


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
    file = tmp_path / "a-file"
    assert refused.value.message == (
        f"emulator state {tmp_path / place} — {file} is a file; a folder is needed"
    )


@pytest.mark.parametrize(
    ("name", "mode"), [(".", 0o777), (".", 0o770), ("token-secret", 0o666), ("emulator.db", 0o660)]
)
def test_what_other_users_can_write_is_not_used_and_the_command_that_mends_it_is_told(
    used, name, mode
):
    path = used / name
    path.chmod(mode)
    refused = refusal(used)
    assert refused.message == f"emulator state {path} — other users can write there"
    command = f"chmod {'700' if path.is_dir() else '600'} {path}"
    assert command in refused.hint
    subprocess.run(command.split(), check=True)
    assert_whole(used)


@pytest.mark.parametrize("name", ["token-secret", "emulator.db", "snapshots"])
def test_what_is_a_link_to_another_place_is_not_used(used, tmp_path_factory, name):
    there = tmp_path_factory.mktemp("victim")
    if (used / name).exists():
        (used / name).rename(there / name)
    (used / name).symlink_to(there / name if name != "snapshots" else there)
    refused = refusal(used)
    assert refused.message == f"emulator state {used / name} — it is a link to another place"
    assert refused.hint == "remove the link"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("name", [".", "token-secret", "emulator.db"])
def test_what_belongs_to_another_user_is_used_by_root_alone(used, monkeypatch, name):
    os.chown(used / name, 4711, 4711)
    assert_whole(used)
    monkeypatch.setattr(os, "geteuid", lambda: 4712)
    assert refusal(used).message == f"emulator state {used / name} — it belongs to another user"
    monkeypatch.setattr(os, "geteuid", lambda: 4711)  # what is root's is fine too
    assert_whole(used)


def test_a_state_folder_may_be_reached_by_a_link(used, tmp_path_factory):
    link = tmp_path_factory.mktemp("links") / "state"
    link.symlink_to(used)
    assert_whole(link)


@pytest.mark.slow
def test_kill_9_loses_no_message_that_is_older_than_a_flush(tmp_path, connect):
    process, ready = start_process(tmp_path)
    sent = connect(Attached(ready)).send(key="k1").json()
    log = tmp_path / "emulator.db-wal"
    wait_until(lambda: sent["id"].encode() in log.read_bytes())  # asks the emulator nothing
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


def test_with_a_full_disk_pages_and_controls_say_so_and_go_on_once_there_is_room(tmp_path, connect):
    process, ready = start_process(tmp_path)
    try:
        api = connect(Attached(ready))
        size = (tmp_path / "emulator.db-wal").stat().st_size
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size, -1))
        assert api.send().status_code == 200  # answered from memory, queued
        for ask in (
            "GET /_emulator/messages",
            "POST /_emulator/reset",
            "GET /_emulator/audit.jsonl",
        ):
            details = api.details(api.http.request(*ask.split()), 500)
            assert details == "The emulator's state could not be written: make room in its folder"
        page = api.http.get("/dashboard")
        assert page.status_code == 500
        assert "make room in its folder" in page.text
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (-1, -1))
        assert api.http.get("/dashboard").status_code == 200
        assert len(api.http.get("/_emulator/messages").json()["data"]) == 1
    finally:
        process.kill()
        process.communicate()


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


@pytest.fixture
def used(tmp_path, connect):
    """A folder whose emulator is stopped, with a token and some messages in it."""
    with Emulator(state=tmp_path, limits=False) as emulator:
        api = connect(emulator)
        token = api.issue()["token"]
        for n in range(40):
            api.send(token, key=f"k{n}")
    return tmp_path


def refusal(folder):
    """Why an emulator does not start there."""
    with pytest.raises(ConfigurationError) as refused:
        Emulator(state=folder).start()
    return refused.value


def files(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}


def edit(folder, *statements):
    with closing(sqlite3.connect(folder / "emulator.db")) as db, db:
        for statement in statements:
            db.execute(statement)


def query(folder, statement):
    with closing(sqlite3.connect(folder / "emulator.db")) as db:
        return db.execute(statement).fetchall()


def assert_whole(folder):
    assert not list(folder.glob("*damaged*"))
    with Emulator(state=folder) as emulator:
        assert emulator.stats()["messages"] == 40


class Attached:
    """An emulator in another process, seen through its ready line."""

    def __init__(self, ready):
        self.base_url = ready["base_url"]
        self.admin_token = Path(ready["admin_token_file"]).read_text().strip()


def wait_until(is_so, patience=30.0):
    end = time.monotonic() + patience
    while not is_so():
        assert time.monotonic() < end, "in vain"
        time.sleep(0.01)


SERVE = [
    *(sys.executable, "-c"),
    "import json, sys\n"
    "from dataclasses import asdict\n"
    "from cmzon_secrets.emulator import serve\n"
    "serve(lambda r: print(json.dumps(asdict(r)), flush=True), state=sys.argv[1])\n",
]


def start_process(state):
    process = subprocess.Popen([*SERVE, str(state)], stdout=subprocess.PIPE, env=os.environ)
    return process, json.loads(process.stdout.readline())
