"""Every state that an account can get into, and from each of them every run, crash and mishap.

The search begins at an empty store and ends when nothing new is found. A state is what a run could
tell apart: which stages are held, and of each token whether it lives, is ours, is in use, and how
old it is by the thresholds of the policy; the lost tokens; what the issuer would give again.
``CMZON_EVERY_STATE=1`` searches a larger world, for several minutes.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from cmzon_secrets.errors import (
    ConflictError,
    IssuerError,
    PermissionDenied,
    ProviderUnavailable,
    TransportError,
)
from cmzon_secrets.rotation import RotationPolicy, RotationReport, Rotator
from cmzon_secrets.rotation.model import Seen
from cmzon_secrets.rotation.rows import MAX_ATTEMPTS, SETTLE
from cmzon_secrets.rotation.run import issue_key
from cmzon_secrets.tokens import Token, Versions
from unit.rotation.world import (
    MUTATING,
    Broken,
    Snapshot,
    World,
    ends_with_current_alone,
    nothing_stays_lost,
    readers_are_served,
)

pytestmark = pytest.mark.slow

LONG = bool(os.environ.get("CMZON_EVERY_STATE"))
BEGINS = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
POLICY = RotationPolicy(
    "acme",
    rotate_every=8 * HOUR,
    grace=30 * MINUTE,
    reader_ttl=8 * MINUTE,
    request_deadline=2 * MINUTE,
    revoke_limit=2 * HOUR,
    orphan_age=HOUR,
)
EXPIRING = RotationPolicy(
    "acme",
    rotate_every=48 * HOUR,
    expires_in=6 * HOUR,
    grace=30 * MINUTE,
    reader_ttl=8 * MINUTE,
    request_deadline=2 * MINUTE,
    revoke_limit=8 * HOUR,
    orphan_age=HOUR,
)
MOST_CALLS = 80


# ── a state, told apart by what any run could tell apart ────────────────────────────────────────


def passed(now: datetime, since: datetime | None, *spans: timedelta) -> int:
    return -1 if since is None else sum(now >= since + span for span in spans)


class Form:
    """The canonical form of a world: no ids, no dates, only what they amount to."""

    keys: dict[tuple, str] = {}
    """Idempotency keys by what they are derived from; deriving is slow."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.now = world.clock.now()
        self.policy = world.policy
        self.live = world.issuer.live
        self.names: dict[str, int] = {}

    def of(self) -> tuple:
        world, held, policy = self.world, self.world.store.versions(), self.policy
        grown = (policy.orphan_age, policy.rotate_every)
        stages = (
            self.token(held.current, grown),
            self.token(held.pending, grown),
            self.token(held.previous, grown),
        )
        lost = (policy.orphan_age / 2, policy.orphan_age)
        orphans = sorted(world.unknown(), key=lambda info: (info.created_at, info.id))
        loose = tuple(self.told(info.id, lost, has_id=True) for info in orphans)
        again = tuple(self.given_again(holder) for holder in _holders(held))
        since = passed(self.now, held.promoted_at, policy.grace, policy.revoke_limit)
        return stages, since if held.previous else held.promoted_at is None, loose, again

    def token(self, token: Token | None, ages: tuple[timedelta, ...]) -> tuple | None:
        if token is None:
            return None
        return self.told(self.world.name_of(token), ages, has_id=token.has_issuer_id)

    def told(self, name: str, ages: tuple[timedelta, ...], *, has_id: bool) -> tuple:
        if name in self.names:
            return ("the same as", self.names[name])
        self.names[name] = len(self.names)
        info, policy = self.world.issuer._infos[name], self.policy
        if name not in self.live:
            return has_id, "dead", passed(self.now, info.created_at, SETTLE)
        return (
            has_id,
            info.name == self.world.account,
            passed(self.now, info.created_at, *ages),
            passed(self.now, info.expires_at, *(-s for s in life_spans(policy))),
            passed(self.now, info.last_used_at, policy.reader_window),
            passed(self.now, self.world.served.get(name), policy.grace),
        )

    def given_again(self, holder: Versions) -> tuple:
        """What the issuer would give again where this token is to be replaced.

        How many dead ones are passed over on the way is not told apart.
        """
        given: list[tuple] = []
        for attempt in range(MAX_ATTEMPTS):
            found = self.world.issuer._keys.get(self.key_of(holder, attempt))
            if found is None:
                break
            told = self.told(found[1], (), has_id=True)
            if told not in given:
                given.append(told)
        return tuple(given)

    def key_of(self, holder: Versions, attempt: int) -> str:
        current = holder.current.id if holder.current is not None else None
        turn = (self.now - BEGINS) // (self.policy.orphan_age / 2)
        known = self.world.account, current, turn, attempt
        if known not in self.keys:
            seen = Seen(holder, account=self.world.account)
            self.keys[known] = issue_key(seen, attempt, self.policy, self.now)
        return self.keys[known]


