"""Where the emulator's state lies: one SQLite file, or memory.

Answers are given from memory; what has to survive is queued here and written in one transaction
every ``FLUSH_EVERY`` seconds, or at once (``now``) where an answer promises it: a token that was
issued, a revocation. ``kill -9`` loses at most the queue.

Not thread-safe: only the server's thread uses it while the server runs.

The file says its format in ``user_version``. An older one is brought up to date, a newer one is
refused and left alone, and one that is damaged is refused and kept aside under another name. A
database of another program is left alone too: it may be in use, and renaming it would break it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, suppress
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
CREATE INDEX exchanges_by_recipient ON exchanges (recipient, status);
CREATE INDEX audit_failed_sends ON audit (at)
  WHERE route = 'POST /v1/messages' AND (status IS NULL OR status >= 400);
"""
_FROM_1 = """
UPDATE tokens SET promoted_at = first, messages = sent FROM
  (SELECT token_id, min(accepted_at) AS first, count(*) AS sent FROM messages GROUP BY token_id)
  WHERE token_id = tokens.id;
UPDATE tokens SET first_used_at = first FROM
  (SELECT token_id, min(at) AS first FROM audit GROUP BY token_id)
  WHERE token_id = tokens.id AND last_used_at IS NOT NULL;
INSERT INTO days SELECT date(accepted_at, 'unixepoch'), count(*) FROM messages GROUP BY 1;
INSERT INTO exchanges SELECT seq, request_id, accepted_at, 0, recipient, body, 200, id, token_id,
  '', idempotency_key, '[]', '[]', '', '[]', '' FROM messages;
DROP TABLE messages;
"""
REMEMBER = "INSERT OR REPLACE INTO meta VALUES (?, ?)"
_TABLES = ("tokens", "token_events", "days", "exchanges", "idempotency", "audit", "meta")
_OURS = {"tokens", "idempotency", "audit", "meta"}
"""What every format has: by it a state is told from another program's database."""
_JSON = {
    "tokens": ("scopes", "allowed_ips"),
    "exchanges": ("notes", "request_headers", "response_headers"),
}
_BESIDE = ("-wal", "-shm", "-journal")
"""What SQLite keeps beside a database."""

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
        self._path = path
        self._closed = False
        self.in_memory = path is None
        with ExitStack() as undo:
            try:
                self._db = _open(path, undo)
            except sqlite3.Error as error:
                raise _unusable(path, error) from error
            undo.pop_all()

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

    @classmethod
    def read(cls, path: Path) -> Journal:
        """What ``copy_to`` wrote there, in memory and brought up to date; the file stays as it is.

        Raises sqlite3.Error where it is damaged, or of a later version.
        """
        journal = cls(None)
        try:
            with closing(sqlite3.connect(f"{path.as_uri()}?immutable=1", uri=True)) as copy:
                copy.backup(journal._db)
            version = _version_of(journal._db)
            _check(journal._db)
            _prepare(journal._db, version)
            _check_json(journal._db)
        except BaseException:
            journal._db.close()
            raise
        return journal

    def become(self, other: Journal) -> None:
        """Forget everything and hold what ``other`` does: all of it, or nothing. Raises sqlite3.Error."""
        self.now()
        other.now()
        other._db.backup(self._db)

    def give_up(self, error: Exception) -> ConfigurationError:
        """What to say of a state that could not be loaded. It is closed, and kept aside if damaged."""
        self._closed = True
        with closing(self._db):
            return _unusable(self._path, error)

    def close(self) -> None:
        """Write what is queued and let go of the file.

        Raises ConfigurationError where the last writes were lost.
        """
        if self._closed:
            return
        self._closed = True
        try:
            self.now()
        except sqlite3.Error as error:
            raise ConfigurationError(
                f"emulator state — its last {FLUSH_EVERY} s could not be written: {error}",
                hint="make room in the state folder",
            ) from error
        finally:
            self._db.close()


def _open(path: Path | None, undo: ExitStack) -> sqlite3.Connection:
    """The database, ready for use. ``undo`` closes it.

    That comes last: closing would remove the log of one that has to be kept aside as it is.
    """
    if path is not None:
        _check_files(path)
    db = sqlite3.connect(path or ":memory:", timeout=0.0, check_same_thread=False)
    undo.callback(db.close)
    # Exclusive: a second emulator on the same folder is refused instead of mixing its writes.
    db.execute("PRAGMA locking_mode = EXCLUSIVE")
    version = _version_of(db)  # before anything is written
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = NORMAL")
    db.create_function("casefold", 1, str.casefold, deterministic=True)
    _check(db)
    _prepare(db, version)
    _check_json(db)
    return db


