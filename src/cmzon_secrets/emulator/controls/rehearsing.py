"""Faults, limits, clock, reset, and the end of a token's time: what a rehearsal needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from cmzon_secrets.emulator.account.account import Account
from cmzon_secrets.emulator.account.history import Origin
from cmzon_secrets.emulator.account.limits import LARGEST_QUOTA, Quota
from cmzon_secrets.emulator.account.tokens import IssuedToken
from cmzon_secrets.emulator.clock import FARTHEST_SHIFT, format_time
from cmzon_secrets.emulator.http.answers import Refusal, success
from cmzon_secrets.emulator.http.fields import Fields
from cmzon_secrets.emulator.http.guard import Control
from cmzon_secrets.emulator.http.requests import client_address, read_object

__all__ = ["Rehearsing", "expire", "parse_quota", "parse_shift"]


class Rehearsing:
    """What each control does. ``routes`` are the API's, which faults may name."""

    def __init__(self, account: Account, routes: Sequence[str]) -> None:
        self._account = account
        self._routes = list(routes)

    def by_route(self) -> dict[str, Control]:
        """Every control by its method and path."""
        return {
            "POST /_emulator/faults": self._add_fault,
            "GET /_emulator/faults": self._list_faults,
            "DELETE /_emulator/faults": self._clear_faults,
            "DELETE /_emulator/faults/{id}": self._end_fault,
            "POST /_emulator/limits": self._set_limits,
            "GET /_emulator/limits": self._show_limits,
            "POST /_emulator/clock": self._advance_clock,
            "GET /_emulator/clock": self._show_clock,
            "POST /_emulator/tokens/{id}/expire": self._expire_token,
            "POST /_emulator/reset": self._reset,
            "GET /_emulator/stats": self._stats,
        }

    async def _add_fault(self, request: Request) -> Response:
        fault = self._account.add_fault(await read_object(request), self._routes)
        return success(fault.entry())

    async def _list_faults(self, request: Request) -> Response:  # noqa: ARG002  # the router passes it
        return success({"data": [fault.entry() for fault in self._account.faults]})

    async def _clear_faults(self, request: Request) -> Response:  # noqa: ARG002  # the router passes it
        self._account.clear_faults()
        return Response(status_code=204)

    async def _end_fault(self, request: Request) -> Response:
        self._account.end_fault(request.path_params["id"])
        return Response(status_code=204)

    async def _set_limits(self, request: Request) -> Response:
        self._account.set_quota(
            parse_quota(await read_object(request), self._account.messages.limits.quota)
        )
        return await self._show_limits(request)

    async def _show_limits(self, request: Request) -> Response:  # noqa: ARG002  # the router passes it
        limits = self._account.messages.limits
        today = limits.today(self._account.clock.now())
        quota = limits.quota
        return success(
            {"per_second": quota.per_second, "per_day": quota.per_day, "accepted_today": today}
        )

    async def _advance_clock(self, request: Request) -> Response:
        clock = self._account.clock
        self._account.advance(parse_shift(await read_object(request), clock.shift))
        return await self._show_clock(request)

    async def _show_clock(self, request: Request) -> Response:  # noqa: ARG002  # the router passes it
        clock = self._account.clock
        return success({"now": format_time(clock.timestamp()), "shift": clock.shift})

    async def _expire_token(self, request: Request) -> Response:
        by = Origin("control", client_address(request))
        return success(expire(self._account, request.path_params["id"], by).entry())

    async def _reset(self, request: Request) -> Response:  # noqa: ARG002  # the router passes it
        self._account.reset()
        return success(self._account.stats())

    async def _stats(self, request: Request) -> Response:  # noqa: ARG002  # the router passes it
        return success(self._account.stats())


def expire(account: Account, token_id: str, by: Origin) -> IssuedToken:
    """End a token's time. Raises Refusal (404) where there is none such: a typing error, here."""
    token = account.tokens.get(token_id)
    if token is None:
        raise Refusal(404, "Unknown token", "token id — unknown; GET /v1/tokens lists them all")
    account.expire(token_id, by)
    return token


def parse_quota(body: dict[str, Any], now: Quota) -> Quota:
    """New limits; one that is not given stays, null lifts it. Raises Refusal naming the field."""
    fields = Fields(body, known=("per_second", "per_day"))
    given = {
        name: fields.integer(name, least=1, most=LARGEST_QUOTA)
        for name in ("per_second", "per_day")
        if name in body
    }
    if not given:
        raise fields.complain("per_second", "it or per_day is needed; null lifts a limit")
    return Quota(given.get("per_second", now.per_second), given.get("per_day", now.per_day))


def parse_shift(body: dict[str, Any], shift: float) -> float:
    """Seconds by which the clock is to be moved. Raises Refusal naming the field."""
    fields = Fields(body, known=("advance",))
    seconds = fields.number("advance", least=-FARTHEST_SHIFT, most=FARTHEST_SHIFT)
    if seconds is None:
        raise fields.complain("advance", "seconds are needed; negative ones set the clock back")
    if abs(shift + seconds) > FARTHEST_SHIFT:
        raise fields.complain("advance", "the clock would be off by more than a century")
    return seconds
