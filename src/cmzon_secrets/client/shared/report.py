"""What a process tells Redis with its next question, because it learned it since the last."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from cmzon_secrets.client.shared.clock import ServerClock

__all__ = ["Report"]


@dataclass(slots=True)
class Report:
    """Gathered under the limits' lock."""

    _owed: Counter[int] = field(default_factory=Counter)
    _late: list[tuple[int, float]] = field(default_factory=list)
    _said: dict[str, int] | None = None
    _refused: float | None = None

    def count(self, messages: int, day: datetime) -> None:
        """So many more messages of a day than Redis knows; fewer, where they were given back."""
        self._owed[_seconds(day)] += messages

    def arrived_late(self, slot: int, at: float) -> None:
        """The message of this slot may have arrived as late as ``at``, in monotonic seconds."""
        self._late.append((slot, at))

    def said(self, limit: int, left: int, ends: datetime) -> None:
        """The API has so many left of the day that ends then."""
        self._said = {"limit": limit, "left": left, "ends": _seconds(ends)}

    def refused(self, left_at: float | None) -> None:
        """429, to a message that left at ``left_at``."""
        self._refused = left_at

    def facts(self, clock: ServerClock) -> dict[str, Any]:
        """As the script takes it."""
        facts: dict[str, Any] = {"owed": [list(item) for item in self._owed.items()], "late": []}
        if self._said is not None:
            facts["said"] = self._said
        if clock.known:
            facts["late"] = [[slot, clock.theirs(at)] for slot, at in self._late]
            if self._refused is not None:
                facts["left_at"] = clock.theirs(self._refused)
        return facts

    def add_back(self, lost: Report) -> None:
        """Nobody knows whether ``lost`` was heard: what may be said twice is on the safe side."""
        self._owed.update({day: owed for day, owed in lost._owed.items() if owed > 0})
        self._said = self._said or lost._said
        self._refused = self._refused if self._refused is not None else lost._refused


def _seconds(moment: datetime) -> int:
    return round(moment.timestamp())
