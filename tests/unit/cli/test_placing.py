"""How a token from outside becomes CURRENT, and what is left where that fails."""

from __future__ import annotations

import pytest

from cmzon_secrets.cli.placing import place
from cmzon_secrets.errors import ConflictError, ProviderUnavailable
from cmzon_secrets.testing import MemoryStore
from cmzon_secrets.tokens import Token

A, B, C = (Token(f"value-{name}", id=f"id-{name}") for name in "abc")


class FailsAt(MemoryStore):
    """A store whose ``verb`` raises once, before or after it has taken effect."""

    def __init__(self, verb: str, error: BaseException, *, after: bool) -> None:
        super().__init__()
        self._verb, self._error, self._after = verb, error, after

    def _fail(self, verb, act):
        armed, self._verb = self._verb == verb, "" if self._verb == verb else self._verb
        if armed and not self._after:
            raise self._error
        act()
        if armed:
            raise self._error

    def stage(self, token):
        self._fail("stage", lambda: MemoryStore.stage(self, token))

    def promote(self, token_id, *, replacing):
        self._fail("promote", lambda: MemoryStore.promote(self, token_id, replacing=replacing))


def holding(store, *, current=None, pending=None, previous=None):
    for token, replacing in ((previous, None), (current, previous)):
        if token is not None:
            store.stage(token)
            store.promote(token.id, replacing=replacing and replacing.id)
    if pending is not None:
        store.stage(pending)
    return store


def test_in_an_empty_store_it_becomes_current():
    store = MemoryStore()
    placed = place(store, A, discard=False)
    assert placed.changed
    assert (placed.replaced, placed.forgotten) == (None, ())
    assert store.get() == A


def test_what_was_current_becomes_previous():
    store = holding(MemoryStore(), current=A)
    assert place(store, B, discard=False).replaced == A
    held = store.versions()
    assert (held.current, held.pending, held.previous) == (B, None, A)


def test_what_is_current_already_changes_nothing_even_while_a_previous_is_held():
    store = holding(MemoryStore(), current=B, previous=A)
    before = store.versions()
    assert not place(store, Token("value-b"), discard=False).changed
    assert store.versions() == before


@pytest.mark.parametrize("obstacle", ["pending", "previous"])
def test_another_token_in_the_way_is_refused_with_the_remedy(obstacle):
    store = holding(MemoryStore(), current=A, **{obstacle: B})
    before = store.versions()
    with pytest.raises(ConflictError) as caught:
        place(store, C, discard=False)
    assert obstacle.upper() in caught.value.message
    assert "--discard-previous" in (caught.value.hint or "")
    assert store.versions() == before


def test_it_is_forgotten_where_that_was_asked_for():
    store = holding(MemoryStore(), current=B, previous=A, pending=C)
    placed = place(store, Token("value-d"), discard=True)
    assert set(placed.forgotten) == {A, C}
    held = store.versions()
    assert (held.current, held.pending, held.previous) == (Token("value-d"), None, B)


def test_a_token_that_is_pending_is_only_promoted_and_keeps_its_id():
    store = holding(MemoryStore(), current=A, pending=B)
    place(store, Token("value-b"), discard=False)
    assert store.get().id == "id-b"


def test_a_token_that_is_previous_comes_back_and_keeps_its_id():
    store = holding(MemoryStore(), current=B, previous=A)
    place(store, Token("value-a"), discard=False)
    held = store.versions()
    assert held.current is not None
    assert held.current.id == "id-a"
    assert held.previous == B


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ProviderUnavailable("down")])
@pytest.mark.parametrize("verb", ["stage", "promote"])
@pytest.mark.parametrize("after", [False, True])
def test_a_failure_leaves_the_old_state_or_the_new_one(error, verb, after):
    store = FailsAt("", error, after=after)
    holding(store, current=A)
    store._verb = verb
    before = store.versions()
    with pytest.raises(type(error)):
        place(store, B, discard=False)
    held = store.versions()
    if verb == "promote" and after:
        assert (held.current, held.pending, held.previous) == (B, None, A)
    else:
        assert held == before


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ProviderUnavailable("down")])
def test_a_rollback_that_fails_does_not_forget_the_previous_token(error):
    store = FailsAt("", error, after=False)
    holding(store, current=B, previous=A)
    store._verb = "promote"
    with pytest.raises(type(error)):
        place(store, A, discard=False)
    assert store.versions().previous == A
