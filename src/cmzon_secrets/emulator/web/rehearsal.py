"""Rehearse: faults, limits, clock, snapshots, a fresh start; each with the request that does it.

Every form works without a script, and one that is refused is shown again as it was given.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
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
    LABELS,
    PRESETS,
    SEND_ROUTE,
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

NOT_ASKED = ("id", "struck", "drawn", "without_effect")
"""What a fault tells that nobody may ask for."""

Change = Callable[[Request, Form], str]
"""Does what a form asks for; returns the key of the sentence that says so."""


@dataclass(frozen=True)
class Refused:
    """A form of a section that was not taken, shown again as it was given."""

    section: str
    form: Form
    refusal: Refusal

    @property
    def field(self) -> str:
        """The field at fault. A status is typed into one field or chosen in another."""
        named = self.refusal.field or ""
        return "kind" if named == "status" and not self.form.get("status") else named

    @property
    def why(self) -> str:
        """The refusal, with the field called as the form calls it."""
        details = self.refusal.details or self.refusal.message
        if self.field not in LABELS:
            return details
        return f"{LABELS[self.field]} — {details.partition(' — ')[2]}"


def routes(site: Site) -> list[Route]:
    """The page and its forms."""
    return _Rehearsal(site).routes()


class _Rehearsal:
    def __init__(self, site: Site) -> None:
        self._site = site
        self._account = site.account

    def routes(self) -> list[Route]:
        return [
            self._site.get(PAGE, self._show),
            *self._taken("faults", self._add_fault),
            *self._taken("faults/end", self._end_all_faults),
            *self._taken("faults/{id}/end", self._end_fault),
            *self._taken("limits", self._set_limits),
            *self._taken("clock", self._move_clock),
            *self._taken("clock/back", self._move_clock_back),
            *self._taken("snapshots", self._take_snapshot),
            *self._taken("snapshots/{name}/restore", self._restore),
            *self._taken("snapshots/{name}/delete", self._delete_snapshot),
            *self._taken("reset", self._reset),
        ]

    def _taken(self, path: str, change: Change) -> list[Route]:
        """Where a form goes. Refused, it is shown again right there, so that can be loaded too."""

        async def take(request: Request, form: Form) -> Response:
            try:
                done = change(request, form)
            except Refusal as refusal:
                return self._page(request, Refused(path.partition("/")[0], form, refusal))
            return self._site.back_to(PAGE, done)

        path_of_form = f"{PAGE}/{path}"
        return [self._site.get(path_of_form, self._show), self._site.post(path_of_form, take)]

    async def _show(self, request: Request) -> Response:
        return self._page(request)

    def _page(self, request: Request, refused: Refused | None = None) -> Response:
        fresh = self._fresh_forms()
        return self._site.page(
            request,
            "rehearsal.html",
            status=refused.refusal.status if refused else 200,
            refused=refused,
            forms=fresh | ({refused.section: refused.form} if refused else {}),
            bodies={section: body_of(fresh[section]) for section, body_of in BODIES.items()},
            labels=LABELS,
            presets=PRESETS,
            kinds=KINDS,
            api_routes=self._site.api_routes,
            tokens=self._live_tokens(),
            tokens_offered=TOKENS_OFFERED,
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
            "faults": form_of({"route": SEND_ROUTE, "kind": "500"}),
            "limits": form_of(fields_of(self._account.messages.limits.quota)),
            "clock": form_of({"advance": "86400"}),
            "snapshots": form_of({"name": self._fresh_name()}),
        }

    def _fresh_name(self) -> str:
        """One that replaces no snapshot."""
        taken = self._snapshot_names()
        return next(name for n in count(1) if (name := f"snapshot-{n}") not in taken)

    def _snapshot_names(self) -> set[str]:
        return {snapshot.name for snapshot in self._account.snapshots.listed()}

    def _live_tokens(self) -> list[IssuedToken]:
        """The newest first."""
        now = self._account.clock.timestamp()
        return [token for token in self._account.tokens if token.live(now)][::-1]

    def _named(self, fault: Fault) -> IssuedToken | None:
        return self._account.tokens.get(fault.token or "")

    def _add_fault(self, _: Request, form: Form) -> str:
        self._account.add_fault(fault_body(form), self._site.api_routes)
        return "fault"

    def _end_fault(self, request: Request, _: Form) -> str:
        self._account.end_fault(request.path_params["id"])
        return "fault-ended"

    def _end_all_faults(self, _: Request, __: Form) -> str:
        self._account.clear_faults()
        return "faults-ended"

    def _set_limits(self, _: Request, form: Form) -> str:
        self._account.set_quota(parse_quota(quota_body(form), self._account.messages.limits.quota))
        return "limits"

    def _move_clock(self, _: Request, form: Form) -> str:
        self._account.advance(parse_shift(shift_body(form), self._account.clock.shift))
        return "clock"

    def _move_clock_back(self, _: Request, __: Form) -> str:
        self._account.advance(-self._account.clock.shift)
        return "clock"

    def _take_snapshot(self, _: Request, form: Form) -> str:
        before = self._snapshot_names()
        taken = self._account.snapshot(form.get("name", ""))
        return "snapshot-replaced" if taken.name in before else "snapshot"

    def _restore(self, request: Request, _: Form) -> str:
        self._account.restore(request.path_params["name"])
        return "restored"

    def _delete_snapshot(self, request: Request, _: Form) -> str:
        self._account.delete_snapshot(request.path_params["name"])
        return "snapshot-deleted"

    def _reset(self, _: Request, __: Form) -> str:
        self._account.reset()
        return "reset"


def _again(fault: Fault) -> Body:
    """The body that sets a fault as it is now once more."""
    return {name: value for name, value in fault.entry().items() if name not in NOT_ASKED}
