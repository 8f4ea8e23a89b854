"""A file of messages, checked as a whole before the first of them is queued.

The lines wait in a temporary database of SQLite's, which nobody else can open and which is gone with
the process: a hundred thousand messages need disk, not memory.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from hashlib import blake2b
from types import TracebackType
from typing import Self

from cmzon_secrets.cli.message_files import Fault, Line, Message
from cmzon_secrets.errors import ProviderUnavailable

__all__ = ["Queued", "Staged"]

Queued = tuple[str, str, str, datetime | None]
"""Number, text, key, and when at the earliest: what ``Outbox.put_many`` takes."""

_SCHEMA = """
PRAGMA journal_mode = OFF;
CREATE TABLE messages (line INTEGER PRIMARY KEY, recipient TEXT, text TEXT, key TEXT UNIQUE,
                       not_before TEXT, digest BLOB, nth INTEGER);
CREATE TABLE alike (digest BLOB PRIMARY KEY, seen INTEGER) WITHOUT ROWID;
CREATE TABLE faults (line INTEGER PRIMARY KEY, field TEXT, reason TEXT);
BEGIN;
"""


class Staged:
    """The lines of one file. A context manager; what it holds is removed at the end.

    Raises ProviderUnavailable where the temporary folder is full.
    """

    def __init__(self) -> None:
        self._db = sqlite3.connect("", isolation_level=None)
        self._db.executescript(_SCHEMA)
        self.lines = 0
        self.repeated = 0
        """Lines left out because their key, with the same message, stands above them."""
        self.faulty = 0

    def add(self, lines: Iterable[Line]) -> None:
        """Take in what ``read_messages`` found."""
        with _full_disk_as_ours():
            for line in lines:
                self.lines += 1
                if isinstance(line, Fault):
                    self._add_fault(line)
                else:
                    self._add(*line)

    def faults(self) -> Iterator[Fault]:
        """In the order of the file."""
        found = self._db.execute("SELECT line, field, reason FROM faults ORDER BY line")
        return (Fault(*row) for row in found)

    def messages(self, salt: bytes) -> Iterator[Queued]:
        """In the order of the file. ``salt``: makes the keys of those that have none; see ``_key``."""
        found = self._db.execute(
            "SELECT recipient, text, key, not_before, digest, nth FROM messages ORDER BY line"
        )
        for to, text, key, not_before, digest, nth in found:
            moment = datetime.fromisoformat(not_before) if not_before is not None else None
            yield to, text, key or _key(salt, digest, nth), moment

    def _add(self, number: int, message: Message) -> None:
        not_before = message.not_before.isoformat() if message.not_before is not None else None
        digest = _digest(message.to, message.text, not_before or "")
        nth = self._count(digest) if message.key is None else None
        added = self._db.execute(
            "INSERT INTO messages VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO NOTHING",
            (number, message.to, message.text, message.key, not_before, digest, nth),
        )
        if not added.rowcount:
            self._add_repetition(number, message.key, digest)

    def _add_repetition(self, number: int, key: str | None, digest: bytes) -> None:
        first, of_first = self._db.execute(
            "SELECT line, digest FROM messages WHERE key = ?", (key,)
        ).fetchone()
        if of_first == digest:
            self.repeated += 1
        else:
            self._add_fault(Fault(number, "key", f"line {first} has it, with another message"))

    def _add_fault(self, fault: Fault) -> None:
        self.faulty += 1
        self._db.execute(
            "INSERT INTO faults VALUES (?, ?, ?)", (fault.line, fault.field, fault.reason)
        )

    def _count(self, digest: bytes) -> int:
        """How many lines so far are the same, this one included."""
        counted = self._db.execute(
            "INSERT INTO alike VALUES (?, 1)"
            " ON CONFLICT (digest) DO UPDATE SET seen = seen + 1 RETURNING seen",
            (digest,),
        )
        return int(counted.fetchone()[0])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._db.close()


def _digest(*parts: str) -> bytes:
    return blake2b("\0".join(parts).encode(), digest_size=16).digest()


def _key(salt: bytes, digest: bytes, nth: int) -> str:
    """The key of a line that has none: the same whenever the line is read, for one outbox.

    The salt is the outbox's own. So nobody can guess a number from a key that is logged, and the
    same line in another outbox is another message, for an API that honours keys as well.
    """
    return blake2b(digest + nth.to_bytes(8), key=salt, digest_size=16).hexdigest()


@contextmanager
def _full_disk_as_ours() -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        raise ProviderUnavailable(
            f"the temporary folder — {error}",
            hint="make room there, or name another folder in SQLITE_TMPDIR; nothing was queued",
        ) from error
