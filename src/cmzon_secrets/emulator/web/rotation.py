"""Rotation: which token carries the traffic, and how it moves from one to the next.

One picture for the tokens of one name, a row for each token, all over the same stretch of the account's time. A
picture is drawn here and not in the browser: it is there without a script, and the script that
follows has nothing to know about it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from cmzon_secrets.emulator.account.account import Account
from cmzon_secrets.emulator.account.stages import Stage, stages
from cmzon_secrets.emulator.account.takeovers import Takeover, as_of, common_name
from cmzon_secrets.emulator.account.tokens import IssuedToken
from cmzon_secrets.emulator.http.answers import invalid_request
from cmzon_secrets.emulator.web import timeline, traffic
from cmzon_secrets.emulator.web.site import Site
from cmzon_secrets.emulator.web.timeline import Bar, Mark, Span, Window
from cmzon_secrets.emulator.web.traffic import Traffic
from cmzon_secrets.emulator.web.visible import visible

__all__ = ["routes"]

MOST_ROWS = 12
"""Tokens of one name that are drawn, the newest, unless all are asked for."""
MOST_NAMES = 6
"""Names that are drawn unless one is asked for: those with the newest tokens."""

WINDOWS = {
    "fit": "Fit",
    "60": "1 min",
    "300": "5 min",
    "900": "15 min",
    "all": "All",
}

LABELS = {kind: label for kind, (label, _) in timeline.MARKS.items()}

_ByName = Mapping[str, list[IssuedToken]]


@dataclass(frozen=True, slots=True)
class Row:
    """One token as it is drawn. ``columns`` is an SVG path; "" where there is none to be seen."""

    token: IssuedToken
    stage: Stage
    ended_at: float | None
    bars: list[Bar]
    marks: list[Mark]
    columns: str


@dataclass(frozen=True, slots=True)
class Group:
    """The tokens of one name, newest first. ``handovers`` are the places where traffic moved.

    ``id`` stays what it is while tokens come and go. ``since`` is when ``in_use`` took over, or was
    the last one that lived.
    """

    id: str
    name: str
    rows: list[Row]
    more: int
    in_use: IssuedToken | None
    since: float | None
    handovers: list[float]


def routes(site: Site) -> list[Route]:
    """The page."""

    async def show(request: Request) -> Response:
        query = request.query_params
        name, chosen = query.get("name", ""), query.get("window", "fit")
        picture = Picture(
            site.account, name=name, chosen=chosen, everything=query.get("limit") == "all"
        )
        return site.page(
            request,
            "rotation.html",
            picture=picture,
            name=name,
            chosen=chosen,
            windows=WINDOWS,
            labels=LABELS,
        )

    return [site.get("/dashboard/rotation", show)]


class Picture:
    """Everything the page shows of one moment. Raises Refusal for a window that there is not."""

    def __init__(self, account: Account, *, name: str, chosen: str, everything: bool) -> None:
        self._account = account
        self._now = account.clock.timestamp()
        self._asked = name
        by_name = _by_name(account.tokens)
        self.names = _newest_first(by_name)
        self._wanted = _wanted(by_name, self.names, name, account.admin.name)
        self._tokens = _all(self._wanted)
        self._drawn = {
            named: tokens if everything else tokens[-MOST_ROWS:]
            for named, tokens in islice(self._wanted.items(), MOST_NAMES)
        }
        self.window = _window(chosen, self._tokens, _all(self._drawn), self._now)
        self.ticks = timeline.ticks(self.window)
        self.bucket = traffic.bucket_for(self.window)
        self._rates = self._gather()
        self.highest = traffic.tallest(self._rates.values())
        self._stages = stages(self._tokens, account.usage.takeovers.by_name, self._now)

    @property
    def left_out(self) -> list[str]:
        """The names that are not drawn."""
        return list(self._wanted)[MOST_NAMES:]

    @property
    def live(self) -> int:
        """How many tokens are neither revoked nor expired."""
        return sum(token.live(self._now) for token in self._tokens)

    @property
    def traffic(self) -> Traffic:
        """What the tokens carried."""
        activity = self._account.usage.activity
        return traffic.traffic_of((activity(token.id) for token in self._tokens), self.window)

    @property
    def forgotten(self) -> bool:
        """Whether they carried messages in this stretch whose seconds are not remembered."""
        activity = self._account.usage.activity
        stretches = (traffic.forgotten(token, activity(token.id)) for token in self._tokens)
        return any(stretch and self.window.touches(stretch) for stretch in stretches)

    @property
    def has_columns(self) -> bool:
        """Whether there is any column to be seen."""
        return any(self._rates.values())

    @property
    def failed(self) -> Counter[int | None]:
        """Sends that were refused or not answered, by status; without a name asked for, of anybody."""
        ids = {token.id for token in self._tokens} if self._asked else None
        failed: Counter[int | None] = Counter()
        window = self.window
        for sender, status, count in self._account.record.failed_sends(window.start, window.end):
            if ids is None or sender in ids:
                failed[status] += count
        return failed

    @property
    def groups(self) -> list[Group]:
        """The tokens by name, the name with the newest one first."""
        return [self._group(name, drawn) for name, drawn in self._drawn.items()]

    def _gather(self) -> dict[str, dict[int, float]]:
        if self.bucket is None:
            return {}
        activity = self._account.usage.activity
        return {
            token.id: traffic.gathered(activity(token.id), self.window, self.bucket)
            for token in _all(self._drawn)
        }

    def _group(self, name: str, drawn: list[IssuedToken]) -> Group:
        named = self._wanted[name]
        moves = as_of(self._account.usage.takeovers.by_name.get(name, ()), self._now)
        graces = timeline.graces(moves, self._now)
        in_use = next((t for t in named if self._stages[t.id] is Stage.CURRENT), None)
        return Group(
            id=named[0].id,
            name=name,
            rows=[self._row(token, graces.get(token.id, [])) for token in reversed(drawn)],
            more=len(named) - len(drawn),
            in_use=in_use,
            since=_since(in_use, moves, graces),
            handovers=[
                self.window.place(at) for at in timeline.handovers(moves) if self.window.holds(at)
            ],
        )

    def _row(self, token: IssuedToken, grace: list[Span]) -> Row:
        return Row(
            token=token,
            stage=self._stages[token.id],
            ended_at=timeline.ended_at(token, self._now),
            bars=timeline.bars(token, grace, self.window, self._now),
            marks=timeline.marks(token, self.window, self._now),
            columns=self._columns(token),
        )

    def _columns(self, token: IssuedToken) -> str:
        if self.bucket is None or token.promoted_at is None or token.last_used_at is None:
            return ""
        used, rates = Window(token.promoted_at, token.last_used_at), self._rates[token.id]
        return traffic.columns(rates, used, self.window, self.bucket, self.highest)


def _since(
    in_use: IssuedToken | None, moves: Iterable[Takeover], graces: Mapping[str, list[Span]]
) -> float | None:
    """When the traffic moved to it, or the last of those died that had taken over."""
    if in_use is None:
        return None
    moved = [move.at for move in moves if move.token is in_use]
    return max([*moved, *(end for _, end in graces[in_use.id])])


def _by_name(tokens: Iterable[IssuedToken]) -> _ByName:
    """The tokens of each name, oldest first."""
    by_name: defaultdict[str, list[IssuedToken]] = defaultdict(list)
    for token in tokens:
        by_name[common_name(token.name)].append(token)
    return by_name


def _newest_first(by_name: _ByName) -> list[str]:
    return sorted(by_name, key=lambda name: by_name[name][-1].seq, reverse=True)


def _wanted(by_name: _ByName, names: list[str], asked: str, admin: str) -> _ByName:
    """The name asked for; without one all but the admin token's, whose use is no rotation's."""
    if asked:
        return {name: by_name[name] for name in names if _is_meant(name, asked)}
    return {name: by_name[name] for name in names if name != admin}


def _is_meant(name: str, asked: str) -> bool:
    """Whether it is the common name, as it is or as a form sends it, or the name of one of its tokens.

    HTML cannot hold control characters: a form sends the pictures that are shown for them.
    """
    return common_name(asked) in (name, visible(name))


def _all(by_name: _ByName) -> list[IssuedToken]:
    return [token for tokens in by_name.values() for token in tokens]


def _window(chosen: str, tokens: list[IssuedToken], drawn: list[IssuedToken], now: float) -> Window:
    if chosen not in WINDOWS:
        raise invalid_request(f"window — unknown; known: {', '.join(WINDOWS)}")
    if chosen == "fit":
        return timeline.fitting(drawn, now)
    if chosen == "all":
        return timeline.since_the_first(tokens, now)
    return timeline.trailing(float(chosen), now)
