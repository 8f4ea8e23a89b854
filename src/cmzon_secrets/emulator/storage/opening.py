"""Opening the database: its format, its soundness, and what becomes of one that is damaged.

The file says its format in ``user_version``. An older one is brought up to date, a newer one is
refused and left alone, and one that is damaged is refused and kept aside under another name. A
database of another program is left alone too: it may be in use, and renaming it would break it.

Whoever put the file there is trusted with what it says, not with what it does: tables, triggers and
views have to be those of its format, and values of the kind that is written there.
"""

from __future__ import annotations

import hashlib
import sqlite3
from contextlib import ExitStack, closing, suppress
from functools import cache
from itertools import count
from pathlib import Path

from cmzon_secrets.emulator.http.redaction import without_secrets
from cmzon_secrets.emulator.port_owner import process_locking
from cmzon_secrets.emulator.storage.formats import OURS, SHAPES, STEPS, VERSION
from cmzon_secrets.errors import ConfigurationError

__all__ = ["keep_aside", "make_usable", "open_database", "unusable"]

_BESIDE = ("-wal", "-shm", "-journal")
"""What SQLite keeps beside a database."""
_WRONG = {
    "TEXT": "typeof({0}) NOT IN ('text', 'null')",
    "INTEGER": "typeof({0}) NOT IN ('integer', 'null') OR {0} NOT BETWEEN 0 AND (1 << 53)",
    "REAL": "typeof({0}) NOT IN ('real', 'null') OR abs({0}) > 3e10",
}
"""What a column of each type never holds; 3e10 s from 1970 are the years 1019 and 2920."""


def open_database(path: Path | None, undo: ExitStack) -> sqlite3.Connection:
    """The database, ready for use. ``undo`` closes it.

    That comes last: closing would remove the log of one that has to be kept aside as it is.
    """
    if path is not None:
        _check_files(path)
    db = sqlite3.connect(path or ":memory:", timeout=0.0, check_same_thread=False)
    undo.callback(db.close)
    db.execute("PRAGMA trusted_schema = OFF")
    db.execute("PRAGMA secure_delete = ON")  # what is forgotten is gone from the file too
    # Exclusive: a second emulator on the same folder is refused instead of mixing its writes.
    db.execute("PRAGMA locking_mode = EXCLUSIVE")
    _version_of(db)  # before anything is written
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = NORMAL")
    _add_functions(db)
    make_usable(db)
    return db


def make_usable(db: sqlite3.Connection) -> None:
    """Check what is there, and bring an older format up to date. Raises sqlite3.Error."""
    version = _version_of(db)
    if _schema(db) != _schema_of(version):
        raise _Damaged(f"its tables are not those of format {version}")
    _check(db)
    _check_values(db)
    _prepare(db, version)


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
        raise _NotOurs("it is a database of another program", "choose another --state folder")
    if not 1 <= version <= VERSION:
        raise _NotOurs(
            f"it has format {version}; this version reads up to {VERSION}",
            "use the version that wrote it, or choose another --state folder",
        )
    return int(version)


def _add_functions(db: sqlite3.Connection) -> None:
    """What our queries call, and the steps from format to format."""
    for name, function in (
        ("casefold", str.casefold),
        ("sha256", lambda text: hashlib.sha256(text.encode()).hexdigest()),
        ("without_secrets", lambda text: text and without_secrets(text)),
    ):
        db.create_function(name, 1, function, deterministic=True)


def _schema(db: sqlite3.Connection) -> set[tuple[str, ...]]:
    """Everything that is defined, however SQLite spaces and quotes it."""
    rows = db.execute("SELECT type, name, tbl_name, coalesce(sql, '') FROM sqlite_master")
    return {(*named, " ".join(sql.replace('"', "").split())) for *named, sql in rows}


@cache
def _schema_of(version: int) -> set[tuple[str, ...]]:
    """What is defined in a fresh database of a format."""
    with closing(sqlite3.connect(":memory:")) as fresh:
        _add_functions(fresh)
        _upgrade(fresh, 0, version)
        return _schema(fresh)


def _check(db: sqlite3.Connection) -> None:
    (found,) = db.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise _Damaged(found)


def _prepare(db: sqlite3.Connection, version: int) -> None:
    """Bring an older format up to date: all of it, or nothing."""
    if version < VERSION:
        _upgrade(db, version, VERSION)
    with db:  # takes the lock that EXCLUSIVE then keeps
        db.execute("INSERT OR REPLACE INTO meta VALUES ('opened', '')")


def _upgrade(db: sqlite3.Connection, version: int, wanted: int) -> None:
    steps = "".join(STEPS[version:wanted])
    db.executescript(f"BEGIN EXCLUSIVE; {steps} PRAGMA user_version = {wanted}; COMMIT;")


def _check_values(db: sqlite3.Connection) -> None:
    """SQLite puts anything into any column, and some are read only when somebody looks."""
    for (table,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
        columns = db.execute(f"PRAGMA table_info({table})").fetchall()
        wrong = [_WRONG[kind].format(name) for _, name, kind, *_ in columns]
        wrong += [_misshapen(name, entry) for name, entry in SHAPES.get(table, {}).items()]
        query = f"SELECT 1 FROM {table} WHERE {' OR '.join(wrong)} LIMIT 1"  # noqa: S608  # our own names
        if db.execute(query).fetchone() is not None:
            raise _Damaged(f"a row of {table} is not what was written there")


def _misshapen(column: str, wrong_entry: str) -> str:
    """The condition that finds what is no JSON array, or has a wrong entry; CASE stops at the first."""
    array = f"json_valid({column}) AND json_type({column}) = 'array'"
    return f"CASE WHEN {array} THEN {wrong_entry.format(column)} ELSE TRUE END"


class _Damaged(sqlite3.DatabaseError):
    """SQLite reads the file, but what is in it contradicts itself."""


class _NotOurs(sqlite3.DatabaseError):
    """Written by a later version, or by another program; and what to do then."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.remedy = remedy


def unusable(path: Path | None, error: Exception) -> ConfigurationError:
    """What to say of a state that cannot be used; a damaged one is moved aside."""
    reason: object = error
    if isinstance(error, _NotOurs):
        hint = error.remedy
    elif path is not None and _is_damage(error):
        reason = f"damaged: {getattr(error, 'details', None) or error}"
        hint = _aside(path)
    elif path is not None and _code(error) == sqlite3.SQLITE_BUSY:
        reason = f"in use by {process_locking(path) or 'another process'}"
        hint = "stop what uses it, or choose another --state folder"
    else:
        hint = "make room, let this user write there, or choose another --state folder"
    return ConfigurationError(f"emulator state {path} — {reason}", hint=hint)


def _is_damage(error: Exception) -> bool:
    """Locks, full disks and failing ones are not: what cannot be read now may be whole."""
    if isinstance(error, _Damaged) or not isinstance(error, sqlite3.Error):
        return True  # it was read, and is not what was written
    code = _code(error)
    if code is None:  # not SQLite's complaint but Python's: of text that is not UTF-8
        return isinstance(error, sqlite3.OperationalError)
    return code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _code(error: Exception) -> int | None:
    """SQLite's error code, without what tells where."""
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


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
