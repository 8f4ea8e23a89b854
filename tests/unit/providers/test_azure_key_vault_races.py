"""The protocol that stands in for a compare-and-set, over thousands of interleavings.

The store's own code runs against secrets in memory. A scheduler lets one rotator go on at a time, from
one request to the next, and decides when time passes, when a request arrives twice (once late), when
a rotator is stopped for minutes, and when it dies. What must hold then is what the contract says of ``cas = "detected"``.
"""

import random
import threading
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cmzon_secrets import Token
from cmzon_secrets.clouds.azure import Refused
from cmzon_secrets.errors import ConflictError
from cmzon_secrets.providers.azure_key_vault import AzureKeyVault

STEPS = (0.0, 0.0, 0.05, 0.4, 1.1)
"""Seconds that may pass between two requests."""


class Death(BaseException):
    """This rotator is no more."""


class World:
    """Secrets in memory, their server's clock, and who goes next."""

    def __init__(self, seed, *, resend=0.0, die=0.0, stall=0.04):
        self.chance = random.Random(seed)
        self.stall = stall
        self.resend, self.die = resend, die
        self.now = 1_800_000_000.3
        self.secrets = {}
        self.late = []
        self.actors = []
        self.turn = threading.Semaphore(0)
        self.acting = None

    # the service

    def put(self, name, value, tags, expires_on):
        properties = SimpleNamespace(
            version=f"{self.chance.getrandbits(128):032x}",
            created_on=datetime.fromtimestamp(int(self.now), UTC),
            enabled=True,
            tags=dict(tags),
            expires_on=expires_on,
            order=(int(self.now), self.chance.random()),  # within a second: nobody knows
        )
        version = SimpleNamespace(properties=properties, value=value)
        self.secrets.setdefault(name, []).append(version)
        return version

    def latest(self, name):
        return max(self.secrets.get(name, []), key=lambda v: v.properties.order, default=None)

    def find(self, name, version):
        return next((v for v in self.secrets[name] if v.properties.version == version), None)

    # who goes next

    def act(self, function):
        actor = SimpleNamespace(go=threading.Semaphore(0), until=0.0, outcome=None, done=False)

        def run():
            actor.go.acquire()
            try:
                actor.outcome = function()
            except ConflictError:
                actor.outcome = "conflict"
            except Death:
                actor.outcome = "dead"
            finally:
                actor.done = True
                self.turn.release()

        actor.thread = threading.Thread(target=run, daemon=True)
        actor.thread.start()
        self.actors.append(actor)
        return actor

    def run(self):
        while waiting := [a for a in self.actors if not a.done]:
            self.now += self.chance.choice(STEPS)
            ready = [a for a in waiting if a.until <= self.now]
            if not ready:
                self.now = min(a.until for a in waiting)
                continue
            if self.late and self.chance.random() < 0.2:
                self.put(*self.late.pop(self.chance.randrange(len(self.late))))
            self.acting = self.chance.choice(ready)
            self.acting.go.release()
            self.turn.acquire()
        while self.late:
            self.now += self.chance.choice(STEPS)
            self.put(*self.late.pop())
        self.acting = None
        self.now += 5
        return [a.outcome for a in self.actors]

    def pause(self, seconds, *, stall=None):
        actor = self.acting
        if actor is None:
            self.now += seconds
            return
        stalled = self.chance.uniform(1, 300) if self.chance.random() < (stall or self.stall) else 0
        actor.until = self.now + seconds + stalled
        self.turn.release()
        actor.go.acquire()
        if self.die and self.chance.random() < self.die:
            raise Death


class Calls:
    """As ``clouds.azure.Calls``, without a network."""

    def __init__(self, world):
        self._world = world
        self.secrets = Client(world)

    @property
    def server_time(self):
        return datetime.fromtimestamp(int(self._world.now), UTC)

    def ask(self, request, *args, expecting=(), **more):
        promotes = "tags" in more and "token" in args
        self._world.pause(0, stall=0.6 if promotes else None)
        answer = request(*args, **more)
        self._world.pause(0)
        return answer

    def pause(self, seconds):
        self._world.pause(seconds)


class Client:
    """As the SDK's, for the methods that are used."""

    def __init__(self, world):
        self._world = world

    def get_secret(self, name, version=None):
        found = self._world.find(name, version) if version else self._world.latest(name)
        if found is None:
            raise Refused(404, "SecretNotFound")
        if not found.properties.enabled:
            raise Refused(403, "SecretDisabled")
        return found

    def set_secret(self, name, value, *, tags, content_type, expires_on):
        if self._world.chance.random() < self._world.resend:
            self._world.late.append((name, value, tags, expires_on))
        return self._world.put(name, value, tags, expires_on)

    def get_deleted_secret(self, name):
        raise Refused(404, "SecretNotFound")

    def update_secret_properties(self, name, version, *, enabled):
        assert self._world.find(name, version) is not self._world.latest(name), "all would fail"
        self._world.find(name, version).properties.enabled = enabled

    def list_properties_of_secret_versions(self, name):
        found = [v.properties for v in self._world.secrets.get(name, [])]
        return SimpleNamespace(by_page=lambda: iter([sorted(found, key=lambda p: p.version)]))


