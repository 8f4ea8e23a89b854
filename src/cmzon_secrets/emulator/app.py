"""The emulator as one ASGI application."""

from __future__ import annotations

from difflib import get_close_matches

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from cmzon_secrets.emulator.account import Account
from cmzon_secrets.emulator.answers import Refusal
from cmzon_secrets.emulator.api import API
from cmzon_secrets.emulator.controls import Control, Controls
from cmzon_secrets.emulator.exchange import Exchange

__all__ = ["make_app"]


def make_app(account: Account, exchange: Exchange) -> Starlette:
    """Every route of the API and the controls, and an answer for all others."""
    endpoints = API(account).endpoints()
    controls = Controls(account, [endpoint.route for endpoint in endpoints]).by_route()
    known = [*(endpoint.route for endpoint in endpoints), *controls]

    async def refuse(request: Request, error: Exception) -> Response:
        return exchange.refuse(request, _refusal(request, error, known))

    app = Starlette(
        routes=[
            *(Route(e.path, exchange.serve(e), methods=[e.method]) for e in endpoints),
            *(_control(route, control) for route, control in controls.items()),
        ],
        exception_handlers={404: refuse, 405: refuse, 500: refuse},
    )
    app.router.redirect_slashes = False
    return app


def _control(route: str, control: Control) -> Route:
    method, path = route.split()
    return Route(path, control, methods=[method])


def _refusal(request: Request, error: Exception, known: list[str]) -> Refusal:
    """The answer where no endpoint gave one. What was asked is not repeated: it may hold a token."""
    if not isinstance(error, HTTPException):
        return Refusal(500, "Internal server error", "The emulator failed; see its log")
    wanted = f"{request.method} {request.url.path}"[:200]
    nearest = get_close_matches(wanted, known, n=1, cutoff=0.0)[0]
    message = "Unknown route" if error.status_code == 404 else "Method not allowed"
    return Refusal(
        error.status_code, message, f"Nearest known route: {nearest}", headers=error.headers
    )
