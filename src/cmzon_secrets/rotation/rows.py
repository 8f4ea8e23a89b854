"""The rows of the table in ``decide``, one function each; None means the row does not match."""

from __future__ import annotations

from datetime import datetime, timedelta

from cmzon_secrets.issuer import TokenInfo
from cmzon_secrets.rotation.due import due_reason, next_rotation
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
from cmzon_secrets.rotation.policy import RotationPolicy
from cmzon_secrets.tokens import Token

__all__ = [
    "MAX_ATTEMPTS",
    "SETTLE",
    "blocked",
    "doubt_clock",
    "finished",
    "not_usable",
    "renew",
    "replace_current",
    "retire_previous",
    "retired",
    "settle_pending",
    "sweep",
]

SETTLE = timedelta(seconds=60)
"""How long after its issue a 401 may only mean that the token has not reached every server yet."""

MAX_ATTEMPTS = 16
"""Tokens asked for in one run before a person is called."""


MAX_OLD_ATTEMPTS = 3
"""How many of them may turn out to be of runs that died, before the clocks are to blame."""


# ── row 0 ───────────────────────────────────────────────────────────────────────────────────────


def doubt_clock(seen: Seen, now: datetime) -> Decision | None:
    """Row 0. By a wrong clock graces would end early, and every new token would be due at once."""
    current = seen.versions.current
    if current is None or not current.expired(now):
        return None
    tried = seen.findings.get(current.id)
    if tried is None:
        return Verify(current)
    if tried.state != "alive":
        return None
    return Stop(
        "attention",
        f"the API accepts {current.id}, which by this machine's clock expired at "
        f"{current.expires_at:%Y-%m-%d %H:%M} UTC: set the clock; nothing is done before",
    )


# ── row 1 ───────────────────────────────────────────────────────────────────────────────────────


def retire_previous(seen: Seen, policy: RotationPolicy, now: datetime) -> Decision | None:
    """Row 1. Its readers have had their grace, and nobody was seen using it since."""
    previous = seen.obstacle
    if previous is None:
        return None
    if seen.dead(previous):
        return Discard(previous.id)
    if now < _grace_end(seen, policy, now) or previous.id in seen.unrevoked:
        return None
    known = seen.finding(previous)
    if known is None:
        return _ask(seen, previous)
    if known.state == "silent" or _unresolved(previous, known):
        return None
    if _spared(seen, known.info, policy, now):
        return None
    return Revoke(previous)


def _grace_end(seen: Seen, policy: RotationPolicy, now: datetime) -> datetime:
    # A store that cannot say when the promotion was starts the grace now: late, never early.
    return (seen.versions.promoted_at or now) + policy.grace


def _patience_end(seen: Seen, policy: RotationPolicy, now: datetime) -> datetime:
    return (seen.versions.promoted_at or now) + policy.revoke_limit


def _spared(seen: Seen, info: TokenInfo | None, policy: RotationPolicy, now: datetime) -> bool:
    """Still in use; a token that we did not issue is spared for as long as that lasts."""
    if info is None or not _in_use(info, policy, now):
        return False
    return info.name != seen.account or now < _patience_end(seen, policy, now)


def _in_use(info: TokenInfo, policy: RotationPolicy, now: datetime) -> bool:
    return info.last_used_at is not None and now - info.last_used_at < policy.reader_window


def _unresolved(token: Token, known: Finding) -> bool:
    """Held under a fingerprint, and the API told no id for it: nobody can revoke it by id."""
    return not token.has_issuer_id and known.info is None


def _ask(seen: Seen, token: Token) -> Decision:
    """One listing answers for every token that has an id; otherwise the token is tried itself."""
    listable = seen.may_list and seen.listing is None and not seen.list_failed
    return ListTokens() if listable and token.has_issuer_id else Verify(token)


# ── row 2 ───────────────────────────────────────────────────────────────────────────────────────


def settle_pending(seen: Seen, now: datetime, *, settle: timedelta = SETTLE) -> Decision | None:
    """Row 2. The token answered in this very run, so no reader gets one that does not work."""
    pending = seen.versions.pending
    if pending is None or seen.obstacle is not None:
        return None
    tried = seen.findings.get(pending.id)
    if tried is None:
        return Verify(pending)
    if tried.state == "alive":
        current = seen.versions.current
        return Promote(pending.id, replacing=current.id if current is not None else None)
    return not_usable(pending, tried, now, settle=settle) or _drop(seen, pending)


