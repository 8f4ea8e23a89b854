"""To which token the traffic of a name moves, and when it has come back to one that was replaced."""

import random
from contextlib import closing

import pytest

from cmzon_secrets.emulator import Emulator
from cmzon_secrets.emulator.account.account import Account
from cmzon_secrets.emulator.account.history import EMULATOR
from cmzon_secrets.emulator.account.takeovers import FEWEST, MOST, Takeover, as_of
from cmzon_secrets.emulator.account.tokens import TokenWish, deriving
from cmzon_secrets.emulator.storage.journal import Journal


class Traffic:
    """An account, and messages accepted with its tokens, which are called by letters."""

    def __init__(self, journal):
        self.account = Account(journal, deriving(b"secret"))
        self._tokens = {}

    def token(self, letter, name="acme"):
        wish = TokenWish(name, ("messages:send",))
        if letter not in self._tokens:
            self._tokens[letter] = self.account.issue(wish, EMULATOR)
        return self._tokens[letter]

    def send(self, letters):
        for letter in "".join(letters).replace(" ", ""):
            self.account.usage.carried(self.token(letter), EMULATOR)

    def moved(self, name="acme"):
        """The letters of those to which the traffic moved."""
        letters = {token.id: letter for letter, token in self._tokens.items()}
        moves = self.account.usage.takeovers.by_name[name]
        return "".join(letters[move.token.id] for move in moves)


@pytest.fixture
def traffic():
    with closing(Journal(None)) as journal:
        yield Traffic(journal)


@pytest.mark.parametrize(
    ("sent", "moved"),
    [
        ("", ""),
        ("AAA", "A"),
        ("AABBB", "AB"),
        ("AB AA", "AB"),
        ("AB AAA", "ABA"),
        ("AB AAA B", "ABA"),
        ("AB AAA BBB", "ABAB"),
        ("AB AAAA C AAA", "ABAC"),
        ("A" * 10 + "B" + "A" * 9, "AB"),
        ("A" * 10 + "B" + "A" * 10, "ABA"),
        ("A" * 10 + "BA" + "B" + "A" * 10, "AB"),
        ("A" * 500 + "B" + "A" * (MOST - 1), "AB"),
        ("A" * 500 + "B" + "A" * MOST, "ABA"),
        ("AB" * 50, "AB"),
    ],
    ids=lambda text: text[:24],
)
def test_it_moves_with_a_first_message_and_back_with_as_many_in_a_row_as_before(
    traffic, sent, moved
):
    traffic.send(sent)
    assert traffic.moved() == moved


def test_the_numbers_are_those_that_are_documented():
    assert (FEWEST, MOST) == (3, 100)


def test_while_caches_run_out_one_after_the_other_it_moves_once(traffic):
    """Ten readers, each of which goes on with the old token until its cache is read again."""
    draw = random.Random(7)
    traffic.send("A" * 200)
    for switched in range(1, 11):
        traffic.send("B" if draw.randrange(10) < switched else "A" for _ in range(200))
    assert traffic.moved() == "AB"


def test_messages_with_tokens_of_other_names_are_not_between_those_of_one(traffic):
    traffic.token("X", name="other")
    traffic.send("AB AXAXA")
    assert (traffic.moved(), traffic.moved("other")) == ("ABA", "X")


def test_the_successor_of_one_that_is_dead_is_in_use_already_and_needs_no_way_back(traffic):
    traffic.send("AB")
    traffic.account.revoke(traffic.token("B").id, EMULATOR)
    traffic.send("AAAA")
    assert traffic.moved() == "AB"


def test_each_move_is_told_in_the_audit_trail(traffic):
    traffic.send("AB AAA")
    promoted = traffic.account.history.moments("promoted")
    assert [token_id for token_id, _ in promoted] == [traffic.token(x).id for x in "ABA"]


def test_who_carries_the_traffic_is_known_after_a_restart_and_a_way_back_to_a_snapshot(
    tmp_path, connect
):
    def current(api):
        moves = api.emulator._now.server._account.usage.takeovers.by_name["acme"]
        return [move.token.id for move in moves]

    with Emulator(state=tmp_path) as emulator:
        api = connect(emulator)
        old, new = api.issue(), api.issue()
        for token in (old, new, old, old, old):
            api.send(token["token"])
        emulator.snapshot("rolled-back")
        for _ in range(3):
            api.send(new["token"])
    with Emulator(state=tmp_path) as emulator:
        api = connect(emulator)
        assert current(api) == [old["id"], new["id"], old["id"], new["id"]]
        emulator.restore("rolled-back")
        assert current(api) == [old["id"], new["id"], old["id"]]


def test_a_first_message_of_which_nothing_is_told_came_before_what_is_told(traffic):
    traffic.send("AB")
    journal = traffic.account.journal
    journal.write(("DELETE FROM token_events WHERE token_id = ?", (traffic.token("B").id,)))
    again = Account(journal, deriving(b"secret"))
    moves = again.usage.takeovers.by_name["acme"]
    assert [move.token.id for move in moves] == [traffic.token(x).id for x in "BA"]


def test_a_moment_that_the_clock_took_back_was_no_later_than_what_followed(traffic):
    token = traffic.token("A")
    times = [10.0, 86_410.0, 20.0, 90_000.0]
    found = as_of([Takeover(token, at) for at in times], 30.0)
    assert [move.at for move in found] == [10.0, 20.0, 20.0, 30.0]
