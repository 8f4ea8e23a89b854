"""API Settings: the account's tokens, the form that makes one, and the page of each.

A value is shown by the one answer to the form that made the token, and by no page that can be asked
for again. Each form that is shown carries a key of its own, so that sending it twice (a reload, the
way back, an impatient second click) makes one token, as an ``Idempotency-Key`` does at the API.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from cmzon_secrets.emulator.account.history import EVENTS, HistoryFilter
from cmzon_secrets.emulator.account.idempotency import Use
from cmzon_secrets.emulator.account.stages import Stage, stages
from cmzon_secrets.emulator.account.tokens import (
    AUDIT,
    MANAGE,
    MESSAGING,
    SEND,
    IssuedToken,
    TokenWish,
)
from cmzon_secrets.emulator.http.answers import Refusal
from cmzon_secrets.emulator.web.site import Form, Site

__all__ = ["routes"]

PATH = "/dashboard/tokens"
SHOWN = 100
"""Tokens, or entries of one token's history, on a page that was not asked for all."""

LABELS = {
    "name": "Name",
    "scopes": "Permissions",
    "expires_in": "Seconds from now",
    "allowed_ips": "IP allowlist",
}
"""What the form calls the fields of the request."""
PERMISSIONS = {
    SEND: "Send messages.",
    MANAGE: "Make, list and revoke tokens: what a rotation needs.",
    AUDIT: "Read the record of every request.",
    MESSAGING: "All of messaging: it stands for messages:send.",
}
CUSTOM = "custom"
EXPIRIES = {
    "": "never",
    "3600": "in 1 hour",
    "86400": "in 24 hours",
    "2592000": "in 30 days",
    "5184000": "in 60 days",
    "7776000": "in 90 days",
    CUSTOM: "in a number of seconds",
}
EXAMPLE = {"name": "my-service", "scopes": [SEND], "expires_in": 5184000}


def routes(site: Site) -> list[Route]:
    """The list with its form, the page of each token, and what can be done to one."""
    settings = Settings(site)
    return [
        site.get(PATH, settings.show_all),
        site.post(PATH, settings.generate),
        site.get(f"{PATH}/{{id}}", settings.show),
        site.post(f"{PATH}/{{id}}/revoke", settings.revoke),
        site.post(f"{PATH}/{{id}}/expire", settings.expire),
    ]


class Settings:
    """What the pages show and do."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._account = site.account

    async def show_all(self, request: Request) -> Response:
        """The list, and the form as nobody touched it."""
        return self._list(request, Form([("scopes", SEND)]))

    async def generate(self, request: Request, form: Form) -> Response:
        """Make the token that the form describes, and show its value this once."""
        body = body_of(form)
        use = Use.of("dashboard", form.get("once", ""), body)
        try:
            wish = TokenWish.parse(body)
            made_before = self._account.keys.made_by(use)
        except Refusal as refusal:
            return self._list(request, form, refusal)
        if made_before is not None:
            return self._site.back_to(f"{PATH}/{made_before}", "made-before")
        token = self._account.issue(wish, self._site.origin(request), use)
        return self._site.page(
            request,
            "generated.html",
            status=201,
            token=token,
            value=self._account.tokens.value_of(token),
            body=body,
            permissions=PERMISSIONS,
        )

    async def show(self, request: Request) -> Response:
        """Everything about one token but its value."""
        token = self._asked_for(request)
        wanted = HistoryFilter(token_id=token.id)
        found = self._account.history.find(wanted, newest=SHOWN + 1)
        return self._site.page(
            request,
            "token.html",
            token=token,
            stage=self._stages()[token.id],
            names={token.id: token.name for token in self._account.tokens},
            events=found[-SHOWN:],
            older=len(found) > SHOWN,
            meanings=EVENTS,
            permissions=PERMISSIONS,
        )

    async def revoke(self, request: Request, form: Form) -> Response:  # noqa: ARG002  # it asks for no more
        """Kill a token for good."""
        token = self._asked_for(request)
        self._account.revoke(token.id, self._site.origin(request))
        return self._site.back_to(f"{PATH}/{token.id}", "revoked")

    async def expire(self, request: Request, form: Form) -> Response:  # noqa: ARG002  # it asks for no more
        """End a token's time."""
        token = self._asked_for(request)
        self._account.expire(token.id, self._site.origin(request))
        return self._site.back_to(f"{PATH}/{token.id}", "expired")

    def _stages(self) -> dict[str, Stage]:
        account = self._account
        moves = account.usage.takeovers.by_name
        return stages(account.tokens, moves, account.clock.timestamp())

    def _asked_for(self, request: Request) -> IssuedToken:
        token = self._account.tokens.get(request.path_params["id"])
        if token is None:
            raise Refusal(
                404, "Unknown token", "There is no token with this id; a reset forgets all tokens"
            )
        return token

    def _list(self, request: Request, form: Form, refusal: Refusal | None = None) -> Response:
        now = self._account.clock.timestamp()
        listing = Listing.read(request.query_params)
        found = listing.find(self._account.tokens, now)
        return self._site.page(
            request,
            "settings.html",
            status=refusal.status if refusal is not None else 200,
            listing=listing,
            found=len(found),
            tokens=found if listing.everything else found[:SHOWN],
            stages=self._stages(),
            form=form,
            refusal=refusal,
            labels=LABELS,
            once=secrets.token_urlsafe(16),
            permissions=PERMISSIONS,
            expiries=EXPIRIES,
            example=EXAMPLE,
        )


@dataclass(frozen=True, slots=True)
class Listing:
    """Which tokens the list has, and in what order; newest first where names do not order it.

    ``token`` is a part of a name, in any case, of an id, or of a fingerprint.
    """

    token: str = ""
    live_only: bool = False
    by_name: bool = False
    everything: bool = False

    @classmethod
    def read(cls, query: Mapping[str, str]) -> Listing:
        """As a page's address asks for it; what it does not know it passes over."""
        return cls(
            token=query.get("token", "").strip(),
            live_only=query.get("live") == "1",
            by_name=query.get("order") == "name",
            everything=query.get("limit") == "all",
        )

    def find(self, tokens: Iterable[IssuedToken], now: float) -> list[IssuedToken]:
        """The tokens wanted."""
        wanted = [token for token in tokens if self._wants(token, now)]
        wanted.sort(key=lambda token: token.seq, reverse=True)
        if self.by_name:
            wanted.sort(key=lambda token: (token.name.casefold(), token.name))
        return wanted

    def _wants(self, token: IssuedToken, now: float) -> bool:
        part = self.token.casefold()
        named = part in token.name.casefold() or part in token.id or part in token.fingerprint
        return named and (token.live(now) or not self.live_only)


def body_of(form: Form) -> dict[str, Any]:
    """The form as the body that ``POST /v1/tokens`` takes; fields left empty are left out."""
    lines = map(str.strip, form.get("allowed_ips", "").splitlines())
    optional = {"expires_in": _expires_in(form), "allowed_ips": [line for line in lines if line]}
    return {
        "name": form.get("name", ""),
        "scopes": form.many("scopes"),
        **{name: value for name, value in optional.items() if value not in (None, [])},
    }


def _expires_in(form: Form) -> float | str | None:
    """Seconds; a text where the form has no number, which the check then refuses by name."""
    if form.get("expires") != CUSTOM:
        return form.number("expires")
    seconds = form.number("expires_in")
    return "" if seconds is None else seconds
