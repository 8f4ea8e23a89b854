"""A process's line to the Redis that all share: what it says there, and what it was told."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from typing import Any

from cmzon_secrets.client.shared.clock import ServerClock
from cmzon_secrets.client.shared.report import Report
from cmzon_secrets.client.shared.server import WITHIN, Server, Told, Unreachable, Verdict
from cmzon_secrets.clock import Clock
from cmzon_secrets.errors import ConfigurationError

__all__ = ["Line"]


LONGEST_LEAD = 0.45
"""Seconds ahead for which a slot is asked at most. It is as long as the last answer took."""


class Line:
    """``figures`` go with every question; ``lock`` is held while ``report`` and ``told`` change,
    and not while Redis is asked."""

    def __init__(
        self, server: Server, figures: Mapping[str, Any], lock: AbstractContextManager[object]
    ) -> None:
        self._server = server
        self.member = secrets.token_hex(8)
        """The process's name there."""
        self._figures = {**figures, "member": self.member}
        self._lock = lock
        self.clock = ServerClock()
        self.report = Report()
        """Gathered for the next question."""
        self.told: Told | None = None
        """The last answer."""
        self._lead = 0.0

    def ask(self, clock: Clock, *, paused_until: float) -> Told:
        """Report, and ask for a slot. ``paused_until``: the pause that we know of, in our seconds.

        Raises Unreachable, and what ``Server.ask`` raises.
        """
        with self._lock:
            report, self.report = self.report, Report()
            question = self._what_we_know() | report.facts(self.clock)
            # A slot right away would be over before we hear of it.
            question |= {"wanted": True, "lead": self._lead * 1e6}
            if self.clock.known:
                now = clock.monotonic()
                question["void_after"] = self.clock.theirs(now + WITHIN)
                if paused_until > now:
                    question["paused_until"] = self.clock.theirs(paused_until)
        try:
            told = self._asked(question, clock)
        except BaseException:
            self._add_back(report)
            raise
        if told.verdict is Verdict.VOID:
            self._add_back(report)
        return told

    def knock(self, clock: Clock, *, returned: bool) -> Told:
        """Ask whether it is there. ``returned``: messages left from the share within the last second.

        Nothing is reported, for a Redis that hung answers all that it was asked meanwhile. Raises
        Unreachable, and what ``Server.ask`` raises.
        """
        with self._lock:
            question = self._what_we_know() | Report().facts(self.clock)
        return self._asked(question | ({"returned": True} if returned else {}), clock)

    def leave(self) -> None:
        """Report for the last time, as far as somebody listens."""
        with self._lock:
            question = self._what_we_know() | self.report.facts(self.clock)
        with suppress(Unreachable, ConfigurationError):  # it will be forgotten
            self._server.ask(question | {"leaving": True})

    def _asked(self, question: Mapping[str, Any], clock: Clock) -> Told:
        asked_at = clock.monotonic()
        told = self._server.ask(question)
        answered_at = clock.monotonic()
        with self._lock:
            self.clock.learn(told.now, asked_at=asked_at, answered_at=answered_at)
            self._lead = min(answered_at - asked_at, LONGEST_LEAD)
            if told.verdict is not Verdict.VOID:
                self.told = told
        return told

    def _what_we_know(self) -> dict[str, Any]:
        """For a Redis that forgot it."""
        told = self.told
        day = (
            {"epoch": told.epoch, "ends": told.ends, "known": told.sent} if told is not None else {}
        )
        return {**self._figures, **day}

    def _add_back(self, report: Report) -> None:
        with self._lock:
            self.report.add_back(report)
