"""The messages in their SQLite file: every step from one state to the next is one transaction.

A runner *leases* messages: for a while they are its own. Before one of them leaves, the runner has
to ``start`` it, which fails where the lease is somebody else's by now: whatever clocks and pauses
did, no two runners send one message.

Of one recipient's messages whose time has come, the earlier goes first, and only one is in flight.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

from cmzon_secrets.client.outbox.database import Database
from cmzon_secrets.client.outbox.model import Leased, Record, State, Waiting, tallies
from cmzon_secrets.client.outbox.owners import is_gone
from cmzon_secrets.client.outbox.verdicts import Verdict
from cmzon_secrets.errors import RequestRejected

__all__ = ["Store"]

_SCHEMA = """
CREATE TABLE outbox (id TEXT NOT NULL);

CREATE TABLE messages (
    seq         INTEGER PRIMARY KEY AUTOINCREMENT,
    key         TEXT NOT NULL UNIQUE,
    recipient   TEXT NOT NULL,
    text        TEXT NOT NULL,
    priority    INTEGER NOT NULL,
    state       TEXT NOT NULL DEFAULT 'pending',
    not_before  REAL NOT NULL,
    due         REAL NOT NULL,
    ready       INTEGER NOT NULL,
    owner       TEXT,
    lease_until REAL,
    tries       INTEGER NOT NULL DEFAULT 0,
    reason      TEXT,
    message_id  TEXT,
    put_at      REAL NOT NULL,
    changed_at  REAL NOT NULL
);

CREATE INDEX ready ON messages (priority DESC, seq)
    WHERE state = 'pending' AND ready = 1 AND owner IS NULL;

CREATE INDEX asleep ON messages (due) WHERE state = 'pending' AND ready = 0;

CREATE INDEX lanes ON messages (recipient, seq) WHERE state IN ('pending', 'sending');

CREATE INDEX leased ON messages (recipient)
    WHERE state IN ('pending', 'sending') AND owner IS NOT NULL;

