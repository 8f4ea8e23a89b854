"""The known routes that a mistaken request may have meant."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher

__all__ = ["nearest"]

MOST = 3
LONGEST = 200
MOST_PARTS = 8
"""Of a path; the rest is not looked at: comparing takes time that grows with the square of its length."""
LIKE = 0.55
"""How like what was asked for a route must be to be meant."""
NEAR = 0.85
"""How like what was asked for a further route must be, as a part of how like the nearest one is."""


def nearest(method: str, path: str, known: Iterable[str]) -> list[str]:
    """The ``known`` routes that are like it, up to ``MOST`` and the likeliest first; often there is none.

    Those that differ in nothing but the method come alone.
    """
    asked = path[:LONGEST].strip("/").split("/")[:MOST_PARTS]
    filled = {route: _filled(route.partition(" ")[2], asked) for route in known}
    same = [route for route, parts in filled.items() if parts == asked]
    likeness = {
        route: _likeness(asked, parts) + 0.1 * route.startswith(f"{method} ")
        for route, parts in filled.items()
    }
    best = sorted(same or likeness, key=likeness.__getitem__, reverse=True)
    least = 0.0 if same else max(LIKE, NEAR * likeness[best[0]])
    return [route for route in best[:MOST] if likeness[route] >= least]


def _filled(template: str, asked: Sequence[str]) -> list[str]:
    """The template's parts, with what was asked for in place of its placeholders."""
    parts = template.strip("/").split("/")
    return [
        asked[n] if part.startswith("{") and n < len(asked) else part
        for n, part in enumerate(parts)
    ]


def _likeness(asked: Sequence[str], route: Sequence[str]) -> float:
    """1 for the same parts; less the fewer are found, and a little less the more are too many."""
    found = sum(max(_ratio(part, other) for other in route) for part in asked)
    return found / (len(asked) + 0.25 * abs(len(asked) - len(route)))


def _ratio(one: str, other: str) -> float:
    return 1.0 if one == other else SequenceMatcher(None, one, other, autojunk=False).ratio()
