"""The messages in their SQLite file: every step from one state to the next is one transaction.

A runner *leases* messages: for a while they are its own. Before one of them leaves, the runner has
to ``start`` it, which fails where the lease is somebody else's by now: whatever clocks and pauses
did, no two runners send one message.

Of one recipient's messages whose time has come, the earlier goes first, and only one is in flight.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cmzon_secrets.client.database import Database, Format
from cmzon_secrets.client.outbox.model import Leased, Record, State, Waiting, tallies
from cmzon_secrets.client.outbox.owners import is_gone
from cmzon_secrets.client.outbox.verdicts import Verdict
from cmzon_secrets.errors import ConfigurationError, RequestRejected

__all__ = ["Store"]

_SCHEMA = (
    "CREATE TABLE outbox (id TEXT NOT NULL)",
    "INSERT INTO outbox VALUES (lower(hex(randomblob(16))))",
    """
    CREATE TABLE messages (
        seq         INTEGER PRIMARY KEY AUTOINCREMENT,
        key         TEXT NOT NULL UNIQUE,
        recipient   TEXT NOT NULL,
        text        TEXT NOT NULL,
        priority    INTEGER NOT NULL,
        state       TEXT NOT NULL DEFAULT 'pending',
        not_before  REAL NOT NULL,
        due         REAL NOT NULL,
        waits_for   TEXT,
        owner       TEXT,
        lease_until REAL,
        tries       INTEGER NOT NULL DEFAULT 0,
        reason      TEXT,
        message_id  TEXT,
        put_at      REAL NOT NULL,
        changed_at  REAL NOT NULL
    )
    """,
    """
    CREATE INDEX ready ON messages (priority DESC, seq)
        WHERE state = 'pending' AND waits_for IS NULL AND owner IS NULL
    """,
    "CREATE INDEX asleep ON messages (due) WHERE state = 'pending' AND waits_for = 'time'",
    "CREATE INDEX lanes ON messages (recipient, seq) WHERE state IN ('pending', 'sending')",
    """
    CREATE INDEX leased ON messages (recipient)
        WHERE state IN ('pending', 'sending') AND owner IS NOT NULL
    """,
    "CREATE INDEX settled ON messages (state, changed_at) WHERE state IN ('sent', 'unknown', 'dead')",
    """
    CREATE TRIGGER settled AFTER UPDATE OF state ON messages
        WHEN new.state IN ('sent', 'unknown', 'dead') BEGIN
            UPDATE messages SET waits_for = NULL WHERE seq = (
                SELECT min(seq) FROM messages
                WHERE recipient = new.recipient AND state IN ('pending', 'sending')
                AND waits_for = 'another');
        END
    """,
    """
    CREATE TRIGGER dropped AFTER DELETE ON messages WHEN old.state = 'pending' BEGIN
            UPDATE messages SET waits_for = NULL WHERE seq = (
                SELECT min(seq) FROM messages
                WHERE recipient = old.recipient AND state IN ('pending', 'sending')
                AND waits_for = 'another');
        END
    """,
)
# `due` is `not_before` at first, and after a failure the time of the next try. `waits_for` keeps out
# of the index `ready` what a lease need not look at: it is 'time' until `due`, and 'another' behind
# an earlier message, which frees the next when it is settled or dropped. It saves time and decides
# nothing: a lease looks for itself whether a message is the first.
_FORMAT = Format(
    name="outbox",
    application_id=0x434D4F42,  # CMOB
    version=1,
    schema=_SCHEMA,
    personal=True,
)
_NEEDED = (3, 35, 0)  # UPDATE … RETURNING

_PUT = """
INSERT INTO messages (
    key, recipient, text, priority, not_before, due, waits_for, put_at, changed_at
) VALUES (
    :key, :to, :text, :priority, :not_before, :not_before,
    CASE WHEN :not_before > :now THEN 'time' WHEN EXISTS (
        SELECT 1 FROM messages INDEXED BY lanes
        WHERE recipient = :to AND state IN ('pending', 'sending') AND not_before <= :now
    ) THEN 'another' END,
    :now, :now
) ON CONFLICT (key) DO NOTHING
"""

_WAKE = """
UPDATE messages AS this SET waits_for = CASE WHEN EXISTS (
    SELECT 1 FROM messages AS earlier INDEXED BY lanes
    WHERE recipient = this.recipient AND seq < this.seq AND state IN ('pending', 'sending')
    AND not_before <= :now
) THEN 'another' END
WHERE state = 'pending' AND waits_for = 'time' AND due <= :now
"""

_LEASE = """
UPDATE messages SET owner = :owner, lease_until = :until WHERE seq IN (
    SELECT seq FROM messages AS this INDEXED BY ready
    WHERE state = 'pending' AND waits_for IS NULL AND owner IS NULL
    AND NOT EXISTS (
        SELECT 1 FROM messages AS earlier INDEXED BY lanes
        WHERE recipient = this.recipient AND seq < this.seq AND state IN ('pending', 'sending')
        AND not_before <= :now)
    AND NOT EXISTS (
        SELECT 1 FROM messages AS other INDEXED BY leased
        WHERE recipient = this.recipient AND state IN ('pending', 'sending') AND owner IS NOT NULL)
    ORDER BY priority DESC, seq LIMIT :most)
