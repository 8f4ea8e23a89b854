"""A token as the JSON object that stores hold."""

import json
import traceback
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmzon_secrets import Token, Versions
from cmzon_secrets.errors import InvalidToken
from cmzon_secrets.records import (
    format_time,
    from_document,
    from_record,
    parse_time,
    to_document,
    to_record,
)

VALUE = "cmz_a-value-that-must-not-be-shown"
printable = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=30)
times = st.datetimes(
    min_value=datetime(1970, 1, 2),  # noqa: DTZ001  # hypothesis adds the zone
    max_value=datetime(9999, 12, 30),  # noqa: DTZ001
    timezones=st.sampled_from(
        [UTC, timezone(timedelta(hours=5, minutes=30)), timezone(-timedelta(hours=12))]
    ),
)


def everything(token):
    return (
        token.reveal(),
        token.id,
        token.scopes,
        token.issued_at,
        token.expires_at,
        token.allowed_ips,
    )


@given(
    value=st.from_regex(r"[A-Za-z0-9\-._~+/]{1,60}={0,2}", fullmatch=True),
    id=st.none() | st.from_regex(r"[!-~]{1,40}", fullmatch=True),
    scopes=st.lists(printable, max_size=3),
    issued_at=st.none() | times,
    expires_at=st.none() | times,
    allowed_ips=st.lists(printable, max_size=3),
)
def test_a_token_comes_back_from_json_as_it_was(value, id, **metadata):
    token = Token(value, id=id if id != value else None, **metadata)
    assert everything(from_record(json.loads(json.dumps(to_record(token))))) == everything(token)


def test_a_reader_who_knows_nothing_of_us_finds_the_value_at_token():
    assert to_record(Token(VALUE, id="tok_1")) == {"token": VALUE, "id": "tok_1"}


def test_every_member_has_its_place():
    token = Token(
        VALUE,
        id="tok_1",
        scopes=["a"],
        issued_at=datetime(2026, 11, 24, 21, 0, 0, 1, UTC),
        expires_at=datetime(2027, 1, 1, tzinfo=UTC),
        allowed_ips=["10.0.0.1"],
    )
    assert to_record(token) == {
        "token": VALUE,
        "id": "tok_1",
        "scopes": ["a"],
        "issued_at": "2026-11-24T21:00:00.000001Z",
        "expires_at": "2027-01-01T00:00:00Z",
        "allowed_ips": ["10.0.0.1"],
    }


def test_a_record_of_other_peoples_making_needs_a_token_only():
    token = from_record({"token": VALUE, "username": "theirs", "rotation": {"x": 1}})
    assert token == Token(VALUE)
    assert not token.has_issuer_id


BROKEN = {
    "a list": [VALUE],
    "a string": VALUE,
    "nothing": None,
    "no token": {"value": VALUE},
    "token is null": {"token": None, "other": VALUE},
    "token is a number": {"token": 5, "other": VALUE},
    "token is no b64token": {"token": VALUE + "\n"},
    "scopes is a string": {"token": VALUE, "scopes": "messages:send"},
    "scopes of numbers": {"token": VALUE, "scopes": [1]},
    "scopes of lists": {"token": VALUE, "scopes": [["a"]]},
    "allowed_ips is an object": {"token": VALUE, "allowed_ips": {}},
    "id is a number": {"token": VALUE, "id": 7},
    "id is the value": {"token": VALUE, "id": VALUE},
    "time without an offset": {"token": VALUE, "expires_at": "2026-01-01T00:00:00"},
    "time is a word": {"token": VALUE, "issued_at": "yesterday"},
    "time is a number": {"token": VALUE, "issued_at": 1700000000},
    "time before the calendar": {"token": VALUE, "issued_at": "0001-01-01T00:00:00+05:00"},
}


@pytest.mark.parametrize("record", BROKEN.values(), ids=BROKEN)
def test_a_broken_record_is_invalid_token_and_shows_no_value(record):
    del_me = [record]
    with pytest.raises(InvalidToken) as caught:
        from_record(del_me.pop())
    frames = caught.value.__traceback__.tb_next  # below this test, which knows the value
    shown = traceback.TracebackException(
        InvalidToken, caught.value, frames, capture_locals=True
    ).format()
    assert VALUE not in "".join(shown)


@pytest.mark.parametrize(
    "versions",
    [
        Versions(),
        Versions(current=Token(VALUE, id="tok_1")),
        Versions(
            Token(VALUE, id="tok_2"),
            Token("next", id="tok_3"),
            Token("last", id="tok_1"),
            datetime(2026, 11, 24, 21, 0, 0, 1, UTC),
        ),
    ],
)
def test_all_stages_come_back_from_json_as_they_were(versions):
    assert from_document(json.loads(json.dumps(to_document(versions)))) == versions


def test_a_document_has_a_member_for_each_stage():
    assert to_document(Versions(current=Token(VALUE, id="tok_1"))) == {
        "current": {"token": VALUE, "id": "tok_1"},
        "pending": None,
        "previous": None,
        "promoted_at": None,
    }
    assert from_document({"current": {"token": VALUE}}) == Versions(current=Token(VALUE))


@pytest.mark.parametrize("document", [None, [VALUE], VALUE, {"current": VALUE}, {"pending": []}])
def test_what_is_no_document_is_invalid_token(document):
    with pytest.raises(InvalidToken) as caught:
        from_document(document)
    assert VALUE not in caught.value.message


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-24T21:00:00Z", datetime(2026, 11, 24, 21, tzinfo=UTC)),
        ("2026-11-24T21:00:00.5+01:00", datetime(2026, 11, 24, 20, 0, 0, 500000, UTC)),
        (None, None),
    ],
)
def test_times_are_read_as_utc(text, moment):
    assert parse_time(text) == moment


def test_times_are_written_in_utc_with_a_z():
    east = timezone(timedelta(hours=2))
    assert format_time(datetime(2026, 1, 1, 1, tzinfo=east)) == "2025-12-31T23:00:00Z"
