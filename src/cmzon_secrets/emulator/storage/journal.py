"""Where the emulator's state lies: one SQLite file, or memory.

Answers are given from memory; what has to survive is queued here and written in one transaction
every ``FLUSH_EVERY`` seconds, or at once (``write``) where an answer promises it: a token that was
issued, a revocation. ``kill -9`` loses at most the queue.

Not thread-safe: only the server's thread uses it while the server runs.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from itertools import groupby
from pathlib import Path
from typing import Any

from cmzon_secrets.emulator.storage.formats import TABLES
from cmzon_secrets.emulator.storage.opening import make_usable, open_database, unusable
from cmzon_secrets.errors import ConfigurationError

__all__ = ["FLUSH_EVERY", "REMEMBER", "Journal", "Write"]

FLUSH_EVERY = 0.1
"""Seconds between two writes; what ``kill -9`` can lose of messages and of what was noticed of tokens."""

REMEMBER = "INSERT OR REPLACE INTO meta VALUES (?, ?)"
Write = tuple[str, tuple[Any, ...]]
"""A statement and its values."""


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
                self._db = open_database(path, undo)
            except sqlite3.Error as error:
                raise unusable(path, error) from error
            undo.pop_all()

    def later(self, statement: str, row: Sequence[Any], *, replaces: object = None) -> None:
        """Queue a write. Of writes with the same ``replaces`` only the last is kept."""
        write = (statement, tuple(row))
        if replaces is None:
            self._queue.append(write)
        else:
            self._latest[replaces] = write

    def write(self, *writes: Write) -> None:
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
        self.write()
        return self._db.execute(query, arguments).fetchall()

    def meta(self, name: str) -> str | None:
        """A remembered setting."""
        found = self.rows("SELECT value FROM meta WHERE name = ?", name)
        return str(found[0][0]) if found else None

    def remember(self, name: str, value: object) -> None:
        """Queue a setting."""
        self.later(REMEMBER, (name, str(value)), replaces=name)

    def replace_all(self, *writes: Write) -> None:
        """Forget everything, queue included, and keep ``writes``; like ``write``, all or nothing."""
        self.write(*((f"DELETE FROM {table}", ()) for table in TABLES), *writes)  # noqa: S608  # our own names

    def copy_to(self, path: Path, *writes: Write) -> None:
        """Everything, and ``writes``, as a database of its own. Raises sqlite3.Error."""
        self.write()
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
            make_usable(journal._db)
        except BaseException:
            journal._db.close()
            raise
        return journal

    def become(self, other: Journal) -> None:
        """Forget everything and hold what ``other`` does: all of it, or nothing. Raises sqlite3.Error."""
        self.write()
        other.write()
        other._db.backup(self._db)

    def give_up(self, error: Exception) -> ConfigurationError:
        """What to say of a state that could not be loaded. It is closed, and kept aside if damaged."""
        self._closed = True
        with closing(self._db):
            return unusable(self._path, error)

    def close(self) -> None:
        """Write what is queued and let go of the file.

        Raises ConfigurationError where the last writes were lost.
        """
        if self._closed:
            return
        self._closed = True
        try:
            self.write()
        except sqlite3.Error as error:
            raise ConfigurationError(
                f"emulator state — its last {FLUSH_EVERY} s could not be written: {error}",
                hint="make room in the state folder",
            ) from error
        finally:
            self._db.close()


def _batches(writes: Sequence[Write]) -> Iterator[tuple[str, list[tuple[Any, ...]]]]:
    """Neighbouring writes with the same statement, together; the order is kept."""
    for statement, group in groupby(writes, key=lambda write: write[0]):
        yield statement, [row for _, row in group]