RETURNING seq, key, recipient, text, priority, tries
"""

_START = """
UPDATE messages SET state = 'sending', tries = tries + 1, lease_until = ?, changed_at = ?
WHERE seq = ? AND owner = ? AND state = 'pending'
"""

# One that was given up as unknown is still its owner's: he may know better in the end.
_SETTLE = """
UPDATE messages SET state = :state, reason = :reason, message_id = :message_id, due = :due,
    waits_for = :waits_for, owner = NULL, lease_until = NULL, changed_at = :now
WHERE seq = :seq AND owner = :owner AND state IN ('pending', 'sending', 'unknown')
"""

_GIVE_UP = """
UPDATE messages INDEXED BY leased SET state = 'unknown', reason = :reason, changed_at = :now
WHERE state IN ('pending', 'sending') AND owner IS NOT NULL AND owner = :owner
AND state = 'sending'
"""

_GIVE_BACK = """
UPDATE messages INDEXED BY leased SET state = 'pending', owner = NULL, lease_until = NULL
WHERE state IN ('pending', 'sending') AND owner IS NOT NULL AND owner = :owner
"""

_RENEW = """
UPDATE messages INDEXED BY leased SET lease_until = ?
WHERE state IN ('pending', 'sending') AND owner IS NOT NULL AND owner = ?
"""

_OWNERS = """
SELECT owner, max(lease_until) FROM messages INDEXED BY leased
WHERE state IN ('pending', 'sending') AND owner IS NOT NULL GROUP BY owner
"""

_RETRY = """
UPDATE messages SET state = 'pending', owner = NULL, tries = 0, not_before = :now, due = :now,
    waits_for = NULL, changed_at = :now
WHERE state IN ('unknown', 'dead')
"""

_DROP = "DELETE FROM messages WHERE NOT (state IN ('pending', 'sending') AND owner IS NOT NULL)"

_PURGE = """
DELETE FROM messages WHERE seq IN (
    SELECT seq FROM messages WHERE state = 'sent' AND changed_at < ? LIMIT ?)
"""
_PURGED_AT_ONCE = 1000
"""Messages: nobody waits long for the lock."""

_ANY_DUE = """
SELECT 1 FROM messages INDEXED BY lanes
WHERE state IN ('pending', 'sending') AND not_before <= ? LIMIT 1
"""

_NEXT_TRY = """
SELECT min(due) FROM messages INDEXED BY asleep
WHERE state = 'pending' AND waits_for = 'time' AND not_before <= :now
AND NOT EXISTS (
    SELECT 1 FROM messages INDEXED BY ready
    WHERE state = 'pending' AND waits_for IS NULL AND owner IS NULL)
AND NOT EXISTS (
    SELECT 1 FROM messages INDEXED BY leased
    WHERE state IN ('pending', 'sending') AND owner IS NOT NULL)
