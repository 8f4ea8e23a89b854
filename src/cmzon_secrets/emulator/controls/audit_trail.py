"""The audit trail of tokens as a file: one JSON object a line, oldest first.

JSON Lines, not CSV: a name that looks like a formula stays a string wherever the file is opened.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import fields
from itertools import islice

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from cmzon_secrets.emulator.account.account import Account
from cmzon_secrets.emulator.account.history import EVENTS, HistoryFilter, TokenEvent
from cmzon_secrets.emulator.http.answers import invalid_request
from cmzon_secrets.emulator.http.guard import Control
from cmzon_secrets.emulator.http.requests import read_query

__all__ = ["FILTERS", "PATH", "AuditTrail", "parse_filter"]

PATH = "/_emulator/audit.jsonl"
FILTERS = tuple(field.name for field in fields(HistoryFilter))
"""The query's parameters."""
AT_ONCE = 500
"""Entries sent in one piece; between two pieces other requests have their turn."""
LONGEST_FILTER = 200
"""Characters: as long as a name."""

_HEADERS = {
    "Content-Disposition": 'attachment; filename="cmzon-audit.jsonl"',
    "Cache-Control": "no-store",
}


class AuditTrail:
    """The one control."""

    def __init__(self, account: Account) -> None:
        self._account = account

    def by_route(self) -> dict[str, Control]:
        """The control by its method and path."""
        return {f"GET {PATH}": self._download}

    async def _download(self, request: Request) -> Response:
        wanted = parse_filter(read_query(request, known=FILTERS))
        entries = self._account.history.each(wanted, at_once=AT_ONCE)
        return StreamingResponse(
            _lines(entries), media_type="application/x-ndjson", headers=_HEADERS
        )


def parse_filter(query: Mapping[str, str]) -> HistoryFilter:
    """Which entries are wanted. Raises Refusal naming the parameter at fault."""
    given = {name: query[name].strip() for name in FILTERS if name in query}
    for name, text in given.items():
        if len(text) > LONGEST_FILTER:
            why = f"at most {LONGEST_FILTER} characters can stand there"
            raise invalid_request(f"{name} — {why}", field=name)
    wanted = HistoryFilter(**given)
    if wanted.event and wanted.event not in EVENTS:
        raise invalid_request(f"event — unknown; known: {', '.join(EVENTS)}", field="event")
    return wanted


async def _lines(entries: Iterable[TokenEvent]) -> AsyncIterator[str]:
    """In the server's own thread, as the journal wants it: hence no plain generator."""
    left = iter(entries)
    while piece := list(islice(left, AT_ONCE)):
        yield "".join(f"{json.dumps(event.entry())}\n" for event in piece)
        await asyncio.sleep(0)
