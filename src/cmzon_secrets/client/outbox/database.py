"""The SQLite file of an outbox: made private, opened, and changed durably or not at all.

Write-ahead log and ``synchronous=FULL``: what a call returned from is on the disk. All errors of
SQLite leave as ours.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cmzon_secrets.errors import (
    AccessDenied,
    CMzonSecretsError,
    ConfigurationError,
    ProviderUnavailable,
    without_frames,
)
from cmzon_secrets.forks import renew_in_child

__all__ = ["Database"]

APPLICATION_ID = 0x434D4F42
"""``CMOB``: the file's own mark, in its header."""
VERSION = 1
PATIENCE = 5.0
"""Seconds to wait for another process that writes."""

_NEEDED = (3, 35, 0)  # UPDATE … RETURNING


class Database:
    """One connection, used by one thread at a time. Thread-safe; a forked child gets its own.

    ``schema`` makes the tables of a new file. Raises ConfigurationError, AccessDenied and
    ProviderUnavailable.
    """

    def __init__(self, path: str | os.PathLike[str], schema: str) -> None:
        self.uri = f"outbox {os.fspath(path)}"
        self._path = Path(path).absolute()  # another working folder later changes nothing
        self._schema = schema
        self._lock = threading.Lock()
        self._abandoned: list[sqlite3.Connection] = []
        self._connection: sqlite3.Connection | None = None
        if sqlite3.sqlite_version_info < _NEEDED:
            raise ConfigurationError(
                f"{self.uri} — SQLite 3.35 or newer is needed, this is {sqlite3.sqlite_version}"
            )
        with self.reading():
            pass
        renew_in_child(self)

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """The connection, for one statement that changes nothing."""
        with self._lock, self._errors_as_ours():
            if self._connection is None:
                self._connection = self._open()
            yield self._connection

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """The connection within a transaction: all of it is on the disk afterwards, or nothing."""
        with self.reading() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")  # SQLite has done so already on a full disk
                raise

    def close(self) -> None:
        """Close the file; using it again opens it again."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def after_fork(self) -> None:
        """In a child: a connection of its own, later. The parent's must not even be closed."""
        self._lock = threading.Lock()
        if self._connection is not None:
            self._abandoned.append(self._connection)
            self._connection = None

    def _open(self) -> sqlite3.Connection:
        self._make_private()
        connection = sqlite3.connect(
            self._path, timeout=PATIENCE, isolation_level=None, check_same_thread=False
        )
        try:
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _make_private(self) -> None:
        """An empty file, mode 0600, where there is none: SQLite would ask the umask."""
        try:
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except PermissionError as error:
            raise AccessDenied(
                f"{self.uri} — permission denied",
                uri=self.uri,
                hint="check the owner and mode of the file and of its folder",
            ) from without_frames(error)
        except OSError as error:
            raise ConfigurationError(
                f"{self.uri} — {(error.strerror or type(error).__name__).lower()}",
                hint="the folder must exist: mkdir -p, or mend the path",
            ) from without_frames(error)

    def _prepare(self, connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA secure_delete = ON")  # what is forgotten is overwritten
        _use_write_ahead_log(connection)
        connection.execute("PRAGMA synchronous = FULL")
        if not self._is_ours(connection):
            connection.execute("BEGIN IMMEDIATE")
            if not self._is_ours(connection):  # nobody else was first
                for statement in self._schema.split(";"):
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {VERSION}")
            connection.execute("COMMIT")

    def _is_ours(self, connection: sqlite3.Connection) -> bool:
        """False for a new file. Raises ConfigurationError for a file that is none of ours."""
        (mark,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if mark == APPLICATION_ID and version == VERSION:
            return True
        if mark == APPLICATION_ID and version > VERSION:
            raise ConfigurationError(
                f"{self.uri} — it was made by a newer version of this package (format {version})",
                hint="update cmzon-secrets here, too",
            )
        if mark or version or tables:
            raise ConfigurationError(
                f"{self.uri} — a database, but no outbox", hint="choose another path"
            )
        return False

    @contextmanager
    def _errors_as_ours(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise self._from_sqlite(error) from without_frames(error)

    def _from_sqlite(self, error: sqlite3.Error) -> CMzonSecretsError:
        """By the first word of SQLite's own name for it; its text may repeat a value."""
        name = getattr(error, "sqlite_errorname", "SQLITE_MISUSE")
        kind, reason, hint = _ERRORS.get(name.split("_")[1], (ProviderUnavailable, name, None))
        message = f"{self.uri} — {reason}"
        if kind is ConfigurationError:
            return ConfigurationError(message, hint=hint)
        return kind(message, uri=self.uri, hint=hint)


_NOT_ONE = "choose another path; where it was one, look to the disk and restore it"
_ERRORS: dict[str, tuple[type[AccessDenied | ProviderUnavailable | ConfigurationError], str, str | None]] = {
    "BUSY": (
        ProviderUnavailable,
        f"another process kept it locked for {PATIENCE:.0f} s",
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
        "SQLite writes two more files beside it: check the owner and mode of the folder",
    ),
    "READONLY": (
        AccessDenied,
        "it cannot be written",
        "check the owner and mode of the file and of its folder, and that the disk is not mounted read-only",
    ),
}


def _use_write_ahead_log(connection: sqlite3.Connection) -> None:
    """Two that open a new file at once: SQLite refuses one of them without waiting."""
    ends = time.monotonic() + PATIENCE
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname != "SQLITE_BUSY" or time.monotonic() > ends:
                raise
            time.sleep(0.01)
