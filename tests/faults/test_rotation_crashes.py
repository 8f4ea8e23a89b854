"""A rotation that dies before or after any call it makes is completed by the runs that follow.

Every scenario is run once to count its calls to store and issuer; then it is run again for each of
them, dying just before or just after that call, and is followed by ordinary scheduled runs.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from cmzon_secrets.errors import AuthenticationError
from cmzon_secrets.issuer import TokenRequest
from cmzon_secrets.rotation import RotationPolicy, Rotator
from cmzon_secrets.testing import ManualClock, MemoryStore
from cmzon_secrets.testing.memory_issuer import MemoryIssuer
from cmzon_secrets.tokens import Token

HOUR, DAY = 3600.0, 86400.0
CALLS = ("versions", "stage", "promote", "discard", "issue", "verify", "revoke", "list")


class Crash(BaseException):
    """The process is gone: nothing of ours may catch it."""


class Crashing:
    """Passes calls on to a store or issuer, and dies at the n-th of all calls counted."""

    def __init__(self, inner: object, fuse: Fuse) -> None:
        self._inner = inner
        self._fuse = fuse

    def __getattr__(self, name: str) -> object:
        found = getattr(self._inner, name)
        return self._fuse.around(found) if name in CALLS else found


class Fuse:
    def __init__(self, blows_at: int | None = None, *, before: bool = True) -> None:
        self.calls = 0
        self._blows_at = blows_at
        self._before = before

    def around(self, call: Callable) -> Callable:
        def guarded(*args: object, **kwargs: object) -> object:
            number = self.calls
            self.calls += 1
            if number == self._blows_at and self._before:
                raise Crash
            try:
                return call(*args, **kwargs)
            finally:
                if number == self._blows_at:
                    raise Crash

        return guarded


class World:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.store = MemoryStore(clock=self.clock)
        self.issuer = MemoryIssuer(clock=self.clock)
        self.policy = RotationPolicy("acme", expires_in=90 * DAY)

    def rotator(self, fuse: Fuse | None = None) -> Rotator:
        fuse = fuse or Fuse()
        return Rotator(
            Crashing(self.store, fuse), Crashing(self.issuer, fuse), self.policy, clock=self.clock
        )

    def promoted_once(self) -> World:
        self.rotator().run()
        return self

    def rotated(self) -> World:
        self.promoted_once().clock.advance(31 * DAY)
        self.rotator().run()
        return self


def pasted(world: World) -> None:
    token = world.issuer.issue(TokenRequest("dashboard"), idempotency_key="by hand")
    bare = Token(token.reveal())
    world.store.stage(bare)
    world.store.promote(bare.id, replacing=None)


def later(world: World, seconds: float) -> World:
    world.clock.advance(seconds)
    return world


def with_refused_pending(world: World) -> World:
    name = next(iter(world.issuer._infos.values())).name
    token = world.issuer.issue(TokenRequest(name), idempotency_key="refused")
    world.store.stage(token)
    world.issuer.revoke(token)
    return later(world, 2 * HOUR)


SCENARIOS: dict[str, tuple[Callable[[], World], Callable[[Rotator], object]]] = {
    "the first token": (World, Rotator.run),
    "a due token": (lambda: later(World().promoted_once(), 31 * DAY), Rotator.run),
    "a forced rotation": (lambda: World().promoted_once(), lambda r: r.run(force=True)),
    "a grace that is over": (lambda: later(World().rotated(), 25 * HOUR), Rotator.run),
    "a grace over and the next one due": (lambda: later(World().rotated(), 40 * DAY), Rotator.run),
    "a refused PENDING": (lambda: with_refused_pending(World().promoted_once()), Rotator.run),
    "a rollback": (lambda: World().rotated(), Rotator.rollback),
    "an emergency": (lambda: World().promoted_once(), Rotator.revoke),
    "an emergency within a grace": (lambda: World().rotated(), Rotator.revoke),
}


def call_count(name: str) -> int:
    make, act = SCENARIOS[name]
    fuse = Fuse()
    act(make().rotator(fuse))
    return fuse.calls


CASES = [
    pytest.param(
        name, number, before, id=f"{name}, {'before' if before else 'after'} call {number}"
    )
    for name in SCENARIOS
    for number, before in itertools.product(range(call_count(name)), (True, False))
]


@pytest.mark.parametrize(("name", "number", "before"), CASES)
def test_a_run_that_dies_is_completed_by_the_next(name, number, before):
    make, act = SCENARIOS[name]
    world = make()
    with pytest.raises(Crash):
        act(world.rotator(Fuse(number, before=before)))
    readers_get_a_live_token(world)
    settle(world)
    no_token_is_lost(world)
    assert world.store.versions().pending is None


@pytest.mark.parametrize("name", ["an emergency", "an emergency within a grace"])
def test_an_emergency_that_dies_and_is_repeated_by_id_kills_the_leaked_token_only(name):
    make, act = SCENARIOS[name]
    for number, before in itertools.product(range(call_count(name)), (True, False)):
        world = make()
        leaked = world.store.get()
        with pytest.raises(Crash):
            act(world.rotator(Fuse(number, before=before)))
        report = world.rotator().revoke(token_id=leaked.id)
        assert report.state == "done"
        assert leaked.id not in world.issuer.live
        assert world.store.get() != leaked
        readers_get_a_live_token(world)


def test_a_pasted_token_survives_every_crash_of_its_first_rotation():
    fuse = Fuse()
    world = World()
    pasted(world)
    world.rotator(fuse).run(force=True)
    for number, before in itertools.product(range(fuse.calls), (True, False)):
        world = World()
        pasted(world)
        with pytest.raises(Crash):
            world.rotator(Fuse(number, before=before)).run(force=True)
        readers_get_a_live_token(world)
        settle(world)
        no_token_is_lost(world)


def readers_get_a_live_token(world: World) -> None:
    if world.store.versions().current is None:
        return  # nothing was promised yet
    try:
        world.issuer.verify(world.store.get())
    except AuthenticationError:
        pytest.fail("a reader got a token that the API refuses")


def settle(world: World) -> None:
    """What a cron job does in the days after: one run every six hours, past every grace."""
    for _ in range(40):
        world.clock.advance(6 * HOUR)
        readers_get_a_live_token(world)
        world.rotator().run()
        readers_get_a_live_token(world)


def no_token_is_lost(world: World) -> None:
    held = {t.id for t in world.store.versions()}
    resolved = {world.issuer.verify(t).id for t in world.store.versions() if not t.has_issuer_id}
    assert world.issuer.live <= held | resolved, "a live token that the store does not know"
