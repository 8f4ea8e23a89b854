"""A rotation from the outside: what a run does, row by row of the table in ``decide``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from cmzon_secrets.clock import SYSTEM_CLOCK
from cmzon_secrets.errors import (
    AuthenticationError,
    ConfigurationError,
    ConflictError,
    IssuerError,
    PermissionDenied,
    ProviderUnavailable,
    RequestRejected,
    ServerError,
    TransportError,
)
from cmzon_secrets.issuer import TokenInfo, TokenRequest
from cmzon_secrets.rotation import RotationPolicy, Rotator
from cmzon_secrets.rotation.run import is_named
from cmzon_secrets.testing import ManualClock, MemoryStore
from cmzon_secrets.testing.memory_issuer import MemoryIssuer
from cmzon_secrets.tokens import Token

HOUR, DAY = 3600.0, 86400.0


def kinds(report):
    return [(a.kind, a.token_id) for a in report.actions]


# ── rows 3 and 4: issuing ───────────────────────────────────────────────────────────────────────


def test_an_empty_store_gets_its_first_token(account):
    report = account.run()
    assert report.state == "done"
    assert kinds(report) == [("issue", "tok_1"), ("stage", "tok_1"), ("promote", "tok_1")]
    assert account.current.id == "tok_1"
    assert account.issuer.live == {"tok_1"}


def test_a_token_that_is_not_due_is_left_alone(account):
    account.run()
    account.pass_time(29 * DAY)
    assert account.run().actions == ()


def test_nothing_due_says_when_something_will_be(account):
    account.run()
    born = account.clock.now()
    assert account.run().next_due == born + account.policy.rotate_every


def test_a_token_is_replaced_at_the_age_the_policy_says(account):
    account.run()
    account.pass_time(30 * DAY)
    account.run()
    assert account.current.id == "tok_2"
    assert account.issuer.live == {"tok_1", "tok_2"}


def test_a_token_is_replaced_well_before_it_expires(account):
    account.policy = RotationPolicy("acme", expires_in=20 * DAY)
    account.run()
    account.pass_time(14 * DAY)
    assert account.run().actions == ()
    account.pass_time(1 * DAY)
    account.run()
    assert account.current.id == "tok_2"


def test_a_token_revoked_in_the_dashboard_is_replaced_at_once_and_needs_no_grace(account):
    account.run()
    account.issuer.revoke("tok_1")
    report = account.run()
    assert account.current.id == "tok_2"
    assert ("discard", "tok_1") in kinds(report)
    assert account.previous is None


def expire(account, token_id, *, at=None):
    """In the dashboard: the store, which noted the dates at the issue, is not told."""
    infos = account.issuer._infos
    infos[token_id] = replace(infos[token_id], expires_at=at or account.clock.now())


def test_a_token_expired_in_the_dashboard_is_replaced_at_once_and_needs_no_grace(account):
    account.run()
    expire(account, "tok_1")
    report = account.run()
    assert account.current.id == "tok_2"
    assert ("discard", "tok_1") in kinds(report)
    assert account.previous is None


def test_an_expiry_that_only_the_issuer_knows_is_heeded_in_time(account):
    account.run()
    expire(account, "tok_1", at=account.clock.now() + timedelta(days=4))
    assert account.run().next_due == account.clock.now() + timedelta(days=3)
    account.pass_time(3 * DAY)
    assert account.run().state == "done"
    assert account.current.id == "tok_2"
    assert account.issuer.live == {"tok_1", "tok_2"}, "it goes on to work through its grace"


def test_a_pasted_token_is_replaced_before_the_expiry_chosen_in_the_dashboard(account):
    made = account.issuer.issue(TokenRequest("by hand"), idempotency_key="by hand")
    account.hold(current=Token(made.reveal()))
    expire(account, made.id, at=account.clock.now() + timedelta(hours=20))
    account.run()
    assert account.current.id == "tok_2"
    assert account.previous == made


def test_force_replaces_one_token_not_two(account):
    account.run()
    report = account.run(force=True)
    assert [k for k, _ in kinds(report)].count("issue") == 1
    assert account.current.id == "tok_2"


def test_the_issuer_is_asked_for_what_the_policy_wants(account):
    account.policy = RotationPolicy(
        "acme", scopes=["messages:send", "audit:read"], allowed_ips=["192.0.2.0/24"]
    )
    account.run()
    assert account.current.scopes == ("messages:send", "audit:read")
    assert account.current.allowed_ips == ("192.0.2.0/24",)


def test_two_stores_of_the_same_name_have_different_names_at_the_issuer(account):
    other = MemoryStore(clock=account.clock)
    account.run()
    Rotator(other, account.issuer, account.policy, clock=account.clock).run()
    names = {info.name for info in account.issuer._infos.values()}
    assert len(names) == 2
    assert all(name.startswith("acme-") and len(name) == len("acme-") + 16 for name in names)


def test_a_lost_answer_is_asked_for_again_with_the_same_key_and_leaves_one_token(account):
    class Forgetful(MemoryIssuer):
        lost = False

        def issue(self, request, *, idempotency_key):
            token = super().issue(request, idempotency_key=idempotency_key)
            if not self.lost:
                self.lost = True
                raise TransportError("no answer")
            return token

    account.issuer = Forgetful(clock=account.clock)
    account.run()
    assert account.issuer.live == {account.current.id} == {"tok_1"}


def test_an_issuer_without_keys_is_asked_once(account):
    class Mute(MemoryIssuer):
        idempotent = False
        lists = True
        asked = 0

        def issue(self, request, *, idempotency_key):
            self.asked += 1
            raise TransportError("no answer")

    account.issuer = Mute(clock=account.clock)
    assert account.run().state == "failed"
    assert account.issuer.asked == 1


def test_a_lost_answer_of_an_issuer_that_cannot_list_calls_for_a_person(account):
    class Loses(MemoryIssuer):
        idempotent = lists = False

        def issue(self, request, *, idempotency_key):
            super().issue(request, idempotency_key=idempotency_key)
            raise TransportError("no answer")

    account.issuer = Loses(clock=account.clock)
    report = account.run()
    assert report.state == "attention"
    assert "dashboard" in report.reason
    assert len(account.issuer._tokens) == 1


def test_an_unknown_stage_is_named_with_the_valid_ones(account):
    account.run()
    with pytest.raises(ConfigurationError, match="current, pending, previous"):
        account.rotator().revoke(stage="next")


def test_what_an_emergency_took_out_is_not_killed_where_another_run_made_it_current(account):
    """The other run got it again by its key, between our discard and our revocation."""
    account.run()
    leftover_run_dies_at_promote(account)

    class AdoptedMeanwhile(MemoryStore):
        adopted = False

        def discard(self, token_id):
            pending = self.versions().pending
            super().discard(token_id)
            if token_id == "tok_2" and not AdoptedMeanwhile.adopted:
                AdoptedMeanwhile.adopted = True
                self.stage(pending)
                self.promote("tok_2", replacing="tok_1")

    class KillsNoCurrent(MemoryIssuer):
        def revoke(self, token):
            assert token != account.current
            super().revoke(token)

    account.store.__class__ = AdoptedMeanwhile
    account.issuer.__class__ = KillsNoCurrent
    report = account.rotator().revoke()
    assert report.state == "done"
    assert account.issuer.live == {account.current.id}


class GuardsCurrentAlone(MemoryStore):
    """Its ``promote`` compares CURRENT and not PENDING, like a cloud's label that is moved."""

    def meanwhile(self):
        """What another run does between our look and our move."""

    def promote(self, token_id, *, replacing):
        pending = self.versions().pending
        self.meanwhile()
        if self.versions().pending is None:
            MemoryStore.stage(self, pending)
        MemoryStore.promote(self, token_id, replacing=replacing)


