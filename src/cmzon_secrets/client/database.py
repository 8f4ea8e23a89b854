"""A SQLite file of our own: made private, opened, and changed durably or not at all.

Write-ahead log and ``synchronous = FULL``: what a call returned from is on the disk. Several
processes of one machine may use a file; not over a network's file system, which has no such locks.

Two ways "How To Corrupt An SQLite Database File" (sqlite.org) are kept away from here. No connection
crosses a fork, not even to be closed there (§2.6): it is closed before, and opened again by whoever
needs it. And nothing but SQLite ever closes the file (§2.2): that would let go of all locks that this
process has on it, and another would remove the log in which it goes on writing.
"""

from __future__ import annotations

import os
import shlex
import sqlite3
import stat
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from cmzon_secrets.errors import (
    AccessDenied,
    CMzonSecretsError,
    ConfigurationError,
    ProviderError,
    ProviderUnavailable,
)
from cmzon_secrets.private_files import os_errors_as_ours

__all__ = ["PATIENCE", "Database", "Format", "damaged"]

PATIENCE = 5.0
"""Seconds to wait for another process that writes."""


@dataclass(frozen=True, slots=True)
class Format:
    """What a file is: its ``name`` for people, the marks in its header, and the statements that make
    its tables. ``personal``: it is refused where others than its owner and group may use it."""

    name: str
    application_id: int
    version: int
    schema: tuple[str, ...]
    personal: bool = False


