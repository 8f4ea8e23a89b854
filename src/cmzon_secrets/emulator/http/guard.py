"""Who may reach the controls and the dashboard: this machine, and no page of another site.

A page on the web can make a browser on this machine call loopback addresses. Requests are refused
unless peer and ``Host`` are loopback and ``Origin``, where there is one, is the very address asked:
the second stops DNS rebinding, the third the pages of others, those on another port included. (OWASP, Cross-Site Request Forgery Prevention.)
"""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable
from functools import wraps
from urllib.parse import urlsplit

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from cmzon_secrets.emulator.http.answers import Abort, Refusal
from cmzon_secrets.emulator.http.requests import client_address

__all__ = ["Control", "check_local", "is_loopback", "local"]

Control = Callable[[Request], Awaitable[Response]]


def local(control: Control) -> Control:
    """``control``, refusing what does not come from this machine."""

    @wraps(control)
    async def guarded(request: Request) -> Response:
        try:
            check_local(request)
            return await control(request)
        except Refusal as refusal:
            return refusal.response()
        except ClientDisconnect:
            return Abort()

    return guarded


def check_local(request: Request) -> None:
    """Raise Refusal (403) naming what does not say that it comes from this machine."""
    own = f"{request.url.scheme}://{request.headers.get('host', '')}"
    origins = request.headers.getlist("origin")
    asked = (
        ("peer", is_loopback(client_address(request)), "an address of this machine"),
        ("Host", is_loopback(_host_of(f"//{request.headers.get('host', '')}")), "this machine"),
        ("Origin", all(origin == own for origin in origins), "the very address that is asked"),
        ("Sec-Fetch-Site", _same_machine(request), "no other site"),
    )
    for name, is_so, what in asked:
        if not is_so:
            raise Refusal(403, "Loopback only", f"{name} has to be {what}")


def is_loopback(host: str | None) -> bool:
    """Whether a host name or address can only be this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


def _same_machine(request: Request) -> bool:
    """Another site may do no more than link here: what a click opens, that site cannot read."""
    if request.headers.get("sec-fetch-site", "none") != "cross-site":
        return True
    clicked = ("navigate", "document")
    asked = (request.headers.get("sec-fetch-mode"), request.headers.get("sec-fetch-dest"))
    return request.method == "GET" and asked == clicked


def _host_of(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None
