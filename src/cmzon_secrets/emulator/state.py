"""Where the emulator's state lies: one SQLite file, or memory.

Answers are given from memory; what has to survive is queued here and written in one transaction
every ``FLUSH_EVERY`` seconds, or at once (``now``) where an answer promises it: a token that was
issued, a revocation. ``kill -9`` loses at most the queue.

Not thread-safe: only the server's thread uses it while the server runs.

The file says its format in ``user_version``. An older one is brought up to date, a newer one is
refused and left alone, and one that is damaged is refused and kept aside under another name.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import count, groupby
from pathlib import Path
from typing import Any

from cmzon_secrets.errors import ConfigurationError

__all__ = ["FLUSH_EVERY", "REMEMBER", "Journal", "Where", "Write", "like"]

FLUSH_EVERY = 0.1
"""Seconds between two writes; what ``kill -9`` can lose of messages and of the audit trail."""

_VERSION = 2
_SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE tokens (
  seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, sha256 TEXT NOT NULL UNIQUE,
  name TEXT NOT NULL, scopes TEXT NOT NULL, allowed_ips TEXT NOT NULL, created_at REAL NOT NULL,
  expires_at REAL, revoked_at REAL, last_used_at REAL, last_used_ip TEXT);
CREATE TABLE idempotency (
  route TEXT NOT NULL, key TEXT NOT NULL, fingerprint TEXT NOT NULL, result_id TEXT NOT NULL,
  PRIMARY KEY (route, key)) WITHOUT ROWID;
CREATE TABLE audit (
  seq INTEGER PRIMARY KEY, at REAL NOT NULL, method TEXT NOT NULL, route TEXT, status INTEGER,
  token_id TEXT, ip TEXT NOT NULL, request_id TEXT NOT NULL);
"""
_ADDED_BY_2 = """
ALTER TABLE tokens ADD COLUMN verified_at REAL;
ALTER TABLE tokens ADD COLUMN first_used_at REAL;
ALTER TABLE tokens ADD COLUMN promoted_at REAL;
ALTER TABLE tokens ADD COLUMN messages INTEGER NOT NULL DEFAULT 0;
ALTER TABLE tokens ADD COLUMN refused INTEGER NOT NULL DEFAULT 0;
ALTER TABLE tokens ADD COLUMN last_refused_at REAL;
CREATE TABLE token_events (
  seq INTEGER PRIMARY KEY, at REAL NOT NULL, event TEXT NOT NULL, token_id TEXT NOT NULL,
  by TEXT NOT NULL, ip TEXT, request_id TEXT);
CREATE INDEX token_events_by_token ON token_events (token_id);
CREATE TABLE days (day TEXT PRIMARY KEY, accepted INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE exchanges (
  seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, at REAL NOT NULL, seconds REAL NOT NULL,
  recipient TEXT NOT NULL, text TEXT NOT NULL, status INTEGER, message_id TEXT, token_id TEXT,
  ip TEXT NOT NULL, idempotency_key TEXT, notes TEXT NOT NULL, request_headers TEXT NOT NULL,
  request_body TEXT NOT NULL, response_headers TEXT NOT NULL, response_body TEXT NOT NULL);
CREATE INDEX exchanges_by_recipient ON exchanges (recipient);
"""
_FROM_1 = """
INSERT INTO days SELECT date(accepted_at, 'unixepoch'), count(*) FROM messages GROUP BY 1;
INSERT INTO exchanges SELECT seq, request_id, accepted_at, 0, recipient, body, 200, id, token_id,
  '', idempotency_key, '[]', '[]', '', '[]', '' FROM messages;
DROP TABLE messages;
"""
REMEMBER = "INSERT OR REPLACE INTO meta VALUES (?, ?)"
_TABLES = ("tokens", "token_events", "days", "exchanges", "idempotency", "audit", "meta")

Write = tuple[str, tuple[Any, ...]]
"""A statement and its values."""


class Where:
    """The condition of a query; without any, all rows."""

    def __init__(self) -> None:
        self._conditions: list[str] = []
        self.arguments: list[Any] = []

    def add(self, condition: str, *arguments: Any) -> None:
        """Narrow it down."""
        self._conditions.append(condition)
        self.arguments += arguments

    def __str__(self) -> str:
        return " AND ".join(self._conditions) or "TRUE"


def like(part: str) -> str:
    """The pattern of LIKE, with a backslash as its ESCAPE, that finds ``part`` anywhere."""
    for special in "\\%_":
        part = part.replace(special, f"\\{special}")
    return f"%{part}%"


