"""Requests taken in: who sent them, their query, and their body as far as it may go."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from starlette.requests import Request

from cmzon_secrets.emulator.http.answers import Refusal, invalid_request
from cmzon_secrets.emulator.http.fields import parse_object, refuse_unknown

__all__ = [
    "LARGEST_BODY",
    "as_object",
    "check_head",
    "client_address",
    "read_body",
    "read_object",
    "read_query",
    "refuse_fields",
]

LARGEST_BODY = 64 * 1024
"""Bytes."""
MOST_READ = 16 * 1024 * 1024
"""Bytes that are taken in of a body that is too long."""
LARGEST_HEAD = 16 * 1024
"""Bytes of all headers."""
MOST_CREDENTIALS = 8
LONGEST_CREDENTIAL = 4096
"""Bytes. What a request shows to be let in is searched for in all of it that is kept."""
CREDENTIALS = (b"authorization", b"proxy-authorization")
"""The headers that hold it."""


def check_head(headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Raise Refusal (431) where a request's headers are more than any client of an API sends."""
    given = list(headers)
    credentials = [value for name, value in given if name in CREDENTIALS]
    length = sum(len(name) + len(value) for name, value in given)
    asked = (
        (length <= LARGEST_HEAD, f"headers — longer than {LARGEST_HEAD} bytes together"),
        (len(credentials) <= MOST_CREDENTIALS, f"Authorization — more than {MOST_CREDENTIALS}"),
        (
            max(map(len, credentials), default=0) <= LONGEST_CREDENTIAL,
            f"Authorization — longer than {LONGEST_CREDENTIAL} bytes",
        ),
    )
    for is_so, otherwise in asked:
        if not is_so:
            raise Refusal(431, "Request header fields too large", otherwise)


async def read_body(request: Request) -> tuple[bytes, bool]:
    """The request's body, and whether that is all of it: a longer one is cut off.

    What is cut off is read all the same, up to ``MOST_READ``: a client that is still sending when
    the connection is closed would never see the answer. Raises ClientDisconnect.
    """
    body, length = bytearray(), 0
    async for chunk in request.stream():
        length += len(chunk)
        body += chunk[: LARGEST_BODY - len(body)]
        if length > MOST_READ:
            break
    return bytes(body), length <= LARGEST_BODY


async def read_object(request: Request) -> dict[str, Any]:
    """The request's body as a JSON object. Raises Refusal: 400, or 413 for one that is too long."""
    body, complete = await read_body(request)
    return as_object(body, complete=complete)


async def refuse_fields(request: Request) -> None:
    """Raise Refusal (400) where the body has any: it is empty, or an empty object."""
    body, complete = await read_body(request)
    if body:
        refuse_unknown(as_object(body, complete=complete), known=())


def read_query(request: Request, *, known: Collection[str], strict: bool = True) -> dict[str, str]:
    """The query's parameters, each once. Raises Refusal (400); unknown ones only where ``strict``."""
    given = request.query_params.multi_items()
    if strict:
        refuse_unknown([name for name, _ in given], known)
    meant = [(name, value) for name, value in given if name in known]
    if len(dict(meant)) < len(meant):
        raise invalid_request("query — a parameter is given twice")
    return {name: value for name, value in meant if value}


def as_object(body: bytes, *, complete: bool) -> dict[str, Any]:
    """A body as a JSON object. Raises Refusal: 400, or 413 for one that is not ``complete``."""
    if not complete:
        raise invalid_request(f"body — longer than {LARGEST_BODY} bytes", status=413)
    return parse_object(body)


def client_address(request: Request) -> str:
    """The peer's address as the socket has it; no header can change it."""
    return request.client.host if request.client is not None else ""
