"""Rows 0 to 5 of the table in ``decide``, one function each; None means the row does not match."""

from __future__ import annotations

from datetime import datetime, timedelta

from cmzon_secrets.durations import format_duration, rounded
from cmzon_secrets.issuer import TokenInfo
from cmzon_secrets.rotation.due import Dates, due_reason
from cmzon_secrets.rotation.endings import previous_outlook
from cmzon_secrets.rotation.model import (
    Decision,
    Discard,
    Finding,
    Issue,
    ListTokens,
    Promote,
    Revoke,
    Scheduled,
    Seen,
    Stage,
    Stop,
    Verify,
)
from cmzon_secrets.rotation.patience import dates, grace_end, in_use, patience_end, unresolved
from cmzon_secrets.rotation.policy import RotationPolicy
from cmzon_secrets.tokens import Token

__all__ = [
    "MAX_ATTEMPTS",
    "SETTLE",
    "blocked",
    "doubt_clock",
    "make_way",
    "native_first",
    "not_usable",
    "outdated_pending",
    "renew",
    "replace_current",
    "retire_previous",
    "settle",
    "settle_pending",
]

SETTLE = timedelta(seconds=60)
"""How long after its issue a 401 may only mean that the token has not reached every server yet."""

TOLERATED = timedelta(minutes=5)
"""By how much two clocks may differ, and an answer may be late."""

MAX_ATTEMPTS = 16
"""Tokens asked for in one run before a person is called."""


MAX_OLD_ATTEMPTS = 3
"""How many of them may turn out to be of runs that died, before the clocks are to blame."""


# ── row 0 ───────────────────────────────────────────────────────────────────────────────────────


def doubt_clock(seen: Seen, now: datetime) -> Decision | None:
    """Row 0. By a wrong clock graces would end early, and every new token would be due at once."""
    current = seen.versions.current
    if current is None:
        return None
    if not dates(current, seen).expired(now):
        return None
    tried = seen.findings.get(current.id)
    if tried is None:
        return Verify(current)
    ends = tried.info.expires_at if tried.state == "alive" and tried.info is not None else None
    # Where the store's note alone says so, it is due, and no clock is wrong.
    if ends is None or now < ends:
        return None
    return Stop(
        "attention",
        f"the API accepts {current.id}, which by this machine's clock expired at "
        f"{ends:%Y-%m-%d %H:%M} UTC: set the clock; nothing is done before",
    )


# ── row 1 ───────────────────────────────────────────────────────────────────────────────────────


def retire_previous(seen: Seen, policy: RotationPolicy, now: datetime) -> Decision | None:
    """Row 1. Its readers have had their grace, and nobody was seen using it since."""
    previous = seen.obstacle
    if previous is None:
        return None
    # The same value pasted as CURRENT while it was PENDING: to revoke it would kill CURRENT.
    if seen.dead(previous) or previous == seen.versions.current:
        return Discard(previous.id)
    if now < grace_end(seen, policy, now) or previous.id in seen.unrevoked:
        return None
    known = seen.finding(previous)
    if known is None:
        return _ask(seen, previous)
    if known.state == "silent" or unresolved(previous, known):
        return None
    if _spared(seen, known.info, policy, now):
        return None
    if seen.ahead > TOLERATED and now - seen.ahead < grace_end(seen, policy, now):
        return Stop(
            "attention",
            f"this machine's clock is {format_duration(rounded(seen.ahead))} ahead of the API's, so the grace "
            f"of {previous.id} may not be over: set the clock; nothing is done before",
        )
    return Revoke(previous)


def _spared(seen: Seen, info: TokenInfo | None, policy: RotationPolicy, now: datetime) -> bool:
    """Still in use; a token that we did not issue is spared for as long as that lasts."""
    if info is None or not in_use(info, policy, now):
        return False
    return info.name != seen.account or now < patience_end(seen, policy, now)


def _ask(seen: Seen, token: Token) -> Decision:
    """One listing answers for every token that has an id; otherwise the token is tried itself."""
    listable = seen.may_list and seen.listing is None and not seen.list_failed
    return ListTokens() if listable and token.has_issuer_id else Verify(token)


# ── row 2 ───────────────────────────────────────────────────────────────────────────────────────


def settle_pending(seen: Seen, now: datetime) -> Decision | None:
    """Row 2. The token answered in this very run, so no reader gets one that does not work."""
    pending = seen.versions.pending
    if pending is None or seen.obstacle is not None:
        return None
    return settle(seen, pending, now)