def not_usable(
    token: Token, tried: Finding, now: datetime, *, settle: timedelta = SETTLE
) -> Decision | None:
    """Why a token that did not answer well is kept all the same; None where it is surely dead."""
    if tried.state == "silent":
        return Stop("waiting", f"{token.id} could not be verified: {tried.reason}", now)
    if tried.state == "forbidden":
        return Stop(
            "attention",
            f"{token.id} was refused with 403: this address is not in its allowed_ips, or a scope is missing",
        )
    # An issuer whose clock is ahead dates its tokens later than now.
    settled = min(token.issued_at or now - settle, now) + settle
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
        unknown = seen.finding(current) is None
        return _ask(seen, current) if unknown else None
    step = replace_current(seen, policy, now)
    if isinstance(step, Stage) and due_reason(step.token, step.token.issued_at, policy, now):
        return Stop(
            "attention",
            f"{step.token.id} was just issued and is already due: this machine's clock is wrong, or "
            "the issuer's tokens live too short for this policy",
        )
    return step


def replace_current(
    seen: Seen, policy: RotationPolicy, now: datetime, *, settle: timedelta = SETTLE
) -> Decision:
    """Issue, try, stage. What dies on the way is under our name, so the sweep will find it."""
    if not seen.overlap and seen.versions.current is not None and not policy.allow_gap:
        return Stop(
            "attention",
            "this issuer kills the old token when it issues the new one: set allow_gap to accept failed sends",
        )
    if seen.native is not None:
        return Stop(
            "waiting",
            f"the service has begun a rotation of its own, version {seen.native}: it goes first",
            now + SETTLE,
        )
    if seen.issue_lost:
        return Stop(
            "attention",
            "the issuer did not answer and cannot list: look in the dashboard whether it made a token",
        )
    issued = seen.issued
    if issued is None:
        return _attempt(seen.attempt)
    if seen.tainted(issued) or any(t.id == issued.id or t == issued for t in seen.versions):
        return _another(seen, f"{issued.id} is held already")
    if issued.issued_at is not None and now - issued.issued_at >= policy.orphan_age / 2:
        return _too_old(seen, issued)
    tried = seen.findings.get(issued.id)
    if tried is None:
        return Verify(issued)
    if tried.state == "alive":
        return Stage(issued)
    if tried.state == "dead" and not seen.idempotent:
        return _another(seen, f"the API refuses {issued.id}")
    return not_usable(issued, tried, now, settle=settle) or _another(
        seen, f"the API refuses {issued.id}"
    )


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
        not seen.promoted and bool(due_reason(current, _born(current, seen), policy, now))
    )


def _born(token: Token, seen: Seen) -> datetime | None:
    known = seen.finding(token)
    told = known.info.created_at if known is not None and known.info is not None else None
    return token.issued_at or told or seen.versions.promoted_at


# ── row 5 ───────────────────────────────────────────────────────────────────────────────────────


def blocked(
    seen: Seen, intent: Scheduled, policy: RotationPolicy, now: datetime
) -> Decision | None:
    """Row 5. Promoting now would push PREVIOUS out alive; only a dying CURRENT is worse than that."""
    previous, current = seen.obstacle, seen.versions.current
    if previous is None or current is None:
        return None
    if seen.finding(current) is None:
        return _ask(seen, current)
    if seen.versions.pending is None and not _due(seen, intent, current, policy, now):
        return None
    free_at = _free_at(seen, policy, now)
    expiring = current.expires_at is not None and current.expires_at <= free_at
    if seen.dead(current) or expiring:
        return Discard(previous.id, abandoned=True)
    stuck = _previous_outlook(seen, policy, now)
    if stuck is not None and stuck.state == "attention":
        return stuck
    return Stop("waiting", f"{previous.id} has to be revoked first", free_at)


def _free_at(seen: Seen, policy: RotationPolicy, now: datetime) -> datetime:
    """When PREVIOUS can be out of the way: at the end of its grace, or of our patience with it."""
    grace_end = _grace_end(seen, policy, now)
    if now < grace_end:
        return grace_end
    return max(_patience_end(seen, policy, now), now + policy.reader_window)


# ── row 6 ───────────────────────────────────────────────────────────────────────────────────────


