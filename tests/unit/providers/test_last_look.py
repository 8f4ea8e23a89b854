"""What a handle remembers of its last look: for one verb, and no longer than the view is held."""

import gc
import weakref

import pytest

from cmzon_secrets.providers.last_look import LastLook
from cmzon_secrets.testing.conformance.store_hooks import new_token
from cmzon_secrets.tokens import Versions


class Found:
    """Something that can be seen to be gone."""


@pytest.fixture(autouse=True)
def no_collector():
    """Nothing here may need the garbage collector to be forgotten."""
    gc.disable()
    yield
    gc.enable()


def test_what_was_found_is_had_once():
    last, view, found = LastLook(), Versions(new_token()), Found()
    last.keep(view, found)
    assert last.take() == (view, found)
    assert last.take() is None


def test_it_is_forgotten_as_soon_as_nobody_holds_the_view():
    last, view, found = LastLook(), Versions(new_token()), Found()
    gone = weakref.ref(found)
    last.keep(view, found)
    del view, found
    assert gone() is None
    assert last.take() is None


@pytest.mark.parametrize("how", ["forget", "keep", "take"])
def test_it_is_forgotten_with_the_next_look_after_one_verb_and_on_close(how):
    last, view, found = LastLook(), Versions(new_token()), Found()
    gone = weakref.ref(found)
    last.keep(view, found)
    del found
    other = Versions(new_token())
    {"forget": last.forget, "keep": lambda: last.keep(other, None), "take": last.take}[how]()
    assert gone() is None


def test_two_equal_views_are_two_looks():
    """The one that died takes only its own memory along."""
    last, token = LastLook(), new_token()
    first, second = Versions(token), Versions(token)
    last.keep(first, 1)
    last.keep(second, 2)
    del first
    assert last.take() == (second, 2)


def test_nothing_of_a_token_is_shown():
    last, token = LastLook(), new_token()
    view = Versions(token)
    last.keep(view, view.promoted_at)
    assert token.reveal() not in f"{last!r} {vars(last)}"
