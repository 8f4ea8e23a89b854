"""The audit trail of tokens: everything that was done to one, and what was noticed of it.

Every request is in the API's own record (record.py); this is the story of each token, an entry where
something became different.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

from cmzon_secrets.emulator.clock import format_time
from cmzon_secrets.emulator.storage.journal import Journal, Write
from cmzon_secrets.emulator.storage.queries import Where, like

__all__ = ["EMULATOR", "EVENTS", "Event", "History", "HistoryFilter", "Origin", "TokenEvent"]

Event = Literal[
    "issued",
    "repeated",
    "verified",
    "first_used",
    "used_from",
    "promoted",
    "address_refused",
    "scope_refused",
    "refused",
    "expired",
    "expired_now",
    "revoked",
]
"""What can happen to a token."""
EVENTS: dict[Event, str] = {
    "issued": "a new token: its value was given out",
    "repeated": "asked for again: the request that made it was repeated",
    "verified": "asked about itself for the first time (GET /v1/tokens/self)",
    "first_used": "used for the first time",
    "used_from": "used from an address for the first time",
    "promoted": "traffic moved to it: with its first message, or back after a rollback",
    "address_refused": "used from an address it is not allowed from; told once for each address",
    "scope_refused": "used for what its scopes do not cover; told once for each address",
    "refused": "used from an address though it is dead; told once for each address",
    "expired": "its time was over",
    "expired_now": "its time was ended by hand",
    "revoked": "killed for good",
}

_INSERT = (
    "INSERT INTO token_events (at, event, token_id, by, ip, request_id) VALUES (?, ?, ?, ?, ?, ?)"
)
_SELECT = (
    "SELECT token_events.seq, at, event, token_id, coalesce(tokens.name, ''), by, ip, request_id"
    " FROM token_events LEFT JOIN tokens ON tokens.id = token_id WHERE {} ORDER BY token_events.seq"
)


@dataclass(frozen=True, slots=True)
class Origin:
    """Who did it: a token's id, ``dashboard``, ``control`` or ``emulator``; from where; by which request."""

    by: str
    ip: str | None = None
    request_id: str | None = None


EMULATOR = Origin("emulator")


@dataclass(frozen=True, slots=True)
class TokenEvent:
    """One entry. ``at`` is in Unix seconds of the account's clock."""

    seq: int
    at: float
    event: str
    token_id: str
    name: str
    by: str
    ip: str | None
    request_id: str | None

    def entry(self) -> dict[str, Any]:
        """The entry as downloads show it."""
        return {**asdict(self), "at": format_time(self.at)}


@dataclass(frozen=True, slots=True)
class HistoryFilter:
    """Which entries are wanted; an empty field wants all.

    ``token_id`` is an id, ``token`` one too or a part of a name; ``by`` one of ``Origin``'s words, a
    token's id or its name.
    """

    token_id: str = ""
    token: str = ""
    event: str = ""
    by: str = ""
    ip: str = ""

    def where(self) -> Where:
        """The condition in SQL."""
        where = Where()
        if self.token:
            by_name = "tokens.name LIKE ? ESCAPE '\\'"
            where.add(f"(token_id = ? OR {by_name})", self.token, like(self.token))
        if self.by:
            named = "SELECT id FROM tokens WHERE name = ?"
            where.add(f"(by = ? OR by IN ({named}))", self.by, self.by)
        for column in ("token_id", "event", "ip"):
            if value := getattr(self, column):
                where.add(f"{column} = ?", value)
        return where


class History:
    """Append-only. Raises ValueError where what the journal holds is no audit trail of ours."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        query = "SELECT event FROM token_events WHERE event NOT IN (SELECT value FROM json_each(?))"
        if journal.rows(f"{query} LIMIT 1", json.dumps(list(EVENTS))):
            raise ValueError("the audit trail tells of an event that is not known")

    def line(self, at: float, event: Event, token_id: str, origin: Origin) -> Write:
        """An entry to be written together with what it tells of."""
        return (_INSERT, (at, event, token_id, origin.by, origin.ip, origin.request_id))

    def append(self, at: float, event: Event, token_id: str, origin: Origin) -> None:
        """Add an entry."""
        self._journal.later(*self.line(at, event, token_id, origin))

    def find(
        self, wanted: HistoryFilter = HistoryFilter(), *, newest: int | None = None
    ) -> list[TokenEvent]:
        """The entries wanted, oldest first; of more than ``newest`` the last ones."""
        where = wanted.where()
        query = _SELECT.format(where)
        if newest is None:
            rows = self._journal.rows(query, *where.arguments)
        else:
            rows = self._journal.rows(f"{query} DESC LIMIT ?", *where.arguments, newest)[::-1]
        return [TokenEvent(*row) for row in rows]

    def each(self, wanted: HistoryFilter, *, at_once: int = 1000) -> Iterator[TokenEvent]:
        """The entries wanted, oldest first, read ``at_once`` at a time. Raises sqlite3.Error at once."""
        self._journal.write()  # a full disk shows here, not in the middle of a download
        return self._each(wanted, at_once)

    def _each(self, wanted: HistoryFilter, at_once: int) -> Iterator[TokenEvent]:
        last, read = 0, at_once
        while read == at_once:
            where = wanted.where()
            where.add("token_events.seq > ?", last)
            query = f"{_SELECT.format(where)} LIMIT ?"
            rows = self._journal.rows(query, *where.arguments, at_once)
            for row in rows:
                yield TokenEvent(*row)
            last, read = rows[-1][0] if rows else last, len(rows)

    def known(self, event: Event) -> set[tuple[str, str | None]]:
        """The token and the address of every entry of one kind."""
        query = "SELECT DISTINCT token_id, ip FROM token_events WHERE event = ?"
        return {(token_id, ip) for token_id, ip in self._journal.rows(query, event)}

    def moments(self, event: Event) -> list[tuple[str, float]]:
        """The token and the time of every entry of one kind, in their order."""
        query = "SELECT token_id, at FROM token_events WHERE event = ? ORDER BY seq"
        return [(token_id, at) for token_id, at in self._journal.rows(query, event)]