def test_a_token_that_was_killed_between_look_and_move_is_replaced_in_the_same_run(account):
    account.run()

    class KilledMeanwhile(GuardsCurrentAlone):
        def meanwhile(self):
            account.store.__class__ = MemoryStore
            assert account.rotator().revoke(stage="pending").state == "done"

    account.store.__class__ = KilledMeanwhile
    account.run(force=True)
    assert account.current.id in account.issuer.live


def test_a_token_that_another_run_moved_just_before_it_was_killed_is_replaced_by_the_killer(
    account,
):
    account.run()
    leftover_run_dies_at_promote(account)
    leftover = account.store.versions().pending

    class MovedMeanwhile(MemoryIssuer):
        def revoke(self, token):
            account.issuer.__class__ = MemoryIssuer
            account.store.stage(leftover)
            account.store.promote(leftover.id, replacing="tok_1")
            self.verify(leftover)
            MemoryIssuer.revoke(self, token)

    account.issuer.__class__ = MovedMeanwhile
    report = account.rotator().revoke(stage="pending")
    assert account.current.id in account.issuer.live
    assert leftover.id not in account.issuer.live
    assert report.state == "done"


def test_an_issuer_that_is_down_fails_the_run_and_leaves_current_alone(account):
    account.run()

    class Down(MemoryIssuer):
        lists = False

        def issue(self, request, *, idempotency_key):
            raise ServerError("issuer — 503", status=503)

        def verify(self, token):
            raise ServerError("issuer — 503", status=503)

    account.issuer = Down(clock=account.clock)
    report = account.run(force=True)
    assert report.state == "failed"
    assert isinstance(report.error, ServerError)
    assert account.current.id == "tok_1"


def test_an_unknown_scope_is_the_issuers_word_and_fails_the_run(account):
    class Strict(MemoryIssuer):
        def issue(self, request, *, idempotency_key):
            raise RequestRejected("issuer — 400 unknown scope: fly", status=400)

    account.policy = RotationPolicy("acme", scopes=["fly"])
    account.issuer = Strict(clock=account.clock)
    report = account.run()
    assert (report.state, report.reason) == ("failed", "issuer — 400 unknown scope: fly")
    assert "mend the policy" in report.error.hint


def test_a_key_used_under_another_policy_moves_on_to_the_next_attempt(account):
    crash_after_issue(account)
    account.policy = RotationPolicy("acme", scopes=["audit:read"])
    account.run()
    assert account.current.scopes == ("audit:read",)


def crash_after_issue(account) -> None:
    class Crashing(MemoryStore):
        def stage(self, token):
            raise KeyboardInterrupt

    account.store.__class__ = Crashing
    with pytest.raises(KeyboardInterrupt):
        account.run()
    account.store.__class__ = MemoryStore


def test_a_crash_after_issuing_costs_no_second_token(account):
    crash_after_issue(account)
    account.run()
    assert account.issuer.live == {account.current.id} == {"tok_1"}


class Doa(MemoryIssuer):
    """The first ``dead`` tokens it issues are dead on arrival, and look two minutes old."""

    dead = 1
    age = 120.0

    def _new(self, request: TokenRequest) -> Token:
        token = super()._new(request)
        if len(self._tokens) <= self.dead:
            info = self._infos[token.id]
            self._infos[token.id] = replace(info, revoked_at=self._clock.now())
        old = self._clock.now().timestamp() - self.age
        born = self._clock.now().fromtimestamp(old, self._clock.now().tzinfo)
        token = Token(token.reveal(), id=token.id, scopes=token.scopes, issued_at=born)
        self._tokens[token.id] = token
        return token


def test_a_token_that_is_dead_on_arrival_is_not_stored_and_another_is_asked_for(account):
    account.issuer = Doa(clock=account.clock)
    report = account.run()
    assert account.current.id == "tok_2"
    assert ("stage", "tok_1") not in kinds(report)


def test_an_issuer_that_gives_only_dead_tokens_calls_for_a_person_after_sixteen(account):
    account.issuer = Doa(clock=account.clock)
    account.issuer.dead = 99
    report = account.run()
    assert report.state == "attention"
    assert len(account.issuer._tokens) == 16
    assert not any(account.store.versions())


def test_a_token_not_accepted_yet_is_waited_for_and_then_used(account):
    account.issuer = Doa(clock=account.clock)
    account.issuer.age = 0.0
    report = account.run()
    assert (report.state, account.store.versions().pending) == ("waiting", None)
    assert (report.next_due - account.clock.now()).total_seconds() == 60
    info = account.issuer._infos["tok_1"]
    account.issuer._infos["tok_1"] = replace(info, revoked_at=None)
    account.run()
    assert account.current.id == "tok_1"


def test_an_issuer_that_answers_twice_the_same_token_gets_attention_not_a_loop(account):
    account.run()
    same = account.current

    class Stuck(MemoryIssuer):
        def issue(self, request, *, idempotency_key):
            return same

    account.issuer.__class__ = Stuck
    report = account.run(force=True)
    assert report.state == "attention"
    assert account.current == same


def test_an_issuer_whose_new_token_kills_the_old_one_is_refused_without_allow_gap(account):
    account.run()
    account.issuer.overlap = False
    report = account.run(force=True)
    assert report.state == "attention"
    assert "allow_gap" in report.reason
    account.policy = RotationPolicy("acme", allow_gap=True)
    account.run(force=True)
    assert account.current.id == "tok_2"


def test_an_issued_token_refused_with_403_is_not_staged(account):
    class FromElsewhere(MemoryIssuer):
        def verify(self, token):
            raise PermissionDenied("API — 403", status=403)

    account.issuer = FromElsewhere(clock=account.clock)
    report = account.run()
    assert report.state == "attention"
    assert "allowed_ips" in report.reason
    assert not any(account.store.versions())


class ByHand(MemoryIssuer):
    """As a person: no keys, no list, and a new token only when a new one is typed."""

    idempotent = False
    lists = False
    interactive = True
    typed: Token | None = None

    def issue(self, request, *, idempotency_key):
        return self.typed


def test_a_token_typed_wrong_fails_at_once_and_changes_nothing(account):
    account.run()
    account.issuer.__class__ = ByHand
    account.issuer.typed = Token("mistyped", issued_at=account.clock.now())
    report = account.run(force=True)
    assert report.state == "failed"
    assert "mistyped" in report.reason
    assert account.store.versions().pending is None


def test_the_current_token_typed_again_fails_at_once(account):
    account.run()
    account.issuer.__class__ = ByHand
    account.issuer.typed = account.current
    report = account.run(force=True)
    assert report.state == "failed"
    assert "held already" in report.reason


