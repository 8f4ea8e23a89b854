"""``Rotator.prepare``: a successor is issued, tried and staged; whoever asked promotes it."""

import pytest

from cmzon_secrets.rotation import Rotator

DAY = 86400.0


@pytest.fixture
def running(account):
    account.run()
    account.events.clear()
    return account


def test_a_successor_is_staged_whether_due_or_not_and_not_promoted(running):
    before = running.current
    report = running.rotator().prepare()
    assert report.state == "done"
    assert [action.kind for action in report.actions] == ["issue", "stage"]
    assert running.told() == ["token_issued", "token_verified", "token_staged", "rotation_finished"]
    assert running.current == before
    assert running.store.versions().pending.id == report.actions[-1].token_id


def test_what_is_staged_already_is_left_as_it_is(running):
    running.rotator().prepare()
    pending = running.store.versions().pending
    assert running.rotator().prepare().actions == ()
    assert running.store.versions().pending == pending


def test_a_successor_that_died_is_still_there_to_be_judged_by_who_promotes(running):
    running.rotator().prepare()
    running.issuer.revoke(running.store.versions().pending)
    assert running.rotator().prepare().state == "done"


def test_previous_must_have_outlived_its_grace_and_is_revoked_first(rotated):
    previous = rotated.previous
    report = rotated.rotator().prepare()
    assert report.state == "waiting"
    assert report.next_due == rotated.store.versions().promoted_at + rotated.policy.grace
    assert rotated.store.versions().pending is None
    rotated.pass_time(DAY)
    report = rotated.rotator().prepare()
    assert [action.kind for action in report.actions] == ["revoke", "discard", "issue", "stage"]
    assert previous.id not in rotated.issuer.live


def test_the_next_scheduled_run_promotes_what_was_prepared(running):
    running.rotator().prepare()
    pending = running.store.versions().pending
    running.run()
    assert running.current == pending


def test_a_scheduled_run_that_was_to_issue_gets_the_same_token(running):
    """Its key is the same, so that two that begin at once leave nothing over."""
    issued = []
    original = running.issuer.issue

    def issue(request, *, idempotency_key):
        issued.append(original(request, idempotency_key=idempotency_key))
        return issued[-1]

    running.issuer.issue = issue
    running.rotator().prepare()
    running.store.discard(issued[0].id)
    Rotator(running.store, running.issuer, running.policy, clock=running.clock).run(force=True)
    assert issued[1] == issued[0]
