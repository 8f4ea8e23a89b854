"""Opening the database: its format, its soundness, and what becomes of one that is damaged.

The file says its format in ``user_version``. An older one is brought up to date, a newer one is
refused and left alone, and one that is damaged is refused and kept aside under another name. A
database of another program is left alone too: it may be in use, and renaming it would break it.
"""

from __future__ import annotations

import sqlite3
from contextlib import ExitStack, suppress
from itertools import count
from pathlib import Path

from cmzon_secrets.emulator.storage.formats import JSON_COLUMNS, OURS, STEPS, VERSION
from cmzon_secrets.errors import ConfigurationError

__all__ = ["keep_aside", "make_usable", "open_database", "unusable"]

_BESIDE = ("-wal", "-shm", "-journal")
"""What SQLite keeps beside a database."""


def open_database(path: Path | None, undo: ExitStack) -> sqlite3.Connection:
    """The database, ready for use. ``undo`` closes it.

    That comes last: closing would remove the log of one that has to be kept aside as it is.
    """
    if path is not None:
        _check_files(path)
    db = sqlite3.connect(path or ":memory:", timeout=0.0, check_same_thread=False)
    undo.callback(db.close)
    # Exclusive: a second emulator on the same folder is refused instead of mixing its writes.
    db.execute("PRAGMA locking_mode = EXCLUSIVE")
    _version_of(db)  # before anything is written
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = NORMAL")
    db.create_function("casefold", 1, str.casefold, deterministic=True)
    make_usable(db)
    return db


def make_usable(db: sqlite3.Connection) -> None:
    """Check what is there, and bring an older format up to date. Raises sqlite3.Error."""
    version = _version_of(db)
    _check(db)
    _prepare(db, version)
    _check_json(db)


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
    if not tables >= OURS:
        raise _NotOurs("it is a database of another program")
    if not 1 <= version <= VERSION:
        raise _NotOurs(f"it has format {version}; this version reads up to {VERSION}")
    return int(version)


def _check(db: sqlite3.Connection) -> None:
    (found,) = db.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise _Damaged(found)


def _prepare(db: sqlite3.Connection, version: int) -> None:
    """Bring an older format up to date: all of it, or nothing."""
    if version in STEPS:
        db.executescript(
            f"BEGIN EXCLUSIVE; {STEPS[version]} PRAGMA user_version = {VERSION}; COMMIT;"
        )
    with db:  # takes the lock that EXCLUSIVE then keeps
        db.execute("INSERT OR REPLACE INTO meta VALUES ('opened', '')")


def _check_json(db: sqlite3.Connection) -> None:
    """What SQLite takes for text, and is read only when somebody looks."""
    for table, columns in JSON_COLUMNS.items():
        broken = " OR ".join(f"NOT json_valid({column})" for column in columns)
        query = f"SELECT seq FROM {table} WHERE {broken} LIMIT 1"  # noqa: S608  # our own names
        if (row := db.execute(query).fetchone()) is not None:
            raise _Damaged(f"row {row[0]} of {table} is not what was written there")


class _Damaged(sqlite3.DatabaseError):
    """SQLite reads the file, but what is in it contradicts itself."""


class _NotOurs(sqlite3.DatabaseError):
    """Written by a later version, or by another program."""


def unusable(path: Path | None, error: Exception) -> ConfigurationError:
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