def test_a_revocation_that_a_person_has_to_do_calls_for_one(rotated):
    rotated.pass_time(25 * HOUR)

    class NotDoneYet(ByHand):
        def revoke(self, token):
            pass

    rotated.issuer.__class__ = NotDoneYet
    assert rotated.run().state == "attention"


# ── row 0: the clock ────────────────────────────────────────────────────────────────────────────


class Behind(MemoryIssuer):
    """An API whose clock is hours behind ours."""

    behind = timedelta(hours=3)

    def _new(self, request):
        token = super()._new(request)
        info = self._infos[token.id]
        born = token.issued_at - self.behind
        end = token.expires_at - self.behind
        token = Token(token.reveal(), id=token.id, issued_at=born, expires_at=end)
        self._tokens[token.id] = token
        self._infos[token.id] = replace(info, created_at=born, expires_at=end)
        return token

    def _is_dead(self, info):
        return info.revoked_at is not None or self._clock.now() - self.behind >= info.expires_at


def test_a_clock_off_by_more_than_a_tokens_life_calls_for_a_person_and_issues_few_tokens(account):
    account.policy = RotationPolicy("acme", expires_in=2 * HOUR, grace=600, renew_before=1200)
    account.issuer = Behind(clock=account.clock)
    for _ in range(3):
        report = account.run(force=True)
        assert report.state == "attention"
        assert "clock" in report.reason
    assert len(account.issuer._tokens) <= 3


def test_a_current_that_the_api_accepts_past_its_expiry_stops_all_that_goes_by_dates(rotated):
    """Our clock jumped ahead: PREVIOUS would be revoked within its grace."""

    class Earlier(MemoryIssuer):
        def _is_dead(self, info):
            return info.revoked_at is not None

    expire(rotated, "tok_2", at=rotated.clock.now() + timedelta(hours=30))
    rotated.issuer.__class__ = Earlier
    rotated.pass_time(48 * HOUR)
    report = rotated.run()
    assert report.state == "attention"
    assert "clock" in report.reason
    assert rotated.issuer.live == {"tok_1", "tok_2"}


def test_an_expiry_that_the_store_alone_has_noted_is_when_a_token_is_due_and_no_wrong_clock(
    account,
):
    """Guessed when it was typed in, or extended in the dashboard since."""
    account.run()
    ended = account.clock.now() + timedelta(hours=30)
    account.hold(current=Token(account.current.reveal(), id="tok_1", expires_at=ended))
    account.pass_time(48 * HOUR)
    assert account.run().state == "done"
    assert account.current.id == "tok_2"


def test_a_current_that_died_by_the_clock_of_the_api_is_replaced_though_ours_is_behind(account):
    account.policy = RotationPolicy("acme", expires_in=7 * DAY, grace=3600)
    account.issuer = MemoryIssuer(clock=ManualClock())
    account.run()
    account.issuer._clock.advance(8 * DAY)
    assert account.run().state == "done"
    assert account.current.id == "tok_2"
    assert account.issuer.live == {"tok_2"}


@pytest.mark.parametrize(
    ("ahead", "state", "live"),
    [
        (timedelta(minutes=4), "done", {"tok_2"}),
        (timedelta(hours=2), "attention", {"tok_1", "tok_2"}),
    ],
)
def test_a_clock_ahead_of_the_apis_ends_no_grace(rotated, ahead, state, live):
    """Tokens without an end have no date of their own that could give a wrong clock away."""

    class Dated(MemoryIssuer):
        @property
        def server_date(self):
            return SYSTEM_CLOCK.now() - ahead

    rotated.issuer.__class__ = Dated
    rotated.pass_time(25 * HOUR)
    report = rotated.run()
    assert (report.state, rotated.issuer.live) == (state, live)
    assert ("this machine's clock is 2h ahead of the API's" in report.reason) == (state != "done")


def test_what_a_rotation_asks_of_previous_is_no_use_that_keeps_it_alive(account):
    """Where the API counts asking for a token as its use, tokens with an end would be spared by our own runs."""

    class Counting(MemoryIssuer):
        def verify(self, token):
            self.use(token)
            return super().verify(token)

    account.issuer = Counting(clock=account.clock)
    account.policy = RotationPolicy("acme", expires_in=60 * DAY)
    account.run()
    account.pass_time(DAY)
    account.run(force=True)
    account.pass_time(25 * HOUR)
    account.run()
    assert account.issuer.live == {"tok_2"}


def test_a_list_that_calls_a_live_token_expired_is_not_believed(account):
    class Mistaken(MemoryIssuer):
        def list(self, name):
            listed = super().list(name)
            return iter([replace(info, expires_at=account.clock.now()) for info in listed])

    account.issuer = Mistaken(clock=account.clock)
    account.run()
    report = account.run()
    assert report.state == "done"
    assert report.actions == ()


def test_tokens_that_live_too_short_for_the_policy_are_not_issued_for_ever(account):
    class ShortLived(MemoryIssuer):
        def _new(self, request):
            return super()._new(replace(request, expires_in=timedelta(hours=1)))

    account.issuer = ShortLived(clock=account.clock)
    report = account.run()
    assert report.state == "attention"
    assert "live too short" in report.reason
    assert len(account.issuer._tokens) == 1


# ── row 2: PENDING ──────────────────────────────────────────────────────────────────────────────


def stage_one(account) -> Token:
    """A token issued and staged, by a run that then died."""
    account.run()
    token = account.issuer.issue(
        TokenRequest(account_name(account)), idempotency_key="of a run that died"
    )
    account.store.stage(token)
    return token


def account_name(account) -> str:
    return next(iter(account.issuer._infos.values())).name


def test_a_pending_token_left_by_a_crash_is_verified_and_promoted(account):
    token = stage_one(account)
    report = account.run()
    assert kinds(report)[0] == ("promote", token.id)
    assert account.current == token
    assert account.previous.id == "tok_1"


def test_a_pending_token_that_is_due_as_soon_as_it_is_promoted_waits_for_the_next_run(account):
    account.run()
    token = account.issuer.issue(TokenRequest("acme"), idempotency_key="old")
    account.hold(current=None, pending=token)
    account.pass_time(31 * DAY)
    account.run()
    assert account.current == token
    account.run()
    assert account.current.id == "tok_3"


def test_a_pending_token_that_the_api_refuses_is_revoked_and_forgotten(account):
    token = stage_one(account)
    account.issuer.revoke(token)
    account.pass_time(61)
    report = account.run()
    assert kinds(report) == [("revoke", token.id), ("discard", token.id)]
    assert account.current.id == "tok_1"


def test_a_pending_token_refused_within_a_minute_of_its_issue_is_given_time(account):
    token = stage_one(account)
    account.issuer.revoke(token)
    report = account.run()
    assert report.state == "waiting"
    assert account.store.versions().pending == token


def test_a_pending_token_about_which_the_api_is_silent_waits(account):
    token = stage_one(account)

    class Silent(MemoryIssuer):
        def verify(self, token):
            raise TransportError("no answer")

    account.issuer.__class__ = Silent
    assert account.run().state == "waiting"
    assert account.store.versions().pending == token


