"""``decide`` is pure and total: whatever is seen, there is one next step, and it is a safe one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from cmzon_secrets.issuer import TokenInfo
from cmzon_secrets.rotation import RotationPolicy
from cmzon_secrets.rotation.decide import decide
from cmzon_secrets.rotation.model import (
    Decision,
    Discard,
    Emergency,
    Finding,
    Intent,
    Prepare,
    Promote,
    Retire,
    Revoke,
    Rollback,
    Scheduled,
    Seen,
    Stage,
    Stop,
)
from cmzon_secrets.tokens import Token, Versions

NOW = datetime(2026, 6, 1, tzinfo=UTC)
POLICY = RotationPolicy("acme", expires_in=timedelta(days=90))
ACCOUNT = "acme-00000000"

moments = st.none() | st.integers(-200_000, 200_000).map(lambda m: NOW + timedelta(minutes=m))
names = st.sampled_from([ACCOUNT, "theirs"])


@st.composite
def tokens(draw, number: int) -> Token:
    has_id = draw(st.booleans())
    return Token(
        f"value{number}",
        id=f"tok_{number}" if has_id else None,
        issued_at=draw(moments),
        expires_at=draw(moments),
    )


@st.composite
def infos(draw, token_id: str) -> TokenInfo:
    return TokenInfo(
        token_id, draw(names), (), draw(moments), draw(moments), draw(moments), draw(moments)
    )


@st.composite
def findings(draw, token: Token) -> Finding:
    state = draw(st.sampled_from(["alive", "dead", "forbidden", "silent"]))
    info = draw(infos(f"api_{token.id}")) if state == "alive" else None
    return Finding(state, info)


@st.composite
def seens(draw) -> Seen:
    current = draw(st.none() | tokens(1))
    pending = draw(st.none() | tokens(2))
    previous = draw(st.none() | tokens(3) | st.just(pending)) if current else None
    versions = Versions(current, pending, previous, draw(moments))
    issued = draw(st.none() | tokens(4) | st.sampled_from([*versions, None]))
    known = [*versions, *([issued] if issued else [])]
    listing = draw(
        st.none() | st.tuples(*(infos(i) for i in ("tok_1", "tok_2", "tok_3", "tok_8", "tok_9")))
    )
    ids = [t.id for t in known] + ["tok_8", "tok_9"]
    return Seen(
        versions,
        account=ACCOUNT,
        findings={t.id: draw(findings(t)) for t in known if draw(st.booleans())},
        listing=listing,
        may_list=draw(st.booleans()),
        issued=issued,
        attempt=draw(st.integers(0, 16)),
        revoked=frozenset(draw(st.sets(st.sampled_from(ids)))),
        unrevoked=frozenset(draw(st.sets(st.sampled_from(ids)))),
        list_failed=draw(st.booleans()),
        promoted=draw(st.booleans()),
        overlap=draw(st.booleans()),
        idempotent=draw(st.booleans()),
        interactive=draw(st.booleans()),
        issue_lost=draw(st.booleans()),
        native=draw(st.none() | st.just("version-1")),
        loose=draw(st.just(()) | tokens(5).map(lambda token: (token,))),
    )


scheduled = st.booleans().map(Scheduled)
ids = st.sampled_from(["tok_1", "tok_2", "tok_3", "tok_4", "tok_8"])
intents = (
    scheduled
    | st.sampled_from([Rollback(), Retire(), Prepare()])
    | st.builds(Emergency, ids, also=st.frozensets(ids), replace=st.booleans())
)


@given(seens(), intents)
@settings(max_examples=200, deadline=None)
def test_whatever_is_seen_and_wanted_there_is_one_next_step(seen: Seen, intent: Intent):
    decision = decide(seen, intent, POLICY, NOW)
    assert isinstance(decision, Decision)
    if isinstance(decision, Stop) and decision.state in ("attention", "failed"):
        assert decision.reason, "whoever is called must be told for what"


@given(seens(), st.sampled_from([Retire(), Prepare()]))
@settings(max_examples=200, deadline=None)
def test_what_only_retires_or_prepares_promotes_nothing_and_sweeps_nothing(seen: Seen, intent):
    decision = decide(seen, intent, POLICY, NOW)
    assert not isinstance(decision, Promote)
    if isinstance(decision, Revoke):
        assert decision.token in (seen.versions.previous, *seen.loose)


@given(seens(), scheduled)
@settings(max_examples=200, deadline=None)
def test_a_scheduled_run_never_touches_what_applications_use(seen: Seen, intent: Scheduled):
    decision = decide(seen, intent, POLICY, NOW)
    assert isinstance(decision, Decision)
    current = seen.versions.current
    if current is None:
        return
    if isinstance(decision, Discard):
        assert decision.token_id != current.id
    if isinstance(decision, Revoke):
        held = {current.id} | {
            f.info.id for k, f in seen.findings.items() if k == current.id and f.info
        }
        assert decision.token_id not in held


@given(seens(), scheduled)
@settings(max_examples=200, deadline=None)
def test_previous_is_revoked_only_after_its_grace_and_not_in_use_unless_ours_and_past_the_limit(
    seen: Seen, intent: Scheduled
):
    decision = decide(seen, intent, POLICY, NOW)
    previous = seen.versions.previous
    if not isinstance(decision, Revoke) or previous is None or decision.token != previous:
        return
    if seen.versions.pending == previous:
        return
    since = seen.versions.promoted_at
    assert since is not None
    assert since + POLICY.grace <= NOW
    known = seen.finding(previous)
    info = known.info if known else None
    if info and info.last_used_at and NOW - info.last_used_at < POLICY.reader_window:
        assert info.name == ACCOUNT
        assert since + POLICY.revoke_limit <= NOW


@given(seens(), scheduled)
@settings(max_examples=200, deadline=None)
def test_an_orphan_is_ours_old_enough_unheld_and_unused(seen: Seen, intent: Scheduled):
    decision = decide(seen, intent, POLICY, NOW)
    if not isinstance(decision, Revoke) or not isinstance(decision.token, str):
        return
    info = next(i for i in seen.listing if i.id == decision.token)
    assert info.name == ACCOUNT
    assert NOW - info.created_at >= POLICY.orphan_age
    assert decision.token not in {t.id for t in seen.versions}
    assert not (info.last_used_at and NOW - info.last_used_at < POLICY.reader_window)


@given(seens(), scheduled | st.just(Rollback()) | st.just(Emergency("tok_1")))
@settings(max_examples=200, deadline=None)
def test_only_a_token_that_the_api_accepted_in_this_run_is_staged_or_promoted(seen: Seen, intent):
    decision = decide(seen, intent, POLICY, NOW)
    if isinstance(decision, Promote):
        assert seen.findings[decision.token_id].state == "alive"
    if isinstance(decision, Stage):
        assert seen.findings[decision.token.id].state == "alive"
