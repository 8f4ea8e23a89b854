"""Rehearse: faults, limits, clock, snapshots, a fresh start; each with the request that does it.

Every form works without a script, and one that is refused is shown again as it was given.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from cmzon_secrets.emulator.account.faults import Fault
from cmzon_secrets.emulator.account.tokens import IssuedToken
from cmzon_secrets.emulator.controls.rehearsing import parse_quota, parse_shift
from cmzon_secrets.emulator.http.answers import Refusal
from cmzon_secrets.emulator.web.presets import (
    KINDS,
    PRESETS,
    SEND,
    Body,
    fault_body,
    fields_of,
    form_of,
    quota_body,
    shift_body,
    snapshot_body,
)
from cmzon_secrets.emulator.web.site import Form, Site

__all__ = ["routes"]

PAGE = "/dashboard/rehearse"
TOKENS_OFFERED = 200
"""The newest live ones, in the form; the control takes any."""

BODIES = {
    "faults": fault_body,
    "limits": quota_body,
    "clock": shift_body,
    "snapshots": snapshot_body,
}
"""What the form of each section comes to."""

Change = Callable[[Request, Form], object]


@dataclass(frozen=True)
class Refused:
    """A form of a section that was not taken, shown again as it was given."""

    section: str
    form: Form
    refusal: Refusal

    @property
    def field(self) -> str:
        """The field at fault. A status is typed into one field or chosen in another."""
        named = (self.refusal.details or "").partition(" — ")[0]
        return "kind" if named == "status" and not self.form.get("status") else named


def routes(site: Site) -> list[Route]:
    """The page and its forms."""
    return _Rehearsal(site).routes()


class _Rehearsal:
    def __init__(self, site: Site) -> None:
        self._site = site
        self._account = site.account

    def routes(self) -> list[Route]:
        account = self._account
        return [
            self._site.get(PAGE, self._show),
            *self._taken("faults", "fault", self._add_fault),
            *self._taken("faults/end", "faults-ended", lambda _, __: account.clear_faults()),
            *self._taken("faults/{id}/end", "fault-ended", self._end_fault),
            *self._taken("limits", "limits", self._set_limits),
            *self._taken("clock", "clock", self._move_clock),
            *self._taken(
                "clock/back", "clock", lambda _, __: account.advance(-account.clock.shift)
            ),
            *self._taken("snapshots", "snapshot", self._take_snapshot),
            *self._taken("snapshots/{name}/restore", "restored", self._restore),
            *self._taken("snapshots/{name}/delete", "snapshot-deleted", self._delete_snapshot),
            *self._taken("reset", "reset", lambda _, __: account.reset()),
        ]

    def _taken(self, path: str, done: str, change: Change) -> list[Route]:
        """Where a form goes. Refused, it is shown again right there, so that can be loaded too."""

        async def take(request: Request, form: Form) -> Response:
            try:
                change(request, form)
            except Refusal as refusal:
                return self._page(request, Refused(path.partition("/")[0], form, refusal))
            return self._site.back_to(PAGE, done)

        path_of_form = f"{PAGE}/{path}"
        return [self._site.get(path_of_form, self._show), self._site.post(path_of_form, take)]

    async def _show(self, request: Request) -> Response:
        return self._page(request)

    def _page(self, request: Request, refused: Refused | None = None) -> Response:
        forms = self._fresh_forms() | ({refused.section: refused.form} if refused else {})
        return self._site.page(
            request,
            "rehearsal.html",
            status=refused.refusal.status if refused else 200,
            refused=refused,
            forms=forms,
            bodies={section: body_of(forms[section]) for section, body_of in BODIES.items()},
            presets=PRESETS,
            kinds=KINDS,
            api_routes=self._site.api_routes,
            tokens=self._live_tokens(),
            **self._in_force(),
        )

    def _in_force(self) -> dict[str, Any]:
        account = self._account
        limits = account.messages.limits
        return {
            "in_force": [(fault, _again(fault), self._named(fault)) for fault in account.faults],
            "today": limits.today(account.clock.now()),
            "busiest": limits.busiest,
            "snapshots": account.snapshots.listed(),
        }

    def _fresh_forms(self) -> dict[str, Form]:
        return {
            "faults": form_of({"route": SEND, "kind": "500"}),
            "limits": form_of(fields_of(self._account.messages.limits.quota)),
            "clock": form_of({"advance": "86400"}),
            "snapshots": form_of({"name": "before"}),
        }

    def _live_tokens(self) -> list[IssuedToken]:
        now = self._account.clock.timestamp()
        newest_first = reversed(list(self._account.tokens))
        return list(islice((token for token in newest_first if token.live(now)), TOKENS_OFFERED))

    def _named(self, fault: Fault) -> IssuedToken | None:
        return self._account.tokens.get(fault.token or "")

    def _add_fault(self, _: Request, form: Form) -> None:
        self._account.add_fault(fault_body(form), self._site.api_routes)

    def _end_fault(self, request: Request, _: Form) -> None:
        self._account.end_fault(request.path_params["id"])

    def _set_limits(self, _: Request, form: Form) -> None:
        self._account.set_quota(parse_quota(quota_body(form), self._account.messages.limits.quota))

    def _move_clock(self, _: Request, form: Form) -> None:
        self._account.advance(parse_shift(shift_body(form), self._account.clock.shift))

    def _take_snapshot(self, _: Request, form: Form) -> None:
        self._account.snapshot(form.get("name", ""))

    def _restore(self, request: Request, _: Form) -> None:
        self._account.restore(request.path_params["name"])

    def _delete_snapshot(self, request: Request, _: Form) -> None:
        self._account.snapshots.delete(request.path_params["name"])


def _again(fault: Fault) -> Body:
    """The body that sets a fault as it is now once more."""
    return {name: value for name, value in fault.entry().items() if name != "id"}