def _holders(held: Versions) -> Iterator[Versions]:
    if held.current is None:
        yield held
    for token in held:
        yield Versions(current=token)


def life_spans(policy: RotationPolicy) -> tuple[timedelta, ...]:
    """How long before its expiry something about a token changes."""
    if policy.expires_in is None:
        return ()
    return (max(policy.expires_in / 4, policy.grace), policy.grace, timedelta(0))


# ── mishaps ─────────────────────────────────────────────────────────────────────────────────────

Mishap = Callable[[str, Callable[[], object]], object]


def no_answer(call: str, perform: Callable[[], object]) -> object:
    raise TransportError("issuer — no answer")


def answer_lost(call: str, perform: Callable[[], object]) -> object:
    perform()
    raise TransportError("issuer — no answer")


def admin_refused(call: str, perform: Callable[[], object]) -> object:
    raise IssuerError("issuer — the admin token is refused")


def not_from_here(call: str, perform: Callable[[], object]) -> object:
    raise PermissionDenied("API — 403", status=403)


def write_lost(call: str, perform: Callable[[], object]) -> object:
    raise ProviderUnavailable("store — down")


def write_unanswered(call: str, perform: Callable[[], object]) -> object:
    perform()
    raise ProviderUnavailable("store — no answer")


def race_lost(call: str, perform: Callable[[], object]) -> object:
    raise ConflictError("store — another writer was first")


MISHAPS: dict[str, tuple[Mishap, ...]] = {
    "issue": (no_answer, answer_lost, admin_refused),
    "revoke": (no_answer, answer_lost, admin_refused),
    "list": (no_answer, admin_refused),
    "verify": (no_answer, not_from_here),
    "stage": (write_lost, write_unanswered, race_lost),
    "promote": (write_lost, write_unanswered, race_lost),
    "discard": (write_lost, write_unanswered),
    "versions": (),
}


@dataclass(frozen=True)
class Fault:
    """``mishap`` befalls call number ``at``, and where it is ``lasting`` all later ones like it."""

    at: int
    call: str
    mishap: Mishap
    lasting: bool

    def strikes(self, number: int, call: str) -> bool:
        return call == self.call and (number >= self.at if self.lasting else number == self.at)

    def __str__(self) -> str:
        end = " and all later ones" if self.lasting else ""
        return f"{self.mishap.__name__} at {self.call} {self.at}{end}"


# ── the search ──────────────────────────────────────────────────────────────────────────────────


@dataclass
class Search:
    """Breadth first, so the path that leads to a broken state is the shortest."""

    world: World
    moves: dict[str, Callable[[World], bool | None]]
    intents: dict[str, Callable[[World, Rotator], RotationReport | None]]
    most_orphans: int
    mishaps_to_depth: int
    deepest: int
    seen: set[tuple] = field(default_factory=set)
    todo: deque[tuple[Snapshot, tuple[str, ...]]] = field(default_factory=deque)
    settled: set[tuple] = field(default_factory=set)
    transitions: int = 0
    beyond: int = 0

    def explore(self) -> None:
        self.found(())
        while self.todo:
            taken, path = self.todo.popleft()
            if len(path) <= self.deepest:
                self.expand(taken, path)

    def found(self, path: tuple[str, ...]) -> None:
        """The world as it is now is kept where it is new."""
        self.transitions += 1
        self.world.readers_read()
        if len(self.world.unknown()) > self.most_orphans:
            self.beyond += 1
            return
        form = Form(self.world).of()
        if form not in self.seen:
            self.seen.add(form)
            self.todo.append((self.world.snapshot(), path))

    def expand(self, taken: Snapshot, path: tuple[str, ...]) -> None:
        for name, move in self.moves.items():
            self.world.restore(taken)
            if move(self.world) is not False:
                self.found((*path, name))
        for name in self.intents:
            self.world.restore(taken)
            calls = self.checked(name, path)
            if len(path) >= self.mishaps_to_depth:
                continue
            for fault in faults(calls):
                self.world.restore(taken)
                self.checked(name, path, fault)

    def checked(self, name: str, path: tuple[str, ...], fault: Fault | None = None) -> list[str]:
        told = (*path, f"{name}, {fault}" if fault else name)
        try:
            return self.run(name, told, fault)
        except Broken as broken:
            raise Broken(f"{broken}\nafter " + "\n      ".join(told)) from None

    def run(self, name: str, path: tuple[str, ...], fault: Fault | None) -> list[str]:
        """One run to its end, or to each of its deaths. Returns its calls."""
        calls: list[str] = []
        emergency = name.startswith("emergency")

        def around(call: str, perform: Callable[[], object], arguments: tuple) -> object:
            calls.append(call)
            number = len(calls) - 1
            if number > MOST_CALLS:
                raise Broken("the run does not end")
            if call == "revoke":
                revocation_is_lawful(self.world, arguments[0], emergency, "without" in name)
            try:
                struck = fault is not None and fault.strikes(number, call)
                return fault.mishap(call, perform) if struck else perform()
            finally:
                if call in MUTATING:
                    readers_are_served(self.world)
                    self.found((*path[:-1], f"{path[-1]}, dies after {call} {number}"))

        report = self.intents[name](self.world, self.world.rotator(around))
        if report is not None:
            self.ended(name, path, report, disturbed=fault is not None)
        return calls

    def ended(
        self, name: str, path: tuple[str, ...], report: RotationReport, *, disturbed: bool
    ) -> None:
        readers_are_served(self.world)
        self.found(path)
        if name.startswith("emergency"):
            emergency_is_honest(self.world, report, disturbed=disturbed)
        elif name == "scheduled run" and not disturbed:
            run_is_useful(self.world, report)
            self.comes_to_rest()

    def comes_to_rest(self) -> None:
        form = Form(self.world).of()
        if form in self.settled:
            return
        self.settled.add(form)
        taken = self.world.snapshot()
        nothing_stays_lost(self.world)
        self.world.restore(taken)
        ends_with_current_alone(self.world)
        self.world.restore(taken)


