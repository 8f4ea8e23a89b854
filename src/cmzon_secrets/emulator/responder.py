"""The course of one request: faults, bearer, address, scope, the endpoint's work, the record.

A page of another site is not listened to at all: it would fill the record and use up faults. Then the
order of the checks is fixed: 401 for a missing or dead token, 403 for the address, 403 for the
scope, then whatever the endpoint says of the body and the limits.
"""

from __future__ import annotations

import asyncio
import secrets
import sqlite3
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from cmzon_secrets.emulator.account.account import Account
from cmzon_secrets.emulator.account.history import Origin
from cmzon_secrets.emulator.account.tokens import IssuedToken
from cmzon_secrets.emulator.clock import format_time
from cmzon_secrets.emulator.http.answers import (
    HAS_LEFT,
    Abort,
    Refusal,
    address_not_allowed,
    insufficient_permissions,
    invalid_token,
    not_written,
)
from cmzon_secrets.emulator.http.fields import safe_name
from cmzon_secrets.emulator.http.guard import check_site
from cmzon_secrets.emulator.http.redaction import presented_in, shown_headers, without_cut_secret
from cmzon_secrets.emulator.http.requests import (
    LARGEST_BODY,
    as_object,
    check_head,
    client_address,
    read_body,
    read_query,
)

__all__ = ["Call", "Endpoint", "Responder"]


