"""Any store against the pure rules, over random sequences of verbs."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, ClassVar

import pytest

from cmzon_secrets.clock import SYSTEM_CLOCK
from cmzon_secrets.errors import ConflictError, TokenNotFound
from cmzon_secrets.provider import TokenStore
from cmzon_secrets.testing.conformance.store_hooks import StoreHooks, facts, new_token, seen
from cmzon_secrets.testing.memory_store import MemoryStore
from cmzon_secrets.tokens import Token, Versions

__all__ = ["Model", "Modelled"]


class Model(MemoryStore):
    """The rules of ``cmzon_secrets.stages`` applied to a variable: what every store must equal."""

    def __init__(
        self, held: Versions | None = None, *, first_stage_is_current: bool = False
    ) -> None:
        super().__init__()
        self._memory.save(held or Versions())
        self._first_stage_is_current = first_stage_is_current

    def stage(self, token: Token) -> None:
        if self._first_stage_is_current and self.versions() == Versions():
            self._memory.save(Versions(current=token))
        else:
            super().stage(token)


class Modelled(StoreHooks):
    """Needs hypothesis."""

    def test_any_sequence_of_verbs_gives_what_the_pure_rules_give(
        self, new_place: Callable[[], Any]
    ) -> None:
        pytest.importorskip("hypothesis", reason="not run: state machine (no hypothesis)")
        from hypothesis import HealthCheck, settings
        from hypothesis.stateful import run_state_machine_as_test

        run_state_machine_as_test(
            _machine(self, new_place),
            settings=settings(
                max_examples=self.model_examples,
                stateful_step_count=self.model_steps,
                deadline=None,
                database=None,
                suppress_health_check=list(HealthCheck),
            ),
        )


class _Twins:
    """A store and its model, told the same."""

    def __init__(self, suite: StoreHooks, place: Any) -> None:
        self._suite = suite
        self._place = place
        self._handles = ExitStack()
        self.model = Model(first_stage_is_current=suite.first_stage_is_current)
        self.reopen()

    def reopen(self) -> None:
        self.store = self._handles.enter_context(self._suite.open(self._place, SYSTEM_CLOCK))

    def both(self, verb: Callable[[TokenStore], None]) -> None:
        assert _outcome(lambda: verb(self.store)) == _outcome(lambda: verb(self.model))
        assert seen(self.store.versions()) == seen(self.model.versions())
        assert _outcome(lambda: facts(self.store.get())) == _outcome(
            lambda: facts(self.model.get())
        )

    def close(self) -> None:
        self._handles.close()


def _outcome(call: Callable[[], object]) -> object:
    try:
        return call()
    except (ConflictError, TokenNotFound) as error:
        return type(error)


def _pool() -> list[Token]:
    """Four tokens, one with the id of another, one with the value of another."""
    one, two, three = new_token(), new_token(), new_token()
    return [one, two, three, new_token(id=one.id), new_token(two.reveal())]


def _machine(suite: StoreHooks, new_place: Callable[[], Any]) -> Any:
    from hypothesis import strategies as st
    from hypothesis.stateful import RuleBasedStateMachine, rule

    pool = _pool()
    tokens = st.sampled_from(pool)
    ids = st.sampled_from(sorted({t.id for t in pool}))

    class Machine(RuleBasedStateMachine):
        __name__: ClassVar[str] = "StoreAgainstTheRules"

        def __init__(self) -> None:
            super().__init__()
            self.twins = _Twins(suite, new_place())

        @rule(token=tokens)
        def stage(self, token: Token) -> None:
            self.twins.both(lambda s: s.stage(token))

        @rule(token_id=ids, replacing=st.none() | ids)
        def promote(self, token_id: str, replacing: str | None) -> None:
            self.twins.both(lambda s: s.promote(token_id, replacing=replacing))

        @rule(token=tokens, forget=st.booleans())
        def rotate(self, token: Token, forget: bool) -> None:
            """What a rotator does: most random sequences never get as far."""
            held = self.twins.model.versions()
            if forget and held.previous is not None:
                previous = held.previous.id
                self.twins.both(lambda s: s.discard(previous))
            self.twins.both(lambda s: s.stage(token))
            current = held.current.id if held.current is not None else None
            self.twins.both(lambda s: s.promote(token.id, replacing=current))

        @rule(token_id=ids)
        def discard(self, token_id: str) -> None:
            self.twins.both(lambda s: s.discard(token_id))

        @rule()
        def reopen(self) -> None:
            self.twins.reopen()

        def teardown(self) -> None:
            self.twins.close()

    return Machine