def settle(
    seen: Seen, pending: Token, now: datetime, *, accept_within: timedelta = SETTLE
) -> Decision:
    """PENDING is tried, and then promoted or dropped."""
    tried = seen.findings.get(pending.id)
    if tried is None:
        return Verify(pending)
    if tried.state == "alive":
        current = seen.versions.current
        return Promote(pending.id, replacing=current.id if current is not None else None)
    way_out = "; to give it up: cmzon-secrets revoke --stage pending"
    stop = not_usable(pending, tried, now, accept_within=accept_within, way_out=way_out)
    return stop or _drop(seen, pending)


def outdated_pending(seen: Seen, policy: RotationPolicy) -> Decision | None:
    """Row 2. Issued by a run that died, under a policy that wanted something else."""
    pending = seen.versions.pending
    if pending is None or seen.obstacle is not None or pending == seen.versions.previous:
        return None
    return Discard(pending.id, revoke_next=True) if _outdated(seen, pending, policy) else None


def _outdated(seen: Seen, pending: Token, policy: RotationPolicy) -> bool:
    """Also where the addresses it allows were the mistake that the policy has mended since."""
    tried = seen.findings.get(pending.id)
    refused_here = tried is not None and tried.state == "forbidden"
    return _of_another_policy(pending, policy) or (
        refused_here and set(pending.allowed_ips) != set(policy.allowed_ips)
    )


def _of_another_policy(token: Token, policy: RotationPolicy) -> bool:
    return bool(token.scopes) and set(token.scopes) != set(policy.scopes)


def not_usable(
    token: Token,
    tried: Finding,
    now: datetime,
    *,
    accept_within: timedelta = SETTLE,
    way_out: str = "",
) -> Decision | None:
    """Why a token that did not answer well is kept all the same; None where it is surely dead."""
    if tried.state == "silent":
        return Stop("waiting", f"{token.id} could not be verified: {tried.reason}", now)
    if tried.state == "forbidden":
        return Stop(
            "attention",
            f"{token.id} was refused with 403: this address is not in its allowed_ips, or a scope is missing"
            f"{way_out}",
        )
    # An issuer whose clock is ahead dates its tokens later than now.
    settled = min(token.issued_at or now - accept_within, now) + accept_within
    if now < settled:
        return Stop("waiting", f"{token.id} was just issued and is not accepted yet", settled)
    return None


def _drop(seen: Seen, token: Token) -> Decision:
    """Revoke, then forget. Where revoking does not work, it is forgotten: the sweep retries it."""
    if token.id in seen.revoked:
        return Discard(token.id)
    if token.id in seen.unrevoked:
        return Discard(token.id, abandoned=not seen.dead(token))
    return Revoke(token)


# ── rows 3 and 4 ────────────────────────────────────────────────────────────────────────────────


def renew(seen: Seen, intent: Scheduled, policy: RotationPolicy, now: datetime) -> Decision | None:
    """Rows 3 and 4. Nothing is in the way, so the new token can be promoted once it is staged."""
    if seen.versions.pending is not None or seen.obstacle is not None:
        return None
    current = seen.versions.current
    if current is not None and not _due(seen, intent, current, policy, now):
        return None if seen.settled(current) else _ask(seen, current)
    return _successor(seen, policy, now)


def _successor(seen: Seen, policy: RotationPolicy, now: datetime) -> Decision:
    if (wait := native_first(seen, now)) is not None:
        return wait
    step = replace_current(seen, policy, now)
    if isinstance(step, Stage) and due_reason(
        Dates(step.token.issued_at, step.token.expires_at), policy, now
    ):
        return Stop(
            "attention",
            f"{step.token.id} was just issued and is already due: this machine's clock is wrong, or "
            "the issuer's tokens live too short for this policy",
        )
    return step


def native_first(seen: Seen, now: datetime) -> Stop | None:
    """A rotation that the service has begun itself is left to end; only an emergency cannot wait."""
    if seen.native is None:
        return None
    return Stop(
        "waiting",
        f"the service has begun a rotation of its own, version {seen.native}: it goes first",
        now + SETTLE,
    )


def replace_current(
    seen: Seen, policy: RotationPolicy, now: datetime, *, accept_within: timedelta = SETTLE
) -> Decision:
    """Issue, try, stage. What dies on the way is under our name, so the sweep will find it."""
    if not seen.overlap and seen.versions.current is not None and not policy.allow_gap:
        return Stop(
            "attention",
            "this issuer kills the old token when it issues the new one: set allow_gap to accept failed sends",
        )
    if seen.issue_lost:
        return Stop(
            "attention",
            "the issuer did not answer and cannot list: look in the dashboard whether it made a token",
        )
    issued = seen.issued
    if issued is None:
        return _attempt(seen.attempt)
    if (unfit := _unfit(seen, issued, policy, now)) is not None:
        return unfit
    tried = seen.findings.get(issued.id)
    if tried is None:
        return Verify(issued)
    if tried.state == "alive":
        return Stage(issued)
    if tried.state == "dead" and not seen.idempotent:
        return _another(seen, f"the API refuses {issued.id}")
    return not_usable(issued, tried, now, accept_within=accept_within) or _another(
        seen, f"the API refuses {issued.id}"
    )


