"""A crash between any two low-level calls, and the verb repeated by somebody else."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from cmzon_secrets.errors import ConflictError, TokenNotFound
from cmzon_secrets.provider import TokenStore
from cmzon_secrets.testing.clock import ManualClock
from cmzon_secrets.testing.conformance.store_hooks import (
    StoreHooks,
    bootstrap,
    facts,
    new_token,
    rotate_to,
    seen,
)
from cmzon_secrets.testing.conformance.store_model import Model
from cmzon_secrets.tokens import Token, Versions

__all__ = ["Crashes"]

Opened = Callable[..., TokenStore]


class Crash(BaseException):
    """The process dies here; not an Exception, so no error mapping catches it."""


class _Steps:
    """Counts low-level steps and crashes at one of them; 0: at none."""

    def __init__(self, crash_at: int) -> None:
        self.crash_at = crash_at
        self.taken = 0

    def __call__(self) -> None:
        self.taken += 1
        if self.taken == self.crash_at:
            raise Crash


@dataclass(frozen=True, slots=True)
class _Tokens:
    first: Token
    second: Token


@dataclass(frozen=True, slots=True)
class _Scene:
    """``prepare`` a place, then the ``verb`` that crashes."""

    prepare: Callable[[TokenStore, _Tokens], object]
    verb: Callable[[TokenStore, _Tokens], None]
    promotes: bool = False


def _empty(store: TokenStore, t: _Tokens) -> None:
    """Nothing has ever been stored."""


def _at_rest(store: TokenStore, t: _Tokens) -> None:
    bootstrap(store, t.first)


def _staged(store: TokenStore, t: _Tokens) -> None:
    _at_rest(store, t)
    store.stage(t.second)


def _rotated(store: TokenStore, t: _Tokens) -> None:
    _at_rest(store, t)
    rotate_to(store, t.second, replacing=t.first)


def _rolling_back(store: TokenStore, t: _Tokens) -> None:
    _rotated(store, t)
    store.stage(t.first)


SCENES = {
    "stage into an empty place": _Scene(_empty, lambda s, t: s.stage(t.first)),
    "stage": _Scene(_at_rest, lambda s, t: s.stage(t.second)),
    "first promote": _Scene(
        lambda s, t: s.stage(t.first),
        lambda s, t: s.promote(t.first.id, replacing=None),
        promotes=True,
    ),
    "promote": _Scene(
        _staged, lambda s, t: s.promote(t.second.id, replacing=t.first.id), promotes=True
    ),
    "promote back": _Scene(
        _rolling_back, lambda s, t: s.promote(t.first.id, replacing=t.second.id), promotes=True
    ),
    "discard a pending": _Scene(_staged, lambda s, t: s.discard(t.second.id)),
    "discard a previous": _Scene(_rotated, lambda s, t: s.discard(t.first.id)),
}


class Crashes(StoreHooks):
    """Needs the hook ``steps``."""

    @pytest.mark.parametrize("scene", SCENES.values(), ids=SCENES)
    def test_a_crash_at_any_step_loses_nothing_and_repeating_completes(
        self, scene: _Scene, new_place: Callable[[], Any], opened: Opened
    ) -> None:
        """Before the repeat a reader sees the old or the new stages, after it only the new."""
        for crash_at in self.crash_points(scene, new_place(), opened):
            self.crash_and_repeat(scene, crash_at, new_place(), opened)

    @pytest.mark.parametrize("scene", SCENES.values(), ids=SCENES)
    def test_after_a_crash_at_any_step_somebody_else_can_do_something_else(
        self, scene: _Scene, new_place: Callable[[], Any], opened: Opened
    ) -> None:
        """What the dead process began is in nobody's way: tidy up, stage, promote."""
        for crash_at in self.crash_points(scene, new_place(), opened):
            place = new_place()
            tokens = _Tokens(new_token(), new_token())
            scene.prepare(opened(place), tokens)
            self.crash(scene, crash_at, tokens, place, partial(opened, place))
            self.move_on(opened(place), where=f"crash at step {crash_at}")

    def move_on(self, store: TokenStore, *, where: str) -> None:
        """Whatever is found, the next token becomes CURRENT."""
        found, following = store.versions(), new_token()
        for leftover in (found.pending, found.previous):
            if leftover is not None:
                store.discard(leftover.id)
        store.stage(following)
        store.promote(following.id, replacing=found.current.id if found.current else None)
        after = Versions(current=following, previous=found.current)
        assert seen(store.versions()) == seen(after), where

    def crash_points(self, scene: _Scene, place: Any, opened: Opened) -> range:
        """The steps at which to crash: all, or evenly picked where there are many."""
        total = self.steps_of(scene, place, opened)
        assert total > 0, "the hook `steps` saw no call of this verb"
        return range(1, total + 1, -(-total // self.max_crash_points))

    def steps_of(self, scene: _Scene, place: Any, opened: Opened) -> int:
        """How many steps the verb takes when nothing goes wrong."""
        tokens = _Tokens(new_token(), new_token())
        scene.prepare(opened(place), tokens)
        steps = _Steps(crash_at=0)
        with self.ask(self.steps, place, steps):
            scene.verb(opened(place), tokens)
        return steps.taken

    def crash_and_repeat(self, scene: _Scene, crash_at: int, place: Any, opened: Opened) -> None:
        """One crash, judged before and after the repeat."""
        tokens = _Tokens(new_token(), new_token())
        scene.prepare(opened(place), tokens)
        before, after = self.both_ends(scene, place, opened, tokens)
        clock = ManualClock()
        died_at = clock.now()

        def reopen() -> TokenStore:
            return opened(place, clock) if self.takes_clock else opened(place)

        self.crash(scene, crash_at, tokens, place, reopen)
        clock.advance(3600)
        where = f"crash at step {crash_at}"
        assert seen(opened(place).versions()) in (before, after), where
        assert self.current_of(opened(place)) in (before["CURRENT"], after["CURRENT"]), where
        with suppress(*self.repeat_may_raise(scene)):
            scene.verb(reopen(), tokens)
        view = opened(place).versions()
        assert seen(view) == after, where
        if scene.promotes and self.takes_clock and before != after:  # else it was CURRENT before
            assert view.promoted_at is not None
            assert view.promoted_at > died_at - self.precision, f"{where}: grace begins too early"

    def crash(
        self,
        scene: _Scene,
        crash_at: int,
        tokens: _Tokens,
        place: Any,
        reopen: Callable[[], TokenStore],
    ) -> None:
        """Begin the verb on a new handle and die at this step."""
        with self.ask(self.steps, place, _Steps(crash_at)), suppress(Crash):
            scene.verb(reopen(), tokens)

    def repeat_may_raise(self, scene: _Scene) -> tuple[type[ConflictError], ...]:
        """A first value that is CURRENT at once can only be refused as a PENDING."""
        first = scene is SCENES["stage into an empty place"]
        return (ConflictError,) if first and self.first_stage_is_current else ()

    def both_ends(
        self, scene: _Scene, place: Any, opened: Opened, t: _Tokens
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """The stages before the verb and what they must be after it."""
        held = opened(place).versions()
        return seen(held), seen(self.expected(scene, held, t))

    def expected(self, scene: _Scene, held: Versions, t: _Tokens) -> Versions:
        """By the pure rules, from ``held``."""
        model = Model(held, first_stage_is_current=self.first_stage_is_current)
        scene.verb(model, t)
        return model.versions()

    def current_of(self, store: TokenStore) -> object:
        """What an application would get; None where there is nothing."""
        try:
            return facts(store.get())
        except TokenNotFound:
            return None
