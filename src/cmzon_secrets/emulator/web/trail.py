"""Audit trail: everything that was done to tokens, newest first, narrowed down by a form."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from cmzon_secrets.emulator.account.history import EVENTS, HistoryFilter, TokenEvent
from cmzon_secrets.emulator.controls.audit_trail import FILTERS, PATH, parse_filter
from cmzon_secrets.emulator.http.answers import Refusal
from cmzon_secrets.emulator.web.site import Site

__all__ = ["routes"]

SHOWN = 200
LABELS = {"token": "Token", "event": "Event", "by": "By", "ip": "Address"}
"""What the form calls its fields."""


def routes(site: Site) -> list[Route]:
    """The page; what changes the trail is done elsewhere."""
    return [site.get("/dashboard/audit", _Trail(site).show)]


class _Trail:
    def __init__(self, site: Site) -> None:
        self._site = site

    async def show(self, request: Request) -> Response:
        given = {name: request.query_params.get(name, "").strip() for name in FILTERS}
        try:
            wanted = parse_filter(given)
        except Refusal as refusal:
            return self._page(request, given, [], refusal=refusal)
        if request.query_params.get("limit") == "all":
            return self._page(request, given, self._newest(wanted, None))
        found = self._newest(wanted, SHOWN + 1)
        return self._page(request, given, found[:SHOWN], more=len(found) > SHOWN)

    def _newest(self, wanted: HistoryFilter, most: int | None) -> list[TokenEvent]:
        return self._site.account.history.find(wanted, newest=most)[::-1]

    def _page(
        self,
        request: Request,
        given: Mapping[str, str],
        entries: list[TokenEvent],
        *,
        more: bool = False,
        refusal: Refusal | None = None,
    ) -> Response:
        account = self._site.account
        return self._site.page(
            request,
            "trail.html",
            status=200 if refusal is None else refusal.status,
            given=given,
            entries=entries,
            more=more,
            refusal=refusal,
            labels=LABELS,
            meanings=EVENTS,
            names={token.id: token.name for token in account.tokens},
            messages=account.exchanges.known(e.request_id for e in entries if e.request_id),
            download=PATH,
        )
