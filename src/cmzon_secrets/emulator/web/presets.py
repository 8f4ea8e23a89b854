"""What the forms of a rehearsal come to, and the forms that are filled in already.

The fields of a form become the very body that the control takes, and what checks the one checks
the other. A preset is such a form, sent with one click.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cmzon_secrets.emulator.account.limits import ACCOUNT, NEW_ACCOUNT, UNLIMITED, Quota
from cmzon_secrets.emulator.account.messages import ROUTE as SEND_ROUTE
from cmzon_secrets.emulator.http.fields import Fields
from cmzon_secrets.emulator.web.site import Form

__all__ = [
    "KINDS",
    "LABELS",
    "PRESETS",
    "SEND_ROUTE",
    "Body",
    "Preset",
    "fault_body",
    "fields_of",
    "form_of",
    "quota_body",
    "shift_body",
    "snapshot_body",
]

KINDS = {
    "401": "401 – the token is refused",
    "403": "403 – its scope is refused",
    "429": "429 – too many requests",
    "500": "500 – internal server error",
    "502": "502 – bad gateway",
    "503": "503 – service unavailable",
    "504": "504 – gateway timeout",
    "reset": "no answer: the connection is reset",
    "late": "the true answer, only later",
}
"""What a fault can do, by the value of the form's field."""

LABELS = {
    "route": "Route",
    "token": "Token",
    "kind": "What happens",
    "status": "Or another status",
    "retry_after": "Retry after",
    "latency": "Latency",
    "count": "How often",
    "probability": "Probability",
    "seed": "Seed",
    "per_second": "Messages a second",
    "per_day": "Messages a day",
    "advance": "Move it by",
    "name": "Name",
}
"""What the forms call the fields of the requests."""

Body = dict[str, Any]


def fault_body(form: Form) -> Body:
    """What ``POST /_emulator/faults`` takes. A status that was typed in goes before one chosen.

    Raises Refusal naming the field where the form says what no request can.
    """
    kind = form.get("kind", "")
    if kind == "late":
        _check_that_it_only_delays(form)
    if kind == "reset":
        _check_that_it_only_resets(form)
    chosen = None if kind in ("reset", "late") else form.number("kind")
    given = {
        "route": form.get("route"),
        "token": form.get("token") or None,
        "status": form.number("status") if form.get("status") else chosen,
        "retry_after": form.number("retry_after"),
        "latency": form.number("latency"),
        "reset": kind == "reset" or None,
        "after_accept": "after_accept" in form or None,
        "count": form.number("count"),
        "probability": form.number("probability"),
        "seed": form.number("seed"),
    }
    return {name: value for name, value in given.items() if value is not None}


def _check_that_it_only_delays(form: Form) -> None:
    fields = Fields(form, known=form)
    if form.get("status"):
        raise fields.complain("status", "the true answer, only later, keeps its own")
    if not form.number("latency"):
        raise fields.complain("latency", "seconds are missing: how much later is the answer?")


def _check_that_it_only_resets(form: Form) -> None:
    """What the request says in vain, a person has not meant."""
    fields = Fields(form, known=form)
    if isinstance(form.number("status"), float | int):
        raise fields.complain("status", "a connection that is reset brings no answer to have one")
    if isinstance(form.number("retry_after"), float | int):
        raise fields.complain("retry_after", "it needs a status to go with")


def quota_body(form: Form) -> Body:
    """What ``POST /_emulator/limits`` takes: an empty field lifts a limit."""
    return {name: form.number(name) for name in ("per_second", "per_day") if name in form}


def shift_body(form: Form) -> Body:
    """What ``POST /_emulator/clock`` takes."""
    return {"advance": form.number("advance")}


def snapshot_body(form: Form) -> Body:
    """What ``POST /_emulator/snapshots`` takes."""
    return {"name": form.get("name", "")}


@dataclass(frozen=True)
class Preset:
    """A form filled in, sent with one click; ``body`` is what it comes to."""

    label: str
    why: str
    fields: dict[str, str]
    body: Body


def _fault(label: str, why: str, **fields: str) -> Preset:
    fields = {"route": SEND_ROUTE, **fields}
    return Preset(label, why, fields, fault_body(form_of(fields)))


def _limits(label: str, why: str, quota: Quota) -> Preset:
    fields = fields_of(quota)
    return Preset(label, why, fields, quota_body(form_of(fields)))


def _clock(label: str, seconds: int) -> Preset:
    fields = {"advance": str(seconds)}
    return Preset(label, "", fields, shift_body(form_of(fields)))


def fields_of(quota: Quota) -> dict[str, str]:
    """The fields that a quota fills."""
    given = {"per_second": quota.per_second, "per_day": quota.per_day}
    return {name: "" if limit is None else str(limit) for name, limit in given.items()}


def form_of(fields: dict[str, str]) -> Form:
    """A form as if it had been sent with these fields."""
    return Form(list(fields.items()))


PRESETS = {
    "faults": (
        _fault(
            "429 burst",
            "The next 20 sends are refused and told to wait 1 s.",
            kind="429",
            retry_after="1",
            count="20",
        ),
        _fault(
            "Three 500s",
            "The next three sends fail, and nothing is sent.",
            kind="500",
            count="3",
        ),
        _fault(
            "Accepted, then reset",
            "Once. The message is accepted: repeated without its Idempotency-Key it is sent twice.",
            kind="reset",
            after_accept="on",
            count="1",
        ),
        _fault(
            "2 s latency",
            "Every send is answered 2 s later.",
            kind="late",
            latency="2",
        ),
        _fault(
            "10 % 503",
            "One send in ten fails: with seed 7 the same ones in every run.",
            kind="503",
            probability="0.1",
            seed="7",
        ),
    ),
    "limits": (
        _limits("Vendor's", "80 a second, 10,000 a day.", ACCOUNT),
        _limits("New account", "80 a second, 1,000 a day.", NEW_ACCOUNT),
        _limits("Off", "As many as come, for load tests.", UNLIMITED),
    ),
    "clock": (
        _clock("+1 hour", 3600),
        _clock("+1 day", 86400),
        _clock("+30 days", 30 * 86400),
        _clock("+60 days", 60 * 86400),
        _clock("+90 days", 90 * 86400),
    ),
}
"""By the section in which they stand."""
