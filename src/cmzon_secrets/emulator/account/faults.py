"""Faults to rehearse: which, where, how often; deterministic where a seed is given."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Collection, Container, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from http import HTTPStatus
from itertools import count
from typing import Any

from starlette.responses import Response

from cmzon_secrets.emulator.http.answers import (
    Abort,
    Refusal,
    insufficient_permissions,
    invalid_token,
)
from cmzon_secrets.emulator.http.fields import Fields

__all__ = ["Effect", "Fault", "Faults"]

STATUSES = (400, 599)
LONGEST_LATENCY = 3600.0
LONGEST_RETRY_AFTER = 86400.0
MOST_STRIKES = 10**9
LARGEST_SEED = 2**53
MOST_DRAWS = 2**53
_FIELDS = (
    *("route", "token", "status", "retry_after", "latency", "reset"),
    *("after_accept", "count", "probability", "seed"),
)


@dataclass(slots=True)
class Fault:
    """One fault: what it does to which requests of ``route``.

    ``count`` is how often it still strikes (None: for ever), ``probability`` how likely it is at
    each request. ``token``: only those that come with the token of this id. ``after_accept``: the
    request takes effect first; one that is refused keeps its answer and uses nothing up. ``reset``:
    there is no answer, and what is said of one (``status``, ``retry_after``) is kept without effect.
    ``drawn``: for how many requests it was drawn, which with the seed tells the next draw;
    ``struck``: how many of them it struck.
    """

    route: str
    token: str | None = None
    status: int | None = None
    retry_after: float | None = None
    latency: float = 0.0
    reset: bool = False
    after_accept: bool = False
    count: int | None = None
    probability: float = 1.0
    seed: int = 0
    drawn: int = 0
    struck: int = 0
    id: str = ""

    @classmethod
    def parse(
        cls, body: dict[str, Any], *, routes: Collection[str], tokens: Container[str]
    ) -> Fault:
        """Raises Refusal (400) naming the field at fault. ``tokens`` are the known ids."""
        fields = Fields(body, known=_FIELDS)
        fault = cls(
            route=fields.choice("route", among=routes),
            token=_token(fields, tokens),
            status=fields.integer("status", least=STATUSES[0], most=STATUSES[1]),
            retry_after=fields.number("retry_after", least=0, most=LONGEST_RETRY_AFTER),
            latency=fields.number("latency", least=0, most=LONGEST_LATENCY) or 0.0,
            reset=fields.flag("reset"),
            after_accept=fields.flag("after_accept"),
            count=fields.integer("count", least=1, most=MOST_STRIKES),
            probability=_probability(fields),
            seed=_seed(fields),
        )
        _check_that_it_does_something(fields, fault)
        return fault

    @classmethod
    def restored(cls, kept: dict[str, Any], *, tokens: Container[str]) -> Fault:
        """What ``kept`` made. Raises Refusal, ValueError, TypeError or LookupError where it did not."""
        fault = cls.parse(
            {name: kept[name] for name in _FIELDS}, routes=[kept["route"]], tokens=tokens
        )
        so_far = Fields(kept, known=kept.keys())
        fault.drawn = so_far.integer("drawn", least=0, most=MOST_DRAWS) or 0
        fault.struck = so_far.integer("struck", least=0, most=fault.drawn) or 0
        fault.id = f"flt_{int(so_far.text('id', longest=20).removeprefix('flt_'))}"
        return fault

    @property
    def without_effect(self) -> list[str]:
        """The fields that say something of an answer where there is none."""
        said = ("status", "retry_after") if self.reset else ()
        return [name for name in said if getattr(self, name) is not None]

    @property
    def replaces_answer(self) -> bool:
        """Whether it does more than delay."""
        return self.reset or self.status is not None

    def strikes(self) -> bool:
        """Draw, and use up one of ``count`` where it strikes."""
        if self.count == 0:
            return False
        self.drawn += 1
        if _draw(self.seed, self.drawn) >= self.probability:
            return False
        self.struck += 1
        if self.count is not None:
            self.count -= 1
        return True

    def describe(self) -> str:
        """What it does, in a few words."""
        parts = [
            "reset" if self.reset else f"status {self.status}" if self.status else "",
            f"{self.latency:g} s latency" if self.latency else "",
            "after accept" if self.after_accept else "",
        ]
        return ", ".join(filter(None, parts))

    def kept(self) -> dict[str, Any]:
        """What makes the same fault again: as many strikes left, and the same draws to come."""
        return asdict(self)

    def entry(self) -> dict[str, Any]:
        """The fault as listings show it."""
        shown = {name: getattr(self, name) for name in ("id", *_FIELDS, "drawn", "struck")}
        shown["without_effect"] = self.without_effect or None
        return {name: value for name, value in shown.items() if value is not None}


@dataclass(slots=True)
class Effect:
    """What the faults that struck do together to one request."""

    latency: float = 0.0
    fault: Fault | None = None
    struck: list[str] = field(default_factory=list)

    def response(self) -> Response | None:
        """The answer that replaces the true one; None: the true one stands."""
        if self.fault is None:
            return None
        return Abort() if self.fault.reset else _refusal(self.fault).response()


class Faults:
    """The faults in force, in the order in which they were added."""

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        self._faults = list(faults)
        self._numbers = count(1 + max((int(f.id.removeprefix("flt_")) for f in self), default=0))

    def __iter__(self) -> Iterator[Fault]:
        return iter(self._faults)

    def add(self, fault: Fault) -> None:
        """Put a fault in force and give it its id."""
        fault.id = f"flt_{next(self._numbers)}"
        self._faults.append(fault)

    def end(self, fault_id: str) -> None:
        """End one fault; one that is over already is no error."""
        self._faults = [fault for fault in self._faults if fault.id != fault_id]

    def clear(self) -> None:
        """End every fault."""
        self._faults.clear()

    def strike(self, route: str, token: str | None, *, accepted: bool) -> Effect:
        """Draw for one request, before it is handled or after it was accepted.

        Delays add up. The first fault that replaces the answer is the only one of its kind to be
        drawn, so that "500 three times", then "429 twice" come one after the other.
        """
        effect = Effect()
        for fault in self._faults:
            if fault.route != route or fault.after_accept is not accepted:
                continue
            if fault.token not in (None, token):
                continue
            if fault.replaces_answer and effect.fault is not None:
                continue
            if fault.strikes():
                effect.struck.append(fault.describe())
                effect.latency += fault.latency
                effect.fault = fault if fault.replaces_answer else effect.fault
        self._faults = [fault for fault in self._faults if fault.count != 0]
        return effect


def _draw(seed: int, number: int) -> float:
    """From 0 to 1 without it: the same for the same request after a seed, however often one asks."""
    digest = hashlib.sha256(f"{seed} {number}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 256**6


def _token(fields: Fields, tokens: Container[str]) -> str | None:
    token = fields.text("token", longest=100) if fields.has("token") else None
    if token is not None and token not in tokens:
        raise fields.complain("token", "unknown; the id of a token of this account is needed")
    return token


def _probability(fields: Fields) -> float:
    given = fields.number("probability", least=0, most=1)
    return 1.0 if given is None else given


def _seed(fields: Fields) -> int:
    given = fields.integer("seed", least=0, most=LARGEST_SEED)
    return secrets.randbits(32) if given is None else given


def _check_that_it_does_something(fields: Fields, fault: Fault) -> None:
    if not fault.replaces_answer and not fault.latency:
        raise fields.complain("status", "a fault needs status, reset or latency")
    if fault.retry_after is not None and not fault.replaces_answer:
        raise fields.complain("retry_after", "it needs a status to go with")


def _refusal(fault: Fault) -> Refusal:
    status, wait = fault.status or 500, fault.retry_after
    if status == 401:
        refusal = invalid_token()
    elif status == 403:
        refusal = insufficient_permissions()
    elif status == 429:
        return Refusal(429, "Rate limit exceeded", retry_after=1 if wait is None else wait)
    else:
        refusal = Refusal(status, _phrase(status), "A fault set at the emulator")
    refusal.retry_after = wait
    return refusal


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown error"
