"""Where on a picture each moment of a token lies: bars, marks, the axis.

Pure geometry: no clock, no input, no output. Places are percent of the picture's width, so that one
rendering fits every screen; moments are Unix seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from math import inf

from cmzon_secrets.emulator.account.takeovers import Takeover
from cmzon_secrets.emulator.account.tokens import IssuedToken

__all__ = [
    "MARKS",
    "Bar",
    "Mark",
    "Span",
    "Tick",
    "Window",
    "bars",
    "ended_at",
    "fitting",
    "graces",
    "handovers",
    "marks",
    "since_the_first",
    "ticks",
    "trailing",
]

SHORTEST = 10.0
"""Seconds; what a window spans at least, so that the beginning of a story is not one fat bar."""
FITTED = 8
"""How many of the newest tokens a fitted window begins early enough for."""
MARGIN = 0.02
"""How much of a fitted window lies before its first moment; a second at least, so that it has all of
the one in which the story began."""
MOST_TICKS = 9
THINNEST = 0.6
"""Percent; a bar that still grows has at least this width."""
APART, APART_ON_A_PHONE = 1.1, 3.0
"""Percent; marks that are nearer are drawn side by side. A mark is as wide on a phone, the picture is not."""

Span = tuple[float, float]
"""From when to when; until ``inf`` for what goes on."""

MINUTE, HOUR, DAY = 60, 3600, 86400
_STEPS = (
    *(1, 2, 5, 10, 15, 30),
    *(n * MINUTE for n in (1, 2, 5, 10, 15, 30)),
    *(n * HOUR for n in (1, 2, 3, 6, 12)),
    *(n * DAY for n in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000)),
)


def _last_use(token: IssuedToken) -> float | None:
    """A message is noted as a use just before it is accepted: the mark stands where it was."""
    used, promoted = token.last_used_at, token.promoted_at
    return used if used is None or promoted is None else max(used, promoted)


MARKS: dict[str, tuple[str, Callable[[IssuedToken], float | None]]] = {
    "issued": ("issued", lambda token: token.created_at),
    "verified": ("verified", lambda token: token.verified_at),
    "first-used": ("first use", lambda token: token.first_used_at),
    "promoted": ("first message: promoted", lambda token: token.promoted_at),
    "last-used": ("last use", _last_use),
    "expired": ("expired", lambda token: token.expires_at),
    "revoked": ("revoked", lambda token: token.revoked_at),
    "refused": ("used though dead: refused", lambda token: token.last_refused_at),
}
"""What is marked of a token: its name for people, and when it was. In the order of a life."""


@dataclass(frozen=True, slots=True)
class Window:
    """The part of time that is looked at."""

    start: float
    end: float

    @property
    def seconds(self) -> float:
        """How long it is."""
        return self.end - self.start

    def holds(self, at: float) -> bool:
        """Whether a moment lies in it."""
        return self.start <= at <= self.end

    def touches(self, other: Window) -> bool:
        """Whether they have a moment in common."""
        return self.start <= other.end and other.start <= self.end

    def place(self, at: float) -> float:
        """Where a moment lies, in percent; one outside lies at the edge."""
        share = (at - self.start) / self.seconds
        return round(100 * min(1.0, max(0.0, share)), 3)


@dataclass(frozen=True, slots=True)
class Bar:
    """A part of a token's life: ``waiting`` for its first message, ``serving``, or in ``grace``."""

    kind: str
    start: float
    end: float
    place: float
    width: float


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment of a token.

    ``place`` is where it is drawn, near its true place if that is taken; ``narrow``: on a phone.
    """

    kind: str
    at: float
    place: float
    narrow: float


@dataclass(frozen=True, slots=True)
class Tick:
    """A line of the axis. ``minor``: its label is the first to go where there is little room."""

    label: str
    place: float
    minor: bool


def fitting(tokens: Sequence[IssuedToken], now: float) -> Window:
    """From the birth of the oldest of the newest few until now."""
    return since_the_first(sorted(tokens, key=lambda token: token.seq)[-FITTED:], now)


def since_the_first(tokens: Iterable[IssuedToken], now: float) -> Window:
    """From the birth of the oldest until now; where none is born yet, the last minute."""
    born = [token.created_at for token in tokens if token.created_at <= now]
    if not born:
        return trailing(MINUTE, now)
    lived = now - min(born)
    return trailing(lived + max(1.0, lived * MARGIN), now)


def trailing(seconds: float, now: float) -> Window:
    """The last seconds, but no fewer than ``SHORTEST``."""
    return Window(now - max(SHORTEST, seconds), now)


def ticks(window: Window) -> list[Tick]:
    """The axis: round moments of the UTC day, few enough to be read."""
    step = next((s for s in _STEPS if window.seconds / s <= MOST_TICKS), _STEPS[-1])
    first = -int(-window.start // step)
    moments = [n * step for n in range(first, int(window.end // step) + 1)]
    return [
        Tick(_label(at, step, window), window.place(at), minor=(at // step) % 2 == 1)
        for at in moments
    ]


def _label(at: int, step: int, window: Window) -> str:
    moment = datetime.fromtimestamp(at, UTC)
    if step >= DAY or (at % DAY == 0 and window.seconds > DAY):
        return moment.strftime("%Y-%m" if step >= 200 * DAY else "%b %d")
    return moment.strftime("%H:%M:%S" if step < MINUTE else "%H:%M")


def handovers(takeovers: Iterable[Takeover]) -> list[float]:
    """When the traffic moved on to another token, or back to one; of one name, ``as_of`` a moment."""
    return [takeover.at for takeover in takeovers][1:]


def graces(takeovers: Sequence[Takeover], now: float) -> dict[str, list[Span]]:
    """While which another one had taken over, by the token's id; of one name, ``as_of`` now.

    Another one has taken over for as long as it lives, or until the traffic comes back: once all of
    them are dead, the token is in use again, as its stage says. What is dead itself is for ``bars``
    to leave out.
    """
    away: list[Span] = []
    found: dict[str, list[Span]] = {}
    back: dict[str, int] = {}
    for n, takeover in reversed(list(enumerate(takeovers))):
        token = takeover.token
        if token.id in back:
            meanwhile = takeovers[n + 1 : back[token.id]]
            until = takeovers[back[token.id]].at
            found[token.id] = [*_spans(meanwhile, now, until), *found[token.id]]
        else:
            found[token.id] = away
        back[token.id] = n
        away = _spans([takeover], now, later=away)
    return found


def _spans(
    takeovers: Sequence[Takeover], now: float, until: float = inf, later: Sequence[Span] = ()
) -> list[Span]:
    """From when to when any of these had taken over, no longer than ``until``; and ``later``."""
    found = list(later)
    for takeover in reversed(takeovers):
        end = min(until, _sending_until(takeover.token, now))
        if end >= takeover.at:
            found = _joined((takeover.at, end), found)
    return found


def _sending_until(token: IssuedToken, now: float) -> float:
    """Never, for one that is dead although its end is still to come: the clock was set back."""
    end = ended_at(token, now)
    return end if end is not None else inf if token.live(now) else 0.0


def _joined(span: Span, later: list[Span]) -> list[Span]:
    """``later``, in order and apart, with one before them all; what it touches becomes one with it."""
    start, end = span
    apart = 0
    while apart < len(later) and later[apart][0] <= end:
        end = max(end, later[apart][1])
        apart += 1
    return [(start, end), *later[apart:]]


def ended_at(token: IssuedToken, now: float) -> float | None:
    """When the token died; None while it lives."""
    ends = (token.revoked_at, token.expires_at)
    return min((end for end in ends if end is not None and end <= now), default=None)


def bars(token: IssuedToken, grace: Iterable[Span], window: Window, now: float) -> list[Bar]:
    """The token's life, as far as it lies in the window; ``grace`` is its entry in ``graces``."""
    end = ended_at(token, now)
    last = now if end is None else end
    found = [
        Bar(kind, start, stop, window.place(start), _width(window, start, stop))
        for kind, start, stop in _parts(token, grace, last)
        if start <= stop and start <= window.end and stop >= window.start
    ]
    return [*found[:-1], *map(_to_be_seen, found[-1:])] if end is None else found


