"""The emulator as one ASGI application: the routes under ``/v1``, the controls, and all others."""

from __future__ import annotations

import re
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route

from cmzon_secrets.emulator.account.account import Account
from cmzon_secrets.emulator.account.idempotency import Use, checked_key
from cmzon_secrets.emulator.account.messages import ROUTE as SEND_MESSAGE
from cmzon_secrets.emulator.account.messages import Message
from cmzon_secrets.emulator.account.tokens import AUDIT, MANAGE, SEND, IssuedToken, TokenWish
from cmzon_secrets.emulator.controls import controls_of
from cmzon_secrets.emulator.http.answers import Refusal, success
from cmzon_secrets.emulator.http.guard import Control
from cmzon_secrets.emulator.nearest import nearest
from cmzon_secrets.emulator.openapi import description_of
from cmzon_secrets.emulator.responder import Call, Endpoint, Responder
from cmzon_secrets.emulator.web import PAGES, Site, dashboard_routes, lead_back

__all__ = ["issued", "make_app", "routes_of"]

ISSUE = "POST /v1/tokens"
PAGE = 50
_OAUTH = re.compile(r"/(oauth|\.well-known)(/|$)")
"""Where OAuth has its routes."""


def make_app(account: Account, responder: Responder, ca: str | None = None) -> Starlette:
    """Every route of the API and the controls, and an answer for all others; ``ca`` as ``Site``'s."""
    endpoints = API(account).endpoints()
    routes = [endpoint.route for endpoint in endpoints]
    controls = controls_of(account, routes, responder.stopping)
    controls |= description_of(endpoints, list(controls), strict=account.strict)
    known = [*routes, *controls, *(f"GET {page}" for page in PAGES)]
    site = Site(account, routes, stopping=responder.stopping, ca=ca)

    async def refuse(request: Request, error: Exception) -> Response:
        refusal = _refusal(request, error, known)
        return await lead_back(site, request, refusal) or responder.refuse(request, refusal)

    app = Starlette(
        routes=[
            *(Route(e.path, responder.serve(e), methods=[e.method]) for e in endpoints),
            *(_control(route, control) for route, control in controls.items()),
            *dashboard_routes(site),
        ],
        exception_handlers={404: refuse, 405: refuse, 500: refuse},
    )
    app.router.redirect_slashes = False
    return app


def routes_of(account: Account) -> list[str]:
    """The API's routes, which faults may name."""
    return [endpoint.route for endpoint in API(account).endpoints()]


class API:
    """What each endpoint does once the token was let in."""

    def __init__(self, account: Account) -> None:
        self._account = account

    def endpoints(self) -> list[Endpoint]:
        """Every route; the order matters where one path matches another's template."""
        return [
            Endpoint(
                *(SEND_MESSAGE, self._send_message),
                scope=SEND,
                headers=self._rate_headers,
                kept=True,
            ),
            Endpoint(ISSUE, self._issue_token, scope=MANAGE),
            Endpoint("GET /v1/tokens", self._list_tokens, scope=MANAGE, query=("name", "cursor")),
            Endpoint("GET /v1/tokens/self", self._show_own_token, counts_as_use=False),
            Endpoint("DELETE /v1/tokens/{id}", self._revoke_token, scope=MANAGE),
            Endpoint("GET /v1/audit", self._list_audit, scope=AUDIT, query=("cursor",)),
        ]

    async def _send_message(self, call: Call) -> Response:
        body = call.read_object()
        message = Message.parse(body, strict=self._account.strict)
        call.notes += [f"ignored: {name}" for name in message.ignored]
        call.message_id, new = self._account.messages.accept(_use(call, SEND_MESSAGE, body))
        if new:
            self._account.usage.carried(call.caller, call.origin)
        else:
            call.notes.append("repeated: its Idempotency-Key had been used")
        return success({"id": call.message_id, "status": "accepted", "to": message.to})

    def _rate_headers(self) -> dict[str, str]:
        return self._account.messages.rate_headers()  # a reset makes new ones

    async def _issue_token(self, call: Call) -> Response:
        body = call.read_object()
        wish = TokenWish.parse(body, strict=self._account.strict)
        token = self._account.issue(wish, call.origin, _use(call, ISSUE, body))
        return success(issued(self._account, token), status=201)

    async def _list_tokens(self, call: Call) -> Response:
        name, cursor = call.query.get("name"), call.query.get("cursor")
        found, following = self._account.tokens.page(name, cursor, PAGE)
        return success({"data": [token.entry() for token in found], "next_cursor": following})

    async def _show_own_token(self, call: Call) -> Response:
        self._account.usage.verified(call.caller, call.origin)
        return success(call.caller.entry())

    async def _revoke_token(self, call: Call) -> Response:
        self._account.revoke(call.request.path_params["id"], call.origin)
        return Response(status_code=204)

    async def _list_audit(self, call: Call) -> Response:
        entries, cursor = self._account.record.page(call.query.get("cursor"))
        return success({"data": entries, "next_cursor": cursor})


def issued(account: Account, token: IssuedToken) -> dict[str, Any]:
    """The only answer that shows a token's value."""
    entry = token.entry()
    return {
        "id": token.id,
        "token": account.tokens.value_of(token),
        **{name: entry[name] for name in ("name", "scopes", "created_at", "expires_at")},
        "allowed_ips": list(token.allowed_ips),
    }


def _use(call: Call, route: str, body: dict[str, object]) -> Use | None:
    key = checked_key(call.request.headers.getlist("idempotency-key"))
    return Use.of(route, key, body) if key is not None else None


def _control(route: str, control: Control) -> Route:
    method, path = route.split()
    return Route(path, control, methods=[method])


def _refusal(request: Request, error: Exception, known: list[str]) -> Refusal:
    """The answer where no endpoint gave one. What was asked is not repeated: it may hold a token."""
    if not isinstance(error, HTTPException):
        return Refusal(500, "Internal server error", "The emulator failed; see its log")
    message = "Unknown route" if error.status_code == 404 else "Method not allowed"
    path = request.scope["path"]  # request.url trusts the Host
    if _OAUTH.match(path):
        return Refusal(404, message, "The OAuth server is not part of this version of the emulator")
    routes = [] if path == "/" else nearest(request.method, path, known)
    details = f"Nearest known route{'s' * (len(routes) > 1)}: {', '.join(routes)}"
    details = details if routes else "The API is below /v1, the dashboard for people at /dashboard"
    return Refusal(error.status_code, message, details, headers=_allow(request, error))


def _allow(request: Request, error: HTTPException) -> dict[str, str]:
    """What a 405 has to name: every method of the path that was asked for."""
    if error.status_code != 405:
        return {}
    routes = [route for route in request.app.routes if isinstance(route, Route)]
    paths = [route.path for route in routes if route.matches(request.scope)[0] is not Match.NONE]
    asked_for = min(paths, key=lambda path: path.count("{"))
    methods = {m for route in routes if route.path == asked_for for m in route.methods or ()}
    return {"Allow": ", ".join(sorted(methods))}
