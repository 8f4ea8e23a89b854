"""The day's count in a SQLite file, where it outlives the process; several processes may share it.

Messages are counted in the file before they may be sent, a block of a few at once. ``kill -9`` and
power failures lose what was not used of a block, until the day ends; they never forget what was
sent. What is not used is given back to the file at ``close`` and at the end of the program.
"""

from __future__ import annotations

import sqlite3
import threading
import weakref
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cmzon_secrets.client.database import PATIENCE, Database, Format, damaged
from cmzon_secrets.client.day import NEVER, DayCount
from cmzon_secrets.client.usage import Quota
from cmzon_secrets.errors import CMzonSecretsError

__all__ = ["DayFile"]

LARGEST_BLOCK = 20
"""Messages counted at once: four times a second at full speed, and few to lose."""
SMALLER_BELOW = 50
"""Blocks that must be left for the largest. In the end it is one at a time, so that no process
keeps what another needs."""
LOOK_AGAIN = timedelta(seconds=1)
"""After so long a full day is looked up again: another process may have given something back."""

FORMAT = Format(
    name="limits state",
    application_id=0x434D4C44,  # CMLD
    version=1,
    schema=(
        "CREATE TABLE day (one INTEGER PRIMARY KEY CHECK (one = 1), began TEXT NOT NULL,"
        " ends TEXT NOT NULL, sent INTEGER NOT NULL, stated INTEGER)",
    ),
)
_READ = "SELECT began, ends, sent, stated FROM day"
_WRITE = "INSERT OR REPLACE INTO day (one, began, ends, sent, stated) VALUES (1, ?, ?, ?, ?)"
_GIVE_BACK = "UPDATE day SET sent = max(0, sent - ?) WHERE ends = ?"


@dataclass(frozen=True, slots=True)
class _Fetched:
    """The ``count`` in the file at ``looked_at``, ``granted`` of it for us; and what it ``heeded``."""

    count: DayCount
    granted: int
    heeded: Quota | None
    looked_at: datetime


