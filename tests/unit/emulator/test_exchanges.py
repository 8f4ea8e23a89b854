"""Messages as they were sent, with their answers: kept, found, grouped."""

import json
from pathlib import Path

import pytest

from cmzon_secrets.emulator.account.changes import Changes
from cmzon_secrets.emulator.account.exchanges import KEPT, NOBODY, ExchangeFilter, Exchanges
from cmzon_secrets.emulator.account.messages import LONGEST_TEXT
from cmzon_secrets.emulator.storage.journal import Journal


class Kept:
    """Exchanges in a journal of their own."""

    def __init__(self, path: Path | None = None) -> None:
        self.journal = Journal(path)
        self.exchanges = Exchanges(self.journal, Changes())

    def add(self, to="+1234567890", text="Hello", *, body=None, key=None, **facts):
        """One exchange; what is not said is that of an accepted message."""
        number = self.exchanges.last + 1
        usual = {
            "id": f"req_{number}",
            "at": 1000.0 + number,
            "seconds": 0.001,
            "status": 200,
            "message_id": f"msg_{number}",
            "token_id": "tok_1",
            "ip": "127.0.0.1",
            "request_headers": [("a", "b")],
            "response_headers": [],
            "response_body": "{}",
        }
        said = {"to": to, "type": "text", "text": {"body": text}}
        self.exchanges.add(
            presented=(),
            idempotency_key=key,
            notes=[],
            request_body=json.dumps(said) if body is None else body,
            **{**usual, **facts},
        )

    def found(self, **wanted):
        """The numbers of those found, which both directions and the count agree on."""
        wanted = ExchangeFilter(**wanted)
        oldest = [e.seq for e in self.exchanges.oldest(wanted, 10_000)]
        assert oldest == [e.seq for e in self.exchanges.newest(wanted, 10_000)]
        assert len(oldest) == self.exchanges.count(wanted)
        return oldest

    def last(self):
        (newest,) = self.exchanges.newest(ExchangeFilter(), 1)
        return newest


@pytest.fixture
def kept():
    made = Kept()
    yield made
    made.journal.close()


@pytest.fixture
def some(kept):
    kept.add("+1111", "Straße nach Köln", key="k-1")
    kept.add("+1112", "100 % off_er", status=429, message_id=None)
    kept.add("+2222", "ÀÉÎ 👩‍👩‍👧 after\0NUL", token_id="tok_2", status=401, message_id=None)
    kept.add("", "back\\slash 'quoted'", token_id=None, status=401, message_id=None)
    kept.add(body="not JSON", status=400, message_id=None)
    kept.add("+1111", "מימין לשמאל", status=None, message_id=None)
    kept.add("+1111", "", status=503)
    return kept


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({}, [1, 2, 3, 4, 5, 6, 7]),
        ({"to": "+1111"}, [1, 6, 7]),
        ({"to": "+111"}, []),
        ({"to": NOBODY}, [4, 5]),
        ({"number": "111"}, [1, 2, 6, 7]),
        ({"number": "+2"}, [3]),
        ({"number": "%"}, []),
        ({"token_id": "tok_2"}, [3]),
        ({"token_id": "tok"}, []),
        ({"status": "401"}, [3, 4]),
        ({"status": "4xx"}, [2, 3, 4, 5]),
        ({"status": "2xx"}, [1]),
        ({"status": "5xx"}, [7]),
        ({"status": "none"}, [6]),
        ({"status": "accepted"}, [1, 7]),
        ({"status": "failed"}, [2, 3, 4, 5, 6]),
        ({"text": "STRASSE"}, [1]),
        ({"text": "köln"}, [1]),
        ({"text": "àéî"}, [3]),
        ({"text": "👩‍👩‍👧"}, [3]),
        ({"text": "nul"}, [3]),
        ({"text": "\0N"}, [3]),
        ({"text": "%"}, [2]),
        ({"text": "_"}, [2]),
        ({"text": "\\"}, [4]),
        ({"text": "'"}, [4]),
        ({"text": "*"}, []),
        ({"text": "לשמאל"}, [6]),
        ({"idempotency_key": "k-1"}, [1]),
        ({"idempotency_key": "k"}, []),
        ({"message_id": "msg_7"}, [7]),
        ({"after": 5}, [6, 7]),
        ({"before": 3}, [1, 2]),
        ({"before": 0}, []),
        ({"after": 2, "before": 4}, [3]),
        ({"to": "+1111", "status": "none"}, [6]),
        ({"status": "4xx", "token_id": "tok_1"}, [2, 5]),
        ({"number": "1", "text": "off"}, [2]),
        ({"to": "+1111", "status": "4xx"}, []),
    ],
)
def test_exchanges_are_found_by_every_field_and_by_two_together(some, wanted, expected):
    assert some.found(**wanted) == expected


def test_of_more_than_wanted_the_first_or_the_last_are_given_and_always_in_their_order(some):
    wanted = ExchangeFilter()
    assert [e.seq for e in some.exchanges.oldest(wanted, 2)] == [1, 2]
    assert [e.seq for e in some.exchanges.newest(wanted, 2)] == [6, 7]


