"""Addresses at which there is no page: a browser is led to the pages that there are."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from cmzon_secrets.emulator.http.answers import Refusal
from cmzon_secrets.emulator.nearest import nearest
from cmzon_secrets.emulator.web.site import HOME, PAGES, SECURITY_HEADERS, Site

__all__ = ["lead_back"]

_MEANING = {
    404: ("Unknown page", "There is no page at this address"),
    405: ("Not a page", "This address takes what a form sends; it is no page itself"),
}
"""What the routes' refusals are to who looks for a page."""


async def lead_back(site: Site, request: Request, refusal: Refusal) -> Response | None:
    """What a browser gets where the routes have only ``refusal``; None where that is a program's."""
    path = request.scope["path"]
    at_a_door = path == f"{HOME}/" or (path == "/" and _is_browser(request))
    if refusal.status not in _MEANING or not (at_a_door or path.startswith(f"{HOME}/")):
        return None

    async def answer(request: Request) -> Response:
        if at_a_door and request.method == "GET":
            return RedirectResponse(HOME, headers=SECURITY_HEADERS)
        meant = Refusal(refusal.status, *_MEANING[refusal.status], headers=refusal.headers)
        return site.refused(request, meant, near=_nearest_pages(path))

    return await site.guarded(answer)(request)


def _is_browser(request: Request) -> bool:
    return request.method == "GET" and "text/html" in request.headers.get("accept", "")


def _nearest_pages(path: str) -> list[str]:
    """Addresses of the navigation, the likeliest first; where none is like it, that of the first page."""
    near = nearest("GET", path, [f"GET {page}" for page in PAGES])
    return [route.split()[1] for route in near] or [HOME]