def _check_files(path: Path) -> None:
    """Raise where a log lies beside no database: SQLite would throw it away without a word."""
    sizes = [p.stat().st_size if p.exists() else 0 for p in (path, _beside(path, "-wal"))]
    if sizes[0] == 0 < sizes[1]:
        raise _Damaged("the database is empty, but its write-ahead log is not")


def _version_of(db: sqlite3.Connection) -> int:
    """The format; 0 for a file without anything in it. Raises where it is not for us to use."""
    (version,) = db.execute("PRAGMA user_version").fetchone()
    tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master")}
    if not tables and version == 0:
        return 0
    if not tables >= _OURS:
        raise _NotOurs("it is a database of another program")
    if not 1 <= version <= _VERSION:
        raise _NotOurs(f"it has format {version}; this version reads up to {_VERSION}")
    return int(version)


def _check(db: sqlite3.Connection) -> None:
    (found,) = db.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise _Damaged(found)


def _prepare(db: sqlite3.Connection, version: int) -> None:
    """Bring an older format up to date: all of it, or nothing."""
    steps = {0: f"{_SCHEMA} {_ADDED_BY_2}", 1: f"{_ADDED_BY_2} {_FROM_1}"}
    if version in steps:
        db.executescript(
            f"BEGIN EXCLUSIVE; {steps[version]} PRAGMA user_version = {_VERSION}; COMMIT;"
        )
    with db:  # takes the lock that EXCLUSIVE then keeps
        db.execute("INSERT OR REPLACE INTO meta VALUES ('opened', '')")


def _check_json(db: sqlite3.Connection) -> None:
    """What SQLite takes for text, and is read only when somebody looks."""
    for table, columns in _JSON.items():
        broken = " OR ".join(f"NOT json_valid({column})" for column in columns)
        query = f"SELECT seq FROM {table} WHERE {broken} LIMIT 1"  # noqa: S608  # our own names
        if (row := db.execute(query).fetchone()) is not None:
            raise _Damaged(f"row {row[0]} of {table} is not what was written there")


class _Damaged(sqlite3.DatabaseError):
    """SQLite reads the file, but what is in it contradicts itself."""


class _NotOurs(sqlite3.DatabaseError):
    """Written by a later version, or by another program."""


def _unusable(path: Path | None, error: Exception) -> ConfigurationError:
    """What to say of a state that cannot be used; a damaged one is moved aside."""
    if isinstance(error, _NotOurs):
        hint = "use the version that wrote it, or choose another --state folder"
    elif path is not None and _is_damage(error):
        why = getattr(error, "details", None) or error
        return ConfigurationError(f"emulator state {path} — damaged: {why}", hint=_aside(path))
    else:
        hint = "stop the emulator that uses it, make room, or choose another --state folder"
    return ConfigurationError(f"emulator state {path} — {error}", hint=hint)


def _is_damage(error: Exception) -> bool:
    """Locks, full disks and failing ones are not: what cannot be read now may be whole."""
    if isinstance(error, _Damaged) or not isinstance(error, sqlite3.Error):
        return True  # it was read, and is not what was written
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:  # not SQLite's complaint but Python's: of text that is not UTF-8
        return isinstance(error, sqlite3.OperationalError)
    return code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)  # the rest tells where


def _aside(path: Path) -> str:
    """Keep it aside; where it is now, and what to do."""
    try:
        kept = keep_aside(path)
    except OSError as error:
        return f"it could not be moved aside ({error.strerror}); choose another --state folder"
    return f"kept as {kept}; start again for an empty account, or put a copy in its place"


def keep_aside(path: Path) -> Path:
    """Give a database, with what SQLite keeps beside it, a name that no emulator opens.

    The database goes first. Where that is all that happens, a log is left without one, which is
    found at the next start and kept too; the other way round, the database without its newest
    entries could pass for a whole one. Raises OSError.
    """
    names = (path.with_name(f"{path.name}.damaged-{n}") for n in count(1))
    kept = next(name for name in names if not _any_exists(name))
    for suffix in ("", *_BESIDE):
        with suppress(FileNotFoundError):
            _beside(path, suffix).rename(_beside(kept, suffix))
    return kept


def _any_exists(path: Path) -> bool:
    return any(_beside(path, suffix).exists() for suffix in ("", *_BESIDE))


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _batches(writes: Sequence[Write]) -> Iterator[tuple[str, list[tuple[Any, ...]]]]:
    """Neighbouring writes with the same statement, together; the order is kept."""
    for statement, group in groupby(writes, key=lambda write: write[0]):
        yield statement, [row for _, row in group]
