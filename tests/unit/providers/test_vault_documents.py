"""What a Vault secret holds: every view survives it, others' fields survive us, foreign ones are refused."""

import json
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cmzon_secrets import Token, Versions
from cmzon_secrets.errors import ConfigurationError, InvalidToken
from cmzon_secrets.providers.vault_documents import (
    MAIN,
    SINGLE,
    STATE,
    Document,
    current_of,
    settled,
)
from cmzon_secrets.testing.conformance.leaks import failure_of, must_hide, shown
from cmzon_secrets.testing.conformance.store_hooks import facts, new_token, seen

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)
LATER = NOON + timedelta(hours=1)

values = st.text("abcXYZ019-._~+/", min_size=1, max_size=40)
moments = st.none() | st.datetimes(timezones=st.just(UTC))
strings = st.lists(st.sampled_from(["messages:send", "a scope", "ключ", "10.0.0.0/8"]), max_size=3)
tokens = st.builds(
    Token,
    values,
    id=st.none() | st.from_regex(r"tok_[!-~]{1,20}", fullmatch=True),
    scopes=strings,
    issued_at=moments,
    expires_at=moments,
    allowed_ips=strings,
)
documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2)
    ),
    max_leaves=5,
)
fields_of_others = st.dictionaries(
    st.sampled_from(["owner", "", "ключ", "Token", "current", "rotation.2"]),
    documents,
    max_size=3,
)


def through_json(data):
    return json.loads(json.dumps(data))


@st.composite
def views(draw):
    """Up to three stages, of different values."""
    held = draw(st.lists(tokens, min_size=3, max_size=3, unique_by=lambda t: t.fingerprint))
    current, pending, previous = (draw(st.none() | st.just(token)) for token in held)
    return Versions(current, pending, previous, draw(moments) if current else None)


def single(view, others=()):
    return Document(others=dict(others)).holding(
        {"token": view.current, "pending": view.pending, "previous": view.previous},
        promoted_at=view.promoted_at,
    )


def read_single(data, written_at=None):
    document = Document.read(data, SINGLE, "single", written_at=written_at)
    return settled(document, document)


@settings(max_examples=25)
@given(views(), fields_of_others)
def test_every_view_comes_back_and_so_do_the_fields_of_others(view, others):
    data = through_json(single(view, others).write("single"))
    again = read_single(data)
    assert seen(again) == seen(view)
    assert again.promoted_at == view.promoted_at
    assert Document.read(data, SINGLE, "single").others == others
    assert facts(current_of(data)) == facts(view.current)


@settings(max_examples=25)
@given(views())
def test_all_that_is_ours_is_a_string_and_the_notes_hold_no_value(view):
    data = single(view).write("single")
    assert {type(member) for member in data.values()} == {str}
    held = {token.reveal() for token in view}
    assert not held & set(_strings(json.loads(data["rotation"])))
    assert data.get("token") == (view.current and view.current.reveal())


def _strings(part):
    if isinstance(part, dict):
        part = list(part.values())
    return [s for p in part for s in _strings(p)] if isinstance(part, list) else [part]


@settings(max_examples=25)
@given(views(), fields_of_others)
def test_the_two_secrets_of_a_split_layout_hold_the_same_view(view, others):
    main = Document(others=others).holding({"token": view.current}, promoted_at=view.promoted_at)
    state = Document().holding({"pending": view.pending, "previous": view.previous})
    data, notes = (through_json(document.write("split")) for document in (main, state))
    again = settled(Document.read(data, MAIN, "split"), Document.read(notes, STATE, "split"))
    assert seen(again) == seen(view)
    assert again.promoted_at == view.promoted_at
    shared = {token.reveal() for token in view if token != view.current}
    assert not shared & set(_strings({**data, "rotation": json.loads(data["rotation"])}))


def test_two_writes_of_the_same_are_told_apart():
    document = single(Versions(new_token()))
    assert document.write("single") != document.write("single")


# by hand


@pytest.mark.parametrize("data", [{"token": "pasted"}, {"token": "pasted", "owner": "me", "n": 1}])
def test_a_token_among_fields_of_others_is_a_current_without_metadata(data):
    view = read_single(data, LATER)
    assert seen(view) == seen(Versions(Token("pasted")))
    assert view.promoted_at == LATER
    assert facts(current_of(data)) == facts(Token("pasted"))


def test_a_token_pasted_over_ours_leaves_pending_and_previous_and_counts_from_then():
    first, pending, previous = new_token(), new_token(), new_token()
    data = single(Versions(first, pending, previous, NOON)).write("single")
    view = read_single({**data, "token": "pasted"}, LATER)
    assert seen(view) == seen(Versions(Token("pasted"), pending, previous))
    assert view.promoted_at == LATER


@pytest.mark.parametrize("stage", ["pending", "previous"])
def test_what_was_made_current_by_hand_is_no_longer_in_another_stage(stage):
    """Else a rollback by hand would be revoked with the grace of what it replaced."""
    held = {"pending": new_token(), "previous": new_token()}
    data = single(Versions(new_token(), **held)).write("single")
    view = read_single({**data, "token": data[stage]})
    assert view.current == held.pop(stage)
    assert getattr(view, stage) is None
    (other,) = held.values()
    assert other in (view.pending, view.previous)


def test_a_token_taken_away_by_hand_leaves_no_current():
    data = single(Versions(new_token(), new_token(), promoted_at=NOON)).write("single")
    del data["token"]
    view = read_single(data)
    assert (view.current, view.promoted_at, current_of(data)) == (None, None, None)
    assert view.pending is not None


def test_no_fields_at_all_are_an_empty_store():
    assert read_single({}) == Versions()
    assert current_of({}) is None


# a promotion of the split layout, interrupted