def test_a_pending_token_refused_with_403_calls_for_a_person_and_is_kept(account):
    token = stage_one(account)

    class FromElsewhere(MemoryIssuer):
        def verify(self, token):
            raise PermissionDenied("API — 403", status=403)

    account.issuer.__class__ = FromElsewhere
    report = account.run()
    assert report.state == "attention"
    assert "cmzon-secrets revoke --stage pending" in report.reason, "the only way out"
    assert account.store.versions().pending == token


def test_a_pending_token_refused_with_403_makes_way_once_the_policy_allows_other_addresses(account):
    class Elsewhere(MemoryIssuer):
        def verify(self, token):
            if token.allowed_ips == ("203.0.113.9",):
                raise PermissionDenied("API — 403", status=403)
            return super().verify(token)

    account.run()
    request = TokenRequest(account_name(account), allowed_ips=("203.0.113.9",))
    account.store.stage(account.issuer.issue(request, idempotency_key="mistaken"))
    account.issuer.__class__ = Elsewhere
    account.policy = RotationPolicy("acme", allowed_ips=("203.0.113.9",))
    assert account.run().state == "attention"
    account.policy = RotationPolicy("acme", allowed_ips=("198.51.100.7",))
    account.run(force=True)
    assert account.current.id == "tok_3"
    assert "tok_2" not in account.issuer.live


def test_a_pending_token_waits_for_previous_to_go(rotated):
    token = rotated.issuer.issue(TokenRequest("other"), idempotency_key="x")
    rotated.store.stage(token)
    report = rotated.run()
    assert report.state == "waiting"
    assert "tok_1 has to be revoked first" in report.reason
    assert rotated.current.id == "tok_2"


# ── row 1: PREVIOUS ─────────────────────────────────────────────────────────────────────────────


def test_previous_stays_alive_through_its_grace(rotated):
    rotated.pass_time(24 * HOUR - 1)
    assert rotated.run().actions == ()
    assert rotated.issuer.live == {"tok_1", "tok_2"}


def test_previous_is_revoked_and_proved_dead_after_its_grace(rotated):
    rotated.pass_time(24 * HOUR)
    report = rotated.run()
    assert kinds(report) == [("revoke", "tok_1"), ("discard", "tok_1")]
    assert rotated.issuer.live == {"tok_2"}
    assert rotated.previous is None


def test_force_does_not_shorten_a_grace(rotated):
    report = rotated.run(force=True)
    assert report.state == "waiting"
    assert report.next_due == rotated.store.versions().promoted_at + rotated.policy.grace
    assert rotated.issuer.live == {"tok_1", "tok_2"}


def test_previous_in_use_is_spared_and_the_address_is_told(rotated):
    rotated.pass_time(25 * HOUR)
    rotated.issuer.use(Token("memory-issuer-token-000001"), address="198.51.100.7")
    report = rotated.run()
    assert report.state == "waiting"
    assert "198.51.100.7" in report.reason
    assert rotated.issuer.live == {"tok_1", "tok_2"}
    [event] = [e for e in rotated.events if e.name == "previous_used_after_grace"]
    assert event.facts["address"] == "198.51.100.7"


def test_previous_in_use_is_revoked_at_the_limit(rotated):
    rotated.pass_time(7 * DAY)
    rotated.issuer.use(Token("memory-issuer-token-000001"))
    rotated.run()
    assert rotated.issuer.live == {"tok_2"}


def test_a_token_that_is_not_ours_is_never_revoked_while_in_use(account):
    pasted = account.issuer.issue(TokenRequest("made in the dashboard"), idempotency_key="x")
    account.store.stage(Token(pasted.reveal()))
    account.store.promote(Token(pasted.reveal()).id, replacing=None)
    account.run(force=True)
    account.pass_time(99 * DAY)
    account.issuer.use(pasted)
    report = account.run()
    assert report.state == "attention"
    assert pasted.id in account.issuer.live


def test_a_pasted_token_is_resolved_to_its_id_and_revoked_after_its_grace(account):
    pasted = account.issuer.issue(TokenRequest("made in the dashboard"), idempotency_key="x")
    account.store.stage(Token(pasted.reveal()))
    account.store.promote(Token(pasted.reveal()).id, replacing=None)
    account.run(force=True)
    account.pass_time(25 * HOUR)
    account.run()
    assert pasted.id not in account.issuer.live
    assert account.previous is None


def test_a_failed_revoke_is_a_state_and_is_tried_again_every_run(rotated):
    rotated.pass_time(25 * HOUR)

    class CannotRevoke(MemoryIssuer):
        def revoke(self, token):
            raise ServerError("issuer — 500", status=500)

    rotated.issuer.__class__ = CannotRevoke
    report = rotated.run()
    assert report.state == "waiting"
    assert "rotated, revoke pending" in report.reason
    assert rotated.current.id == "tok_2"
    rotated.issuer.__class__ = MemoryIssuer
    assert rotated.run().state == "done"
    assert rotated.issuer.live == {"tok_2"}


def test_a_revoke_that_kills_nothing_is_not_believed(rotated):
    rotated.pass_time(25 * HOUR)

    class Liar(MemoryIssuer):
        def revoke(self, token):
            pass

    rotated.issuer.__class__ = Liar
    report = rotated.run()
    assert "revoke pending" in report.reason
    assert rotated.previous.id == "tok_1"


# ── row 5: no way forward yet ───────────────────────────────────────────────────────────────────


def test_a_dying_current_does_not_wait_for_previous(rotated):
    rotated.issuer.revoke("tok_2")
    report = rotated.run()
    assert report.state == "attention"
    assert "tok_1" in report.reason
    assert "revoke_abandoned" in rotated.told()
    assert rotated.current.id == "tok_3"
    assert "tok_1" in rotated.issuer.live, "the abandoned token is left to the next run's sweep"
    rotated.pass_time(HOUR)
    rotated.run()
    assert rotated.issuer.live == {"tok_3"}


class CannotIssue(MemoryIssuer):
    def issue(self, request, *, idempotency_key):
        raise ServerError("issuer — 500", status=500)


def test_a_previous_that_somebody_killed_is_in_nobodys_way(rotated):
    rotated.issuer.revoke("tok_1")
    assert rotated.run(force=True).state == "done"
    assert rotated.current.id == "tok_3"
    assert rotated.previous.id == "tok_2"


def test_a_pasted_previous_that_makes_way_is_told_by_the_id_that_can_be_revoked(rotated):
    pasted = rotated.issuer.issue(TokenRequest("by hand"), idempotency_key="by hand")
    rotated.hold(previous=Token(pasted.reveal()))
    rotated.issuer.revoke("tok_2")
    report = rotated.run()
    assert report.state == "attention"
    assert report.reason.startswith(f"given up unrevoked, may still be alive: {pasted.id}")


def test_while_there_is_no_successor_a_dying_current_costs_no_previous(rotated):
    rotated.issuer.revoke("tok_2")
    rotated.issuer.__class__ = CannotIssue
    assert rotated.run().state == "failed"
    assert rotated.previous.id == "tok_1"
    assert rotated.rotator().rollback().state == "done"
    assert rotated.current.id == "tok_1"


