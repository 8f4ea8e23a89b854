"""What an issuer, an API, a store or a clock may do wrong: each has its named end."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from cmzon_secrets.errors import (
    AccessDenied,
    AuthenticationError,
    ReadOnlyProvider,
    RequestRejected,
    ServerError,
    TransportError,
)
from cmzon_secrets.issuer import TokenRequest
from cmzon_secrets.rotation import RotationPolicy, Rotator
from cmzon_secrets.testing import MemoryStore
from cmzon_secrets.testing.memory_issuer import MemoryIssuer
from cmzon_secrets.tokens import Token

HOUR, DAY = 3600.0, 86400.0


def kinds(report):
    return [action.kind for action in report.actions]


def account_name(account) -> str:
    return next(iter(account.issuer._infos.values())).name


# ── issuing ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("status", [400, 422])
def test_an_unknown_scope_is_told_with_its_name_and_what_to_do(account, status):
    account.run()
    asked = []

    class Strict(MemoryIssuer):
        def issue(self, request, *, idempotency_key):
            asked.append(request)
            raise RequestRejected(f"issuer — {status} Validation failed", status=status)

    account.issuer.__class__ = Strict
    account.policy = RotationPolicy("acme", scopes=["fly"])
    report = account.run(force=True)
    assert report.state == "failed"
    assert "fly" in report.reason
    assert "mend the policy" in report.error.hint
    assert len(asked) <= 3
    assert account.current.id == "tok_1"


def test_a_token_issued_with_other_scopes_than_asked_is_not_used(account):
    account.run()

    class Generous(MemoryIssuer):
        def issue(self, request, *, idempotency_key):
            wider = replace(request, scopes=("messages:send", "tokens:manage"))
            return super().issue(wider, idempotency_key=idempotency_key)

    account.issuer.__class__ = Generous
    report = account.run(force=True)
    assert report.state == "attention"
    assert "tokens:manage" in report.reason
    assert (account.current.id, account.store.versions().pending) == ("tok_1", None)
    account.issuer.__class__ = MemoryIssuer
    account.pass_time(HOUR)
    account.run()
    assert account.issuer.live == {"tok_1"}, "and it is swept"


def test_a_pending_token_of_a_policy_that_was_changed_is_dropped_and_another_is_issued(account):
    account.run()
    token = account.issuer.issue(TokenRequest(account_name(account)), idempotency_key="died")
    account.store.stage(token)
    account.policy = RotationPolicy("acme", scopes=["audit:read"])
    account.run(force=True)
    assert account.current.scopes == ("audit:read",)
    assert token.id not in account.issuer.live


def test_a_rollback_to_a_token_of_an_older_policy_is_finished_all_the_same(rotated):
    rotated.store.stage(rotated.previous)
    rotated.policy = RotationPolicy("acme", scopes=["audit:read"])
    rotated.run()
    assert rotated.current.id == "tok_1"


@pytest.mark.parametrize("call", ["issue", "verify", "revoke", "list"])
def test_an_issuer_that_goes_down_in_the_middle_costs_nothing_but_time(rotated, call):
    rotated.pass_time(25 * HOUR)

    class GoesDown(MemoryIssuer):
        down = False

        def _reached(self, name):
            GoesDown.down = GoesDown.down or name == call
            if GoesDown.down:
                raise TransportError("issuer — no answer")

        def issue(self, request, *, idempotency_key):
            self._reached("issue")
            return super().issue(request, idempotency_key=idempotency_key)

        def verify(self, token):
            self._reached("verify")
            return super().verify(token)

        def revoke(self, token):
            self._reached("revoke")
            super().revoke(token)

        def list(self, name):
            self._reached("list")
            return super().list(name)

    rotated.issuer.__class__ = GoesDown
    report = rotated.run(force=True)
    assert report.state in ("waiting", "failed")
    rotated.issuer.__class__ = MemoryIssuer
    assert rotated.current.id in rotated.issuer.live
    rotated.run(force=True)
    rotated.pass_time(25 * HOUR)
    assert rotated.run().state == "done"
    assert rotated.issuer.live == {rotated.current.id}


def test_hours_without_a_store_to_write_to_do_not_use_the_keys_up(account):
    """Each run gets a token and cannot store it; afterwards the account rotates as before."""
    account.run()

    class CannotWrite(MemoryStore):
        def stage(self, token):
            raise AccessDenied("memory: — no right to write", uri="memory:")

    account.store.__class__ = CannotWrite
    for _ in range(24):
        assert account.run(force=True).state == "failed"
        account.pass_time(HOUR)
    account.store.__class__ = MemoryStore
    assert account.run(force=True).state == "done"
    assert account.current.id in account.issuer.live
    account.pass_time(25 * HOUR)
    account.run()
    assert account.issuer.live == {account.current.id}


def test_a_store_that_is_read_only_fails_the_run_and_says_so(account):
    account.run()

    class ReadOnly(MemoryStore):
        def stage(self, token):
            raise ReadOnlyProvider("env:CMZON_API_TOKEN — it cannot be written", uri="env:")

    account.store.__class__ = ReadOnly
    report = account.run(force=True)
    assert (report.state, type(report.error)) == ("failed", ReadOnlyProvider)
    assert account.current.id == "tok_1"


# ── clocks ──────────────────────────────────────────────────────────────────────────────────────


class SetAtEachCall(MemoryIssuer):
    """Somebody sets this machine's clock by ten minutes, forth and back, at each call."""

    minutes = 10

    def verify(self, token):
        self._jump()
        return super().verify(token)

    def list(self, name):
        self._jump()
        return super().list(name)

    def _jump(self):
        self._clock.set_wall_clock(self._clock.now() + timedelta(minutes=self.minutes))
        type(self).minutes = -self.minutes