@pytest.mark.parametrize(
    "body",
    [
        *("", "not JSON", "null", "[]", "7", '"text"', '{"to"', "{" * 5000, "[" * 100_000),
        *('{"to": null}', '{"to": 7}', '{"to": ["+1"], "text": "body"}', '{"text": {"body": []}}'),
        '{"text": []}',
    ],
)
def test_a_body_that_says_neither_to_whom_nor_what_is_kept_as_it_is(kept, body):
    kept.add(body=body, status=400)
    last = kept.last()
    assert (last.recipient, last.text, last.request_body) == (NOBODY, "", body)


def test_a_body_that_says_half_of_it_is_kept_by_that_half(kept):
    kept.add(body='{"to": "+1", "text": 7}')
    assert (kept.last().recipient, kept.last().text) == ("+1", "")
    kept.add(body='{"to": 7, "text": {"body": "x"}}')
    assert (kept.last().recipient, kept.last().text) == (NOBODY, "x")


def test_a_recipient_that_is_none_is_cut_to_a_length_that_can_be_shown(kept):
    kept.add("x" * 100_000)
    assert kept.last().recipient == "x" * 64


def test_a_text_longer_than_a_message_can_be_is_searched_no_further_than_that(kept):
    kept.add(text="x" * LONGEST_TEXT + "end", status=400, message_id=None)
    assert kept.last().text == "x" * LONGEST_TEXT
    assert kept.last().request_body.endswith('end"}}')


@pytest.mark.parametrize("text", ["\0", "a\0b\x1b[2J\x7f", "\u202egnp.exe", "😀" * 4096, "\ufeff"])
def test_a_text_comes_back_to_the_character(kept, text):
    kept.add(text=text)
    assert kept.last().text == text


def test_half_a_surrogate_pair_which_no_file_can_hold_becomes_a_question_mark(kept):
    kept.add(body='{"to": "+1\\ud800", "text": {"body": "a\\udc00b"}}')
    assert (kept.last().recipient, kept.last().text) == ("+1?", "a?b")


def test_the_longest_body_is_kept_whole_and_a_longer_one_cut_with_a_note(api):
    for length in (64 * 1024, 64 * 1024 + 1):
        api.http.post("/v1/messages", content=b"x" * length)
    account = api.emulator._now.server._account
    whole, cut = newest(api, account.exchanges, 2)
    assert whole.request_body == cut.request_body == "x" * 64 * 1024
    assert not any("cut off" in note for note in whole.notes)
    assert any("cut off" in note for note in cut.notes)


def test_a_body_that_is_no_text_is_kept_as_far_as_it_is(api):
    api.http.post("/v1/messages", content=b"\xff\xfe{}")
    account = api.emulator._now.server._account
    (kept,) = newest(api, account.exchanges, 1)
    assert kept.request_body == "\ufffd\ufffd{}"


def newest(api, exchanges, number):
    import asyncio

    async def asked():
        return exchanges.newest(ExchangeFilter(), number)

    return asyncio.run_coroutine_threadsafe(asked(), api.emulator._now.server._loop).result()


def test_without_a_state_folder_exactly_the_newest_are_kept(kept):
    for number in range(KEPT + 3):
        kept.add(text=str(number))
        if number == KEPT - 1:
            assert len(kept.found()) == KEPT
    assert kept.found() == list(range(4, KEPT + 4))
    assert kept.exchanges.get("req_3") is None
    assert kept.exchanges.get("req_4").text == "3"


def test_with_a_state_folder_all_are_kept_and_numbered_on_after_a_restart(tmp_path):
    for start in range(2):
        kept = Kept(tmp_path / "emulator.db")
        for _ in range(KEPT + 1):
            kept.add()
        assert kept.found() == list(range(1, (KEPT + 1) * (start + 1) + 1))
        kept.journal.close()


def test_forgotten_ones_are_gone_for_whoever_asks_and_their_numbers_with_them(kept):
    for _ in range(3):
        kept.add()
    kept.exchanges.clear()
    assert kept.found() == []
    kept.add()
    assert kept.found() == [4]


def test_conversations_are_by_recipient_with_the_newest_first(some):
    found = some.exchanges.conversations(ExchangeFilter(), 10)
    assert [(c.recipient, c.requests, c.failed, c.last.seq) for c in found] == [
        ("+1111", 3, 1, 7),
        ("", 2, 2, 5),
        ("+2222", 1, 1, 3),
        ("+1112", 1, 1, 2),
    ]


def test_conversations_are_those_of_what_is_wanted_and_no_more_than_asked_for(some):
    found = some.exchanges.conversations(ExchangeFilter(status="401"), 10)
    assert [(c.recipient, c.requests) for c in found] == [("", 1), ("+2222", 1)]
    assert len(some.exchanges.conversations(ExchangeFilter(), 2)) == 2
    assert some.exchanges.conversations(ExchangeFilter(to="+9"), 10) == []