def test_nor_does_it_for_a_staged_successor_that_does_not_work(rotated):
    made = rotated.issuer.issue(TokenRequest(account_name(rotated)), idempotency_key="made")
    rotated.store.stage(made)
    rotated.issuer.revoke("tok_2")
    rotated.issuer.revoke(made)
    rotated.pass_time(HOUR)
    rotated.issuer.__class__ = CannotIssue
    assert rotated.run().state == "failed"
    held = rotated.store.versions()
    assert (held.pending, held.previous.id) == (None, "tok_1")


def test_a_staged_successor_that_works_takes_the_place_of_a_dying_current(rotated):
    made = rotated.issuer.issue(TokenRequest(account_name(rotated)), idempotency_key="made")
    rotated.store.stage(made)
    rotated.issuer.revoke("tok_2")
    assert rotated.run().state == "attention"
    assert rotated.current == made


def test_a_current_expired_in_the_dashboard_does_not_wait_for_previous(rotated):
    expire(rotated, "tok_2")
    report = rotated.run()
    assert report.state == "attention"
    assert "tok_1" in report.reason
    assert "revoke_abandoned" in rotated.told()
    assert rotated.current.id == "tok_3"


def test_what_was_given_up_is_told_though_the_sweep_will_take_it(rotated):
    rotated.issuer.use(rotated.previous)
    rotated.pass_time(2 * HOUR)
    rotated.issuer.revoke("tok_2")
    report = rotated.run()
    assert report.state == "attention"
    assert report.reason.startswith(
        "given up unrevoked, may still be alive: tok_1; not held any more"
    )


def test_a_current_that_expires_before_previous_can_go_does_not_wait(account):
    account.policy = RotationPolicy("acme", grace=2 * DAY, expires_in=9 * DAY)
    account.run()
    account.pass_time(1 * DAY)
    account.run(force=True)
    account.pass_time(1 * DAY)
    in_a_minute = account.clock.now() + timedelta(minutes=1)
    account.hold(current=Token(account.current.reveal(), id="tok_2", expires_at=in_a_minute))
    account.run()
    assert account.current.id == "tok_3"


# ── row 6: orphans ──────────────────────────────────────────────────────────────────────────────


def orphan(account, key="lost") -> Token:
    return account.issuer.issue(TokenRequest(account_name(account)), idempotency_key=key)


def test_a_token_that_was_issued_and_lost_is_revoked_once_it_is_old_enough(account):
    account.run()
    lost = orphan(account)
    account.pass_time(HOUR - 1)
    account.run()
    assert lost.id in account.issuer.live
    account.pass_time(1)
    assert ("revoke", lost.id) in kinds(account.run())
    assert account.issuer.live == {"tok_1"}


def test_an_orphan_in_use_is_somebodys_and_calls_for_a_person(account):
    account.run()
    lost = orphan(account)
    account.pass_time(2 * HOUR)
    account.issuer.use(lost, address="203.0.113.5")
    report = account.run()
    assert report.state == "attention"
    assert "203.0.113.5" in report.reason
    assert lost.id in account.issuer.live


class OnEveryClone(MemoryStore):
    identity = "memory:cloned"


def test_however_many_were_lost_one_run_sweeps_them(account):
    account.run()
    for number in range(620):
        orphan(account, f"lost {number}")
    account.pass_time(2 * HOUR)
    assert account.run().state == "done"
    assert account.issuer.live == {"tok_1"}


def test_two_copies_of_one_store_kill_no_token_of_each_other_and_call_for_a_person(account):
    """A machine that was cloned, or restored from a backup: the same path, id, name and admin token."""
    account.store = OnEveryClone(clock=account.clock)
    account.run()
    copy = OnEveryClone(clock=account.clock)
    copy._memory.save(account.store.versions())
    account.pass_time(30 * DAY)
    for _ in range(60):
        for store in (account.store, copy):
            report = Rotator(store, account.issuer, account.policy, clock=account.clock).run()
            account.pass_time(2 * HOUR)
            for place in (account.store, copy):
                account.issuer.use(place.get())
            account.pass_time(HOUR)
    assert account.current != copy.get()
    assert report.state == "attention"
    assert "a copy of this store" in report.reason


def test_tokens_of_other_names_are_never_touched(account):
    account.run()
    foreign = account.issuer.issue(TokenRequest("acme"), idempotency_key="theirs")
    account.pass_time(99 * DAY)
    account.run()
    assert foreign.id in account.issuer.live


def test_a_list_that_does_not_heed_the_name_endangers_no_foreign_token(account):
    class ListsAll(MemoryIssuer):
        def list(self, name):
            return iter(list(self._infos.values()))

    account.issuer.__class__ = ListsAll
    account.run()
    foreign = account.issuer.issue(TokenRequest("theirs"), idempotency_key="theirs")
    account.pass_time(2 * HOUR)
    account.run()
    assert foreign.id in account.issuer.live


def test_the_sweep_never_takes_a_held_token_for_an_orphan_though_its_id_is_unknown(account):
    """CURRENT was issued under our own name, then pasted back by hand: its stored id is a fingerprint."""
    account.run()
    bare = Token(account.current.reveal())
    account.hold(current=bare)
    account.pass_time(2 * HOUR)
    account.run()
    assert account.issuer.live == {"tok_1"}


def test_the_sweep_does_not_run_where_a_held_token_cannot_be_resolved(account):
    account.run()
    lost = orphan(account)
    bare = Token(account.current.reveal())
    account.hold(current=bare)
    account.pass_time(2 * HOUR)

    class Silent(MemoryIssuer):
        def verify(self, token):
            raise TransportError("no answer")

    account.issuer.__class__ = Silent
    account.run()
    assert lost.id in account.issuer.live


def test_one_rotator_lists_no_more_often_than_a_token_can_become_an_orphan(account):
    class Counting(MemoryIssuer):
        lists_asked = 0

        def list(self, name: str) -> Iterator[TokenInfo]:
            self.lists_asked += 1
            return super().list(name)

    account.issuer = Counting(clock=account.clock)
    rotator = account.rotator()
    for _ in range(6):
        rotator.run()
        account.pass_time(HOUR / 4)
    assert account.issuer.lists_asked == 2


def test_an_issuer_that_cannot_list_rotates_all_the_same(account):
    class NoList(MemoryIssuer):
        lists = False

        def list(self, name):
            raise IssuerError("issuer — it cannot list")

    account.issuer = NoList(clock=account.clock)
    account.run()
    account.run(force=True)
    account.pass_time(25 * HOUR)
    assert account.run().state == "done"
    assert account.issuer.live == {"tok_2"}


def test_a_token_of_a_run_that_died_long_ago_is_left_to_the_sweep_and_not_adopted(account):
    """Adopting it while another run sweeps it would make a dead token CURRENT."""
    account.run()

    class Crashing(MemoryStore):
        def stage(self, token):
            raise KeyboardInterrupt

    account.store.__class__ = Crashing
    with pytest.raises(KeyboardInterrupt):
        account.run(force=True)
    account.store.__class__ = MemoryStore
    account.pass_time(HOUR / 2)
    account.run(force=True)
    assert account.current.id == "tok_3"
    account.pass_time(HOUR)
    account.run()
    assert "tok_2" not in account.issuer.live