def _to_be_seen(bar: Bar) -> Bar:
    """What a token does now is seen, however lately it began: it covers the end of what was before."""
    if bar.width >= THINNEST:
        return bar
    return replace(bar, place=min(bar.place, 100 - THINNEST), width=THINNEST)


def _parts(
    token: IssuedToken, grace: Iterable[Span], last: float
) -> Iterator[tuple[str, float, float]]:
    if token.promoted_at is None:
        yield "waiting", token.created_at, last
        return
    at = min(token.promoted_at, last)
    yield "waiting", token.created_at, at
    for began, end in grace:
        start = max(began, at)
        if start > last:
            break
        yield "serving", at, start
        at = max(start, min(end, last))
        yield "grace", start, at
        if end > last:
            return
    yield "serving", at, last


def _width(window: Window, start: float, stop: float) -> float:
    return round(window.place(stop) - window.place(start), 3)


def marks(token: IssuedToken, window: Window, now: float) -> list[Mark]:
    """The token's moments in the window, in their order; those to come are not among them."""
    moments = [
        (at, order, kind)
        for order, (kind, (_, when)) in enumerate(MARKS.items())
        if (at := when(token)) is not None and at <= now and window.holds(at)
    ]
    moments.sort()
    true = [window.place(at) for at, _, _ in moments]
    places = zip(_side_by_side(true, APART), _side_by_side(true, APART_ON_A_PHONE), strict=True)
    return [Mark(kind, at, *drawn) for (at, _, kind), drawn in zip(moments, places, strict=True)]


def _side_by_side(places: list[float], apart: float) -> list[float]:
    """The places, moved to the right as far as they need to be told apart, and back at the edge."""
    moved: list[float] = []
    for place in places:
        moved.append(max(place, moved[-1] + apart) if moved else place)
    edge = 100.0
    for n in reversed(range(len(moved))):
        moved[n] = round(min(moved[n], edge), 3)
        edge = moved[n] - apart
    return moved
