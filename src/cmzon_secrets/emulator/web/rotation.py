"""Rotation."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from cmzon_secrets.emulator.web.site import Site

__all__ = ["routes"]


def routes(site: Site) -> list[Route]:
    """The page and its forms."""

    async def show(request: Request) -> Response:
        return site.page(request, "rotation.html")

    return [site.get("/dashboard/rotation", show)]