def test_an_orphan_that_was_adopted_since_we_looked_is_not_revoked(account):
    account.run()
    lost = orphan(account)
    account.pass_time(2 * HOUR)

    class AdoptsMeanwhile(MemoryIssuer):
        def list(self, name):
            listing = list(super().list(name))
            if account.store.versions().pending is None:
                account.store.stage(lost)
                account.store.promote(lost.id, replacing="tok_1")
            return iter(listing)

    account.issuer.__class__ = AdoptsMeanwhile
    account.run()
    assert lost.id in account.issuer.live


def test_a_list_that_calls_a_live_token_revoked_is_not_believed(rotated):
    class Liar(MemoryIssuer):
        def list(self, name):
            now = self._clock.now()
            return iter([replace(info, revoked_at=now) for info in super().list(name)])

    rotated.issuer.__class__ = Liar
    rotated.run()
    assert rotated.current.id == "tok_2"
    assert rotated.previous.id == "tok_1"


def test_an_issuer_that_answers_about_another_token_has_not_verified_this_one(account):
    class Confused(MemoryIssuer):
        def verify(self, token):
            return replace(super().verify(token), id="tok_another")

    account.issuer.__class__ = Confused
    report = account.run()
    assert report.state == "waiting"
    assert "contradicts itself" in report.reason


def test_tokens_without_a_date_are_told_and_not_swept(account):
    account.run()
    lost = orphan(account)
    account.issuer._infos[lost.id] = replace(account.issuer._infos[lost.id], created_at=None)
    report = account.run()
    assert report.state == "attention"
    assert lost.id in report.reason
    assert lost.id in account.issuer.live


# ── conflicts, failures, dry runs ───────────────────────────────────────────────────────────────


def test_after_a_lost_race_nothing_is_revoked_in_that_run(account):
    class Racing(MemoryStore):
        def promote(self, token_id, *, replacing):
            raise ConflictError("store — another writer was first", uri=self.uri)

    account.run()
    account.pass_time(2 * HOUR)
    lost = orphan(account)
    account.pass_time(2 * HOUR)
    account.store.__class__ = Racing
    report = account.run(force=True)
    assert report.state == "waiting"
    assert "revoke" not in [a.kind for a in report.actions]
    assert lost.id in account.issuer.live


def test_a_store_that_is_down_fails_the_run_with_its_error(account):
    class Down(MemoryStore):
        def versions(self):
            raise ProviderUnavailable("memory: — down", uri="memory:")

    account.store.__class__ = Down
    report = account.run()
    assert report.state == "failed"
    assert isinstance(report.error, ProviderUnavailable)


def test_a_dry_run_says_what_would_be_done_and_changes_nothing(rotated):
    rotated.pass_time(25 * HOUR)
    before, live = rotated.store.versions(), rotated.issuer.live
    report = rotated.rotator().run(force=True, dry_run=True)
    assert [(a.kind, a.outcome) for a in report.actions] == [
        ("revoke", "planned"),
        ("discard", "planned"),
        ("issue", "planned"),
        ("stage", "planned"),
        ("promote", "planned"),
    ]
    assert rotated.store.versions() == before
    assert rotated.issuer.live == live
    assert rotated.events == []


def test_a_run_that_only_retires_waits_for_the_grace_and_issues_nothing(rotated):
    waiting = rotated.rotator().retire()
    assert (waiting.state, waiting.actions) == ("waiting", ())
    assert waiting.next_due is not None
    rotated.pass_time(40 * DAY)
    report = rotated.rotator().retire()
    assert [action.kind for action in report.actions] == ["revoke", "discard"]
    assert (report.state, rotated.previous) == ("done", None)
    assert rotated.rotator().retire().actions == ()


def test_every_step_is_told_with_ids_and_never_with_values(account):
    account.run()
    account.run(force=True)
    account.pass_time(25 * HOUR)
    account.run()
    assert [n for n in account.told() if n != "rotation_finished"] == [
        *("token_issued", "token_verified", "token_staged", "token_promoted") * 2,
        "token_revoked",
        "token_discarded",
    ]
    assert "memory-issuer-token" not in repr(account.events)


# ── rollback ────────────────────────────────────────────────────────────────────────────────────


def test_a_rollback_makes_previous_current_again(rotated):
    report = rotated.rotator().rollback()
    assert report.state == "done"
    assert rotated.current.id == "tok_1"
    assert rotated.previous.id == "tok_2"
    assert rotated.issuer.live == {"tok_1", "tok_2"}


def test_a_rollback_that_died_after_staging_is_completed_by_the_next_run(rotated):
    rotated.store.stage(rotated.previous)
    rotated.run()
    assert rotated.current.id == "tok_1"


def test_a_staged_rollback_is_not_revoked_though_previous_outlived_its_grace(rotated):
    rotated.store.stage(rotated.previous)
    rotated.pass_time(25 * HOUR)
    rotated.run()
    assert rotated.current.id == "tok_1"
    assert "tok_1" in rotated.issuer.live


def test_a_rollback_to_a_dead_token_is_refused(rotated):
    rotated.issuer.revoke("tok_1")
    report = rotated.rotator().rollback()
    assert report.state == "failed"
    assert rotated.current.id == "tok_2"


def test_a_rollback_is_refused_once_another_run_may_be_revoking_it(rotated):
    rotated.pass_time(25 * HOUR)
    report = rotated.rotator().rollback()
    assert report.state == "failed"
    assert "grace" in report.reason


def test_a_rollback_takes_a_live_pending_out_of_the_store_before_it_kills_it(rotated):
    """Or another run could promote it in between."""
    leftover = rotated.issuer.issue(TokenRequest("acme"), idempotency_key="leftover")
    rotated.store.stage(leftover)
    report = rotated.rotator().rollback()
    assert kinds(report)[:2] == [("discard", leftover.id), ("revoke", leftover.id)]
    assert rotated.current.id == "tok_1"


def test_a_rollback_with_nothing_to_roll_back_to_is_refused(account):
    account.run()
    assert account.rotator().rollback().state == "failed"


def test_after_a_rollback_the_next_rotation_does_not_reuse_the_token_rolled_away(rotated):
    rotated.rotator().rollback()
    rotated.pass_time(25 * HOUR)
    rotated.run()
    assert rotated.issuer.live == {"tok_1"}
    rotated.run(force=True)
    assert rotated.current.id == "tok_3"


# ── emergency ───────────────────────────────────────────────────────────────────────────────────


def test_an_emergency_replaces_current_and_kills_it_at_once(account):
    account.run()
    report = account.rotator().revoke()
    assert report.state == "done"
    assert kinds(report) == [
        ("issue", "tok_2"),
        ("stage", "tok_2"),
        ("promote", "tok_2"),
        ("revoke", "tok_1"),
        ("discard", "tok_1"),
    ]
    assert account.issuer.live == {account.current.id} == {"tok_2"}


def test_an_emergency_kills_what_else_is_held(rotated):
    leftover = rotated.issuer.issue(TokenRequest("acme"), idempotency_key="leftover")
    rotated.store.stage(leftover)
    assert rotated.rotator().revoke().state == "done"
    assert rotated.issuer.live == {rotated.current.id}
    assert rotated.current.id not in {"tok_1", "tok_2", leftover.id}


