"""The messages of each second as columns of a picture, and what they say of a rotation.

Pure: no clock, no input, no output. What comes in is what ``Usage.activity`` keeps: how many
messages were accepted with a token, by Unix second.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import ceil

from cmzon_secrets.emulator.account.tokens import IssuedToken
from cmzon_secrets.emulator.web.timeline import Window

__all__ = [
    "WIDE",
    "Traffic",
    "bucket_for",
    "columns",
    "forgotten",
    "gathered",
    "tallest",
    "traffic_of",
]

Activity = Mapping[int, int]

MOST_COLUMNS = 200
WIDE, HIGH = 10_000, 100
"""The box in which columns are drawn, whatever the size on the screen."""
FULL = 0.88
"""How much of its bucket a column fills; the rest is the gap to the next."""
THIN = 15
"""The least width of a column, in the same box."""
LATELY = 5
"""Seconds over which the present rate is taken; the one under way does not count."""

_BUCKETS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600)
"""Seconds; the longest is still less than what is kept of a token's traffic."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """What was accepted in a window.

    ``rate`` is in messages a second, lately. ``pause`` is the longest run of whole seconds without
    a message, between the first and the last message; None where there are not two seconds with any.
    ``last`` is the last second that had one.
    """

    messages: int
    rate: float
    pause: int | None
    last: int | None


def bucket_for(window: Window) -> int | None:
    """The seconds of one column; None where the seconds that are kept would be too thin to be seen."""
    least = window.seconds / MOST_COLUMNS
    return next((size for size in _BUCKETS if size >= least), None)


def gathered(activity: Activity, window: Window, bucket: int) -> dict[int, float]:
    """Messages a second by the beginning of each bucket, oldest first.

    Buckets begin at round moments, so that a column stays as it is while the window moves on.
    """
    sums: dict[int, int] = {}
    first, last = window.start - bucket, window.end
    for second, count in activity.items():
        if first < second <= last:
            start = second - second % bucket
            sums[start] = sums.get(start, 0) + count
    return {start: sums[start] / bucket for start in sorted(sums)}


def tallest(gathered_of_each: Iterable[Mapping[int, float]]) -> float:
    """The highest rate of all columns, at least 1: the common scale of the rows."""
    return max((1.0, *(rate for each in gathered_of_each for rate in each.values())))


def columns(
    rates: Mapping[int, float], used: Window, picture: Window, bucket: int, highest: float
) -> str:
    """The columns of one token as an SVG path in a box of ``WIDE`` by ``HIGH``.

    ``used`` is when the token was: of its first and its last second no more is drawn than that.
    """
    unit = WIDE / picture.seconds
    path = []
    for start, rate in rates.items():
        left = round((max(start, used.start, picture.start) - picture.start) * unit)
        right = round((min(start + bucket * FULL, used.end) - picture.start) * unit)
        top = HIGH - ceil(HIGH * rate / highest)
        path.append(f"M{left} {HIGH}V{top}H{max(right, left + THIN)}V{HIGH}z")
    return "".join(path)


def forgotten(token: IssuedToken, activity: Activity) -> Window | None:
    """In what stretch a token carried messages whose seconds are not remembered any more."""
    first, last = token.promoted_at, token.last_used_at
    if first is None or last is None or sum(activity.values()) >= token.messages:
        return None
    return Window(first, max(first, min(activity, default=last)))


def traffic_of(activities: Iterable[Activity], window: Window) -> Traffic:
    """What all tokens together carried."""
    seconds: Counter[int] = Counter()
    first, last = window.start, window.end
    for activity in activities:
        for second, count in activity.items():
            if first <= second <= last:
                seconds[second] += count
    present = int(window.end)
    lately = sum(seconds[second] for second in range(present - LATELY, present))
    return Traffic(
        messages=seconds.total(),
        rate=lately / LATELY,
        pause=max(
            (after - before - 1 for before, after in pairwise(sorted(seconds))), default=None
        ),
        last=max(seconds, default=None),
    )
