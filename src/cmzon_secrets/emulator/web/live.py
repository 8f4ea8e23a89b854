"""The stream that tells open pages to look again, and the files that pages are made of.

Server-sent events (WHATWG HTML, section 9.2). An event names the topics that changed and nothing
else: the page then asks for itself anew, so that there is one way in which it is rendered.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from cmzon_secrets.emulator.account.changes import EVERYTHING
from cmzon_secrets.emulator.web.site import SECURITY_HEADERS, Site, static

__all__ = ["routes"]

BEAT = 15.0
"""Seconds after which a silent stream says that it is alive."""
GATHER = 0.1
"""Seconds in which changes are gathered into one event."""
RETRY = 1000
"""Milliseconds after which a browser comes back when the stream broke."""


def routes(site: Site) -> list[Route]:
    """The stream, the styles and the script."""

    async def events(request: Request) -> Response:
        return StreamingResponse(
            _events(site, request.query_params.get("seen")),
            media_type="text/event-stream",
            headers=SECURITY_HEADERS,
        )

    return [
        site.get("/dashboard/events", events),
        *(
            site.get(f"/dashboard/{name}", static(name, media_type))
            for name, media_type in FILES.items()
        ),
    ]


FILES = {
    "base.css": "text/css",
    "inbox.css": "text/css",
    "settings.css": "text/css",
    "rotation.css": "text/css",
    "rehearsal.css": "text/css",
    "trail.css": "text/css",
    "script.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}


async def _events(site: Site, seen: str | None) -> AsyncIterator[str]:
    """Until the browser leaves, which cancels this, or the server stops.

    ``seen`` is the version that the page shows: what changed since is told at once.
    """
    changes = site.account.changes
    with changes.watched() as watcher:
        if seen not in (None, changes.version):
            for topic in EVERYTHING:
                watcher.tell(topic)
        yield f"retry: {RETRY}\n\n"
        stopping = asyncio.ensure_future(site.stopping.wait())
        changed = asyncio.ensure_future(watcher.changed())
        try:
            while not stopping.done():
                await asyncio.wait(
                    {changed, stopping}, timeout=BEAT, return_when=asyncio.FIRST_COMPLETED
                )
                if not changed.done():
                    yield ": alive\n\n"
                    continue
                yield f"event: changed\ndata: {' '.join(sorted(changed.result()))}\n\n"
                with suppress(TimeoutError):
                    await asyncio.wait_for(site.stopping.wait(), GATHER)
                changed = asyncio.ensure_future(watcher.changed())
        finally:
            changed.cancel()
            stopping.cancel()
