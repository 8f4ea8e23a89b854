"""Messages: conversations as a phone shows them, and every request with its answer as sent."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote, urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from cmzon_secrets.emulator.account.account import Account
from cmzon_secrets.emulator.account.exchanges import (
    KEPT,
    LONGEST_FILTER,
    STATUS,
    Exchange,
    ExchangeFilter,
)
from cmzon_secrets.emulator.account.messages import ROUTE
from cmzon_secrets.emulator.account.tokens import IssuedToken
from cmzon_secrets.emulator.http.answers import invalid_request
from cmzon_secrets.emulator.http.guard import own_address
from cmzon_secrets.emulator.web.bubbles import Verdict, ignored, in_blocks
from cmzon_secrets.emulator.web.curl import as_curl
from cmzon_secrets.emulator.web.site import Form, Site

__all__ = ["routes"]

PAGE = "/dashboard"
ROWS = 200
"""Messages shown unless more are asked for."""
MOST_ROWS = 10_000
MOST_CONVERSATIONS = 100
MOST_TOKENS = 200
"""Tokens to choose from."""
FILTERS = ("number", "token_id", "status", "text")
PREVIEW = 100
"""Characters of a conversation's last message."""
STATUSES = {
    "accepted": "accepted",
    "failed": "failed",
    "none": "no answer",
    "4xx": "4xx",
    "5xx": "5xx",
}


def routes(site: Site) -> list[Route]:
    """The page, on which everything is a link, and the one button on it."""

    async def show(request: Request) -> Response:
        asked = Asked.parse(request.query_params)
        context = _context(site, asked, own_address(request))
        return site.page(request, "inbox.html", **context)

    async def clear(request: Request, form: Form) -> Response:  # noqa: ARG001  # a button has no fields
        site.account.clear_messages()
        return site.back_to(PAGE, "messages-cleared")

    return [site.get(PAGE, show), site.post(f"{PAGE}/messages/clear", clear)]


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
        given: dict[str, Any] = {name: query.get(name, "").strip() for name in FILTERS}
        for name, value in given.items():
            if len(value) > LONGEST_FILTER:
                raise invalid_request(f"{name} — longer than {LONGEST_FILTER} characters")
        if given["status"] and re.fullmatch(STATUS, given["status"]) is None:
            raise invalid_request(
                "status — one like 429, a class like 4xx, accepted, failed, or none is needed"
            )
        filters = ExchangeFilter(**given)
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


def _context(site: Site, asked: Asked, base_url: str) -> dict[str, Any]:
    account = site.account
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
        "blocks": in_blocks(shown, asked.link(show="")),  # the rest is the request's id
        "shown": len(shown),
        "ignored": ignored(shown),
        "statuses": _statuses(account, asked.filters.status),
        "tokens": _tokens(account),
        "most_tokens": MOST_TOKENS,
        **_details(site, asked.show, base_url),
        "longest_filter": LONGEST_FILTER,
        "quote": quote,
        "preview": PREVIEW,
        "most_rows": MOST_ROWS,
    }


def _limit(text: str) -> int:
    if text in ("", "all"):
        return MOST_ROWS if text else ROWS
    if re.fullmatch("[0-9]{1,5}", text) is None or not 1 <= int(text) <= MOST_ROWS:
        raise invalid_request(f"limit — a number from 1 to {MOST_ROWS}, or all, is needed")
    return int(text)


def _statuses(account: Account, chosen: str) -> dict[str, str]:
    """What to choose from: the usual, the refusals there were, and the one that is chosen."""
    refusals = {str(status) for status in account.record.by_status if status >= 400}
    others = (refusals | {chosen}) - {"", *STATUSES}
    return STATUSES | {status: status for status in sorted(others)}


def _tokens(account: Account) -> list[IssuedToken]:
    """Those to choose from, the newest first, and one more where there are more."""
    return list(account.tokens)[: -MOST_TOKENS - 2 : -1]


def _details(site: Site, request_id: str, base_url: str) -> dict[str, Any]:
    account = site.account
    exchange = account.exchanges.get(request_id) if request_id else None
    if exchange is None:
        return {"exchange": None}
    url = base_url + ROUTE.split()[1]
    return {
        "exchange": exchange,
        "verdict": Verdict.of(exchange),
        "token": account.tokens.get(exchange.token_id or ""),
        "route": ROUTE,
        "curl": as_curl(exchange, url, site.ca),
        "curl_new": as_curl(_without_key(exchange), url, site.ca),
    }


def _without_key(exchange: Exchange) -> Exchange:
    """The request as one that was never sent before."""
    headers = exchange.request_headers
    rest = [(name, value) for name, value in headers if name.lower() != "idempotency-key"]
    return replace(exchange, request_headers=rest)
