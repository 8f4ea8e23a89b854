"""The dashboard: pages for people, on this machine alone."""

from __future__ import annotations

from starlette.routing import Route

from cmzon_secrets.emulator.web import inbox, live, rehearsal, rotation, settings, trail
from cmzon_secrets.emulator.web.astray import lead_back
from cmzon_secrets.emulator.web.site import PAGES, Site

__all__ = ["PAGES", "Site", "dashboard_routes", "lead_back"]

PARTS = (inbox, settings, rotation, rehearsal, trail, live)


def dashboard_routes(site: Site) -> list[Route]:
    """Every page, form, stream and file under ``/dashboard``."""
    return [route for part in PARTS for route in part.routes(site)]