"""

_COUNTS = """
SELECT 'pending', count(*) FROM messages INDEXED BY lanes WHERE state IN ('pending', 'sending')
UNION ALL
SELECT state, count(*) FROM messages INDEXED BY settled
WHERE state IN ('sent', 'unknown', 'dead') GROUP BY state
"""

_LOOK = """
SELECT key, recipient, text, state, reason, tries, message_id, put_at, due, changed_at FROM messages
"""


class Store:
    """The messages of one file. Times are Unix times. Thread-safe.

    Every method raises what ``Database`` does.
    """

    def __init__(self, path: str | Path) -> None:
        if sqlite3.sqlite_version_info < _NEEDED:
            raise ConfigurationError(
                f"outbox — SQLite 3.35 or newer is needed, this is {sqlite3.sqlite_version}"
            )
        self._database = Database(path, _FORMAT)
        self.close = self._database.close

    @property
    def id(self) -> str:
        """A random number of this outbox, in hex digits: the same for whoever opens the file."""
        with self._database.reading() as db:
            found: str = db.execute("SELECT id FROM outbox").fetchone()[0]
            return found

    def put(self, messages: Sequence[Waiting], now: float) -> int:
        """Put all of them in, or none; the number of those whose key was not there yet.

        Raises RequestRejected where a key is there with another number or text.
        """
        rows = [
            {
                "key": m.key,
                "to": m.to,
                "text": m.text,
                "priority": m.priority,
                "not_before": m.not_before,
                "now": now,
            }
            for m in messages
        ]
        with self._database.writing() as db:
            new = db.executemany(_PUT, rows).rowcount if rows else 0
            if new < len(rows):
                _refuse_other_content(db, messages)
        return new

    def lease(self, owner: str, most: int, *, now: float, until: float) -> list[Leased]:
        """Up to ``most`` messages whose turn it is: the more urgent first, then in order."""
        with self._database.writing(durable=False) as db:
            db.execute(_WAKE, {"now": now})
            values = {"owner": owner, "until": until, "now": now, "most": most}
            found = [Leased(*row) for row in db.execute(_LEASE, values)]
        return sorted(found, key=lambda message: (-message.priority, message.seq))

    def start(self, seq: int, owner: str, *, now: float, until: float) -> bool:
        """It leaves in a moment. False: the lease is somebody else's, and it must not."""
        with self._database.writing() as db:
            return db.execute(_START, (until, now, seq, owner)).rowcount == 1

    def settle(self, seq: int, owner: str, verdict: Verdict, now: float) -> None:
        """What became of it. Lost with the power at once, it was being sent, and is unknown."""
        values = {
            "state": verdict.state,
            "reason": verdict.reason,
            "message_id": verdict.message_id,
            "due": now + verdict.wait,
            "waits_for": "time" if verdict.wait > 0 else None,
            "now": now,
            "seq": seq,
            "owner": owner,
        }
        with self._database.writing(durable=False) as db:
            db.execute(_SETTLE, values)

    def renew(self, owner: str, until: float) -> None:
        """The owner still works."""
        with self._database.writing(durable=False) as db:
            db.execute(_RENEW, (until, owner))

    def let_go(self, owner: str, *, reason: str, trusted: bool, now: float) -> None:
        """The owner works no more. What it was sending is unknown, for ``reason``, unless the API is
        trusted to honour keys."""
        values = {"owner": owner, "reason": reason, "now": now}
        with self._database.writing() as db:
            if not trusted:
                db.execute(_GIVE_UP, values)
            db.execute(_GIVE_BACK, values)

    def recover(self, owner: str, *, trusted: bool, now: float) -> None:
        """Let go of what others hold who ended in the midst of it, or whose lease is over."""
        with self._database.reading() as db:
            held = db.execute(_OWNERS).fetchall()
        for other, until in held:
            if other != owner and (until < now or is_gone(other)):
                self.let_go(
                    other, reason="its sender ended in the midst of it", trusted=trusted, now=now
                )

    def purge(self, before: float) -> int:
        """Forget messages sent before then, some at a time; how many."""
        with self._database.writing() as db:
            return db.execute(_PURGE, (before, _PURGED_AT_ONCE)).rowcount

    def is_drained(self, now: float) -> bool:
        """Whether no message is left whose time has come."""
        with self._database.reading() as db:
            return db.execute(_ANY_DUE, (now,)).fetchone() is None

    def next_try(self, now: float) -> float | None:
        """When the first of those that were tried is tried again, where all that is due waits for that."""
        with self._database.reading() as db:
            found: float | None = db.execute(_NEXT_TRY, {"now": now}).fetchone()[0]
            return found

    def counts(self) -> dict[str, int]:
        """Messages by state: pending, sent, unknown, dead."""
        with self._database.reading() as db:
            return tallies(db.execute(_COUNTS))

    def look(self, state: State) -> list[Record]:
        """The messages in that state, in the order in which they were put in."""
        with self._database.reading() as db:
            return [
                _record(row) for row in db.execute(_LOOK + "WHERE state = ? ORDER BY seq", (state,))
            ]

    def retry(self, keys: Iterable[str], state: State | None, now: float) -> int:
        """Make unknown or dead ones pending again; how many."""
        return self._change(_RETRY, keys, state, now)

    def drop(self, keys: Iterable[str], state: State | None, now: float) -> int:
        """Forget those that nobody holds; how many."""
        return self._change(_DROP, keys, state, now)

    def _change(self, statement: str, keys: Iterable[str], state: State | None, now: float) -> int:
        of_state = "" if state is None else " AND state = :state"
        values = [{"now": now, "state": state, "key": key} for key in keys]
        with self._database.writing() as db:
            if values:
                return db.executemany(f"{statement} AND key = :key{of_state}", values).rowcount
            return db.execute(statement + of_state, {"now": now, "state": state}).rowcount


def _refuse_other_content(db: sqlite3.Connection, messages: Iterable[Waiting]) -> None:
    for message in messages:
        query = "SELECT recipient = ? AND text = ? FROM messages WHERE key = ?"
        (same,) = db.execute(query, (message.to, message.text, message.key)).fetchone()
        if not same:
            raise RequestRejected(
                f"idempotency key — {message.key} is another message's, which is in the outbox already",
                hint="a new message needs a new key",
            )


def _record(row: Sequence[Any]) -> Record:
    key, to, text, state, reason, tries, message_id, *times = row
    put_at, due, changed_at = map(_datetime, times)
    return Record(key, to, text, State(state), reason, tries, message_id, put_at, due, changed_at)


def _datetime(moment: float) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=moment)
