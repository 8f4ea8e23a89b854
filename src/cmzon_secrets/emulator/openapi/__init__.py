"""``GET /openapi.json``: everything under ``/v1`` and ``/_emulator``, for programs that read it.

Routes, scopes and queries are those of the endpoints that the router serves, limits the constants that
the checks use; bodies and statuses are described by hand, and tests hold them against what is answered.
Made when it is first asked for.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from cmzon_secrets.emulator.http.answers import success
from cmzon_secrets.emulator.http.guard import Control, local
from cmzon_secrets.emulator.http.requests import read_query
from cmzon_secrets.emulator.responder import Endpoint

__all__ = ["ROUTE", "description_of"]

ROUTE = "GET /openapi.json"


def description_of(
    endpoints: Sequence[Endpoint], controls: Collection[str], *, strict: bool
) -> dict[str, Control]:
    """The route that describes the others."""
    made: list[dict[str, Any]] = []

    async def describe(request: Request) -> Response:
        read_query(request, known=())
        if not made:
            from cmzon_secrets.emulator.openapi.document import document

            made.append(document(endpoints, controls, strict=strict))
        return success(made[0])

    return {ROUTE: local(describe)}