def sweep(seen: Seen, policy: RotationPolicy, now: datetime) -> Decision | None:
    """Row 6. Under our own name, held by nobody, old enough not to be on its way here."""
    if not seen.may_list or seen.list_failed:
        return None
    if seen.listing is None:
        return ListTokens()
    for token in seen.versions:
        if not token.has_issuer_id and seen.finding(token) is None:
            return Verify(token)
    held = _held_ids(seen)
    if held is None:
        return None
    for info in orphans(seen, held, policy, now):
        if not _in_use(info, policy, now) and info.id not in seen.unrevoked:
            return Revoke(info.id)
    return None


def _held_ids(seen: Seen) -> set[str] | None:
    """The issuer's ids of what the store holds; None where one cannot be known."""
    held = {seen.issued.id} if seen.issued is not None else set()
    for token in seen.versions:
        known = seen.finding(token)
        if token.has_issuer_id:
            held.add(token.id)
        elif known is not None and known.info is not None:
            held.add(known.info.id)
        elif known is None or known.state != "dead":
            return None
    return held


def orphans(seen: Seen, held: set[str], policy: RotationPolicy, now: datetime) -> list[TokenInfo]:
    """Live tokens under our name that the store does not hold, older than ``orphan_age``."""
    return [
        info
        for info in seen.listing or ()
        if info.name == seen.account
        and info.id not in held
        and info.id not in seen.revoked
        and info.revoked_at is None
        and (info.expires_at is None or info.expires_at > now)
        and info.created_at is not None
        and now - info.created_at >= policy.orphan_age
    ]


# ── row 7 ───────────────────────────────────────────────────────────────────────────────────────


def finished(seen: Seen, policy: RotationPolicy, now: datetime) -> Stop:
    """Row 7. And what is still to be said of it."""
    return (
        _previous_outlook(seen, policy, now)
        or _orphan_outlook(seen, policy, now)
        or _done(seen, policy, now)
    )


def retired(seen: Seen, policy: RotationPolicy, now: datetime) -> Stop:
    """Row 7 of a run that only retires: ``done`` where PREVIOUS is gone."""
    previous = seen.obstacle
    if previous is None:
        return Stop("done")
    return _previous_outlook(seen, policy, now) or Stop(
        "waiting",
        f"{previous.id} stays valid until its grace ends",
        _grace_end(seen, policy, now),
    )


def _previous_outlook(seen: Seen, policy: RotationPolicy, now: datetime) -> Stop | None:
    """What is to be said of a PREVIOUS that outlived its grace."""
    previous = seen.obstacle
    if previous is None or now < _grace_end(seen, policy, now):
        return None
    known = seen.finding(previous)
    patience_end = _patience_end(seen, policy, now)
    if previous.id in seen.unrevoked or known is None or known.state == "silent":
        return Stop(
            "attention" if seen.interactive or now >= patience_end else "waiting",
            f"rotated, revoke pending: {previous.id} could not be revoked yet",
            now,
        )
    if _unresolved(previous, known):
        return Stop(
            "attention",
            f"{previous.id} cannot be resolved to an id at the issuer: "
            "revoke it in the dashboard (API Settings)",
        )
    used = known.info.last_used_ip if known.info is not None else None
    reason = f"rotated, revoke pending: {previous.id} is still used from {used or 'somewhere'}"
    if known.info is not None and known.info.name != seen.account:
        return Stop("attention", f"{reason}; it was not issued by us, so it is not revoked")
    return Stop("waiting", reason, patience_end)


def _orphan_outlook(seen: Seen, policy: RotationPolicy, now: datetime) -> Stop | None:
    held = _held_ids(seen)
    if not seen.listing or held is None:
        return None
    undated = [i.id for i in seen.listing if i.created_at is None and i.id not in held]
    if undated:
        return Stop("attention", f"the issuer tells no age, so they are not swept: {undated}")
    used = [i for i in orphans(seen, held, policy, now) if _in_use(i, policy, now)]
    if not used:
        return None
    who = ", ".join(f"{i.id} (from {i.last_used_ip or 'an unknown address'})" for i in used)
    return Stop(
        "attention", f"tokens under our name that the store does not hold are in use: {who}"
    )


def _done(seen: Seen, policy: RotationPolicy, now: datetime) -> Stop:
    current, previous = seen.versions.current, seen.obstacle
    due = next_rotation(current, _born(current, seen), policy) if current is not None else None
    if previous is None:
        return Stop("done", next_due=due)
    end = _grace_end(seen, policy, now)
    return Stop(
        "done",
        f"{previous.id} stays valid until its grace ends",
        min(end, due) if due is not None else end,
    )