CREATE INDEX settled ON messages (state, changed_at) WHERE state IN ('sent', 'unknown', 'dead')
"""
# `due` is the earlier of nothing: a message waits for `not_before` at first and after a failure for
# the next try; `ready` is 0 until then, so that no scan meets those that sleep.

_OPEN = "state IN ('pending', 'sending')"
_HELD = f"{_OPEN} AND owner IS NOT NULL"
_SETTLED = "state IN ('sent', 'unknown', 'dead')"

_PUT = """
INSERT INTO messages (key, recipient, text, priority, not_before, due, ready, put_at, changed_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO NOTHING
"""

_LEASE = f"""
UPDATE messages SET owner = :owner, lease_until = :until WHERE seq IN (
    SELECT seq FROM messages AS this INDEXED BY ready
    WHERE state = 'pending' AND ready = 1 AND owner IS NULL
    AND NOT EXISTS (
        SELECT 1 FROM messages AS earlier INDEXED BY lanes
        WHERE recipient = this.recipient AND seq < this.seq AND {_OPEN} AND not_before <= :now)
    AND NOT EXISTS (
        SELECT 1 FROM messages AS other INDEXED BY leased
        WHERE recipient = this.recipient AND {_HELD})
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
    ready = :ready, owner = NULL, lease_until = NULL, changed_at = :now
WHERE seq = :seq AND owner = :owner AND state IN ('pending', 'sending', 'unknown')
"""

_GIVE_UP = """
UPDATE messages SET state = 'unknown', reason = :reason, changed_at = :now
WHERE owner = :owner AND state = 'sending'
"""

_GIVE_BACK = f"""
UPDATE messages SET state = 'pending', owner = NULL, lease_until = NULL
WHERE {_HELD} AND owner = :owner
"""

_RETRY = """
UPDATE messages SET state = 'pending', owner = NULL, tries = 0, not_before = :now, due = :now,
    ready = 1, changed_at = :now
WHERE state IN ('unknown', 'dead')
"""

_DROP = f"DELETE FROM messages WHERE NOT ({_HELD})"

_PURGE = """
DELETE FROM messages WHERE seq IN (
    SELECT seq FROM messages WHERE state = 'sent' AND changed_at < ? LIMIT ?)
"""
_PURGED_AT_ONCE = 1000
"""Messages: nobody waits long for the lock."""

_LOOK = """
SELECT key, recipient, text, state, reason, tries, message_id, put_at, due, changed_at FROM messages
"""


class Store:
    """The messages of one file. Times are Unix times. Thread-safe.

    Every method raises what ``Database`` does.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._database = Database(path, _SCHEMA)
        self.uri = self._database.uri

    @property
    def id(self) -> str:
        """A random number of this outbox, in hex digits: the same for whoever opens the file."""
        with self._database.writing() as db:
            db.execute(
                "INSERT INTO outbox SELECT ? WHERE NOT EXISTS (SELECT 1 FROM outbox)",
                (secrets.token_hex(16),),
            )
            found: str = db.execute("SELECT id FROM outbox").fetchone()[0]
            return found

    def put(self, messages: Sequence[Waiting], now: float) -> int:
        """Put all of them in, or none; the number of those whose key was not there yet.

        Raises RequestRejected where a key is there with another number or text.
        """
        rows = [
            (m.key, m.to, m.text, m.priority, m.not_before, m.not_before, m.not_before <= now, now, now)
            for m in messages
        ]
        with self._database.writing() as db:
            before = db.total_changes
            db.executemany(_PUT, rows)
            new = db.total_changes - before
            if new < len(rows):
                _refuse_other_content(db, messages)
        return new

    def lease(self, owner: str, most: int, *, now: float, until: float) -> list[Leased]:
        """Up to ``most`` messages whose turn it is: the more urgent first, then in order."""
        with self._database.writing() as db:
            db.execute(
                "UPDATE messages SET ready = 1 WHERE state = 'pending' AND ready = 0 AND due <= ?",
                (now,),
            )
            values = {"owner": owner, "until": until, "now": now, "most": most}
            found = [Leased(*row) for row in db.execute(_LEASE, values)]
        return sorted(found, key=lambda message: (-message.priority, message.seq))

    def start(self, seq: int, owner: str, *, now: float, until: float) -> bool:
        """It leaves in a moment. False: the lease is somebody else's, and it must not."""
        with self._database.writing() as db:
            return db.execute(_START, (until, now, seq, owner)).rowcount == 1

    def settle(self, seq: int, owner: str, verdict: Verdict, now: float) -> None:
        """What became of it."""
        values = {
            "state": verdict.state,
            "reason": verdict.reason,
            "message_id": verdict.message_id,
            "due": now + verdict.wait,
            "ready": verdict.wait <= 0,
            "now": now,
            "seq": seq,
            "owner": owner,
        }
        with self._database.writing() as db:
            db.execute(_SETTLE, values)

    def renew(self, owner: str, until: float) -> None:
        """The owner still works."""
        with self._database.writing() as db:
            db.execute(
                f"UPDATE messages SET lease_until = ? WHERE {_HELD} AND owner = ?", (until, owner)
            )

    def let_go(self, owner: str, *, reason: str, trusted: bool, now: float) -> None:
        """The owner works no more. What it was sending is unknown, for ``reason``, unless the API is
        trusted to honour keys."""
        with self._database.writing() as db:
            _let_go(db, owner, reason=reason, trusted=trusted, now=now)

    def recover(self, owner: str, *, trusted: bool, now: float) -> None:
        """Let go of what others hold who ended in the midst of it, or whose lease is over."""
        with self._database.reading() as db:
            held = db.execute(
                f"SELECT owner, max(lease_until) FROM messages INDEXED BY leased WHERE {_HELD} GROUP BY owner"
            ).fetchall()
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
        query = f"SELECT 1 FROM messages INDEXED BY lanes WHERE {_OPEN} AND not_before <= ? LIMIT 1"
        with self._database.reading() as db:
            return db.execute(query, (now,)).fetchone() is None

    def next_due(self) -> float | None:
        """When the next of those that sleep is due."""
        query = "SELECT min(due) FROM messages WHERE state = 'pending' AND ready = 0"
        with self._database.reading() as db:
            due: float | None = db.execute(query).fetchone()[0]
            return due

    def counts(self) -> dict[str, int]:
        """Messages by state: pending, sent, unknown, dead."""
        with self._database.reading() as db:
            return tallies(
                db.execute(
                    f"SELECT 'pending', count(*) FROM messages INDEXED BY lanes WHERE {_OPEN}"
                    f" UNION ALL SELECT state, count(*) FROM messages INDEXED BY settled"
                    f" WHERE {_SETTLED} GROUP BY state"
                )
            )

    def look(self, state: State) -> list[Record]:
        """The messages in that state, in the order in which they were put in."""
        with self._database.reading() as db:
            return [_record(*row) for row in db.execute(_LOOK + "WHERE state = ? ORDER BY seq", (state,))]

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
            before = db.total_changes
            if values:
                db.executemany(f"{statement} AND key = :key{of_state}", values)
            else:
                db.execute(statement + of_state, {"now": now, "state": state})
            return db.total_changes - before

    def close(self) -> None:
        """Close the file."""
        self._database.close()


def _refuse_other_content(db: sqlite3.Connection, messages: Iterable[Waiting]) -> None:
    for message in messages:
        query = "SELECT recipient = ? AND text = ? FROM messages WHERE key = ?"
        (same,) = db.execute(query, (message.to, message.text, message.key)).fetchone()
        if not same:
            raise RequestRejected(
                f"idempotency key — {message.key} is another message's, which is in the outbox already",
                hint="a new message needs a new key",
            )


def _let_go(
    db: sqlite3.Connection, owner: str, *, reason: str, trusted: bool, now: float
) -> None:
    values = {"owner": owner, "reason": reason, "now": now}
    if not trusted:
        db.execute(_GIVE_UP, values)
    db.execute(_GIVE_BACK, values)


def _record(
    key: str,
    to: str,
    text: str,
    state: str,
    reason: str | None,
    tries: int,
    message_id: str | None,
    *times: float,
) -> Record:
    put_at, due, changed_at = (_datetime(moment) for moment in times)
    return Record(key, to, text, State(state), reason, tries, message_id, put_at, due, changed_at)


def _datetime(moment: float) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=moment)
