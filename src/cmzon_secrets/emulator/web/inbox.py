"""Messages: conversations as a phone shows them, and every request with its answer as sent."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from cmzon_secrets.emulator.account.account import Account
from cmzon_secrets.emulator.account.exchanges import KEPT, Exchange, ExchangeFilter
from cmzon_secrets.emulator.account.messages import ROUTE
from cmzon_secrets.emulator.account.tokens import IssuedToken
from cmzon_secrets.emulator.http.answers import invalid_request
from cmzon_secrets.emulator.web.curl import as_curl
from cmzon_secrets.emulator.web.site import Site

__all__ = ["routes"]

PAGE = "/dashboard"
ROWS = 200
"""Messages shown unless more are asked for."""
MOST_ROWS = 10_000
MOST_CONVERSATIONS = 100
MOST_TOKENS = 200
"""Tokens to choose from."""
FILTERS = ("number", "token", "status", "text")
LONGEST_FILTER = 200
"""Characters; every link on the page carries the filters."""
PREVIEW = 100
"""Characters of a conversation's last message."""
STATUSES = {
    "2xx": "accepted",
    "4xx": "refused (4xx)",
    "429": "rate limited (429)",
    "5xx": "failed (5xx)",
    "none": "no answer",
}
_STATUS = re.compile(r"[1-5]xx|[1-5][0-9]{2}|none", re.ASCII)


def routes(site: Site) -> list[Route]:
    """The page; everything on it is a link."""

    async def show(request: Request) -> Response:
        asked = Asked.parse(request.query_params)
        context = _context(site.account, asked, str(request.base_url).rstrip("/"))
        return site.page(request, "inbox.html", **context)

    return [site.get(PAGE, show)]


@dataclass(frozen=True, slots=True)
class Asked:
    """What the address asks for.

    ``to`` is the conversation, None for everything and "" for requests that name no number; ``show``
    the request whose details are open. ``column`` is the one that a narrow screen shows.
    """

    filters: ExchangeFilter
    to: str | None
    show: str
    limit: int
    column: str

    @classmethod
    def parse(cls, query: Mapping[str, str]) -> Asked:
        """Raises Refusal (400) naming the parameter at fault."""
        given = {name: query.get(name, "").strip() for name in FILTERS}
        for name, value in given.items():
            if len(value) > LONGEST_FILTER:
                raise invalid_request(f"{name} — longer than {LONGEST_FILTER} characters")
        if given["status"] and _STATUS.fullmatch(given["status"]) is None:
            raise invalid_request("status — one like 429, a class like 4xx, or none is needed")
        filters = ExchangeFilter(
            number=given["number"],
            token=given["token"],
            status=given["status"],
            text=given["text"],
        )
        to, show = query.get("to"), query.get("show", "")
        chosen = to is not None or "all" in query
        column = "details" if show else "conversation" if chosen else "conversations"
        return cls(filters, to, show, _limit(query.get("limit", "")), column)

    @property
    def filtered(self) -> bool:
        """Whether any filter is in force."""
        return self.filters != ExchangeFilter()

    def here(self) -> ExchangeFilter:
        """The filters, in this conversation alone."""
        return replace(self.filters, to=self.to)

    def link(self, **changed: object) -> str:
        """The page with the filters and this conversation; ``changed`` None leaves a name out."""
        filters = {name: getattr(self.filters, name) or None for name in FILTERS}
        query = {**filters, "to": self.to, "limit": self._limit_in_link()} | changed
        kept = urlencode({name: value for name, value in query.items() if value is not None})
        return f"{PAGE}?{kept}" if kept else PAGE

    def unfiltered(self) -> str:
        """The page with this conversation, and without filters."""
        return self.link(limit=None, **dict.fromkeys(FILTERS))

    def _limit_in_link(self) -> object:
        return None if self.limit == ROWS else "all" if self.limit == MOST_ROWS else self.limit


class Bubble(NamedTuple):
    """One message as the conversation shows it; ``new_day``: it is not of the day of the one above."""

    id: str
    href: str
    new_day: bool
    day: str
    time: str
    verdict: str
    exchange: Exchange


def _context(account: Account, asked: Asked, base_url: str) -> dict[str, Any]:
    exchanges = account.exchanges
    matching = exchanges.count(asked.filters)
    here = matching if asked.to is None else exchanges.count(asked.here())
    shown = exchanges.newest(asked.here(), asked.limit)
    conversations = exchanges.conversations(asked.filters, MOST_CONVERSATIONS + 1)
    return {
        "asked": asked,
        "kept": exchanges.count(ExchangeFilter()),
        "kept_at_most": KEPT if account.journal.in_memory else None,
        "matching": matching,
        "here": here,
        "older": min(asked.limit + ROWS, MOST_ROWS) if len(shown) < here else None,
        "conversations": conversations[:MOST_CONVERSATIONS],
        "more_conversations": len(conversations) > MOST_CONVERSATIONS,
        "bubbles": _bubbles(shown, asked),
        "shown": len(shown),
        "statuses": _statuses(account, asked.filters.status),
        "tokens": _tokens(account),
        **_details(account, asked.show, base_url),
        "today": account.clock.now().strftime("%Y-%m-%d"),
        "longest_filter": LONGEST_FILTER,
        "quote": quote,
        "preview": PREVIEW,
        "most_rows": MOST_ROWS,
    }


def _bubbles(exchanges: Iterable[Exchange], asked: Asked) -> Iterator[Bubble]:
    start = asked.link(show="")  # the rest is the request's id
    above = ""
    for each in exchanges:
        day, time = format(datetime.fromtimestamp(each.at, UTC), "%Y-%m-%d %H:%M:%S").split()
        yield Bubble(
            id=f"m{each.seq}",
            href=f"{start}{each.id}#m{each.seq}",
            new_day=day != above,
            day=day,
            time=time,
            verdict="✓ accepted" if each.accepted else f"✗ {each.status or 'no answer'}",
            exchange=each,
        )
        above = day


def _limit(text: str) -> int:
    if text in ("", "all"):
        return MOST_ROWS if text else ROWS
    if not (text.isascii() and text.isdecimal() and 1 <= int(text[:9]) <= MOST_ROWS):
        raise invalid_request(f"limit — a number from 1 to {MOST_ROWS}, or all, is needed")
    return int(text)


def _statuses(account: Account, chosen: str) -> dict[str, str]:
    """What to choose from: the usual, the refusals there were, and the one that is chosen."""
    refusals = {str(status) for status in account.record.by_status if status >= 400}
    others = (refusals | {chosen}) - {"", *STATUSES}
    return STATUSES | {status: status for status in sorted(others)}


def _tokens(account: Account) -> list[IssuedToken]:
    """Those to choose from, the newest first."""
    return list(account.tokens)[: -MOST_TOKENS - 1 : -1]


def _details(account: Account, request_id: str, base_url: str) -> dict[str, Any]:
    exchange = account.exchanges.get(request_id) if request_id else None
    if exchange is None:
        return {"exchange": None}
    return {
        "exchange": exchange,
        "token": account.tokens.get(exchange.token_id or ""),
        "route": ROUTE,
        "curl": as_curl(exchange, base_url + ROUTE.split()[1]),
    }
