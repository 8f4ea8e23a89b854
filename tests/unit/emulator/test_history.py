"""The audit trail of tokens: appended to, found by what one remembers of it."""

from typing import get_args

import pytest

from cmzon_secrets.emulator.account.history import EVENTS, Event, History, HistoryFilter, Origin
from cmzon_secrets.emulator.storage.journal import Journal


@pytest.fixture
def history():
    journal = Journal(None)
    tokens = [("tok_1", "acme"), ("tok_2", "acme%"), ("tok_3", "Ünïcode"), ("tok_4", "a\\b")]
    for seq, (token_id, name) in enumerate(tokens, 1):
        row = (seq, token_id, token_id, name, "[]", "[]", 0.0, *[None] * 7, 0, 0, None)
        journal.later(f"INSERT INTO tokens VALUES ({', '.join('?' * 17)})", row)
    history = History(journal)
    events = [
        ("issued", "tok_1", Origin("tok_9", "127.0.0.1", "req_1")),
        ("issued", "tok_2", Origin("dashboard", "127.0.0.1")),
        ("used_from", "tok_1", Origin("tok_1", "127.0.0.2", "req_2")),
        ("revoked", "tok_3", Origin("dashboard", "::1")),
        ("expired", "tok_4", Origin("emulator")),
        ("expired", "tok_gone", Origin("emulator")),
    ]
    for at, (event, token_id, origin) in enumerate(events, 1):
        history.append(float(at), event, token_id, origin)
    yield history
    journal.close()


def found(history, **wanted):
    return [entry.seq for entry in history.find(HistoryFilter(**wanted))]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({}, [1, 2, 3, 4, 5, 6]),
        ({"token": "tok_1"}, [1, 3]),
        ({"token_id": "tok_1"}, [1, 3]),
        ({"token_id": "acme"}, []),
        ({"token_id": "tok_1", "token": "acme", "event": "issued"}, [1]),
        ({"token": "acme"}, [1, 2, 3]),
        ({"token": "ACME"}, [1, 2, 3]),
        ({"token": "%"}, [2]),
        ({"token": "_"}, []),
        ({"token": "\\"}, [5]),
        ({"token": "ïco"}, [4]),
        ({"token": "tok_gone"}, [6]),
        ({"token": "' OR 1=1 --"}, []),
        ({"event": "expired"}, [5, 6]),
        ({"event": "exp"}, []),
        ({"by": "dashboard"}, [2, 4]),
        ({"ip": "::1"}, [4]),
        ({"ip": "127.0.0"}, []),
        ({"token": "acme", "event": "issued"}, [1, 2]),
        ({"by": "dashboard", "ip": "127.0.0.1"}, [2]),
        ({"token": "acme", "event": "revoked"}, []),
    ],
)
def test_entries_are_found_by_every_field_and_by_several_together(history, wanted, expected):
    assert found(history, **wanted) == expected


def test_of_a_token_alone_is_told_though_others_have_its_id_in_their_name(history):
    name = "UPDATE tokens SET name = 'like tok_3' WHERE id = 'tok_1'"
    history._journal.rows(name)
    assert found(history, token="tok_3") == [1, 3, 4]
    assert found(history, token_id="tok_3") == [4]


def test_of_many_the_newest_are_given_oldest_first(history):
    assert [entry.seq for entry in history.find(newest=2)] == [5, 6]
    assert [entry.seq for entry in history.find(HistoryFilter(token="acme"), newest=2)] == [2, 3]
    assert history.find(newest=0) == []


def test_an_entry_tells_who_did_it_from_where_and_when(history):
    assert history.find()[2].entry() == {
        "seq": 3,
        "at": "1970-01-01T00:00:03Z",
        "event": "used_from",
        "token_id": "tok_1",
        "name": "acme",
        "by": "tok_1",
        "ip": "127.0.0.2",
        "request_id": "req_2",
    }


def test_a_token_that_is_gone_leaves_its_story_without_a_name(history):
    assert history.find(HistoryFilter(token="tok_gone"))[0].name == ""


def test_every_event_that_can_be_written_is_one_that_is_explained():
    assert list(EVENTS) == list(get_args(Event))


def test_a_journal_that_tells_of_another_event_is_not_one_of_ours(history):
    history.append(9.0, "eaten", "tok_1", Origin("emulator"))
    with pytest.raises(ValueError, match="not known"):
        History(history._journal)


def test_what_is_known_of_one_kind_is_every_token_and_address_once(history):
    history.append(9.0, "used_from", "tok_1", Origin("tok_1", "127.0.0.2"))
    assert history.known("used_from") == {("tok_1", "127.0.0.2")}
    assert history.known("expired") == {("tok_4", None), ("tok_gone", None)}
