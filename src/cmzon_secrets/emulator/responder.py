"""The course of one request: faults, bearer, address, scope, the endpoint's work, the record.

The order of the checks is fixed: 401 for a missing or dead token, 403 for the address, 403 for the
scope, then whatever the endpoint says of the body and the limits.
"""

from __future__ import annotations

import asyncio
import secrets
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from cmzon_secrets.emulator.account import Account
from cmzon_secrets.emulator.answers import (
    Abort,
    Refusal,
    address_not_allowed,
    insufficient_permissions,
    invalid_request,
    invalid_token,
)
from cmzon_secrets.emulator.fields import parse_object
from cmzon_secrets.emulator.tokens import IssuedToken

__all__ = ["Call", "Endpoint", "Responder", "client_address", "read_object"]

LARGEST_BODY = 64 * 1024


@dataclass(slots=True)
class Call:
    """One request under way."""

    request: Request
    id: str
    ip: str
    token: IssuedToken | None = None

    @property
    def caller(self) -> IssuedToken:
        """The token it came with; every endpoint is reached with a live one only."""
        if self.token is None:
            raise invalid_token()
        return self.token


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One route of the API: ``route`` is method and path template, ``scope`` what it needs."""

    route: str
    handle: Callable[[Call], Awaitable[Response]]
    scope: str | None = None
    counts_as_use: bool = True
    headers: Callable[[], dict[str, str]] = dict

    @property
    def method(self) -> str:
        """GET, POST, DELETE."""
        return self.route.split()[0]

    @property
    def path(self) -> str:
        """The path template."""
        return self.route.split()[1]


class Responder:
    """Answers requests for an account. ``stopping`` ends injected delays early."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self.stopping = asyncio.Event()

    def serve(self, endpoint: Endpoint) -> Callable[[Request], Awaitable[Response]]:
        """The function a router calls for an endpoint."""

        async def answer(request: Request) -> Response:
            call = _call(request)
            response = await self._with_faults(endpoint, call)
            response.headers.update(endpoint.headers())
            return self._recorded(call, endpoint.route, response)

        return answer

    def refuse(self, request: Request, refusal: Refusal) -> Response:
        """Answer and record a request for which there is no endpoint."""
        return self._recorded(_call(request), None, refusal.response())

    async def _with_faults(self, endpoint: Endpoint, call: Call) -> Response:
        replaced = await self._suffer(endpoint.route, accepted=False)
        if replaced is not None:
            return replaced
        response = await self._handled(endpoint, call)
        if response.status_code < 300:
            response = await self._suffer(endpoint.route, accepted=True) or response
        return response

    async def _suffer(self, route: str, *, accepted: bool) -> Response | None:
        effect = self._account.faults.strike(route, accepted=accepted)
        if effect.latency:
            with suppress(TimeoutError):
                await asyncio.wait_for(self.stopping.wait(), effect.latency)
        return effect.response()

    async def _handled(self, endpoint: Endpoint, call: Call) -> Response:
        try:
            self._admit(endpoint, call)
            return await endpoint.handle(call)
        except Refusal as refusal:
            return refusal.response()
        except ClientDisconnect:
            return Abort()
        except sqlite3.Error:
            return Refusal(
                500, "Internal server error", "The emulator's state could not be written"
            ).response()

    def _admit(self, endpoint: Endpoint, call: Call) -> None:
        now = self._account.clock.timestamp()
        call.token = self._account.tokens.find(_bearer(call.request))
        if call.token is None or not call.token.live(now):
            raise invalid_token()
        if not call.token.allows(call.ip):
            raise address_not_allowed()
        if endpoint.counts_as_use:
            self._account.tokens.note_use(call.token, now, call.ip)
        if not call.token.grants(endpoint.scope):
            raise insufficient_permissions()

    def _recorded(self, call: Call, route: str | None, response: Response) -> Response:
        response.headers["X-Request-Id"] = call.id
        self._account.audit.append(
            self._account.clock.timestamp(),
            method=call.request.method,
            route=route,
            status=None if isinstance(response, Abort) else response.status_code,
            token_id=call.token.id if call.token is not None else None,
            ip=call.ip,
            request_id=call.id,
        )
        return response


async def read_object(request: Request) -> dict[str, Any]:
    """The request's body as a JSON object. Raises Refusal: 400, or 413 for one that is too long."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST_BODY:
            raise invalid_request(f"body — longer than {LARGEST_BODY} bytes", status=413)
    return parse_object(bytes(body))


def client_address(request: Request) -> str:
    """The peer's address as the socket has it; no header can change it."""
    return request.client.host if request.client is not None else ""


def _call(request: Request) -> Call:
    return Call(request, f"req_{secrets.token_hex(8)}", client_address(request))


def _bearer(request: Request) -> str:
    given = request.headers.getlist("authorization")
    scheme, _, value = given[0].partition(" ") if len(given) == 1 else ("", "", "")
    if scheme.lower() != "bearer":
        raise invalid_token()
    return value.strip()
