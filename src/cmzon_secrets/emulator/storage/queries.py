"""Conditions put together from what is wanted; values are always bound, never written in."""

from __future__ import annotations

from typing import Any

__all__ = ["Where", "like"]


class Where:
    """The condition of a query; without any, all rows."""

    def __init__(self) -> None:
        self._conditions: list[str] = []
        self.arguments: list[Any] = []

    def add(self, condition: str, *arguments: Any) -> None:
        """Narrow it down."""
        self._conditions.append(condition)
        self.arguments += arguments

    def __str__(self) -> str:
        return " AND ".join(self._conditions) or "TRUE"


def like(part: str) -> str:
    """The pattern of LIKE, with a backslash as its ESCAPE, that finds ``part`` anywhere."""
    for special in "\\%_":
        part = part.replace(special, f"\\{special}")
    return f"%{part}%"