def test_an_emergency_does_not_reuse_a_leftover_that_it_killed_itself(account):
    """The leftover came from the very key that the replacement would be asked for with."""
    account.run()

    class Crashing(MemoryStore):
        def promote(self, token_id, *, replacing):
            raise KeyboardInterrupt

    account.store.__class__ = Crashing
    with pytest.raises(KeyboardInterrupt):
        account.run(force=True)
    account.store.__class__ = MemoryStore
    assert account.store.versions().pending.id == "tok_2"
    assert account.rotator().revoke().state == "done"
    assert account.issuer.live == {account.current.id} == {"tok_3"}


def test_repeating_an_emergency_by_id_does_not_kill_the_good_new_token(account):
    account.run()
    account.rotator().revoke()
    report = account.rotator().revoke(token_id="tok_1")
    assert report.state == "done"
    assert account.issuer.live == {"tok_2"}


def test_an_emergency_by_id_finds_a_pasted_token_by_what_the_api_calls_it(account):
    pasted = account.issuer.issue(TokenRequest("dashboard"), idempotency_key="x")
    account.store.stage(Token(pasted.reveal()))
    account.store.promote(Token(pasted.reveal()).id, replacing=None)
    assert account.rotator().revoke(token_id=pasted.id).state == "done"
    assert pasted.id not in account.issuer.live
    assert account.current.id != pasted.id


def test_an_emergency_without_replacement_leaves_current_dead_and_says_so(account):
    account.run()
    report = account.rotator().revoke(replace=False)
    assert report.state == "attention"
    assert account.issuer.live == set()


def test_killing_by_id_without_replacement_needs_no_store(account):
    account.run()

    class Down(MemoryStore):
        def versions(self):
            raise ProviderUnavailable("memory: — down", uri="memory:")

    account.store.__class__ = Down
    report = account.rotator().revoke(token_id="tok_1", replace=False)
    assert (report.state, account.issuer.live) == ("done", set())
    assert "it accepts any id" in report.reason


def test_killing_an_orphan_of_ours_by_id_is_proved_by_the_issuers_list(account):
    account.run()
    lost = orphan(account)
    assert account.rotator().revoke(token_id=lost.id).reason == f"{lost.id} is dead"

    class Liar(MemoryIssuer):
        def revoke(self, token):
            pass

    another = orphan(account, "another")
    account.issuer.__class__ = Liar
    report = account.rotator().revoke(token_id=another.id)
    assert report.state == "failed"
    assert "STILL ALIVE" in report.reason


def test_killing_an_id_that_is_none_of_ours_says_that_its_death_is_not_proved(account):
    account.run()
    report = account.rotator().revoke(token_id="tok_mistyped")
    assert report.state == "attention"
    assert "cannot be proved" in report.reason
    assert account.issuer.live == {"tok_1"}


@pytest.mark.parametrize("stage", ["pending", "previous"])
def test_an_emergency_for_another_stage_leaves_current_alone(rotated, stage):
    if stage == "pending":
        rotated.store.stage(rotated.issuer.issue(TokenRequest("acme"), idempotency_key="p"))
    doomed = getattr(rotated.store.versions(), stage).id
    assert rotated.rotator().revoke(stage=stage).state == "done"
    assert doomed not in rotated.issuer.live
    assert rotated.current.id == "tok_2"
    assert "tok_2" in rotated.issuer.live


def test_an_emergency_that_cannot_prove_the_death_says_still_alive(account):
    account.run()

    class Liar(MemoryIssuer):
        def revoke(self, token):
            pass

    account.issuer.__class__ = Liar
    report = account.rotator().revoke()
    assert report.state == "failed"
    assert "STILL ALIVE" in report.reason
    assert account.current.id == "tok_2", "the replacement stands"


def test_an_emergency_whose_replacement_is_not_accepted_yet_says_still_alive(account):
    account.run()

    class Slow(MemoryIssuer):
        def verify(self, token):
            raise AuthenticationError("API — 401", status=401)

    account.issuer.__class__ = Slow
    report = account.rotator().revoke()
    assert report.state == "failed"
    assert "STILL ALIVE" in report.reason


def test_killing_by_id_without_replacement_says_where_the_token_still_stands(account):
    account.run()
    report = account.rotator().revoke(token_id="tok_1", replace=False)
    assert report.state == "attention"
    assert "still CURRENT" in report.reason


def test_a_confirmed_id_is_killed_though_a_rotation_came_between(account):
    """Somebody confirmed tok_1; meanwhile a scheduled run made tok_2 CURRENT."""
    account.run()
    account.run(force=True)
    assert account.rotator().revoke(token_id="tok_1").state == "done"
    assert account.issuer.live == {account.current.id} == {"tok_2"}


def test_an_unreachable_store_does_not_stop_an_emergency_by_id_nor_is_one_made(account):
    account.run()
    empty = MemoryStore(clock=account.clock)
    rotator = Rotator(empty, account.issuer, account.policy, clock=account.clock)
    assert rotator.revoke(token_id="tok_1", replace=False).state == "done"
    assert account.issuer.live == set()


@pytest.mark.parametrize("how", [{}, {"token_id": "tok_9"}, {"stage": "previous"}])
def test_every_run_tells_its_end(account, how):
    account.run()
    account.events.clear()
    account.rotator().revoke(**how)
    assert account.told()[-1] == "rotation_finished"


def test_an_emergency_that_loses_a_race_goes_on(account):
    account.run()

    class LosesOnce(MemoryStore):
        lost = False

        def stage(self, token):
            if not LosesOnce.lost:
                LosesOnce.lost = True
                raise ConflictError("store — another writer was first", uri=self.uri)
            super().stage(token)

    account.store.__class__ = LosesOnce
    assert account.rotator().revoke().state == "done"
    assert account.issuer.live == {account.current.id}


def test_an_emergency_whose_issuer_fails_says_still_alive_and_how_to_go_on(account):
    account.run()

    class Down(MemoryIssuer):
        def issue(self, request, *, idempotency_key):
            raise ServerError("issuer — 500", status=500)

    account.issuer.__class__ = Down
    report = account.rotator().revoke()
    assert report.state == "failed"
    assert report.reason.startswith("STILL ALIVE: tok_1")
    assert "--id tok_1" in report.error.hint
    assert "--no-replace" in report.error.hint


def test_an_emergency_does_not_make_current_what_it_could_not_kill(account):
    """The leftover cannot be revoked, lives, and is what the replacement's key would give again."""
    account.run()
    leftover_run_dies_at_promote(account)

    class CannotRevokeTheLeftover(MemoryIssuer):
        def revoke(self, token):
            if not isinstance(token, str) and token.id == "tok_2":
                raise ServerError("issuer — 500", status=500)
            super().revoke(token)

    account.issuer.__class__ = CannotRevokeTheLeftover
    report = account.rotator().revoke()
    assert account.current.id == "tok_3"
    assert report.state == "attention"
    assert "tok_2" in report.reason


def test_an_emergency_names_every_token_that_it_had_to_give_up(rotated):
    class CannotRevoke(MemoryIssuer):
        def revoke(self, token):
            raise ServerError("issuer — 500", status=500)

    rotated.issuer.__class__ = CannotRevoke
    report = rotated.rotator().revoke()
    assert report.reason.startswith("STILL ALIVE: tok_2, tok_1")