class DayFile(DayCount):
    """At most ``per_day`` messages a day by all that use the file at ``path``.

    One caller at a time, but for ``fetch`` and ``close``. Raises what ``Database`` raises.
    """

    def __init__(self, per_day: int | None, path: str | Path) -> None:
        super().__init__(per_day)
        self._file = Database(path, FORMAT)
        self._block = _Block(self._file)
        self._said: Quota | None = None
        """What the API said and the file does not know yet."""
        self._in_file = 0
        """What was counted there when we looked last."""
        self._looked_at = NEVER
        weakref.finalize(self, self._block.close)  # at the end of the program, too
        with self._file.reading() as connection:
            self._learn(self._read(connection))

    def check(self, now: datetime) -> None:
        """Raise DailyLimitReached where nothing is left today, as far as is known without looking."""
        self.turn(now)
        if self._said is None and abs(now - self._looked_at) < LOOK_AGAIN:
            super().check(now)

    def take(self, now: datetime) -> datetime | None:
        """Use one of the block; None where ``fetch`` has to get another. Raises DailyLimitReached."""
        self.check(now)
        if self._said is not None or self.is_full or not self._block.take():
            return None
        self.sent += 1
        return self.ends

    def fetch(self, now: datetime, within: float) -> _Fetched:
        """Count a block in the file, and write there what the API said."""
        said = self._said
        with self._file.writing(min(within, PATIENCE)) as connection:
            count = self._read(connection)
            count.turn(now)
            if said is not None:  # what was not sent is not among what the API counts
                count.sent = max(0, count.sent - self._block.give_up(count.ends))
                count.heed(said, now)
            granted = _block_of(count)
            count.sent += granted
            _write(connection, count)
        return _Fetched(count, granted, said, now)

    def accept(self, fetched: object) -> None:
        """Use what was fetched. Raises DailyLimitReached where it was nothing."""
        assert isinstance(fetched, _Fetched)  # noqa: S101  # it comes from our own fetch
        self._block.add(fetched.granted, fetched.count.ends)
        self._learn(fetched.count)
        self._looked_at = fetched.looked_at
        if self._said is fetched.heeded:
            self._said = None
        if not self._block.left:
            raise self.reached()

    def give_back(self, day: datetime) -> None:
        """A message counted for ``day`` was not accepted: the block has one more."""
        if day == self.ends and self.sent > 0:
            self._block.add(1, day)
        super().give_back(day)

    def heed(self, quota: Quota, now: datetime) -> None:
        """The API said so of the day. Where that is news, the file is told before anything else is sent."""
        self.turn(now)
        before = self.ends, self.stated
        super().heed(quota, now)
        if (self.ends, self.stated) != before or self._others_sent():
            self._said = quota

    def _others_sent(self) -> bool:
        """Whether so much went out past the file that it matters."""
        elsewhere = self.sent + self._block.left - self._in_file
        return elsewhere >= LARGEST_BLOCK or (elsewhere > 0 and self.is_full)

    def begin(self, ends: datetime, *, began: datetime) -> None:
        """A day of which nothing is counted yet, and of which we have no block."""
        super().begin(ends, began=began)
        self._in_file = 0
        self._block.forget()

    def _learn(self, count: DayCount) -> None:
        self.began, self.ends, self.stated = count.began, count.ends, count.stated
        self._in_file = count.sent
        self.sent = count.sent - self._block.left

    def _read(self, connection: sqlite3.Connection) -> DayCount:
        count = DayCount(self.per_day)
        row = connection.execute(_READ).fetchone()
        if row is not None:
            began, ends, sent, stated = row
            try:
                count.began, count.ends = _moment(began), _moment(ends)
                count.sent, count.stated = int(sent), None if stated is None else int(stated)
            except (OverflowError, TypeError, ValueError):
                raise damaged(self._file.uri) from None
        return count

    def close(self) -> None:
        """Give back what was not used, and let go of the file."""
        self._block.close()

    def after_fork(self) -> None:
        """In a child: the block stays the parent's."""
        self._block.after_fork()


class _Block:
    """Messages counted in the file for this process and not sent yet. Thread-safe."""

    def __init__(self, file: Database) -> None:
        self._file = file
        self._ends = NEVER
        self.after_fork()

    def after_fork(self) -> None:
        """In a child: none, and a lock that no other thread holds."""
        self._lock = threading.RLock()
        self.left = 0

    def take(self) -> bool:
        """Use one, where there is one."""
        with self._lock:
            if not self.left:
                return False
            self.left -= 1
            return True

    def add(self, messages: int, day: datetime) -> None:
        """More of that day; what is left of another is void."""
        with self._lock:
            self.left = messages + (self.left if day == self._ends else 0)
            self._ends = day

    def give_up(self, day: datetime) -> int:
        """What is left of that day, to be counted no more."""
        with self._lock:
            left, self.left = self.left, 0
            return left if day == self._ends else 0

    def forget(self) -> None:
        """They stay counted, and are not sent."""
        with self._lock:
            self.left = 0

    def close(self) -> None:
        """Give what is left back to the file, and close it. Where that fails, it stays counted."""
        with self._lock:
            left, self.left = self.left, 0
        with suppress(CMzonSecretsError):
            if left:
                with self._file.writing() as connection:
                    connection.execute(_GIVE_BACK, (left, self._ends.isoformat()))
        self._file.close()


def _block_of(count: DayCount) -> int:
    """How many of the day to take at once: 0 where nothing is left."""
    if count.limit is None:
        return LARGEST_BLOCK
    left = max(0, count.limit - count.sent)
    return min(left, LARGEST_BLOCK, max(1, left // SMALLER_BELOW))


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def _write(connection: sqlite3.Connection, count: DayCount) -> None:
    row = count.began.isoformat(), count.ends.isoformat(), count.sent, count.stated
    connection.execute(_WRITE, row)