def store_in(world):
    vault = SimpleNamespace(
        host="v.vault.azure.net",
        uri=lambda kind, name: f"azurekeyvault://v/{kind}/{name}",
        begin=lambda *_, **__: Calls(world),
    )
    return AzureKeyVault(vault, "token")


OLD, STAGED, MINE, THEIRS, NEXT = (Token(f"value-{n}", id=f"tok_{n}") for n in range(5))


def place(world):
    """CURRENT is OLD and STAGED is pending."""
    store = store_in(world)
    store.create()
    store.stage(OLD)
    store.promote(OLD.id, replacing=None)
    store.stage(STAGED)
    return store


def promoter(world):
    def act():
        store_in(world).promote(STAGED.id, replacing=OLD.id)
        return STAGED

    return act


def replacer(world, token):
    """Throws away what is staged and promotes its own."""

    def act():
        store = store_in(world)
        store.discard(STAGED.id)
        store.stage(token)
        store.promote(token.id, replacing=OLD.id)
        return token

    return act


def follower(world):
    """Rotates once more, on top of what it finds."""

    def act():
        store = store_in(world)
        seen = store.versions()
        if seen.current == OLD:
            return "nothing"
        if seen.previous is not None:
            store.discard(seen.previous.id)
        if seen.pending is not None:
            store.discard(seen.pending.id)
        store.stage(NEXT)
        store.promote(NEXT.id, replacing=seen.current.id)
        return NEXT

    return act


def won(outcomes):
    return [o for o in outcomes if isinstance(o, Token)]


WORLDS = {
    "calm": {},
    "requests arrive twice": {"resend": 0.4},
    "rotators die": {"die": 0.03},
    "both": {"resend": 0.3, "die": 0.03},
}


@pytest.mark.slow
class TestTheProtocol:
    @pytest.mark.parametrize("weather", WORLDS.values(), ids=WORLDS)
    @given(seed=st.integers(0, 2**64))
    @settings(max_examples=120, deadline=None, database=None)
    def test_of_rotators_that_disagree_at_most_one_is_told_that_it_won_and_it_did(
        self, weather, seed
    ):
        world = World(seed, **weather)
        store = place(world)
        for act in (promoter(world), replacer(world, MINE), replacer(world, THEIRS)):
            world.act(act)
        outcomes = world.run()
        winners = won(outcomes)
        assert len(winners) <= 1, outcomes
        view = store.versions()
        for winner in winners:
            assert view.current == winner
            assert view.previous == OLD
        assert store.get() == view.current
        if not weather.get("die"):
            assert len(winners) == 1, outcomes
        assert view == store.versions()

    @pytest.mark.parametrize("weather", WORLDS.values(), ids=WORLDS)
    @given(seed=st.integers(0, 2**64))
    @settings(max_examples=80, deadline=None, database=None)
    def test_a_further_rotation_in_their_midst_is_never_undone(self, weather, seed):
        world = World(seed, **weather)
        store = place(world)
        for act in (promoter(world), replacer(world, MINE), follower(world)):
            world.act(act)
        outcomes = world.run()
        view = store.versions()
        if NEXT in won(outcomes):
            assert view.current == NEXT
        elif won(outcomes):
            unheard = [NEXT] if outcomes[-1] == "dead" else []
            assert view.current in [*won(outcomes), *unheard]
        assert store.get() == view.current
        assert OLD not in (view.pending, view.current) or not won(outcomes)

    @given(seed=st.integers(0, 2**64))
    @settings(max_examples=80, deadline=None, database=None)
    def test_of_those_who_stage_one_wins_and_the_others_are_told(self, seed):
        world = World(seed, resend=0.3)
        store = place(world)
        store.discard(STAGED.id)
        for token in (MINE, THEIRS, NEXT):
            world.act(lambda token=token: store_in(world).stage(token) or token)
        winners = won(world.run())
        assert len(winners) == 1
        assert store.versions().pending == winners[0]

    @given(seed=st.integers(0, 2**64))
    @settings(max_examples=80, deadline=None, database=None)
    def test_what_somebody_pastes_meanwhile_is_never_written_over(self, seed):
        """Who looked before and comes after it is told. Within one second nobody can say who came last."""
        world = World(seed)
        store = place(world)
        world.act(promoter(world))
        world.act(lambda: Calls(world).ask(world.put, "token", "pasted", {}, None) and None)
        told = world.run()[0] == "conflict"
        when = {v.value: int(v.properties.order[0]) for v in reversed(world.secrets["token"])}
        promoted = when.get(STAGED.reveal())
        if promoted != when["pasted"]:
            assert store.get() == store.versions().current == Token("pasted")
            assert told or when["pasted"] > promoted

    def test_without_the_protocol_two_would_win(self):
        """The scheduler does find what the protocol is for: a writer that only looks and writes."""
        doubles = 0
        for seed in range(300):
            world = World(seed)
            place(world)

            def careless(token, world=world):
                calls = Calls(world)
                seen = calls.ask(calls.secrets.get_secret, "token").value
                if seen != OLD.reveal():
                    return None
                calls.ask(world.put, "token", token.reveal(), {}, None)
                return token

            for token in (MINE, THEIRS):
                world.act(lambda token=token, careless=careless: careless(token))
            doubles += len(won(world.run())) == 2
        assert doubles > 30
