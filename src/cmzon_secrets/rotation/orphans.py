"""Row 6: tokens under our name that the store does not hold."""

from __future__ import annotations

from datetime import datetime

from cmzon_secrets.issuer import TokenInfo
from cmzon_secrets.rotation.model import Decision, ListTokens, Revoke, Seen, Stop, Verify
from cmzon_secrets.rotation.patience import in_use
from cmzon_secrets.rotation.policy import RotationPolicy

__all__ = ["held_ids", "orphan_outlook", "orphans", "sweep", "unheld"]


def sweep(seen: Seen, policy: RotationPolicy, now: datetime) -> Decision | None:
    """Row 6. Under our own name, held by nobody, old enough not to be on its way here."""
    if not seen.may_list or seen.list_failed:
        return None
    if seen.listing is None:
        return ListTokens()
    for token in seen.versions:
        if not token.has_issuer_id and seen.finding(token) is None:
            return Verify(token)
    held = held_ids(seen)
    if held is None:
        return None
    for info in orphans(seen, held, policy, now):
        if info.id not in seen.unrevoked and not _may_have_readers(seen, info, policy, now):
            return Revoke(info.id)
    return None


def _may_have_readers(seen: Seen, info: TokenInfo, policy: RotationPolicy, now: datetime) -> bool:
    return _used_elsewhere(seen, info, policy, now) or now < (
        _orphan_grace_end(seen, info, policy) or now
    )


def _used_elsewhere(seen: Seen, info: TokenInfo, policy: RotationPolicy, now: datetime) -> bool:
    """Used now, or since our readers have moved on: perhaps by those of a copy of this store.

    A machine that was cloned, or restored from a backup, has our name and rotates as well.
    """
    used, promoted_at = info.last_used_at, seen.versions.promoted_at
    return in_use(info, policy, now) or (
        used is not None and promoted_at is not None and used > promoted_at + policy.reader_window
    )


def _orphan_grace_end(seen: Seen, info: TokenInfo, policy: RotationPolicy) -> datetime | None:
    """One that was ever used may have been CURRENT until the last promotion, or until its last use.

    It was given up to make way, or somebody put another token over it.
    """
    if info.last_used_at is None:
        return None
    return (seen.versions.promoted_at or info.last_used_at) + policy.grace


def held_ids(seen: Seen) -> set[str] | None:
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
        for info in unheld(seen, held, now)
        if info.id not in seen.revoked
        and info.created_at is not None
        and now - info.created_at >= policy.orphan_age
    ]


def unheld(seen: Seen, held: set[str], now: datetime) -> list[TokenInfo]:
    """What is listed as alive under our name and not held, of whatever age."""
    return [
        info
        for info in seen.listing or ()
        if info.name == seen.account
        and info.id not in held
        and info.revoked_at is None
        and (info.expires_at is None or info.expires_at > now)
    ]


def orphan_outlook(seen: Seen, policy: RotationPolicy, now: datetime) -> Stop | None:
    held = held_ids(seen)
    if not seen.listing or held is None:
        return None
    undated = [i.id for i in seen.listing if i.created_at is None and i.id not in held]
    if undated:
        return Stop("attention", f"the issuer tells no age, so they are not swept: {undated}")
    lost = orphans(seen, held, policy, now)
    used = [i for i in lost if _used_elsewhere(seen, i, policy, now)]
    if used:
        who = ", ".join(f"{i.id} (from {i.last_used_ip or 'an unknown address'})" for i in used)
        return Stop(
            "attention",
            f"tokens under our name that the store does not hold are in use: {who}: by forgotten readers, or does "
            "a copy of this store rotate elsewhere? What is nobody's is revoked by its id",
        )
    ends = {i.id: end for i in lost if (end := _orphan_grace_end(seen, i, policy)) and now < end}
    if not ends:
        return None
    return Stop(
        "waiting",
        f"not held any more, and revoked once their readers had their grace: {', '.join(ends)}",
        min(ends.values()),
    )