class Database:
    """The file at ``path``, made with mode 0600 where there is none. Thread-safe, fork-safe.

    Raises ConfigurationError for a folder that is missing and a file that is something else,
    AccessDenied, also for one that neither we nor root own, and ProviderUnavailable where it is locked
    for long, the disk is full, or the file was removed or replaced while it was in use; after that, the
    one that is there is used, or a new one.
    """

    def __init__(self, path: str | Path, form: Format) -> None:
        self.uri = f"{form.name} {path}"
        self._path = _absolute(path, self.uri)  # another working folder later changes nothing
        self._format = form
        self._lock = threading.RLock()  # a fork in a signal handler must not wait for itself
        self._connection: sqlite3.Connection | None = None
        self._opened: tuple[int, int] | None = None
        with _FORKING:
            _OPEN.add(self)
        with self.reading():
            pass

    @contextmanager
    def reading(self, within: float = PATIENCE) -> Iterator[sqlite3.Connection]:
        """The connection, for statements that change nothing."""
        with _FORKING:  # who forks goes first, and not when nobody happens to be here
            if self._connection is None:
                self._make_private()
        with self._lock, self._errors_as_ours():
            if self._connection is None:
                self._connection = self._open()
            self._check_in_place()
            self._connection.execute(f"PRAGMA busy_timeout = {max(1, int(within * 1000))}")
            yield self._connection

    @contextmanager
    def writing(
        self, within: float = PATIENCE, *, durable: bool = True
    ) -> Iterator[sqlite3.Connection]:
        """The connection in a transaction: all of it is on the disk afterwards, or nothing.

        ``within``: seconds to wait for other processes. ``durable`` False: safe from the end of the
        process at once, from a loss of power only with the next that is durable; it costs no fsync.
        """
        with self.reading(within) as connection:
            connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            with _transaction(connection):
                yield connection
            self._check_in_place()

    def close(self) -> None:
        """Close the file; using it again opens it again."""
        with self._lock:
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()

    def _open(self) -> sqlite3.Connection:
        self._opened = _identity(self._path)  # before: what is replaced meanwhile is found out
        self._refuse_if_foreign()
        connection = sqlite3.connect(
            self._path, timeout=PATIENCE, isolation_level=None, check_same_thread=False
        )
        try:
            self._prepare(connection)
            self._refuse_if_foreign()
            self._refuse_unless_private()
        except BaseException:
            connection.close()
            raise
        return connection

    def _make_private(self) -> None:
        """An empty file, mode 0600, where there is none: SQLite would ask the umask.

        One caller at a time, so that the file is closed before anybody can have a lock on it.
        """
        with os_errors_as_ours(self.uri), suppress(FileExistsError):
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        if not self._path.is_file():
            reason = "is a directory" if self._path.is_dir() else "is no regular file"
            raise ConfigurationError(f"{self.uri} — {reason}", hint="choose another path")

    def _refuse_if_foreign(self) -> None:
        """Raise AccessDenied for what another user put here: he would read it, or have it sent by us.

        Asked before SQLite opens it, which would apply a journal that lies beside it, and after, when
        its log is there. Who may write to a group's file is trusted with what lies beside it.
        """
        with os_errors_as_ours(self.uri):
            try:
                real, found = self._path.resolve(), self._path.stat()
                seen = {self._path: self._path.lstat(), real: found}
            except FileNotFoundError:
                raise self._replaced() from None
            if not found.st_mode & stat.S_IWGRP:
                seen |= _beside(real)
        for path, what in seen.items():
            if what.st_uid not in {os.geteuid(), 0}:
                raise AccessDenied(
                    f"{self.uri} — {path} belongs to another user (uid {what.st_uid})",
                    uri=self.uri,
                    hint="run as that user, or choose another path",
                )

    def _refuse_unless_private(self) -> None:
        mode = self._path.stat().st_mode
        if self._format.personal and mode & stat.S_IRWXO:
            raise AccessDenied(
                f"{self.uri} — it is open to other users (mode {stat.S_IMODE(mode):04o})",
                uri=self.uri,
                hint=f"chmod o= {shlex.quote(str(self._path))}, and see who could read it",
            )

    def _check_in_place(self) -> None:
        """Raise where the path leads to another file by now, or to none: nobody will find this one."""
        if _identity(self._path) != self._opened:
            self.close()
            raise self._replaced()

    def _replaced(self) -> ProviderUnavailable:
        return ProviderUnavailable(
            f"{self.uri} — the file was removed or replaced while it was in use",
            uri=self.uri,
            hint="try again: the file that is there now is used, or a new one is made",
        )

    def _prepare(self, connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA secure_delete = ON")  # what is forgotten is overwritten
        connection.execute("PRAGMA synchronous = FULL")
        if not self._is_ours(connection):
            with _transaction(connection):
                if not self._is_ours(connection):  # nobody else was first
                    self._make_tables(connection)
        _use_write_ahead_log(connection)

    def _make_tables(self, connection: sqlite3.Connection) -> None:
        for statement in self._format.schema:
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {self._format.application_id}")
        connection.execute(f"PRAGMA user_version = {self._format.version}")

    def _is_ours(self, connection: sqlite3.Connection) -> bool:
        """False for a new file. Raises ConfigurationError for a file that is none of ours."""
        mark, version, tables = connection.execute(_MARKS).fetchone()
        if (mark, version) == (self._format.application_id, self._format.version):
            return True
        if mark == self._format.application_id and version > self._format.version:
            raise ConfigurationError(
                f"{self.uri} — it was made by a newer version of this package (format {version})",
                hint="update cmzon-secrets here, too",
            )
        if mark or version or tables:
            raise ConfigurationError(
                f"{self.uri} — the database of another program", hint="choose another path"
            )
        return False

    @contextmanager
    def _errors_as_ours(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise self._from_sqlite(error) from error

    def _from_sqlite(self, error: sqlite3.Error) -> CMzonSecretsError:
        """By the first word of SQLite's own name for it; its text may repeat a value."""
        name: str = getattr(error, "sqlite_errorname", "SQLITE_MISUSE")
        kind, reason, hint = _ERRORS.get(name.split("_")[1], (ProviderUnavailable, name, None))
        message = f"{self.uri} — {reason}"
        if issubclass(kind, ProviderError):
            return kind(message, uri=self.uri, hint=hint)
        return kind(message, hint=hint)


def _absolute(path: object, uri: str) -> Path:
    if not isinstance(path, str | Path) or not str(path) or "\0" in str(path):
        raise ConfigurationError(f"{uri!r} — that is no path of a file")
    return Path(path).absolute()


def _identity(path: Path) -> tuple[int, int] | None:
    """Which file it is; None where there is none."""
    with suppress(OSError):
        found = path.stat()
        return found.st_dev, found.st_ino
    return None


def _beside(path: Path) -> dict[Path, os.stat_result]:
    """What SQLite keeps beside a file, where it is there."""
    found = {}
    for ending in ("-journal", "-wal", "-shm"):
        beside = path.with_name(path.name + ending)
        with suppress(FileNotFoundError):
            found[beside] = beside.lstat()
    return found


def damaged(uri: str) -> ConfigurationError:
    """The error to raise where the file called ``uri`` holds what we never wrote."""
    return ConfigurationError(f"{uri} — the database is damaged", hint=_NOT_ONE)


# One statement sees one moment. Between several, another process may make the tables.
_MARKS = """
SELECT application_id, user_version, (SELECT count(*) FROM sqlite_master)
FROM pragma_application_id, pragma_user_version"""

_NOT_ONE = "choose another path; where it was one, look to the disk and restore it"
_ERRORS: dict[str, tuple[type[CMzonSecretsError], str, str | None]] = {
    "BUSY": (
        ProviderUnavailable,
        "another process keeps it locked",
        "try again; where it lasts, look for a process that hangs",
    ),
    "LOCKED": (ProviderUnavailable, "it is locked", "try again"),
    "FULL": (
        ProviderUnavailable,
        "no space left on the disk; nothing was changed",
        "make room on the disk",
    ),
    "IOERR": (ProviderUnavailable, "the disk cannot be read or written", "look to the disk"),
    "NOTADB": (ConfigurationError, "not a database", _NOT_ONE),
    "CORRUPT": (ConfigurationError, "the database is damaged", _NOT_ONE),
    "CANTOPEN": (
        AccessDenied,
        "it cannot be opened",
        "check the owner and mode of the file and of its folder, where SQLite writes two more, and that"
        " the disk is not mounted read-only",
    ),
    "READONLY": (
        AccessDenied,
        "it cannot be written",
        "check the owner and mode of the file and of its folder, and that the disk is not mounted read-only",
    ),
}


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")  # SQLite has done so already on a full disk
        raise


def _use_write_ahead_log(connection: sqlite3.Connection) -> None:
    ends = time.monotonic() + PATIENCE
    while not _uses_write_ahead_log(connection) and time.monotonic() < ends:
        time.sleep(0.01)


def _uses_write_ahead_log(connection: sqlite3.Connection) -> bool:
    """Two that open a new file at once: SQLite refuses one of them without waiting."""
    try:
        connection.execute("PRAGMA journal_mode = WAL")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorname == "SQLITE_BUSY":
            return False
        raise
    return True


_OPEN: weakref.WeakSet[Database] = weakref.WeakSet()
_FORKING = threading.RLock()
_held: list[Database] = []


def _before_fork() -> None:
    _FORKING.acquire()
    _held[:] = _OPEN
    for database in _held:
        database._lock.acquire()  # noqa: SLF001  # whoever is at it finishes first
        with suppress(sqlite3.Error):
            database.close()


def _after_fork() -> None:
    for database in _held:
        database._lock.release()  # noqa: SLF001
    _held.clear()
    _FORKING.release()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)
