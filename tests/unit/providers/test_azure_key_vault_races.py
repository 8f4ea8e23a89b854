"""The protocol that stands in for a compare-and-set, over thousands of interleavings.

The store's own code runs against secrets in memory. A scheduler lets one rotator go on at a time, from
one request to the next, and decides when time passes, when a request arrives twice (once late), when
a rotator is stopped for minutes, and when it dies. What must hold then is what the contract says of ``cas = "detected"``.
"""

import random
import threading
from datetime import UTC, datetime
from functools import partial
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cmzon_secrets import Token
from cmzon_secrets.clouds.azure import Refused
from cmzon_secrets.errors import ConflictError
from cmzon_secrets.providers.azure_key_vault import AzureKeyVault
from cmzon_secrets.stages import discarded, promoted, staged
from cmzon_secrets.tokens import Versions

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
        self.server_time = None

    def ask(self, request, *args, expecting=(), **more):
        promotes = "tags" in more and "token" in args
        self._world.pause(0, stall=0.6 if promotes else None)
        self.server_time = datetime.fromtimestamp(int(self._world.now), UTC)
        try:
            return request(*args, **more)
        finally:
            self._world.pause(0)

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


def looked(world):
    """A handle, and perhaps the view that it had of the place before it all began."""
    store = store_in(world)
    return store, store.versions() if world.chance.random() < 0.5 else None


def promoter(world):
    store, view = looked(world)

    def act(_=view):
        store.promote(STAGED.id, replacing=OLD.id)
        return STAGED

    return act


def replacer(world, token):
    """Throws away what is staged and promotes its own."""
    store, view = looked(world)

    def act(_=view):
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


def seen(view):
    return [t and (t.id, t.reveal()) for t in (view.current, view.pending, view.previous)]


class Watched:
    """A handle whose verbs are compared with the rules; each way of using it returns what is held then."""

    def __init__(self, world):
        self.world, self.chance = world, world.chance
        self.store = store_in(world)
        self.view = None
        self.ways = [self.look] * 3 + [self.let_go, self.paste]
        self.ways += [self.stage, self.promote, self.discard] * 3

    def look(self, model):
        self.view = self.store.versions()
        assert seen(self.view) == seen(model)
        return model

    def let_go(self, model):
        self.view = None
        return model

    def paste(self, model):
        self.world.now += 1  # of two in one second nobody can say which came last
        text = self.some(model).reveal()
        self.world.put("token", text, {}, None)
        return Versions(Token(text), model.pending)

    def stage(self, model):
        return self.told(staged, model, self.some(model))

    def promote(self, model):
        known = self.view or model
        current = self.chance.choice([known.current] * 3 + [None])
        token = self.chance.choice([known.pending or OLD] * 3 + [OLD])
        rule = partial(promoted, now=datetime(2027, 1, 1, tzinfo=UTC))
        return self.told(rule, model, token.id, replacing=current and current.id)

    def discard(self, model):
        return self.told(discarded, model, self.some(model).id)

    def some(self, model):
        """A token, rather one that was seen than any."""
        pool = [OLD, STAGED, MINE, Token("value-1", id="tok_other")]
        return self.chance.choice([*(self.view or model), *model, *pool])

    def told(self, rule, model, *args, **more):
        verb = getattr(self.store, {discarded: "discard", staged: "stage"}.get(rule, "promote"))
        try:
            after = rule(model, *args, **more)
        except ConflictError:
            with pytest.raises(ConflictError):
                verb(*args, **more)
            return model
        verb(*args, **more)
        return after


def won(outcomes):
    return [o for o in outcomes if isinstance(o, Token)]


WORLDS = {
    "calm": {},
    "requests arrive twice": {"resend": 0.4},
    "rotators die": {"die": 0.03},
    "both": {"resend": 0.3, "die": 0.03},
}


