"""What the emulator says: success as JSON, refusals in the error shape of the vendor's page.

The bodies of 401, 403 and 429 are the page's own, byte for byte, line breaks included. All other
refusals use the same shape; what they say is the emulator's.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from http import HTTPStatus

from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

__all__ = [
    "ABORT",
    "HAS_LEFT",
    "Abort",
    "Refusal",
    "address_not_allowed",
    "insufficient_permissions",
    "invalid_request",
    "invalid_token",
    "not_written",
    "rate_limited",
    "success",
]

ABORT = "cmzon_secrets.abort"
"""Key of ``scope["extensions"]`` under which the server puts a function that kills the connection."""
HAS_LEFT = "cmzon_secrets.has_left"
"""The same of one that says whether the client has closed it."""


class Refusal(Exception):
    """A request that is answered with an error; raised anywhere below the responder.

    ``field`` is the one at fault, where it is one. ``note`` is for who looks at the request
    afterwards, and never part of the answer: the API does not say why a token is dead.
    """

    def __init__(
        self,
        status: int,
        message: str,
        details: str | None = None,
        *,
        retry_after: float | None = None,
        headers: Mapping[str, str] | None = None,
        field: str | None = None,
        note: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.details = details
        self.retry_after = retry_after
        self.headers = dict(headers or {})
        self.field = field
        self.note = note

    def response(self) -> Response:
        """The answer, in the vendor's error shape."""
        error: dict[str, object] = {"code": self.status, "message": self.message}
        if self.details is not None:
            error["details"] = self.details
        if self.retry_after is not None:
            error["retry_after"] = self.retry_after
            self.headers["Retry-After"] = str(math.ceil(self.retry_after))
        return Response(
            json.dumps({"error": error}, indent=0, ensure_ascii=False),  # the page's layout
            status_code=self.status,
            headers=self.headers,
            media_type="application/json",
        )


class Abort(Response):
    """No answer at all: the TCP connection is reset."""

    async def __call__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,  # noqa: ARG002  # ASGI's signature
    ) -> None:
        """Reset the connection and wait until it is gone."""
        scope["extensions"][ABORT]()
        while (await receive())["type"] != "http.disconnect":
            pass


def success(body: object, *, status: int = 200) -> Response:
    """A JSON answer; never cached, because some hold a token."""
    return JSONResponse(body, status_code=status, headers={"Cache-Control": "no-store"})


def invalid_token(note: str | None = None) -> Refusal:
    """401 as the page states it."""
    return Refusal(
        401,
        "Invalid API token",
        "Token has expired or is invalid",
        headers={"WWW-Authenticate": 'Bearer realm="cmzon"'},
        note=note,
    )


def insufficient_permissions(note: str | None = None) -> Refusal:
    """403 as the page states it."""
    details = "Token lacks required scope for this operation"
    return Refusal(403, "Insufficient permissions", details, note=note)


def address_not_allowed(note: str | None = None) -> Refusal:
    """403 for an address outside ``allowed_ips``; the page does not show this one."""
    details = "Request address is not in the token's allowed_ips"
    return Refusal(403, "Insufficient permissions", details, note=note)


def rate_limited(wait: float, note: str | None = None) -> Refusal:
    """429 as the page states it; ``retry_after`` is the wait in whole seconds, at least 1."""
    return Refusal(429, "Rate limit exceeded", retry_after=max(1, math.ceil(wait)), note=note)


def not_written() -> Refusal:
    """500 for a state that cannot be written, which reading it begins with."""
    details = "The emulator's state could not be written: make room in its folder"
    return Refusal(500, "Internal server error", details)


def invalid_request(
    details: str, *, status: int = HTTPStatus.BAD_REQUEST, field: str | None = None
) -> Refusal:
    """400 (or another 4xx) whose details name the field at fault."""
    return Refusal(status, "Invalid request", details, field=field)
