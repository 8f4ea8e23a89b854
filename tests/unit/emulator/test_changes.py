"""Who watches is told of everything that is done to an account."""

from contextlib import closing
from inspect import isfunction

import pytest

from cmzon_secrets.emulator.account.account import Account
from cmzon_secrets.emulator.account.history import Origin
from cmzon_secrets.emulator.account.limits import Quota
from cmzon_secrets.emulator.account.messages import ROUTE
from cmzon_secrets.emulator.account.tokens import TokenWish, deriving
from cmzon_secrets.emulator.storage.journal import Journal

BY_HAND = Origin("dashboard", "127.0.0.1")
WISH = TokenWish("acme", ("messages:send",))
FAULT = {"route": ROUTE, "status": 500}


DOING = {
    "issue": (lambda a: a.issue(WISH, BY_HAND), {"tokens"}),
    "revoke": (lambda a: a.revoke(a.admin.id, BY_HAND), {"tokens"}),
    "expire": (lambda a: a.expire(a.admin.id, BY_HAND), {"tokens"}),
    "clear_messages": (lambda a: a.clear_messages(), {"messages"}),
    "add_fault": (lambda a: a.add_fault(FAULT, [ROUTE]), {"rehearsal"}),
    "end_fault": (lambda a: a.end_fault("flt_1"), {"rehearsal"}),
    "clear_faults": (lambda a: a.clear_faults(), {"rehearsal"}),
    "strike": (lambda a: a.strike(ROUTE, None, accepted=False), {"rehearsal"}),
    "set_quota": (lambda a: a.set_quota(Quota(7, None)), {"rehearsal"}),
    "advance": (lambda a: a.advance(60), {"messages", "rehearsal", "tokens"}),
    "reset": (lambda a: a.reset(), {"messages", "rehearsal", "tokens"}),
    "snapshot": (lambda a: a.snapshot("after"), {"rehearsal"}),
    "restore": (lambda a: a.restore("before"), {"messages", "rehearsal", "tokens"}),
    "delete_snapshot": (lambda a: a.delete_snapshot("before"), {"rehearsal"}),
}
READING = {"admin_token", "stats"}


@pytest.fixture
def account(tmp_path):
    with closing(Journal(None)) as journal:
        account = Account(journal, deriving(b"secret"), snapshots=tmp_path)
        account.snapshot("before")
        account.add_fault(FAULT, [ROUTE])
        yield account


def told_of(account, do):
    with account.changes.watched() as watcher:
        do(account)
        return watcher._changed


@pytest.mark.parametrize("method", DOING)
def test_who_watches_is_told_of_it(account, method):
    do, topics = DOING[method]
    before = account.changes.version
    assert told_of(account, do) == topics
    assert account.changes.version != before


def test_there_is_nothing_else_that_can_be_done_to_an_account():
    public = {name for name, thing in vars(Account).items() if isfunction(thing)}
    assert {name for name in public if not name.startswith("_")} == DOING.keys() | READING


@pytest.mark.parametrize(
    "do",
    [
        lambda a: a.revoke("tok_unknown", BY_HAND),
        lambda a: a.expire("tok_unknown", BY_HAND),
        lambda a: a.strike("GET /v1/tokens", None, accepted=False),
        lambda a: a.stats(),
    ],
)
def test_nobody_is_told_where_nothing_came_of_it(account, do):
    assert told_of(account, do) == set()