@pytest.mark.parametrize("minutes", [10, -10])
def test_a_clock_that_jumps_in_the_middle_of_a_run_ends_no_grace(rotated, minutes):
    rotated.pass_time(24 * HOUR - 60)
    rotated.issuer.__class__ = SetAtEachCall
    SetAtEachCall.minutes = minutes
    rotated.run()
    assert "tok_1" in rotated.issuer.live


@pytest.mark.parametrize("minutes", [10, -10])
def test_a_rotation_goes_on_while_the_clock_jumps_forth_and_back(account, minutes):
    account.run()
    account.issuer.__class__ = SetAtEachCall
    SetAtEachCall.minutes = minutes
    report = account.run(force=True)
    assert report.state in ("done", "waiting")
    assert account.current.id == "tok_2"
    assert "tok_1" in account.issuer.live


def test_a_grace_that_ends_while_a_run_is_under_way_is_left_to_the_next_run(rotated):
    """A rollback may have been staged since this run looked."""
    rotated.pass_time(24 * HOUR - 10)

    class Slow(MemoryIssuer):
        def list(self, name):
            self._clock.advance(20)
            return super().list(name)

    rotated.issuer.__class__ = Slow
    rotated.run(force=True)
    assert "tok_1" in rotated.issuer.live
    rotated.run()
    assert "tok_1" not in rotated.issuer.live


def test_a_rollback_is_refused_in_the_last_minute_of_the_grace(rotated):
    rotated.pass_time(24 * HOUR - 59)
    assert rotated.rotator().rollback().state == "failed"


def test_a_run_that_was_suspended_tries_the_token_again_before_it_promotes_it(account):
    """While it slept, another run took the token for lost."""
    account.run()

    class Sleeps(MemoryStore):
        def stage(self, token):
            super().stage(token)
            account.pass_time(2 * HOUR)
            account.issuer.revoke(token)

    account.store.__class__ = Sleeps
    promoted = account.store.promote
    seen = []
    account.store.promote = lambda *a, **k: (seen.append(account.issuer.live), promoted(*a, **k))
    account.run(force=True)
    assert all(account.store.versions().current.id in live for live in seen)
    assert account.current.id in account.issuer.live


# ── what readers may still hold ─────────────────────────────────────────────────────────────────


def test_a_token_given_up_within_its_grace_is_not_swept_before_its_readers_had_it(rotated):
    """CURRENT died, so PREVIOUS had to make way; applications may still have it in their caches."""
    rotated.issuer.use(rotated.previous)
    rotated.pass_time(400)
    rotated.issuer.revoke("tok_2")
    rotated.run()
    assert rotated.current.id == "tok_3"
    report = rotated.run()
    assert "tok_1" in rotated.issuer.live
    assert (report.state, "tok_1" in report.reason) == ("waiting", True)
    assert report.next_due == rotated.store.versions().promoted_at + rotated.policy.grace
    rotated.pass_time(24 * HOUR)
    rotated.run()
    assert rotated.issuer.live == {"tok_3"}


def test_a_token_that_was_pasted_over_is_not_swept_before_its_readers_had_their_grace(account):
    account.run()
    account.pass_time(2 * HOUR)
    account.issuer.use(account.current)
    pasted = account.issuer.issue(TokenRequest("dashboard"), idempotency_key="by hand")
    account.store.paste(pasted.reveal())
    account.pass_time(400)
    account.run()
    assert "tok_1" in account.issuer.live
    account.pass_time(24 * HOUR)
    account.run()
    assert "tok_1" not in account.issuer.live


