"""What was sent, for tests: list it, look at one, wait for one."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from cmzon_secrets.emulator.account.account import Account
from cmzon_secrets.emulator.account.exchanges import (
    ACCEPTED,
    LONGEST_FILTER,
    LONGEST_RECIPIENT,
    STATUS,
    ExchangeFilter,
)
from cmzon_secrets.emulator.account.idempotency import LONGEST_KEY
from cmzon_secrets.emulator.account.messages import NUMBER
from cmzon_secrets.emulator.account.waiting import wait_for
from cmzon_secrets.emulator.http.answers import Refusal, success
from cmzon_secrets.emulator.http.fields import Fields
from cmzon_secrets.emulator.http.guard import Control
from cmzon_secrets.emulator.http.requests import read_object, read_query

__all__ = ["TEXTS", "Watching", "parse_listing", "parse_wait"]

LISTED = 100
MOST_LISTED = 1000
WAIT = 10.0
LONGEST_WAIT = 300.0
"""Seconds."""
LATEST = 2**53
"""No ``seq`` is greater."""

TEXTS = {
    "to": LONGEST_RECIPIENT,
    "text": LONGEST_FILTER,
    "token_id": LONGEST_FILTER,
    "idempotency_key": LONGEST_KEY,
    "message_id": LONGEST_FILTER,
}
"""The filter's texts, and how many characters each can have."""
_KNOWN = (*TEXTS, "status", "after")
_NUMBERS = ("after", "before", "limit")

_T = TypeVar("_T")


class Watching:
    """What each control does. ``stopping`` ends what would wait on."""

    def __init__(self, account: Account, stopping: asyncio.Event) -> None:
        self._account = account
        self._stopping = stopping

    def by_route(self) -> dict[str, Control]:
        """Every control by its method and path."""
        return {
            "GET /_emulator/messages": self._list,
            "DELETE /_emulator/messages": self._clear,
            "GET /_emulator/messages/{request_id}": self._show,
            "POST /_emulator/messages/wait": self._wait,
        }

    async def _list(self, request: Request) -> Response:
        query = read_query(request, known=(*_KNOWN, "before", "limit"))
        wanted, limit = parse_listing(_with_numbers(query))
        found = self._account.exchanges.oldest(wanted, limit)
        return success({"data": [exchange.entry() for exchange in found]})

    async def _clear(self, request: Request) -> Response:  # noqa: ARG002  # the router passes it
        self._account.clear_messages()
        return Response(status_code=204)

    async def _show(self, request: Request) -> Response:
        found = self._account.exchanges.get(request.path_params["request_id"])
        if found is None:
            raise Refusal(404, "Unknown message", "None has this request id, or it was forgotten")
        return success(found.entry())

    async def _wait(self, request: Request) -> Response:
        wanted, seconds = parse_wait(await read_object(request))
        waiting = wait_for(self._account, wanted, seconds)
        try:
            found = await _unless(waiting, self._stopping.wait(), _left(request))
        except TimeoutError as error:
            raise Refusal(408, "No such message", str(error)) from None
        if found is not None:
            return success(found.entry())
        if self._stopping.is_set():
            raise Refusal(503, "Stopped", "The emulator was stopped while this waited")
        raise ClientDisconnect


def parse_listing(body: Mapping[str, Any]) -> tuple[ExchangeFilter, int]:
    """Which messages are wanted, and how many at most. Raises Refusal naming the field at fault."""
    fields = Fields(body, known=(*_KNOWN, "before", "limit"))
    before = fields.integer("before", least=0, most=LATEST)
    limit = fields.integer("limit", least=1, most=MOST_LISTED)
    return _filter(body, fields, before=before), LISTED if limit is None else limit


def parse_wait(body: Mapping[str, Any]) -> tuple[ExchangeFilter, float]:
    """Which message is waited for, and for how many seconds. Raises Refusal naming the field."""
    fields = Fields(body, known=(*_KNOWN, "timeout"))
    seconds = fields.number("timeout", least=0, most=LONGEST_WAIT)
    wanted = _filter(body, fields, status=ACCEPTED)
    _check_that_it_can_come(wanted, fields)
    return wanted, WAIT if seconds is None else seconds


def _check_that_it_can_come(wanted: ExchangeFilter, fields: Fields) -> None:
    """Better refused at once than waited for in vain."""
    taken = wanted.status == ACCEPTED or wanted.status.startswith("2")
    if taken and wanted.to is not None and NUMBER.fullmatch(wanted.to) is None:
        raise fields.complain(
            "to",
            "no message to it is ever accepted: a number like +1234567890 is needed,"
            " or the status of one that failed",
        )


def _filter(body: Mapping[str, Any], fields: Fields, **unless_given: Any) -> ExchangeFilter:
    given: dict[str, Any] = {
        name: "" if body[name] == "" else fields.text(name, longest=longest)
        for name, longest in TEXTS.items()
        if fields.has(name)
    }
    if fields.has("status"):
        given["status"] = _status(body["status"], fields)
    if fields.has("after"):
        given["after"] = fields.integer("after", least=0, most=LATEST)
    return ExchangeFilter(**{**unless_given, **given})


def _status(value: object, fields: Fields) -> str:
    whole = isinstance(value, float) and value.is_integer()  # 429.0 is 429 in JSON
    number = isinstance(value, int) and not isinstance(value, bool)
    status = f"{value:.0f}" if whole else str(value) if number or isinstance(value, str) else ""
    if re.fullmatch(STATUS, status) is None:
        raise fields.complain(
            "status", "accepted, failed, none, one like 429 or a class like 4xx is needed"
        )
    return status


def _with_numbers(query: Mapping[str, str]) -> dict[str, Any]:
    """A query as a body: what is no number stays text, and is refused as such."""
    return {
        name: int(value) if name in _NUMBERS and re.fullmatch("[0-9]{1,18}", value) else value
        for name, value in query.items()
    }


async def _left(request: Request) -> None:
    """Return when the client has hung up."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _unless(work: Coroutine[Any, Any, _T], *ends: Coroutine[Any, Any, Any]) -> _T | None:
    """What ``work`` gives or raises; None where one of ``ends`` ends first."""
    wanted = asyncio.ensure_future(work)
    tasks = [wanted, *map(asyncio.ensure_future, ends)]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return wanted.result() if wanted.done() else None
    finally:
        for task in tasks:
            task.cancel()
