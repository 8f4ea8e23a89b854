"""``/_emulator/*``: for who rehearses and tests, on this machine, without a token."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import wraps

from starlette.requests import Request
from starlette.responses import Response

from cmzon_secrets.emulator.account.account import Account
from cmzon_secrets.emulator.controls.audit_trail import PATH, AuditTrail
from cmzon_secrets.emulator.controls.rehearsing import Rehearsing
from cmzon_secrets.emulator.controls.snapshots import SnapshotControls
from cmzon_secrets.emulator.controls.watching import Watching
from cmzon_secrets.emulator.http.guard import Control, local
from cmzon_secrets.emulator.http.requests import read_query, refuse_fields

__all__ = ["controls_of"]

READ_THEIR_QUERY = frozenset({f"GET {PATH}", "GET /_emulator/messages"})
READ_THEIR_BODY = frozenset(
    {
        "POST /_emulator/faults",
        "POST /_emulator/limits",
        "POST /_emulator/clock",
        "POST /_emulator/snapshots",
        "POST /_emulator/messages/wait",
    }
)


def controls_of(
    account: Account, routes: Sequence[str], stopping: asyncio.Event
) -> dict[str, Control]:
    """Every control by its method and path.

    ``routes`` are the API's, which faults may name; ``stopping`` ends what would wait on.
    """
    controls = {
        **Rehearsing(account, routes).by_route(),
        **AuditTrail(account).by_route(),
        **SnapshotControls(account).by_route(),
        **Watching(account, stopping).by_route(),
    }
    return {route: local(_exact(route, control)) for route, control in controls.items()}


def _exact(route: str, control: Control) -> Control:
    """``control``, refusing parameters and fields where it reads none, lest they seem to work."""

    @wraps(control)
    async def exact(request: Request) -> Response:
        if route not in READ_THEIR_QUERY:
            read_query(request, known=())
        if route not in READ_THEIR_BODY:
            await refuse_fields(request)
        return await control(request)

    return exact
