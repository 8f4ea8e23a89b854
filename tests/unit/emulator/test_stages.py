"""Which token is in use, read off its traffic."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmzon_secrets.emulator.account.stages import Stage
from cmzon_secrets.emulator.account.stages import stages as stages_by
from cmzon_secrets.emulator.account.takeovers import Takeover
from cmzon_secrets.emulator.account.tokens import SEND, IssuedToken

NOW = 1000.0


def token(seq, name="acme", **facts):
    return IssuedToken(seq, f"tok_{seq}", f"sha-{seq}", name, (SEND,), (), created_at=1.0, **facts)


def stages(tokens, now):
    """Where the traffic moved to each with its first message, and never back to one."""
    by_name = {}
    for one in sorted(tokens, key=lambda one: (one.promoted_at or 0.0, one.seq)):
        if one.promoted_at is not None:
            by_name.setdefault(one.name, []).append(Takeover(one, one.promoted_at))
    return stages_by(tokens, by_name, now)


WAITING = {}
SENDING = {"promoted_at": 100.0}
SENDING_SINCE_LATER = {"promoted_at": 200.0}
REVOKED = {"promoted_at": 300.0, "revoked_at": 400.0}
EXPIRED = {"promoted_at": 300.0, "expires_at": NOW}

CASES = {
    "no token": ([], ""),
    "one that nobody uses yet": ([WAITING], "pending"),
    "one that sends": ([SENDING], "current"),
    "a new one beside it": ([SENDING, WAITING], "current pending"),
    "the new one took over": ([SENDING, SENDING_SINCE_LATER], "previous current"),
    "two that took over one after the other, and a third waits": (
        [SENDING, SENDING_SINCE_LATER, WAITING],
        "previous current pending",
    ),
    "the old one is revoked": ([REVOKED, SENDING], "revoked current"),
    "the one in use is revoked: the one before it is in use again": (
        [SENDING, REVOKED],
        "current revoked",
    ),
    "the one in use expired: the one before it is in use again": (
        [SENDING, EXPIRED],
        "current expired",
    ),
    "all are dead": ([REVOKED, EXPIRED], "revoked expired"),
    "all that sent are dead: a new one waits": ([REVOKED, WAITING], "revoked pending"),
    "one that was passed over": ([WAITING, SENDING], "unused current"),
    "an older one that began to send later": (
        [SENDING_SINCE_LATER, SENDING],
        "current previous",
    ),
    "two that began in the same second: the later one": ([SENDING, SENDING], "previous current"),
    "expiry at this very moment": ([{**SENDING, "expires_at": NOW}], "expired"),
    "expiry a moment from now": ([{**SENDING, "expires_at": NOW + 0.001}], "current"),
    "revoked and expired": ([{"revoked_at": 1.0, "expires_at": 2.0}], "revoked"),
    "one that began to send at the epoch": ([{"promoted_at": 0.0}, WAITING], "current pending"),
}


@pytest.mark.parametrize(("tokens", "expected"), CASES.values(), ids=CASES)
def test_the_stages_of_one_name(tokens, expected):
    named = [token(seq, **facts) for seq, facts in enumerate(tokens, 1)]
    assert " ".join(stages(named, NOW).values()) == expected


def test_after_a_rollback_the_one_that_the_traffic_came_back_to_is_in_use():
    old, new = token(1, promoted_at=100.0), token(2, promoted_at=200.0)
    moves = [Takeover(old, 100.0), Takeover(new, 200.0), Takeover(old, 300.0)]
    assert stages_by([old, new], {"acme": moves}, NOW) == {"tok_1": "current", "tok_2": "previous"}


def test_what_counts_is_the_order_in_which_traffic_moved_and_no_clock_that_was_moved_too():
    rehearsed, newest = token(1, promoted_at=86_500.0), token(2, promoted_at=200.0)
    moves = [Takeover(rehearsed, 86_500.0), Takeover(newest, 200.0)]
    found = stages_by([rehearsed, newest], {"acme": moves}, NOW)
    assert found == {"tok_1": "previous", "tok_2": "current"}


def test_tokens_of_another_name_are_another_accounts():
    tokens = [token(1, "a", promoted_at=1.0), token(2, "b"), token(3, "a"), token(4, "b")]
    assert stages(tokens, NOW) == {
        "tok_1": "current",
        "tok_2": "pending",
        "tok_3": "pending",
        "tok_4": "pending",
    }


TIMES = st.one_of(st.none(), st.sampled_from([0.0, 500.0, NOW, 1500.0]))
SOME = st.builds(
    lambda name, promoted, expires, revoked: {
        "name": name,
        "promoted_at": promoted,
        "expires_at": expires,
        "revoked_at": revoked,
    },
    *(st.sampled_from("ab"), TIMES, TIMES, TIMES),
)


@given(st.lists(SOME, max_size=12))
def test_of_every_name_one_at_most_is_in_use_and_it_is_live_and_has_sent(facts):
    tokens = [token(seq, **each) for seq, each in enumerate(facts, 1)]
    found = stages(tokens, NOW)
    assert found.keys() == {each.id for each in tokens}
    for name in "ab":
        named = [each for each in tokens if each.name == name]
        current = [each for each in named if found[each.id] is Stage.CURRENT]
        sending = [each for each in named if each.live(NOW) and each.promoted_at is not None]
        assert len(current) == bool(sending)
        assert all(each in sending for each in current)
        assert all((found[each.id] in ("revoked", "expired")) != each.live(NOW) for each in named)