def _unfit(seen: Seen, issued: Token, policy: RotationPolicy, now: datetime) -> Decision | None:
    """What speaks against a token before it is tried."""
    if seen.tainted(issued) or any(t.id == issued.id or t == issued for t in seen.versions):
        return _another(seen, f"{issued.id} is held already")
    if issued.issued_at is not None and now - issued.issued_at >= policy.orphan_age / 2:
        return _too_old(seen, issued)
    if _of_another_policy(issued, policy):
        return Stop(
            "attention",
            f"{issued.id} was issued with the scopes {', '.join(issued.scopes)} instead of "
            f"{', '.join(policy.scopes)}: it is not used; mend the policy, or what the issuer allows",
        )
    return None


def _too_old(seen: Seen, issued: Token) -> Decision:
    """Of a run that died long ago: soon a sweep takes it, perhaps just when it is promoted."""
    if seen.attempt + 1 < MAX_OLD_ATTEMPTS:
        return _another(seen, f"{issued.id} is an old one")
    return Stop(
        "attention",
        f"{issued.id} was just issued and is dated {issued.issued_at:%Y-%m-%d %H:%M} UTC: "
        "this machine's clock or the issuer's is wrong",
    )


def _another(seen: Seen, why: str) -> Decision:
    """The next attempt; an issuer without keys gets one, for what it was given was chosen by hand."""
    if seen.idempotent:
        return _attempt(seen.attempt + 1)
    return Stop("failed", f"{why}: mistyped, or the wrong one? Nothing was changed")


def _attempt(number: int) -> Decision:
    if number < MAX_ATTEMPTS:
        return Issue(number)
    return Stop("attention", f"the issuer gave no usable token in {MAX_ATTEMPTS} attempts")


def _due(
    seen: Seen, intent: Scheduled, current: Token, policy: RotationPolicy, now: datetime
) -> bool:
    if intent.force and not seen.promoted:
        return True
    # A promotion in this run ends what the dates demand, as it ends what force demands.
    return seen.dead(current) or (
        not seen.promoted and bool(due_reason(dates(current, seen), policy, now))
    )


# ── row 5 ───────────────────────────────────────────────────────────────────────────────────────


def blocked(
    seen: Seen, intent: Scheduled, policy: RotationPolicy, now: datetime
) -> Decision | None:
    """Row 5. Promoting now would push PREVIOUS out alive; only a dying CURRENT is worse than that."""
    previous, current = seen.obstacle, seen.versions.current
    if previous is None or current is None:
        return None
    if not seen.settled(current):
        return _ask(seen, current)
    if seen.versions.pending is None and not _due(seen, intent, current, policy, now):
        return None
    free_at = _free_at(seen, policy, now)
    if seen.dead(current) or dates(current, seen).expired(free_at):
        pending = seen.versions.pending
        if pending is None:
            return make_way(seen, previous, _successor(seen, policy, now))
        if _outdated(seen, pending, policy):
            return Discard(pending.id, revoke_next=True)
        return make_way(seen, previous, settle(seen, pending, now))
    if seen.finding(previous) is None:  # dead already, by somebody's hand, it is in nobody's way
        return _ask(seen, previous)
    stuck = previous_outlook(seen, policy, now)
    if stuck is not None and stuck.state == "attention":
        return stuck
    return Stop("waiting", f"{previous.id} has to be revoked first", free_at)


def make_way(seen: Seen, previous: Token, step: Decision) -> Decision:
    """PREVIOUS is given up only for a successor that was tried: until then one can go back to it.

    And only after the issuer was asked for its id: nobody could revoke it by a fingerprint.
    """
    if not isinstance(step, Stage | Promote):
        return step
    if not previous.has_issuer_id and seen.finding(previous) is None:
        return Verify(previous)
    return Discard(previous.id, abandoned=True)


def _free_at(seen: Seen, policy: RotationPolicy, now: datetime) -> datetime:
    """When PREVIOUS can be out of the way: at the end of its grace, or of our patience with it."""
    end = grace_end(seen, policy, now)
    if now < end:
        return end
    return max(patience_end(seen, policy, now), now + policy.reader_window)