def test_an_emergency_while_the_api_is_down_takes_nothing_out_of_the_store(rotated):
    """A PREVIOUS that was pasted in no sweep could find again."""
    pasted = rotated.issuer.issue(TokenRequest("by hand"), idempotency_key="by hand")
    rotated.hold(previous=Token(pasted.reveal()))

    class Down(CannotIssue):
        def revoke(self, token):
            raise ServerError("issuer — 500", status=500)

    rotated.issuer.__class__ = Down
    report = rotated.rotator().revoke()
    assert report.reason.startswith(f"STILL ALIVE: tok_2, {rotated.previous.id}")
    assert rotated.previous == pasted
    rotated.issuer.__class__ = MemoryIssuer
    assert rotated.rotator().revoke(token_id="tok_2").state == "done"
    assert not rotated.issuer.live & {"tok_2", pasted.id}


def test_killing_everything_reports_each_token_that_it_killed(account):
    account.run()
    lost = orphan(account)
    report = account.rotator().revoke_all()
    assert ("revoke", lost.id) in kinds(report)


def test_killing_everything_goes_by_the_apis_clock(account):
    """Ours is ahead: to it, the lost token has expired already."""
    account.run()
    request = TokenRequest(account_name(account), expires_in=timedelta(minutes=30))
    lost = account.issuer.issue(request, idempotency_key="lost")

    class Behind(MemoryIssuer):
        server_date = SYSTEM_CLOCK.now() - timedelta(hours=1)

        def _is_dead(self, info):
            return info.revoked_at is not None

    account.issuer.__class__ = Behind
    account.pass_time(HOUR)
    report = account.rotator().revoke_all()
    assert report.state == "done"
    assert ("revoke", lost.id) in kinds(report)


@pytest.mark.parametrize(
    ("token_id", "text", "named"),
    [
        ("tok_1", "STILL ALIVE: tok_1; more", True),
        ("tok_1", "tok_11 is dead", False),
        ("7", "2026-11-17: tok-7 and 17", False),
        ("a.b", "aXb", False),
    ],
)
def test_an_id_is_named_where_it_stands_by_itself(token_id, text, named):
    assert is_named(token_id, text) is named


def test_an_emergency_without_a_successor_names_what_else_it_could_not_kill_and_keeps_it(rotated):
    class Sparing(MemoryIssuer):
        def revoke(self, token):
            if token == rotated.previous:
                raise ServerError("issuer — 500", status=500)
            super().revoke(token)

    rotated.issuer.__class__ = Sparing
    report = rotated.rotator().revoke_all(replace=False)
    assert report.state == "failed"
    assert report.reason.startswith("STILL ALIVE: tok_1")
    assert rotated.previous.id == "tok_1"
    assert rotated.issuer.live == {"tok_1"}


def test_an_issuer_that_refuses_us_calls_for_a_person_though_nothing_is_due(account):
    account.run()

    class Refusing(MemoryIssuer):
        def list(self, name):
            raise IssuerError("issuer — the admin token is refused")

    account.issuer.__class__ = Refusing
    report = account.run()
    assert report.state == "attention"
    assert "admin token" in report.reason


def test_an_emergency_given_the_token_itself_refuses_and_does_not_repeat_it(account):
    account.run()
    value = account.current.reveal()
    report = account.rotator().revoke(token_id=value)
    assert report.state == "failed"
    assert value not in f"{report} {account.events}"
    assert account.issuer.live == {"tok_1"}


def test_an_id_that_may_be_a_pasted_current_is_not_killed_without_a_successor(account):
    pasted = account.issuer.issue(TokenRequest("dashboard"), idempotency_key="x")
    account.store.stage(Token(pasted.reveal()))
    account.store.promote(Token(pasted.reveal()).id, replacing=None)

    class FromElsewhere(MemoryIssuer):
        def verify(self, token):
            raise PermissionDenied("API — 403", status=403)

    account.issuer.__class__ = FromElsewhere
    report = account.rotator().revoke(token_id=pasted.id)
    assert report.state == "failed"
    assert "--no-replace" in report.error.hint
    assert pasted.id in account.issuer.live


def test_an_emergency_repeated_does_not_wait_for_a_token_that_it_killed_before(account):
    account.run()

    class DiesBeforeTheReplacement(MemoryIssuer):
        def revoke(self, token):
            super().revoke(token)
            raise KeyboardInterrupt

    leftover_run_dies_at_promote(account)
    account.issuer.__class__ = DiesBeforeTheReplacement
    with pytest.raises(KeyboardInterrupt):
        account.rotator().revoke()
    account.issuer.__class__ = MemoryIssuer
    assert account.rotator().revoke(token_id="tok_1").state == "done"
    assert account.issuer.live == {account.current.id}


def leftover_run_dies_at_promote(account) -> None:
    class Crashing(MemoryStore):
        def promote(self, token_id, *, replacing):
            raise KeyboardInterrupt

    account.store.__class__ = Crashing
    with pytest.raises(KeyboardInterrupt):
        account.run(force=True)
    account.store.__class__ = MemoryStore


def test_the_id_is_told_before_anything_is_killed(account):
    account.run()
    account.events.clear()
    account.rotator().revoke()
    assert (account.events[0].name, account.events[0].token_id) == ("emergency_started", "tok_1")


def test_a_rotation_that_the_service_has_begun_goes_first(account):
    class Native(MemoryStore):
        rotating_natively = "version-1"

    account.store = Native(clock=account.clock)
    report = account.run()
    assert (report.state, report.actions) == ("waiting", ())
    assert "version-1: it goes first" in report.reason
    assert account.issuer.live == set()


def test_an_emergency_takes_the_place_of_a_rotation_that_the_service_has_begun(account):
    class Native(MemoryStore):
        rotating_natively = None

        def stage_as(self, version_id, token, *, rotation_token=None):
            assert version_id == self.rotating_natively
            self.rotating_natively = None
            super().stage(token)

        def stage(self, token):
            if self.rotating_natively is not None:
                raise ConflictError("the label is on a version without a value")
            super().stage(token)

    account.store = Native(clock=account.clock)
    account.run()
    leaked = account.current
    account.store.rotating_natively = "version-1"
    assert account.rotator().revoke(token_id=leaked.id).state == "done"
    assert leaked.id not in account.issuer.live
    account.issuer.verify(account.current)


def test_the_same_value_pasted_as_current_while_it_was_pending_is_not_revoked_as_previous(account):
    account.run()
    pending = account.issuer.issue(TokenRequest("acme"), idempotency_key="a run that died")
    account.hold(pending=pending, current=Token(pending.reveal()))
    account.run()
    for _ in range(10):
        account.pass_time(10 * HOUR)
        account.run()
        account.issuer.verify(account.current)
    assert account.previous is None


def test_a_rollback_works_also_within_a_grace_of_seconds(account):
    account.policy = RotationPolicy("acme", grace=4.0, reader_ttl=2.0, request_deadline=2.0)
    account.run()
    first = account.current
    account.run(force=True)
    account.pass_time(2.5)
    assert account.rotator().rollback().state == "done"
    assert account.current == first