def faults(calls: list[str]) -> Iterator[Fault]:
    for number, call in enumerate(calls):
        for mishap in MISHAPS[call]:
            yield Fault(number, call, mishap, lasting=False)
            if call in calls[number + 1 :]:
                yield Fault(number, call, mishap, lasting=True)


# ── what must hold ──────────────────────────────────────────────────────────────────────────────


def revocation_is_lawful(
    world: World, token: Token | str, emergency: bool, without_successor: bool
) -> None:
    if not emergency and (why := world.may_not_die(token)):
        raise Broken(f"it was revoked, though {why}")
    if without_successor and not isinstance(token, str):
        world.excused |= {world.name_of(token)}


def emergency_is_honest(world: World, report: RotationReport, *, disturbed: bool) -> None:
    if report.state == "failed":
        if not disturbed:
            raise Broken(f"an undisturbed emergency failed: {report}")
        return
    living = {i for i in world.leaked if i in world.issuer.live}
    if report.state == "done" and living:
        raise Broken(f"{living} live, and the report says {report}")


def run_is_useful(world: World, report: RotationReport) -> None:
    """After an undisturbed run CURRENT works, or the report says why it does not."""
    if report.state == "failed":
        raise Broken(f"an undisturbed run failed: {report}")
    current = world.store.versions().current
    if current is not None and world.alive(current):
        return
    soon = report.next_due is not None and report.next_due <= world.clock.now() + SETTLE
    if not report.reason or (report.state == "waiting" and not soon) or report.state == "done":
        raise Broken(f"CURRENT is dead after an undisturbed run: {report}")


# ── what the world does ─────────────────────────────────────────────────────────────────────────


def time_passes(world: World) -> bool:
    """To just when something that goes by the clock has changed."""
    before = Form(world).of()
    while Form(world).of() == before:
        now = world.clock.now()
        later = min((date for date in dates(world) if date > now), default=None)
        if later is None:
            return False
        world.advance(later - now)
    return True