class Journal:
    """A write-behind queue before one SQLite database, held exclusively while open.

    ``path`` None: in memory. Raises ConfigurationError where the file cannot be used.
    """

    def __init__(self, path: Path | None) -> None:
        self._queue: list[Write] = []
        self._latest: dict[object, Write] = {}
        self.in_memory = path is None
        try:
            self._db = _open(path)
        except sqlite3.Error as error:
            raise _unusable(path, error) from error

    def later(self, statement: str, row: Sequence[Any], *, replaces: object = None) -> None:
        """Queue a write. Of writes with the same ``replaces`` only the last is kept."""
        write = (statement, tuple(row))
        if replaces is None:
            self._queue.append(write)
        else:
            self._latest[replaces] = write

    def now(self, *writes: Write) -> None:
        """Everything queued and ``writes``: on disk when this returns.

        Raises sqlite3.Error and keeps the queue, without ``writes``, where that fails.
        """
        with self._db:  # one transaction
            for statement, rows in _batches([*self._queue, *self._latest.values(), *writes]):
                self._db.executemany(statement, rows)
        self._queue.clear()
        self._latest.clear()

    def rows(self, query: str, *arguments: Any) -> list[tuple[Any, ...]]:
        """The answer to a query that sees everything queued so far."""
        self.now()
        return self._db.execute(query, arguments).fetchall()

    def meta(self, name: str) -> str | None:
        """A remembered setting."""
        found = self.rows("SELECT value FROM meta WHERE name = ?", name)
        return str(found[0][0]) if found else None

    def remember(self, name: str, value: object) -> None:
        """Queue a setting."""
        self.later(REMEMBER, (name, str(value)), replaces=name)

    def replace_all(self, *writes: Write) -> None:
        """Forget everything, queue included, and keep ``writes``; like ``now``, all or nothing."""
        self.now(*((f"DELETE FROM {table}", ()) for table in _TABLES), *writes)  # noqa: S608  # our own names

    def copy_to(self, path: Path, *writes: Write) -> None:
        """Everything, and ``writes``, as a database of its own. Raises sqlite3.Error."""
        self.now()
        with closing(sqlite3.connect(path)) as copy:
            self._db.backup(copy)
            with copy:
                for statement, row in writes:
                    copy.execute(statement, row)

    def become(self, path: Path) -> None:
        """Forget everything and hold what ``copy_to`` wrote there: all of it, or nothing.

        Raises sqlite3.Error.
        """
        self.now()
        self._db.execute("ATTACH ? AS copy", (str(path),))
        try:
            with self._db:
                for table in _TABLES:
                    self._db.execute(f"DELETE FROM main.{table}")  # noqa: S608  # our own names
                    self._db.execute(f"INSERT INTO main.{table} SELECT * FROM copy.{table}")  # noqa: S608  # our own names
        finally:
            self._db.execute("DETACH copy")

    def close(self) -> None:
        """Write what is queued and let go of the file.

        Raises ConfigurationError where the last writes were lost.
        """
        try:
            self.now()
        except sqlite3.Error as error:
            raise ConfigurationError(
                f"emulator state — its last {FLUSH_EVERY} s could not be written: {error}",
                hint="make room in the state folder",
            ) from error
        finally:
            self._db.close()


def _open(path: Path | None) -> sqlite3.Connection:
    db = sqlite3.connect(path or ":memory:", timeout=0.0, check_same_thread=False)
    try:
        # Exclusive: a second emulator on the same folder is refused instead of mixing its writes.
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        db.create_function("casefold", 1, str.casefold, deterministic=True)
        _check(db)
        _prepare(db)
    except BaseException:
        db.close()
        raise
    return db


def _check(db: sqlite3.Connection) -> None:
    (found,) = db.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise _Damaged(found)


def _prepare(db: sqlite3.Connection) -> None:
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version > _VERSION or version < 0:
        raise _OtherFormat(f"it has format {version}; this version reads up to {_VERSION}")
    steps = {0: f"{_SCHEMA} {_ADDED_BY_2}", 1: f"{_ADDED_BY_2} {_FROM_1}"}
    if version in steps:
        db.executescript(
            f"BEGIN EXCLUSIVE; {steps[version]} PRAGMA user_version = {_VERSION}; COMMIT;"
        )
    with db:  # takes the lock that EXCLUSIVE then keeps
        db.execute("INSERT OR REPLACE INTO meta VALUES ('opened', '')")


class _Damaged(sqlite3.DatabaseError):
    """SQLite reads the file, but what is in it contradicts itself."""


class _OtherFormat(sqlite3.DatabaseError):
    """Written by a later version."""


def _unusable(path: Path | None, error: sqlite3.Error) -> ConfigurationError:
    """What to say of a file that could not be opened; a damaged one is moved aside."""
    if isinstance(error, _OtherFormat):
        hint = "use the version that wrote it, or choose another --state folder"
    elif path is not None and _is_damage(error):
        kept = keep_aside(path)
        return ConfigurationError(
            f"emulator state {path} — damaged: {error}",
            hint=f"kept as {kept}; start again for an empty account, or put a copy in its place",
        )
    else:
        hint = "stop the emulator that uses it, or choose another --state folder"
    return ConfigurationError(f"emulator state {path} — {error}", hint=hint)


def _is_damage(error: sqlite3.Error) -> bool:
    code = getattr(error, "sqlite_errorcode", None)
    return isinstance(error, _Damaged) or code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def keep_aside(path: Path) -> Path:
    """Give a database, with what SQLite keeps beside it, a name that no emulator opens."""
    number = next(n for n in count(1) if not path.with_name(f"{path.name}.damaged-{n}").exists())
    kept = path.with_name(f"{path.name}.damaged-{number}")
    for suffix in ("-wal", "-shm", ""):
        beside = path.with_name(path.name + suffix)
        if beside.exists():
            beside.replace(kept.with_name(kept.name + suffix))
    return kept


def _batches(writes: Sequence[Write]) -> Iterator[tuple[str, list[tuple[Any, ...]]]]:
    """Neighbouring writes with the same statement, together; the order is kept."""
    for statement, group in groupby(writes, key=lambda write: write[0]):
        yield statement, [row for _, row in group]
