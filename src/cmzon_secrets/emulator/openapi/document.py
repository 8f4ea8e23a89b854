"""The OpenAPI document, put together from operations, schemas and the endpoints themselves."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Sequence
from http import HTTPStatus
from typing import Any

from cmzon_secrets.emulator.account.idempotency import KEY
from cmzon_secrets.emulator.account.tokens import MESSAGING, SEND
from cmzon_secrets.emulator.http.answers import (
    Refusal,
    insufficient_permissions,
    invalid_request,
    invalid_token,
    rate_limited,
)
from cmzon_secrets.emulator.http.requests import LARGEST_BODY, LARGEST_HEAD
from cmzon_secrets.emulator.openapi.operations import JSON, OPERATIONS, QUERY, Operation
from cmzon_secrets.emulator.openapi.schemas import REQUEST_ID, TEXT, Schema, ref, schemas
from cmzon_secrets.emulator.responder import Endpoint

__all__ = ["document"]

_ABOUT = """\
The CMzon API as the emulator serves it. What carries `x-assumed` the vendor's page does not show.

Faults set at `/_emulator/faults` can answer any route under `/v1` with any status from 400 to 599, or
with none. `/_emulator` needs no token and answers this machine only. Unknown routes are 404 and known
ones with another method 405; both name the nearest.\
"""

_EXAMPLES = {
    401: invalid_token(),
    403: insufficient_permissions(),
    429: rate_limited(60),
    413: invalid_request(f"body — longer than {LARGEST_BODY} bytes", status=413),
}
_MEANING = {
    400: "A field, a parameter or the body itself is at fault; the details begin with its name",
    401: "The token is missing, unknown, revoked or expired",
    403: "The token may not be used from this address, or lacks the scope; or another site's page asks",
    404: "There is none with this name",
    408: "Nothing that matches came in time",
    409: "It is damaged, of a later version, or of another folder's tokens; nothing has changed",
    413: f"The body is longer than {LARGEST_BODY} bytes",
    422: "The Idempotency-Key was first used with another body",
    429: "A limit is reached: wait",
    431: f"The headers are longer than {LARGEST_HEAD} bytes, or hold too many credentials",
    500: "The emulator's state could not be read or written",
    503: "The emulator was stopped meanwhile",
}
_HEADERS: dict[str, Schema] = {
    "X-Request-Id": {"required": True, "schema": REQUEST_ID, "x-assumed": True},
    "Retry-After": {
        "required": True,
        "description": "Seconds, rounded up",
        "schema": {"type": "integer", "minimum": 0},
        "x-assumed": True,
    },
    "WWW-Authenticate": {"required": True, "schema": TEXT, "x-assumed": True},
    **{
        f"X-RateLimit-{name}": {
            "description": f"{about}; not there where a day has no limit",
            "schema": {"type": "integer", "minimum": 0},
            "x-assumed": True,
        }
        for name, about in {
            "Limit": "Messages a UTC day",
            "Remaining": "Messages left today",
            "Reset": "Unix seconds at which the day ends",
        }.items()
    },
}
_UNHEARD = 431
"""The status of a request that is not looked at: it gets no id either."""
_OF_STATUS = {401: ("WWW-Authenticate",), 429: ("Retry-After",)}
_RATES = tuple(name for name in _HEADERS if name.startswith("X-RateLimit-"))


def document(
    endpoints: Sequence[Endpoint], controls: Collection[str], *, strict: bool
) -> dict[str, Any]:
    """The description of these routes. ``strict``: the API refuses what it does not know."""
    paths: dict[str, Any] = {}
    for endpoint in endpoints:
        place = paths.setdefault(endpoint.path, {})
        place[endpoint.method.lower()] = _api_operation(endpoint, strict=strict)
    for route in controls:
        method, path = route.split()
        paths.setdefault(path, {})[method.lower()] = _control_operation(route)
    return {
        "openapi": "3.1.0",
        "info": {"title": "CMzon WhatsApp Business API", "version": "1", "description": _ABOUT},
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": schemas([endpoint.route for endpoint in endpoints], strict=strict),
            "headers": _HEADERS,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _api_operation(endpoint: Endpoint, *, strict: bool) -> Schema:
    operation = OPERATIONS[endpoint.route]
    checked = bool(operation.body or endpoint.query or strict)
    statuses = {*operation.refusals, 401, 403, 431, 500, *_of_body(operation), *([400] * checked)}
    headers = ("X-Request-Id", *(_RATES if endpoint.scope == SEND else ()))
    query = {name: QUERY[name] for name in endpoint.query}
    return {
        **_described(endpoint.route, operation, query, statuses, headers),
        "security": [{"token": scopes} for scopes in _sufficient(endpoint.scope)],
        **({"x-assumed": True} if operation.assumed else {}),
    }


def _control_operation(route: str) -> Schema:
    operation = OPERATIONS[route]
    statuses = {*operation.refusals, 400, *_of_body(operation)}
    described = _described(route, operation, operation.query, statuses, ())
    described["responses"]["403"] = {
        "description": "It does not come from this machine, or from a page of another address",
        "content": {JSON: {"schema": ref("Error")}},
    }
    return {**described, "security": []}


def _described(
    route: str,
    operation: Operation,
    query: Any,
    statuses: Collection[int],
    headers: Sequence[str],
) -> Schema:
    parameters = list(_parameters(route, operation, query))
    refusals = {
        str(status): _refusal(status, () if status == _UNHEARD else headers)
        for status in sorted(statuses)
    }
    return {
        "operationId": operation.id,
        "summary": operation.summary,
        **({"parameters": parameters} if parameters else {}),
        **({"requestBody": _body(operation.body)} if operation.body else {}),
        "responses": {str(operation.status): _answer(operation, headers), **refusals},
    }


def _of_body(operation: Operation) -> tuple[int, ...]:
    return (400, 413) if operation.body else ()


def _sufficient(scope: str | None) -> list[list[str]]:
    """The scopes of which one is enough."""
    if scope is None:
        return [[]]
    return [[SEND], [MESSAGING]] if scope == SEND else [[scope]]


def _parameters(route: str, operation: Operation, query: dict[str, Schema]) -> Iterator[Schema]:
    for name in re.findall(r"\{(\w+)\}", route):
        schema = {"type": "string", "minLength": 1}
        yield {"name": name, "in": "path", "required": True, "schema": schema}
    for name, schema in query.items():
        yield {"name": name, "in": "query", "schema": schema}
    if operation.idempotent:
        yield {
            "name": "Idempotency-Key",
            "in": "header",
            "description": "The same key and body: the same answer, and nothing is done twice",
            "schema": {"type": "string", "pattern": f"^{KEY.pattern}$"},
            "x-assumed": True,
        }


def _body(schema: str) -> Schema:
    return {"required": True, "content": {JSON: {"schema": ref(schema)}}}


def _answer(operation: Operation, headers: Sequence[str]) -> Schema:
    content = {operation.media_type: {"schema": ref(operation.answer)}} if operation.answer else {}
    links = {
        then: {"operationId": then, "parameters": {parameter: value}}
        for then, parameter, value in operation.leads_to
    }
    return {
        "description": HTTPStatus(operation.status).phrase,
        **_headers(headers),
        **({"content": content} if content else {}),
        **({"links": links} if links else {}),
    }


def _refusal(status: int, headers: Sequence[str]) -> Schema:
    content: Schema = {"schema": ref("Error")}
    if status in _EXAMPLES:
        content["example"] = _as_json(_EXAMPLES[status])
    ours = _OF_STATUS.get(status, ()) if headers else ()
    return {
        "description": _MEANING[status],
        **_headers((*headers, *ours)),
        "content": {JSON: content},
    }


def _headers(names: Sequence[str]) -> Schema:
    used = {name: {"$ref": f"#/components/headers/{name}"} for name in names}
    return {"headers": used} if used else {}


def _as_json(refusal: Refusal) -> Any:
    return json.loads(bytes(refusal.response().body))
