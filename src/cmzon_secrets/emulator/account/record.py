"""The API's own record of every request: who, what, whence, and how it was answered.

Only route templates are kept, never the path or query as sent: a token put there by mistake
must not be kept.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from cmzon_secrets.emulator.clock import format_time
from cmzon_secrets.emulator.http.answers import invalid_request
from cmzon_secrets.emulator.storage.journal import Journal

__all__ = ["FAILED_SENDS", "RequestRecord"]

PAGE = 100
_COLUMNS = ("at", "method", "route", "status", "token_id", "ip", "request_id")
_INSERT = f"INSERT INTO audit ({', '.join(_COLUMNS)}) VALUES (?, ?, ?, ?, ?, ?, ?)"  # noqa: S608  # our own names
FAILED_SENDS = (
    "SELECT token_id, status, count(*) FROM audit WHERE route = 'POST /v1/messages'"
    " AND (status IS NULL OR status >= 400) AND at BETWEEN ? AND ? GROUP BY token_id, status"
)
"""An index holds these alone: the page that counts them is asked for several times a second."""
_SELECT = f"SELECT seq, {', '.join(_COLUMNS)} FROM audit WHERE seq > ? ORDER BY seq LIMIT ?"  # noqa: S608  # our own names


class RequestRecord:
    """Append-only; ``by_status`` counts the answers, connections that were reset apart."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self.by_status: Counter[int] = Counter(
            dict(
                journal.rows(
                    "SELECT status, count(*) FROM audit WHERE status IS NOT NULL GROUP BY status"
                )
            )
        )

    def append(
        self,
        at: float,
        *,
        method: str,
        route: str | None,
        status: int | None,
        token_id: str | None,
        ip: str,
        request_id: str,
    ) -> None:
        """Record one request; ``route`` None: there is no such route; ``status`` None: no answer."""
        if status is not None:
            self.by_status[status] += 1
        self._journal.later(_INSERT, (at, method[:16], route, status, token_id, ip, request_id))

    def failed_sends(self, since: float, until: float) -> list[tuple[str | None, int | None, int]]:
        """How many messages were refused or not answered: by token and status."""
        return [
            (token_id, status, count)
            for token_id, status, count in self._journal.rows(FAILED_SENDS, since, until)
        ]

    def page(self, cursor: str | None) -> tuple[list[dict[str, Any]], str | None]:
        """Up to ``PAGE`` entries, oldest first, and the cursor of the next page."""
        rows = self._journal.rows(_SELECT, _position(cursor), PAGE + 1)
        following = str(rows[PAGE - 1][0]) if len(rows) > PAGE else None
        return [_entry(row[1:]) for row in rows[:PAGE]], following


def _position(cursor: str | None) -> int:
    if cursor is None:
        return 0
    if not (cursor.isascii() and cursor.isdecimal() and len(cursor) <= 18):
        raise invalid_request("cursor — it is not one that this API gave out")
    return int(cursor)


def _entry(row: tuple[Any, ...]) -> dict[str, Any]:
    entry = dict(zip(_COLUMNS, row, strict=True))
    entry["at"] = format_time(entry["at"])
    return entry
