"""The rules of the three stages, as tables: what is held, the verb, what is held then."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmzon_secrets import Token, Versions
from cmzon_secrets.errors import ConflictError
from cmzon_secrets.stages import discarded, promoted, staged

A, B, C = (Token(f"value-{name}", id=name) for name in "ABC")
A_WITH_ANOTHER_VALUE = Token("another-value", id="A")
A_WITH_ANOTHER_ID = Token("value-A", id="X")
THEN, NOW = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC)


def held(current=None, pending=None, previous=None, promoted_at=None):
    return Versions(current, pending, previous, promoted_at)


def test_stage_puts_a_token_beside_what_is_held():
    assert staged(held(), A) == held(pending=A)
    assert staged(held(A, promoted_at=THEN), B) == held(A, B, promoted_at=THEN)
    assert staged(held(A, None, B), C) == held(A, C, B)


def test_stage_of_previous_is_a_rollback_and_allowed():
    assert staged(held(A, None, B), B) == held(A, B, B)


@pytest.mark.parametrize("before", [held(pending=A), held(B, A), held(B, A, C), held(B, A, A)])
def test_stage_again_returns_the_same_view(before):
    assert staged(before, A) is before


STAGE_CONFLICTS = {
    "another PENDING": (held(pending=B), A),
    "another PENDING beside PREVIOUS of this id": (held(C, B, A), A),
    "CURRENT itself": (held(A), A),
    "CURRENT's id": (held(A), A_WITH_ANOTHER_VALUE),
    "CURRENT's value": (held(A), A_WITH_ANOTHER_ID),
    "CURRENT, although it is PENDING too": (held(A, A), A),
    "PENDING's id with another value": (held(B, A), A_WITH_ANOTHER_VALUE),
    "PENDING's value with another id": (held(B, A), A_WITH_ANOTHER_ID),
    "PREVIOUS's id with another value": (held(B, None, A), A_WITH_ANOTHER_VALUE),
}


@pytest.mark.parametrize(("before", "token"), STAGE_CONFLICTS.values(), ids=STAGE_CONFLICTS)
def test_stage_conflicts_with(before, token):
    with pytest.raises(ConflictError):
        staged(before, token)


def test_promote_moves_pending_to_current_and_current_to_previous():
    assert promote(held(pending=A), "A", None) == held(A, promoted_at=NOW)
    assert promote(held(A, B, promoted_at=THEN), "B", "A") == held(B, None, A, NOW)


def test_promote_back_swaps_the_two():
    assert promote(held(A, B, B, THEN), "B", "A") == held(B, None, A, NOW)


@pytest.mark.parametrize("replacing", [None, "A", "B", "C"])
@pytest.mark.parametrize("before", [held(A), held(A, B), held(A, None, C), held(A, B, C, THEN)])
def test_promote_of_current_is_already_done(before, replacing):
    assert promote(before, "A", replacing) is before


PROMOTE_CONFLICTS = {
    "nothing held": (held(), "A", None),
    "nothing PENDING": (held(A), "B", "A"),
    "another PENDING": (held(A, B), "C", "A"),
    "PREVIOUS, not PENDING": (held(A, None, B), "B", "A"),
    "another CURRENT": (held(A, B), "B", "C"),
    "a CURRENT where none was expected": (held(A, B), "B", None),
    "no CURRENT where one was expected": (held(None, B), "B", "A"),
    "another PREVIOUS": (held(A, B, C), "B", "A"),
}


@pytest.mark.parametrize(
    ("before", "token_id", "replacing"), PROMOTE_CONFLICTS.values(), ids=PROMOTE_CONFLICTS
)
def test_promote_conflicts_with(before, token_id, replacing):
    with pytest.raises(ConflictError):
        promote(before, token_id, replacing)


def test_discard_forgets_the_id_in_pending_and_previous():
    assert discarded(held(A, B, promoted_at=THEN), "B") == held(A, promoted_at=THEN)
    assert discarded(held(A, None, B), "B") == held(A)
    assert discarded(held(A, B, B), "B") == held(A)
    assert discarded(held(A, B, C), "C") == held(A, B)


@pytest.mark.parametrize("before", [held(), held(A), held(A, B, C)])
def test_discard_of_what_is_not_there_returns_the_same_view(before):
    assert discarded(before, "X") is before


@pytest.mark.parametrize("before", [held(A), held(A, B, C), held(A, A)])
def test_discard_of_current_is_a_conflict(before):
    with pytest.raises(ConflictError):
        discarded(before, "A")


def test_a_conflict_names_the_place_and_the_ids_but_no_value():
    with pytest.raises(ConflictError) as caught:
        staged(held(A, B), C, uri="memory:here")
    assert caught.value.uri == "memory:here"
    assert "memory:here — B is PENDING, so C cannot be staged" in caught.value.message
    assert caught.value.hint
    assert "value-" not in caught.value.message


def promote(before, token_id, replacing):
    return promoted(before, token_id, replacing=replacing, now=NOW)


tokens = st.sampled_from([A, B, C, A_WITH_ANOTHER_VALUE, A_WITH_ANOTHER_ID])
ids = st.sampled_from(["A", "B", "C", "X"])
verbs = st.one_of(
    st.tuples(st.just("stage"), tokens),
    st.tuples(st.just("promote"), ids, st.none() | ids),
    st.tuples(st.just("discard"), ids),
)


def apply(view, verb, *arguments):
    if verb == "stage":
        return staged(view, *arguments)
    if verb == "promote":
        return promote(view, *arguments)
    return discarded(view, *arguments)


@given(st.lists(verbs, max_size=30))
def test_whatever_is_done_current_is_replaced_only_by_what_was_pending(sequence):
    view = held()
    for verb in sequence:
        try:
            after = apply(view, *verb)
        except ConflictError:
            continue
        assert apply(after, *verb) is after, "twice is once"
        if after.current is not view.current:
            assert after.current is view.pending
            assert after.previous is view.current, "what was CURRENT is kept"
            assert after.promoted_at == NOW
        if verb[0] != "discard":
            lost = {t.id for t in view} - {t.id for t in after}
            assert not lost or view.previous == view.pending, lost
        view = after
