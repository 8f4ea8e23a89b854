"""One account as the world has it: store, issuer, clock, readers; copied, and watched at every call.

A run that dies leaves the world as its last call made it, and nothing else: what it knew is gone. So
the states seen after each call of one undisturbed run *are* the states of all the crashes before and
after its calls.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from cmzon_secrets.clock import Clock
from cmzon_secrets.issuer import TokenInfo, TokenRequest
from cmzon_secrets.provider import TokenStore
from cmzon_secrets.rotation import RotationPolicy, Rotator
from cmzon_secrets.rotation.run import account_at
from cmzon_secrets.testing import ManualClock, MemoryStore
from cmzon_secrets.testing.memory_issuer import MemoryIssuer
from cmzon_secrets.tokens import Token, Versions

MUTATING = frozenset({"stage", "promote", "discard", "issue", "revoke"})
MOST_RUNS = 40
"""Runs, one grace apart, in which everything must have come to rest."""

CALLS = MUTATING | {"versions", "verify", "list"}


class Broken(AssertionError):
    """Something that must always hold does not."""


@dataclass(frozen=True)
class Snapshot:
    """Everything that outlives a process."""

    held: Versions
    tokens: dict[str, Token]
    infos: dict[str, TokenInfo]
    keys: dict[str, tuple[TokenRequest, str]]
    now: datetime
    served: dict[str, datetime]
    excused: frozenset[str]


class Watched:
    """A store or issuer whose calls pass through ``around(name, call, arguments)``."""

    def __init__(self, inner: object, around: Callable[[str, Callable, tuple], object]) -> None:
        self._inner = inner
        self._around = around

    def __getattr__(self, name: str) -> object:
        found = getattr(self._inner, name)
        if name not in CALLS:
            return found
        return lambda *args, **kwargs: self._around(name, lambda: found(*args, **kwargs), args)


class World:
    """``served``: when readers could last take each token as CURRENT, by the issuer's id.

    ``excused``: tokens whose death is nobody's fault here: killed in the dashboard, or by an
    emergency that wanted no successor. ``leaked``: what the last emergency was to kill.
    """

    def __init__(
        self,
        policy: RotationPolicy,
        *,
        begins: datetime | None = None,
        store: Callable[[Clock], TokenStore] | None = None,
    ) -> None:
        self.policy = policy
        self.clock = ManualClock(begins)
        self.store = store(self.clock) if store else MemoryStore(clock=self.clock)
        self.issuer = MemoryIssuer(clock=self.clock)
        self.account = account_at(self.store, policy)
        self._names: dict[Token, str] = {}
        self.served: dict[str, datetime] = {}
        self.excused: frozenset[str] = frozenset()
        self.leaked: set[str] = set()

    # ── copies ──────────────────────────────────────────────────────────────────────────────

    def snapshot(self) -> Snapshot:
        issuer = self.issuer
        return Snapshot(
            self.store.versions(),
            dict(issuer._tokens),
            dict(issuer._infos),
            dict(issuer._keys),
            self.clock.now(),
            dict(self.served),
            self.excused,
        )

    def restore(self, taken: Snapshot) -> None:
        self.store._memory.save(taken.held)
        self.issuer._tokens = dict(taken.tokens)
        self.issuer._infos = dict(taken.infos)
        self.issuer._keys = dict(taken.keys)
        self.clock.set_wall_clock(taken.now)
        self.served = dict(taken.served)
        self.excused = taken.excused

    # ── what is ─────────────────────────────────────────────────────────────────────────────

    def name_of(self, token: Token) -> str:
        """The issuer's id, also of a token that the store knows by its fingerprint."""
        if token.has_issuer_id:
            return token.id
        if token not in self._names:  # the issuer counts, so a name stands for one value only
            self._names = {known: i for i, known in self.issuer._tokens.items()}
        return self._names[token]

    def held_names(self) -> set[str]:
        return {self.name_of(token) for token in self.store.versions()}

    def unknown(self) -> list[TokenInfo]:
        """Live tokens under our name that the store does not hold."""
        held, live = self.held_names(), self.issuer.live
        ours = self.account
        return [
            info
            for i, info in self.issuer._infos.items()
            if i in live and i not in held and info.name == ours
        ]

    def alive(self, token: Token) -> bool:
        return self.name_of(token) in self.issuer.live

    # ── what the world does ─────────────────────────────────────────────────────────────────

    def advance(self, span: timedelta) -> None:
        self.readers_read()
        self.clock.advance(span)

    def readers_read(self) -> None:
        """Applications send with CURRENT all the time; one that is dead does not count as served."""
        if (current := self.note_current()) is not None:
            self.issuer.use(current)

    def note_current(self) -> Token | None:
        """Whoever asks now gets this one; None where that would not work."""
        current = self.store.versions().current
        if current is None or not self.alive(current):
            return None
        self.served[self.name_of(current)] = self.clock.now()
        return current

    def kill(self, token: Token | str) -> None:
        """In the dashboard."""
        self.issuer.revoke(token)
        self.excused |= {token if isinstance(token, str) else self.name_of(token)}

    def from_dashboard(self) -> Token:
        """A token made by hand: the store will know only its value."""
        number = len(self.issuer._tokens)
        made = self.issuer.issue(TokenRequest("by hand"), idempotency_key=f"by hand {number}")
        return Token(made.reveal())

    # ── runs ────────────────────────────────────────────────────────────────────────────────

    def rotator(self, around: Callable[[str, Callable, tuple], object] | None = None) -> Rotator:
        around = around or (lambda _name, call, _args: call())
        return Rotator(
            Watched(self.store, around), Watched(self.issuer, around), self.policy, clock=self.clock
        )

    def may_not_die(self, token: Token | str) -> str:
        """Why it would be wrong of a run to kill this token now; empty where it is right."""
        name = token if isinstance(token, str) else self.name_of(token)
        if name not in self.issuer.live:
            return ""
        info, now = self.issuer._infos[name], self.clock.now()
        held = self.store.versions()
        if held.current is not None and self.name_of(held.current) == name:
            return f"{name} is CURRENT"
        if name not in self.held_names() and info.name != self.account:
            return f"{name} is not ours"
        served = self.served.get(name)
        if served is not None and now < served + self.policy.grace:
            return f"{name} was CURRENT {now - served} ago, within its grace"
        in_use = (
            info.last_used_at is not None and now - info.last_used_at < self.policy.reader_window
        )
        limit = (held.promoted_at or now) + self.policy.revoke_limit
        if in_use and (name not in self.held_names() or info.name != self.account or now < limit):
            return f"{name} is in use"
        return ""


# ── what must hold ──────────────────────────────────────────────────────────────────────────────


def readers_are_served(world: World) -> None:
    """A reader of CURRENT gets a token that the API accepts, unless the world killed it."""
    current = world.store.versions().current
    if current is None or world.alive(current) or world.name_of(current) in world.excused:
        return
    expires = world.issuer._infos[world.name_of(current)].expires_at
    if expires is None or expires > world.clock.now():
        raise Broken(f"readers get {current.id}, which is dead")


def nothing_stays_lost(world: World) -> None:
    """One more run, later than orphan_age: of what the store does not know only what has readers lives."""
    world.advance(world.policy.orphan_age)
    report = world.rotator().run()
    lost = [info.id for info in world.unknown() if info.last_used_at is None]
    if lost:
        raise Broken(f"{lost} live, and no store knows them: {report}")


def ends_with_current_alone(world: World) -> None:
    for _ in range(MOST_RUNS):
        world.advance(world.policy.grace)
        report = world.rotator().run()
        readers_are_served(world)
        held = world.store.versions()
        if report.state == "done" and not (world.unknown() or held.pending or held.previous):
            return
    raise Broken(f"it does not come to rest: {world.unknown()} {held} {report}")