class TestAnOldLook:
    """A handle that looked before another one changed something, and still holds that view."""

    @pytest.fixture
    def world(self):
        return World(0)

    @pytest.fixture
    def ours(self, world):
        """CURRENT is STAGED, PREVIOUS is OLD, and nothing is pending."""
        store = place(world)
        store.promote(STAGED.id, replacing=OLD.id)
        return store

    @pytest.fixture
    def theirs(self, world):
        return store_in(world)

    def paste(self, world, text):
        world.put("token", text, {}, None)
        world.now += 1

    def test_it_does_not_hide_that_the_token_to_stage_was_pasted(self, world, ours):
        view = ours.versions()
        self.paste(world, MINE.reveal())
        with pytest.raises(ConflictError, match="CURRENT already"):
            ours.stage(MINE)
        assert (view.pending, ours.versions().pending) == (None, None)

    def test_it_does_not_hide_that_pending_was_discarded(self, ours, theirs):
        ours.discard(OLD.id)
        ours.stage(MINE)
        view = ours.versions()
        theirs.discard(MINE.id)
        with pytest.raises(ConflictError, match="not PENDING"):
            ours.promote(view.pending.id, replacing=view.current.id)
        assert theirs.get() == STAGED

    def test_nor_that_the_token_to_stage_was_staged_and_discarded(self, ours, theirs):
        view = ours.versions()
        theirs.stage(MINE)
        theirs.discard(MINE.id)
        ours.stage(MINE)
        assert view.pending is None
        assert theirs.versions().pending == MINE

    def test_nor_that_another_was(self, ours, theirs):
        view = ours.versions()
        theirs.stage(THEIRS)
        theirs.discard(THEIRS.id)
        ours.stage(MINE)
        assert view.pending is None
        assert theirs.versions().pending == MINE

    def test_nor_that_previous_is_being_rolled_back_to(self, ours, theirs):
        view = ours.versions()
        theirs.stage(OLD)
        ours.discard(OLD.id)
        assert view.previous == OLD
        assert list(theirs.versions()) == [STAGED]

    def test_nor_that_it_is_current_again(self, ours, theirs):
        theirs.stage(OLD)
        view = ours.versions()
        theirs.promote(OLD.id, replacing=STAGED.id)
        with pytest.raises(ConflictError, match="CURRENT"):
            ours.discard(view.pending.id)
        assert theirs.versions().current == OLD

    def test_nor_that_it_was_pasted_again(self, world, ours, theirs):
        ours.discard(OLD.id)
        self.paste(world, "pasted")
        ours.stage(MINE)
        ours.promote(MINE.id, replacing=Token("pasted").id)
        view = ours.versions()
        self.paste(world, "pasted")
        with pytest.raises(ConflictError, match="CURRENT"):
            ours.discard(view.previous.id)
        assert theirs.get() == Token("pasted")


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
            store, view = looked(world)
            world.act(lambda token=token, store=store, _=view: store.stage(token) or token)
        winners = won(world.run())
        assert len(winners) == 1
        assert store.versions().pending == winners[0]

    @given(seed=st.integers(0, 2**64))
    @settings(max_examples=80, deadline=None, database=None)
    def test_what_somebody_pastes_meanwhile_is_never_written_over(self, seed):
        """Who looked before and comes after it is told, and in the same second too."""
        world = World(seed)
        store = place(world)
        world.act(promoter(world))
        world.act(lambda: Calls(world).ask(world.put, "token", "pasted", {}, None) and None)
        told = world.run()[0] == "conflict"
        when = {v.value: int(v.properties.order[0]) for v in reversed(world.secrets["token"])}
        promoted = when.get(STAGED.reveal())
        view = store.versions()
        assert store.get() == view.current == Token("pasted")
        assert told or when["pasted"] >= promoted
        assert view.pending == (STAGED if told else None)

    @given(seed=st.integers(0, 2**64))
    @settings(max_examples=150, deadline=None, database=None)
    def test_who_looked_long_ago_is_answered_as_if_he_looked_now(self, seed):
        """Verb after verb, by three handles that hold old views or none: the rules say what is right."""
        world = World(seed)
        handles = [Watched(world) for _ in range(3)]
        handles[0].store.create()
        model = Versions()
        for _ in range(30):
            world.now += world.chance.choice(STEPS)
            handle = world.chance.choice(handles)
            model = world.chance.choice(handle.ways)(model)
        assert all(seen(handle.store.versions()) == seen(model) for handle in handles)

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