FIRST, SECOND, PASTED = new_token(), new_token(), Token("pasted")
INTENDED = Document().holding({"pending": SECOND, "replaced": FIRST}, moving=3)
ROLLING_BACK = Document().holding(
    {"pending": SECOND, "previous": SECOND, "replaced": FIRST}, moving=3
)
FIRST_EVER = Document().holding({"pending": SECOND}, moving=3)


@pytest.mark.parametrize(
    ("state", "current", "expected"),
    [
        (INTENDED, FIRST, Versions(FIRST, SECOND)),
        (INTENDED, SECOND, Versions(SECOND, None, FIRST)),
        (INTENDED, PASTED, Versions(PASTED, SECOND, FIRST)),
        (INTENDED, None, Versions(None, SECOND, FIRST)),
        (ROLLING_BACK, FIRST, Versions(FIRST, SECOND, SECOND)),
        (ROLLING_BACK, SECOND, Versions(SECOND, None, FIRST)),
        (FIRST_EVER, None, Versions(None, SECOND)),
        (FIRST_EVER, SECOND, Versions(SECOND)),
    ],
    ids=[
        "not yet replaced",
        "replaced, not tidied up",
        "something else was pasted meanwhile",
        "the token was taken away meanwhile",
        "a rollback that is not yet done",
        "a rollback that is done",
        "the first ever, not yet done",
        "the first ever, done",
    ],
)
def test_an_interrupted_promotion_is_judged_by_what_is_current(state, current, expected):
    state = Document.read(through_json(state.write("split")), STATE, "split")
    assert seen(settled(Document().holding({"token": current}), state)) == seen(expected)


# what is refused


FOREIGN = {
    "no token among the fields": {"username": "me", "cmz_looks_like_a_token": "cmz_value"},
    "a number": {"token": 12345678901234567890},
    "a list": {"token": ["cmz_value"]},
    "null": {"token": None},
    "empty": {"token": ""},
    "a line break": {"token": "cmz_value\n"},
}


@pytest.mark.parametrize("data", FOREIGN.values(), ids=FOREIGN)
def test_what_is_no_token_is_refused_unseen(data):
    for read in (current_of, partial(Document.read, fields=SINGLE, layout="single")):
        error = failure_of(partial(read, data))
        assert isinstance(error, InvalidToken)
        assert "token" in error.message
        must_hide(shown(error), "cmz_value", "cmz_looks_like_a_token", "1234567890")


@pytest.mark.parametrize(
    "rotation",
    ["30d", "{}", '{"layout":"triple"}', "[" * 100_000, 7, None, {}, '{"layout":"single"'],
    ids=["text", "no layout", "another layout", "deep", "a number", "null", "an object", "cut"],
)
def test_a_rotation_field_of_others_bothers_no_reader_and_is_never_overwritten(rotation):
    data = {"token": "pasted", "rotation": rotation}
    assert facts(current_of(data)) == facts(Token("pasted"))
    with pytest.raises(InvalidToken, match="rotation"):
        read_single(data)


@pytest.mark.parametrize("name", ["pending", "previous"])
@pytest.mark.parametrize("ours", [True, False], ids=["beside ours", "beside a pasted token"])
def test_a_pending_or_previous_of_others_is_never_overwritten(name, ours):
    data = single(Versions(new_token())).write("single") if ours else {"token": "pasted"}
    with pytest.raises(InvalidToken, match=name):
        read_single({**data, name: "theirs"})
    assert current_of({**data, name: "theirs"}) is not None


def test_with_a_split_layout_such_fields_are_fields_like_others():
    data = {"token": "pasted", "pending": "theirs", "previous": 1}
    assert Document.read(data, MAIN, "split").others == {"pending": "theirs", "previous": 1}


@pytest.mark.parametrize(("written", "opened"), [("single", "split"), ("split", "single")])
def test_another_layout_than_it_was_written_with_is_refused(written, opened):
    data = single(Versions(new_token())).write(written)
    with pytest.raises(ConfigurationError, match=f"layout={written}"):
        Document.read(data, MAIN if opened == "split" else SINGLE, opened)
    assert current_of(data) is not None


@pytest.mark.parametrize(
    "change",
    [
        {"promoted_at": "yesterday"},
        {"promoted_at": 7},
        {"token": {"scopes": "all"}},
        {"token": {"expires_at": "soon"}},
        {"token": {"id": 7}},
    ],
    ids=str,
)
def test_altered_notes_are_told_by_field(change):
    token = new_token()
    data = single(Versions(token, promoted_at=NOON)).write("single")
    notes = json.loads(data["rotation"])
    for name, altered in change.items():
        notes[name] = {**notes[name], **altered} if isinstance(altered, dict) else altered
    altered = {**data, "rotation": json.dumps(notes)}
    error = failure_of(partial(Document.read, altered, SINGLE, "single"))
    assert isinstance(error, InvalidToken)
    assert "its field" in error.message
    must_hide(shown(error), token)


@pytest.mark.parametrize("notes", [{"token": 7}, {"token": []}, {"token": {"fingerprint": 7}}])
def test_notes_of_another_shape_describe_no_token(notes):
    data = {"token": "pasted", "rotation": json.dumps({"layout": "single", **notes})}
    assert seen(read_single(data)) == seen(Versions(Token("pasted")))


def test_a_document_too_large_for_some_servers_is_refused():
    huge = new_token(scopes=[f"scope:{n:06}:{'x' * 90}" for n in range(6000)])
    with pytest.raises(ConfigurationError, match="larger than"):
        single(Versions(huge)).write("single")


def test_a_document_shows_no_value_of_others():
    document = Document.read({"token": "pasted", "password": "hunter2"}, SINGLE, "single")
    assert "hunter2" not in repr(document)
