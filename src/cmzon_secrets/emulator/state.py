"""Where the emulator's state lies: one SQLite file, or memory.

Answers are given from memory; what has to survive is queued here and written in one transaction
every ``FLUSH_EVERY`` seconds, or at once (``now``) where an answer promises it: a token that was
issued, a revocation. ``kill -9`` loses at most the queue.

Not thread-safe: only the server's thread uses it while the server runs.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from cmzon_secrets.errors import ConfigurationError

__all__ = ["FLUSH_EVERY", "Journal"]

FLUSH_EVERY = 0.1
"""Seconds between two writes; what ``kill -9`` can lose of messages and of the audit trail."""

_VERSION = 1
_SCHEMA = """
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
"""
REMEMBER = "INSERT OR REPLACE INTO meta VALUES (?, ?)"
_TABLES = ("tokens", "messages", "idempotency", "audit", "meta")

_Write = tuple[str, tuple[Any, ...]]


class Journal:
    """A write-behind queue before one SQLite database, held exclusively while open.

    ``path`` None: in memory. Raises ConfigurationError where the file cannot be used.
    """

    def __init__(self, path: Path | None) -> None:
        self._queue: list[_Write] = []
        self._latest: dict[object, _Write] = {}
        try:
            self._db = _open(path)
        except sqlite3.Error as error:
            raise ConfigurationError(
                f"emulator state {path} — {error}",
                hint="stop the emulator that uses it, or choose another --state folder",
            ) from error

    def later(self, statement: str, row: Sequence[Any], *, replaces: object = None) -> None:
        """Queue a write. Of writes with the same ``replaces`` only the last is kept."""
        write = (statement, tuple(row))
        if replaces is None:
            self._queue.append(write)
        else:
            self._latest[replaces] = write

    def now(self, *writes: _Write) -> None:
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

    def replace_all(self, *writes: _Write) -> None:
        """Forget everything, queue included, and keep ``writes``; like ``now``, all or nothing."""
        self.now(*((f"DELETE FROM {table}", ()) for table in _TABLES), *writes)  # noqa: S608  # our own names

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
        _prepare(db)
    except BaseException:
        db.close()
        raise
    return db


def _prepare(db: sqlite3.Connection) -> None:
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version not in (0, _VERSION):
        raise sqlite3.DatabaseError(f"it has format {version}; this version reads {_VERSION}")
    if version == 0:
        db.executescript(f"BEGIN EXCLUSIVE; {_SCHEMA} PRAGMA user_version = {_VERSION}; COMMIT;")
    with db:  # takes the lock that EXCLUSIVE then keeps
        db.execute("INSERT OR REPLACE INTO meta VALUES ('opened', '')")


def _batches(writes: Sequence[_Write]) -> Iterator[tuple[str, list[tuple[Any, ...]]]]:
    """Neighbouring writes with the same statement, together; the order is kept."""
    for statement, group in groupby(writes, key=lambda write: write[0]):
        yield statement, [row for _, row in group]