# ── everything of an account ────────────────────────────────────────────────────────────────────


def orphan(account, key: str) -> Token:
    return account.issuer.issue(TokenRequest(account_name(account)), idempotency_key=key)


def test_everything_of_an_account_dies_but_a_fresh_successor(rotated):
    lost = orphan(rotated, "lost")
    rotated.issuer.use(lost)
    pending = orphan(rotated, "pending")
    rotated.store.stage(pending)
    foreign = rotated.issuer.issue(TokenRequest("theirs"), idempotency_key="theirs")
    report = rotated.rotator().revoke_all()
    assert report.state == "done"
    assert rotated.issuer.live == {rotated.current.id, foreign.id}
    assert rotated.current.id not in {"tok_1", "tok_2", lost.id, pending.id}


def test_what_a_dead_run_was_given_is_no_fresh_successor(account):
    """It has the very key that the successor would be asked for with."""
    account.run()

    class Dies(MemoryStore):
        def stage(self, token):
            raise KeyboardInterrupt

    account.store.__class__ = Dies
    with pytest.raises(KeyboardInterrupt):
        account.run(force=True)
    account.store.__class__ = MemoryStore
    assert account.rotator().revoke_all().state == "done"
    assert account.issuer.live == {account.current.id} == {"tok_3"}


def test_everything_without_a_successor_leaves_nothing_alive_and_says_so(rotated):
    orphan(rotated, "lost")
    report = rotated.rotator().revoke_all(replace=False)
    assert report.state == "attention"
    assert rotated.issuer.live == set()


def test_everything_of_an_account_whose_store_is_empty_is_what_the_issuer_lists(account):
    account.run()
    orphan(account, "lost")
    account.hold(current=None)
    assert account.rotator().revoke_all().state == "done"
    assert account.issuer.live == set()


def test_everything_is_not_dead_while_one_is_listed_as_alive(account):
    account.run()
    lost = orphan(account, "lost")

    class Keeps(MemoryIssuer):
        def revoke(self, token):
            if token != lost.id:
                super().revoke(token)

    account.issuer.__class__ = Keeps
    report = account.rotator().revoke_all()
    assert report.state == "failed"
    assert report.reason.startswith(f"STILL ALIVE: {lost.id}")
    assert account.current.id == "tok_3"
    assert "tok_1" not in account.issuer.live


@pytest.mark.parametrize("how", ["fails", "is not there"])
def test_everything_is_not_proved_dead_where_the_list_is_missing(account, how):
    account.run()

    class NoList(MemoryIssuer):
        lists = how == "fails"

        def list(self, name):
            raise ServerError("issuer — 500", status=500)

    account.issuer.__class__ = NoList
    report = account.rotator().revoke_all()
    assert report.state == "failed"
    assert "STILL ALIVE" in report.reason
    assert "tok_1" not in account.issuer.live, "what is held is dead nevertheless"
    assert account.current.id == "tok_2"


def test_everything_again_after_a_run_that_died_leaves_one_that_works(account):
    account.run()

    class DiesBeforeTheEnd(MemoryIssuer):
        def revoke(self, token):
            super().revoke(token)
            raise KeyboardInterrupt

    account.issuer.__class__ = DiesBeforeTheEnd
    with pytest.raises(KeyboardInterrupt):
        account.rotator().revoke_all()
    account.issuer.__class__ = MemoryIssuer
    assert account.rotator().revoke_all().state == "done"
    assert account.issuer.live == {account.current.id}


def test_an_id_that_a_dead_pasted_token_may_have_had_is_killed_without_ado(account):
    pasted = account.issuer.issue(TokenRequest("dashboard"), idempotency_key="x")
    account.store.paste(pasted.reveal())
    account.issuer.revoke(pasted.id)
    with pytest.raises(AuthenticationError):
        account.issuer.verify(pasted)
    assert account.rotator().revoke(token_id=pasted.id).state == "attention"


def test_an_account_can_be_rotated_by_two_rotators_at_once_across_a_change_of_keys(account):
    """Each gets a token of its own; one is promoted, the other is not lost."""
    account.run()
    store = account.store

    class Other(MemoryStore):
        def stage(self, token):
            store.__class__ = MemoryStore
            account.pass_time(HOUR / 2)
            Rotator(store, account.issuer, account.policy, clock=account.clock).run(force=True)
            MemoryStore.stage(self, token)

    store.__class__ = Other
    account.run(force=True)
    for _ in range(4):
        account.pass_time(25 * HOUR)
        account.run()
    assert account.issuer.live == {account.current.id}