@dataclass(slots=True)
class Call:
    """One request under way. ``presented`` is the bearer token it came with, known or not.

    ``handled_in``: the account's era in which it took effect.
    """

    request: Request
    id: str
    ip: str
    began: float
    presented: str
    token: IssuedToken | None = None
    body: bytes = b""
    complete: bool = True
    query: dict[str, str] = field(default_factory=dict)
    message_id: str | None = None
    notes: list[str] = field(default_factory=list)
    handled_in: object = None

    @property
    def caller(self) -> IssuedToken:
        """The token it came with; every endpoint is reached with a live one only."""
        if self.token is None:
            raise invalid_token()
        return self.token

    @property
    def origin(self) -> Origin:
        """Who called, for the audit trail."""
        return Origin(self.token.id if self.token else "nobody", self.ip, self.id)

    async def read(self) -> None:
        """Take in the body, as far as it may go."""
        self.body, self.complete = await read_body(self.request)

    def read_object(self) -> dict[str, Any]:
        """The body as a JSON object. Raises Refusal: 400, or 413 for one that is too long."""
        return as_object(self.body, complete=self.complete)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One route of the API: ``route`` is method and path template, ``scope`` what it needs.

    ``query``: the parameters it knows. ``kept``: requests and answers are kept whole for the inbox.
    """

    route: str
    handle: Callable[[Call], Awaitable[Response]]
    scope: str | None = None
    query: tuple[str, ...] = ()
    counts_as_use: bool = True
    headers: Callable[[], dict[str, str]] = dict
    kept: bool = False

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
            call, unheard = self._call(request), _unheard(request)
            response = unheard or await self._answered(endpoint, call)
            response.headers.update({**endpoint.headers(), "X-Request-Id": call.id})
            if unheard is None and call.handled_in in (None, self._account.era):
                self._record(call, endpoint.route, response)
                if endpoint.kept:
                    self._keep(call, response)
            return response

        return answer

    def refuse(self, request: Request, refusal: Refusal) -> Response:
        """Answer and record a request for which there is no endpoint."""
        call, unheard = self._call(request), _unheard(request)
        response = unheard or refusal.response()
        response.headers["X-Request-Id"] = call.id
        if unheard is None:
            self._record(call, None, response)
        return response

    def _call(self, request: Request) -> Call:
        call = Call(
            request,
            f"req_{secrets.token_hex(8)}",
            client_address(request),
            time.perf_counter(),
            _bearer(request),
        )
        call.token = self._account.tokens.find(call.presented) if call.presented else None
        return call

    async def _answered(self, endpoint: Endpoint, call: Call) -> Response:
        """The answer; none where nobody is left to get it, whatever the request has done."""
        response = await self._with_faults(endpoint, call)
        if not call.request.scope["extensions"][HAS_LEFT]():
            return response
        call.notes.append("the client had left")
        return Abort()

    async def _with_faults(self, endpoint: Endpoint, call: Call) -> Response:
        try:
            await call.read()
        except ClientDisconnect:
            return Abort()
        replaced = await self._suffer(call, endpoint.route, accepted=False)
        if replaced is not None:
            return replaced
        response = await self._handled(endpoint, call)
        call.handled_in = self._account.era
        if response.status_code < 300:
            response = await self._suffer(call, endpoint.route, accepted=True) or response
        return response

    async def _suffer(self, call: Call, route: str, *, accepted: bool) -> Response | None:
        effect = self._account.strike(route, call.token, accepted=accepted)
        call.notes += [f"fault: {struck}" for struck in effect.struck]
        if effect.latency:
            with suppress(TimeoutError):
                await asyncio.wait_for(self.stopping.wait(), effect.latency)
        return effect.response()

    async def _handled(self, endpoint: Endpoint, call: Call) -> Response:
        try:
            self._admit(endpoint, call)
            self._read_query(endpoint, call)
            return await endpoint.handle(call)
        except Refusal as refusal:
            call.notes += [refusal.note] if refusal.note else []
            return refusal.response()
        except sqlite3.Error:
            return not_written().response()

    def _admit(self, endpoint: Endpoint, call: Call) -> None:
        usage = self._account.usage
        # Looked for again: a reset or a restore while the body came makes tokens of its own.
        call.token = self._account.tokens.find(call.presented)
        if call.token is None:
            what = "unknown" if call.presented else "none, or more than one"
            raise invalid_token(note=f"token: {what}")
        if not call.token.live(self._account.clock.timestamp()):
            usage.refused(call.token, call.origin)
            raise invalid_token(note=f"token: {_end_of(call.token)}")
        if not call.token.allows(call.ip):
            usage.turned_away("address_refused", call.token, call.origin)
            raise address_not_allowed(note=f"address: {call.ip} is not one of allowed_ips")
        if endpoint.counts_as_use:
            usage.used(call.token, call.origin)
        if not call.token.grants(endpoint.scope):
            usage.turned_away("scope_refused", call.token, call.origin)
            raise insufficient_permissions(note=f"scope: {endpoint.scope} is needed")

    def _read_query(self, endpoint: Endpoint, call: Call) -> None:
        given = call.request
        call.query = read_query(given, known=endpoint.query, strict=self._account.strict)
        ignored = [name for name in given.query_params if name not in endpoint.query]
        call.notes += [f"ignored in the query: {safe_name(name)}" for name in ignored]

    def _record(self, call: Call, route: str | None, response: Response) -> None:
        self._account.record.append(
            self._account.clock.timestamp(),
            method=call.request.method,
            route=route,
            status=_status(response),
            token_id=call.token.id if call.token is not None else None,
            ip=call.ip,
            request_id=call.id,
        )

    def _keep(self, call: Call, response: Response) -> None:
        headers, body = call.request.headers, call.body.decode("utf-8", "replace")
        presented = presented_in(headers.raw)
        if not call.complete:
            call.notes.append(f"the body was longer than {LARGEST_BODY} bytes and is cut off here")
            body = without_cut_secret(body, *presented)
        status = _status(response)
        self._account.exchanges.add(
            presented=presented,
            id=call.id,
            at=self._account.clock.timestamp(),
            seconds=time.perf_counter() - call.began,
            status=status,
            message_id=call.message_id,
            token_id=call.token.id if call.token is not None else None,
            ip=call.ip,
            idempotency_key=headers.get("idempotency-key"),
            notes=call.notes,
            request_headers=shown_headers(headers.raw, *presented),
            request_body=body,
            response_headers=[] if status is None else _own_headers(response),
            response_body="" if status is None else bytes(response.body).decode(),
        )


def _unheard(request: Request) -> Response | None:
    """The answer to what may leave no trace: anybody's page can have it sent, in any number."""
    try:
        check_site(request)
        check_head(request.headers.raw)
    except Refusal as refusal:
        return refusal.response()
    return None


def _end_of(token: IssuedToken) -> str:
    if token.revoked_at is not None:
        return f"revoked at {format_time(token.revoked_at)}"
    return f"expired at {format_time(token.expires_at)}"


def _own_headers(response: Response) -> list[tuple[str, str]]:
    """No secret among them: the emulator wrote them."""
    return [
        (name.decode("latin-1"), value.decode("latin-1")) for name, value in response.raw_headers
    ]


def _status(response: Response) -> int | None:
    return None if isinstance(response, Abort) else response.status_code


def _bearer(request: Request) -> str:
    """The token it came with; empty where there is none, or more than one."""
    given = request.headers.getlist("authorization")
    scheme, _, value = given[0].partition(" ") if len(given) == 1 else ("", "", "")
    return value.strip() if scheme.lower() == "bearer" else ""
