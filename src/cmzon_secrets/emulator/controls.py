"""``/_emulator/*`` and ``/dashboard``: for who rehearses, on this machine, without a token.

A page on the web can make a browser on this machine call loopback addresses. Requests are refused
unless peer, ``Host`` and, where there is one, ``Origin`` are loopback: the second stops DNS
rebinding, the third a foreign page.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable, Sequence
from functools import wraps
from urllib.parse import urlsplit

from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, Response

from cmzon_secrets.emulator.account import Account
from cmzon_secrets.emulator.answers import Abort, Refusal, success
from cmzon_secrets.emulator.clock import format_time
from cmzon_secrets.emulator.faults import Fault
from cmzon_secrets.emulator.fields import Fields
from cmzon_secrets.emulator.responder import client_address, read_object

__all__ = ["Control", "Controls", "is_loopback"]

Control = Callable[[Request], Awaitable[Response]]

FARTHEST_SHIFT = 100 * 366 * 24 * 3600.0
"""Seconds from the machine's own time."""


class Controls:
    """What each control does. ``routes`` are the API's, which faults may name."""

    def __init__(self, account: Account, routes: Sequence[str]) -> None:
        self._account = account
        self._routes = routes

    def by_route(self) -> dict[str, Control]:
        """Every control by its method and path."""
        return {
            "POST /_emulator/faults": _local(self._add_fault),
            "GET /_emulator/faults": _local(self._list_faults),
            "DELETE /_emulator/faults": _local(self._clear_faults),
            "POST /_emulator/clock": _local(self._advance_clock),
            "POST /_emulator/reset": _local(self._reset),
            "GET /_emulator/stats": _local(self._stats),
            "GET /dashboard": _local(self._dashboard),
        }

    async def _add_fault(self, request: Request) -> Response:
        fault = Fault.parse(await read_object(request), self._routes)
        self._account.faults.add(fault)
        return success(fault.entry())

    async def _list_faults(self, request: Request) -> Response:  # noqa: ARG002  # the router passes it
        return success({"data": [fault.entry() for fault in self._account.faults]})

    async def _clear_faults(self, request: Request) -> Response:  # noqa: ARG002  # the router passes it
        self._account.faults.clear()
        return Response(status_code=204)

    async def _advance_clock(self, request: Request) -> Response:
        fields = Fields(await read_object(request), known=("advance",))
        shift = self._account.clock.shift
        seconds = fields.number("advance", least=-FARTHEST_SHIFT, most=FARTHEST_SHIFT)
        if seconds is None:
            raise fields.complain("advance", "seconds are needed; negative ones set the clock back")
        if abs(shift + seconds) > FARTHEST_SHIFT:
            raise fields.complain("advance", "the clock would be off by more than a century")
        self._account.advance(seconds)
        clock = self._account.clock
        return success({"now": format_time(clock.timestamp()), "shift": clock.shift})

    async def _reset(self, request: Request) -> Response:  # noqa: ARG002  # the router passes it
        self._account.reset()
        return success(self._account.stats())

    async def _stats(self, request: Request) -> Response:  # noqa: ARG002  # the router passes it
        return success(self._account.stats())

    async def _dashboard(self, request: Request) -> Response:  # noqa: ARG002  # the router passes it
        routes = [*self._routes, *self.by_route()]
        items = "\n".join(f"<li><code>{route}</code></li>" for route in routes)
        return HTMLResponse(
            _PAGE.format(messages=self._account.messages.count, items=items), headers=_PAGE_HEADERS
        )


_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>CMzon emulator</title>
<h1>CMzon emulator</h1>
<p>{messages} messages accepted. Nothing is delivered to anybody.</p>
<p>Routes:</p>
<ul>
{items}
</ul>
</html>
"""
_PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def is_loopback(host: str | None) -> bool:
    """Whether a host name or address can only be this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


def _local(control: Control) -> Control:
    """``control``, refusing what does not come from this machine."""

    @wraps(control)
    async def guarded(request: Request) -> Response:
        try:
            _check_local(request)
            return await control(request)
        except Refusal as refusal:
            return refusal.response()
        except ClientDisconnect:
            return Abort()

    return guarded


def _check_local(request: Request) -> None:
    origins = request.headers.getlist("origin")
    named = {
        "peer": is_loopback(client_address(request)),
        "Host": is_loopback(_host_of(f"//{request.headers.get('host', '')}")),
        "Origin": all(is_loopback(_host_of(origin)) for origin in origins),
        "Sec-Fetch-Site": request.headers.get("sec-fetch-site", "none") != "cross-site",
    }
    for name, local in named.items():
        if not local:
            raise Refusal(
                403, "Loopback only", f"{name} does not say that it comes from this machine"
            )


def _host_of(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None
