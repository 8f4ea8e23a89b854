"""Several rotators at once, on one account, in every order that Hypothesis thinks of.

Each rotator runs in a thread of its own, but moves only from one call to the next, and only when it
is told to: so a failure is the same each time, and shrinks. It can be killed at any stop.
``CMZON_EXAMPLES`` is the number of stories to try (default 60 for each store).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)

from cmzon_secrets.clock import Clock
from cmzon_secrets.errors import AuthenticationError
from cmzon_secrets.provider import TokenStore
from cmzon_secrets.rotation import RotationPolicy, RotationReport, Rotator
from cmzon_secrets.tokens import Token
from unit.rotation.world import (
    Broken,
    World,
    ends_with_current_alone,
    nothing_stays_lost,
    readers_are_served,
)
from unit.testing.test_suite_on_labels import Labels, LabelStore

pytestmark = pytest.mark.slow

EXAMPLES = int(os.environ.get("CMZON_EXAMPLES", "60"))
BEGINS = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
POLICY = RotationPolicy(
    "acme",
    rotate_every=8 * HOUR,
    expires_in=30 * HOUR,
    grace=30 * MINUTE,
    reader_ttl=8 * MINUTE,
    request_deadline=2 * MINUTE,
    revoke_limit=2 * HOUR,
    orphan_age=HOUR,
)
SUSPENDED = POLICY.orphan_age / 2
"""How long a run may take in all, suspended or slow: what docs/rotation.md asks for."""

SLOWEST = timedelta(seconds=50)
"""How long one call of a rollback may take."""


# ── rotators that move when they are told to ────────────────────────────────────────────────────


class Killed(BaseException):
    """The process is gone: nothing of ours may catch it."""


HERE = threading.local()
"""``HERE.actor``: whose thread this is."""


def stop() -> None:
    """A place where an actor waits to be told to go on; nobody else does."""
    actor = getattr(HERE, "actor", None)
    if actor is not None:
        actor.wait()


class Actor:
    """A rotator in a thread. It holds the only baton between ``step`` and the next stop."""

    def __init__(self, intent: str, work: Callable[[], RotationReport], now: datetime) -> None:
        self.intent = intent
        self.began = self.moved = now
        self.report: RotationReport | None = None
        self.trouble: BaseException | None = None
        self.over = False
        self._killed = False
        self._work = work
        self._go, self._stopped = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self._stopped.acquire()

    @property
    def may_kill_at_once(self) -> bool:
        """It was asked for by a person, who wants a token dead or PENDING out of the way."""
        return self.intent.startswith(("emergency", "rollback"))

    def step(self, now: datetime) -> None:
        self.moved = now
        self._go.release()
        self._stopped.acquire()
        if self.trouble is not None:
            raise self.trouble

    def kill(self, now: datetime) -> None:
        self._killed = True
        while not self.over:  # its ``finally`` blocks reach nothing any more
            self.step(now)

    def wait(self) -> None:
        self._stopped.release()
        self._go.acquire()
        if self._killed:
            raise Killed

    def _run(self) -> None:
        HERE.actor = self
        try:
            self.wait()
            self.report = self._work()
        except Killed:
            pass
        except BaseException as trouble:
            self.trouble = trouble
        finally:
            self.over = True
            self._stopped.release()


class StoppingLabels(Labels):
    """A service with native labels: every call of it is a stop, for CURRENT alone is guarded."""

    def describe(self):
        return _between_stops(super().describe)

    def put(self, version, text, label):
        return _between_stops(lambda: Labels.put(self, version, text, label))

    def move(self, label, *, to=None, remove_from=None):
        return _between_stops(lambda: Labels.move(self, label, to=to, remove_from=remove_from))

    def tag(self, text):
        return _between_stops(lambda: Labels.tag(self, text))


def _between_stops(call: Callable[[], object]) -> object:
    stop()
    answer = call()
    stop()
    return answer


# ── the machine ─────────────────────────────────────────────────────────────────────────────────

INTENTS: dict[str, Callable[[World, Rotator], RotationReport]] = {
    "scheduled run": lambda world, rotator: rotator.run(),
    "forced run": lambda world, rotator: rotator.run(force=True),
    "rollback": lambda world, rotator: rotator.rollback(),
    "retire": lambda world, rotator: rotator.retire(),
    "emergency": lambda world, rotator: rotator.revoke(),
    "emergency of PREVIOUS": lambda world, rotator: rotator.revoke(stage="previous"),
    "emergency of PENDING": lambda world, rotator: rotator.revoke(stage="pending"),
    "emergency of everything": lambda world, rotator: rotator.revoke_all(),
}
QUIET = ("scheduled run", "forced run", "retire", "rollback")


class Rotators(RuleBasedStateMachine):
    """``actors`` are under way; a reader keeps a token as long as the policy lets it."""

    actors = Bundle("actors")
    store: Callable[[Clock], TokenStore] | None = None
    stops_in_store = True

    @initialize(emergencies=st.booleans())
    def an_account_is_set_up(self, emergencies: bool) -> None:
        self.world = World(POLICY, begins=BEGINS, store=type(self).store)
        self.intents = tuple(INTENTS) if emergencies else QUIET
        self.under_way: list[Actor] = []
        self.in_dashboard: set[str] = set()
        self.left_undone = False
        self.read: Token | None = None
        self.read_at = BEGINS
        self.world.rotator().run()

    # ── rotators ────────────────────────────────────────────────────────────────────────────

    @rule(target=actors, number=st.integers(0, 7))
    def a_rotator_starts(self, number: int):
        if len(self.under_way) >= 3:
            return multiple()
        intent = self.intents[number % len(self.intents)]
        actor = Actor(intent, lambda: self.work(actor), self.world.clock.now())
        self.under_way.append(actor)
        return actor

    def work(self, actor: Actor) -> RotationReport:
        def around(call: str, perform: Callable[[], object], arguments: tuple) -> object:
            if call in ("versions", "stage", "promote", "discard") and not self.stops_in_store:
                return perform()
            stop()
            if call == "revoke":
                self.about_to_die(actor, arguments[0])
            answer = perform()
            stop()
            return answer

        return INTENTS[actor.intent](self.world, self.world.rotator(around))

    def about_to_die(self, actor: Actor, token: Token | str) -> None:
        HERE.actor = None  # to look at the world is no step of the actor
        try:
            if actor.may_kill_at_once:
                name = token if isinstance(token, str) else self.world.name_of(token)
                self.world.excused |= {name}
            elif why := self.world.may_not_die(token):
                raise Broken(f"a {actor.intent} revoked it, though {why}")
        finally:
            HERE.actor = actor

    @rule(actor=actors, steps=st.integers(1, 12))
    def a_rotator_goes_on(self, actor: Actor, steps: int) -> None:
        for _ in range(steps):
            if not actor.over:
                self.step(actor)

    def step(self, actor: Actor) -> None:
        actor.step(self.world.clock.now())
        self.world.note_current()
        readers_are_served(self.world)
        if actor.over:
            self.under_way.remove(actor)
            self.ended(actor)

    def ended(self, actor: Actor) -> None:
        """Whatever they did to each other, those that lived to their end leave a CURRENT that works."""
        report = actor.report
        assert report is not None
        assert "no end" not in report.reason, report
        if "run" in actor.intent and report.state == "done":
            self.left_undone = False
        current = self.world.store.versions().current
        if self.under_way or self.left_undone or current is None or self.world.alive(current):
            return
        name = self.world.name_of(current)
        if name not in self.in_dashboard and not current.expired(self.world.clock.now()):
            raise Broken(
                f"{name} is CURRENT and dead when all is over, last a {actor.intent}: {report}"
            )

    @rule(actor=consumes(actors))
    def a_rotator_is_killed(self, actor: Actor) -> None:
        if not actor.over:
            actor.kill(self.world.clock.now())
            self.under_way.remove(actor)
            self.left_undone = self.left_undone or actor.may_kill_at_once

    # ── time ────────────────────────────────────────────────────────────────────────────────

    @rule(seconds=st.sampled_from([1, 5, 15, 45, 120, 600, 1500]))
    def time_passes(self, seconds: int) -> None:
        span = timedelta(seconds=seconds)
        until = self.world.clock.now() + span
        slow = any(until > a.moved + SLOWEST for a in self.under_way if a.intent == "rollback")
        if not slow and not any(until > a.began + SUSPENDED for a in self.under_way):
            self.pass_time(span)

    @precondition(lambda self: not self.under_way)
    @rule(span=st.sampled_from([HOUR, 2 * HOUR, 8 * HOUR]))
    def much_time_passes(self, span: timedelta) -> None:
        self.pass_time(span)

    @precondition(lambda self: not self.under_way)
    @rule(which=st.integers(0, 3), early=st.sampled_from([1, 10, 70]))
    def a_date_comes_near(self, which: int, early: int) -> None:
        """So that it passes in the middle of a run."""
        held, policy = self.world.store.versions(), self.world.policy
        promoted, born = held.promoted_at, held.current.issued_at if held.current else None
        dates = (
            promoted and promoted + policy.grace,
            promoted and promoted + policy.revoke_limit,
            born and born + policy.orphan_age,
            born and born + policy.rotate_every,
        )
        date = dates[which]
        span = date - self.world.clock.now() - timedelta(seconds=early) if date else None
        if span is not None and span > timedelta(0):
            self.pass_time(span)

    def pass_time(self, span: timedelta) -> None:
        self.world.note_current()
        self.world.clock.advance(span)

    # ── the world ───────────────────────────────────────────────────────────────────────────

    @rule()
    def a_reader_sends(self) -> None:
        """With the token that it keeps, as long as it may, then with a new one."""
        now = self.world.clock.now()
        if self.read is None or now > self.read_at + POLICY.reader_window:
            current = self.world.store.versions().current
            if current is None:
                return
            self.read, self.read_at = current, now
        try:
            self.world.issuer.use(self.read)
        except AuthenticationError:
            name = self.world.name_of(self.read)
            expires = self.world.issuer._infos[name].expires_at
            expired = expires is not None and expires <= now
            if name not in self.world.excused and not expired:
                raise Broken(f"a reader's {name} was refused") from None
            self.read = None

    @rule(stage=st.sampled_from(["current", "pending", "previous"]))
    def somebody_kills_one_in_the_dashboard(self, stage: str) -> None:
        token = getattr(self.world.store.versions(), stage)
        if token is not None and self.world.alive(token):
            self.world.kill(token)
            self.in_dashboard.add(self.world.name_of(token))

    @rule()
    def a_forgotten_reader_uses_previous(self) -> None:
        previous = self.world.store.versions().previous
        if previous is not None and self.world.alive(previous):
            self.world.issuer.use(previous)

    # ── what must hold ──────────────────────────────────────────────────────────────────────

    @invariant()
    def readers_get_a_token_that_works(self) -> None:
        if hasattr(self, "world"):
            readers_are_served(self.world)

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        try:
            while self.under_way:
                for actor in tuple(self.under_way):
                    self.step(actor)
            self.world.rotator().run()
            nothing_stays_lost(self.world)
            ends_with_current_alone(self.world)
        finally:
            for actor in self.under_way:
                actor.kill(self.world.clock.now())


class OnMemory(Rotators):
    """A store that guards every stage."""


class OnLabels(Rotators):
    """A store that guards CURRENT alone."""

    stops_in_store = False

    @staticmethod
    def store(clock: Clock) -> TokenStore:
        return LabelStore(StoppingLabels(), clock)


PROFILE = settings(
    max_examples=EXAMPLES,
    stateful_step_count=40,
    deadline=None,
    derandomize="CMZON_EXAMPLES" not in os.environ,
    suppress_health_check=list(HealthCheck),
)
TestOnMemory = pytest.mark.slow(OnMemory.TestCase)
TestOnLabels = pytest.mark.slow(OnLabels.TestCase)
TestOnMemory.settings = TestOnLabels.settings = PROFILE
