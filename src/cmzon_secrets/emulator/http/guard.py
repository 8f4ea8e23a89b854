"""Who may reach the emulator: this machine, and no page of another site.

A page on the web can make a browser on this machine call loopback addresses. Controls and dashboard
are refused unless peer and ``Host`` are loopback and ``Origin``, where there is one, is the very
address asked: the second stops DNS rebinding, the third the pages of others, those on another port
included. Another site may do no more than link to a page. (OWASP, Cross-Site Request Forgery Prevention.)
The API itself takes whoever has a token, but nothing from a page that is not this machine's: a
program may call it by any name, a browser by a name of this machine only.
"""

from __future__ import annotations

import ipaddress
import re
import sqlite3
from collections.abc import Awaitable, Callable
from functools import wraps

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from cmzon_secrets.emulator.http.answers import Abort, Refusal, not_written
from cmzon_secrets.emulator.http.requests import client_address

__all__ = ["Control", "check_local", "check_site", "is_loopback", "local", "own_address"]

Control = Callable[[Request], Awaitable[Response]]

_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9.-]+)(:[0-9]{1,5})?", re.ASCII | re.IGNORECASE)
_PAGES = re.compile(r"/(dashboard(/.*)?)?", re.DOTALL)
"""What a link on another site may open."""
_OF_BROWSERS = ("origin", "accept-language")
"""Headers of theirs; no script can take the second away. ``Sec-Fetch-*`` they leave out for http."""
_FOR_THIS_SITE = {
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def local(control: Control) -> Control:
    """``control``, refusing what does not come from this machine."""

    @wraps(control)
    async def guarded(request: Request) -> Response:
        try:
            check_local(request)
            response = await control(request)
        except Refusal as refusal:
            response = refusal.response()
        except sqlite3.Error:
            response = not_written().response()
        except ClientDisconnect:
            return Abort()
        response.headers.update(_FOR_THIS_SITE)
        return response

    return guarded


def check_local(request: Request) -> None:
    """Raise Refusal (403) naming what does not say that it comes from this machine."""
    own = own_address(request)
    asked = (
        ("peer", is_loopback(client_address(request)), "an address of this machine"),
        ("Host", is_loopback(_host_of(request.headers.get("host", ""))), "this machine"),
        ("Origin", all(o == own for o in _origins(request)), "the very address that is asked"),
        ("Sec-Fetch-Site", not _other_site(request) or _is_clicked(request), "no other site"),
    )
    for name, is_so, what in asked:
        if not is_so:
            raise Refusal(403, "Loopback only", f"{name} has to be {what}")


def check_site(request: Request) -> None:
    """Raise Refusal (403) where a page of another site asks, which needs no token to do harm.

    Programs say nothing of a site, and a page that is being developed on this machine may call. A
    page whose name was rebound to this machine asks its own site, which its ``Host`` still names.
    """
    if _is_browser(request) and not is_loopback(_host_of(request.headers.get("host", ""))):
        raise Refusal(403, "Loopback only", "Host has to be this machine")
    hosts = (_host_of(origin.partition("://")[2]) for origin in _origins(request))
    if not all(map(is_loopback, hosts)):
        raise Refusal(403, "Loopback only", "Origin has to be this machine")
    if _other_site(request):
        raise Refusal(403, "Loopback only", "Sec-Fetch-Site has to be no other site")


def own_address(request: Request) -> str:
    """Scheme, host and port as the request has them; to be trusted after ``check_local`` only."""
    return f"{request.scope['scheme']}://{request.headers.get('host', '')}"


def is_loopback(host: str | None) -> bool:
    """Whether a host name or address can only be this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


def _origins(request: Request) -> list[str]:
    return request.headers.getlist("origin")


def _is_browser(request: Request) -> bool:
    names = request.headers.keys()
    return any(name in _OF_BROWSERS or name.startswith("sec-fetch-") for name in names)


def _other_site(request: Request) -> bool:
    return request.headers.get("sec-fetch-site", "none") == "cross-site"


def _is_clicked(request: Request) -> bool:
    """Whether somebody followed a link to a page: the site it stands on cannot read what opens."""
    asked = [request.headers.get(f"sec-fetch-{name}") for name in ("mode", "dest", "user")]
    page = _PAGES.fullmatch(request.scope["path"])
    return request.method == "GET" and page is not None and asked == ["navigate", "document", "?1"]


def _host_of(address: str) -> str | None:
    """The host of ``host:port``; None where there is anything else in it."""
    found = _HOST.fullmatch(address)
    return found[1].strip("[]").lower() if found else None