def dates(world: World) -> Iterator[datetime]:
    policy, held, now = world.policy, world.store.versions(), world.clock.now()
    for name in world.held_names() | {info.id for info in world.unknown()}:
        info = world.issuer._infos[name]
        for span in (SETTLE, policy.orphan_age / 2, policy.orphan_age, policy.rotate_every):
            yield info.created_at + span
        if info.expires_at is not None:
            yield from (info.expires_at - span for span in life_spans(policy))
        if info.last_used_at is not None:
            yield info.last_used_at + policy.reader_window
        if name in world.served:
            yield world.served[name] + policy.grace
    if held.promoted_at is not None:
        yield held.promoted_at + policy.grace
        yield held.promoted_at + policy.revoke_limit
    if any(Form(world).of()[-1]):
        turn = policy.orphan_age / 2
        yield BEGINS + ((now - BEGINS) // turn + 1) * turn


def killed(stage: str) -> Callable[[World], bool]:
    def move(world: World) -> bool:
        token = getattr(world.store.versions(), stage)
        if token is None or not world.alive(token):
            return False
        world.kill(token)
        return True

    return move


def previous_used(world: World) -> bool:
    previous = world.store.versions().previous
    if previous is None or not world.alive(previous):
        return False
    world.issuer.use(previous)
    return True


def orphan_used(world: World) -> bool:
    for info in world.unknown():
        world.issuer.use(world.issuer._tokens[info.id])
        return True
    return False


def put(world: World) -> bool:
    """``cmzon-secrets put`` of a token made in the dashboard."""
    held = world.store.versions()
    if held.pending or held.previous or by_hand_lives(world):
        return False
    token = world.from_dashboard()
    world.store.stage(token)
    world.store.promote(token.id, replacing=held.current.id if held.current else None)
    return True


def pasted_in_the_console(world: World) -> bool:
    """Whatever was held is gone from the store; of what was ours nobody knows any more."""
    if by_hand_lives(world):
        return False
    world.store.paste(world.from_dashboard().reveal())
    return True


def by_hand_lives(world: World) -> bool:
    return any(world.issuer._infos[i].name == "by hand" for i in world.issuer.live)


MOVES = {
    "time passes": time_passes,
    "CURRENT is killed": killed("current"),
    "PENDING is killed": killed("pending"),
    "PREVIOUS is killed": killed("previous"),
    "PREVIOUS is used": previous_used,
}
MOVES_BY_HAND = {"put": put, "pasted": pasted_in_the_console}


# ── what people and schedules ask for ───────────────────────────────────────────────────────────


def emergency(stage: str, *, replace: bool = True, by_id: bool = False) -> Callable:
    def act(world: World, rotator: Rotator) -> RotationReport | None:
        token = getattr(world.store.versions(), stage)
        if token is None:
            return None
        world.leaked = {world.name_of(token)}
        if by_id:
            return rotator.revoke(token_id=world.name_of(token), replace=replace)
        return rotator.revoke(stage=stage, replace=replace)

    return act


def everything(world: World, rotator: Rotator) -> RotationReport:
    world.leaked = world.held_names() | {info.id for info in world.unknown()}
    return rotator.revoke_all()


INTENTS = {
    "scheduled run": lambda world, rotator: rotator.run(),
    "forced run": lambda world, rotator: rotator.run(force=True),
    "rollback": lambda world, rotator: rotator.rollback(),
    "retire": lambda world, rotator: rotator.retire(),
    "prepare": lambda world, rotator: rotator.prepare(),
    "emergency": emergency("current"),
    "emergency without a successor": emergency("current", replace=False),
    "emergency of PREVIOUS": emergency("previous"),
    "emergency of PENDING": emergency("pending"),
    "emergency by the id of PREVIOUS": emergency("previous", by_id=True),
    "emergency by the id of CURRENT": emergency("current", by_id=True),
    "emergency of everything": everything,
}


# ── the proof ───────────────────────────────────────────────────────────────────────────────────

ALL = 10_000


@dataclass(frozen=True)
class Scope:
    """What is searched, and how many states at the least: a search that shrinks proves less."""

    policy: RotationPolicy
    moves: dict[str, Callable[[World], bool]]
    most_orphans: int
    mishaps_to_depth: int
    deepest: int
    at_least: int

    def search(self) -> Search:
        return Search(
            World(self.policy, begins=BEGINS),
            self.moves,
            INTENTS,
            self.most_orphans,
            self.mishaps_to_depth,
            self.deepest,
        )


BY_HAND = MOVES | MOVES_BY_HAND
SCOPES = {
    "tokens that never expire": Scope(POLICY, MOVES, 1, 2, ALL, 5000),
    "tokens that expire": Scope(EXPIRING, MOVES, 1, 1, 4, 400),
    "tokens put and pasted by hand": Scope(POLICY, BY_HAND, 1, 1, 4, 1200),
}
USED = MOVES | {"a lost one is used": orphan_used}
LONG_SCOPES = {
    "every mishap": Scope(POLICY, MOVES, 1, ALL, ALL, 5000),
    "tokens that expire": Scope(EXPIRING, MOVES, 1, 3, ALL, 5000),
    "tokens put and pasted by hand": Scope(POLICY, BY_HAND, 2, 3, ALL, 40_000),
    "lost tokens in use": Scope(POLICY, USED, 1, 3, ALL, 5000),
}
SEARCHED = LONG_SCOPES if LONG else SCOPES


@pytest.mark.timeout(7200 if LONG else 900)
@pytest.mark.parametrize("scope", SEARCHED.values(), ids=SEARCHED.keys())
def test_from_every_state_every_run_and_every_death_of_it_keeps_what_must_hold(scope: Scope):
    search = scope.search()
    search.explore()
    print(
        f"{len(search.seen)} states, {search.transitions} transitions, "
        f"{search.beyond} beyond {scope.most_orphans} lost tokens"
    )
    assert len(search.seen) >= scope.at_least
    assert search.transitions >= 10 * scope.at_least
