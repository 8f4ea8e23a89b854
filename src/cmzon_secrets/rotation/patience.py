"""How long a replaced token is spared, and what is known of a token's age and use."""

from __future__ import annotations

from datetime import datetime

from cmzon_secrets.issuer import TokenInfo
from cmzon_secrets.rotation.model import Finding, Seen
from cmzon_secrets.rotation.policy import RotationPolicy
from cmzon_secrets.tokens import Token

__all__ = ["born_at", "grace_end", "in_use", "patience_end", "unresolved"]


def grace_end(seen: Seen, policy: RotationPolicy, now: datetime) -> datetime:
    # A store that cannot say when the promotion was starts the grace now: late, never early.
    return (seen.versions.promoted_at or now) + policy.grace


def patience_end(seen: Seen, policy: RotationPolicy, now: datetime) -> datetime:
    return (seen.versions.promoted_at or now) + policy.revoke_limit


def in_use(info: TokenInfo, policy: RotationPolicy, now: datetime) -> bool:
    return info.last_used_at is not None and now - info.last_used_at < policy.reader_window


def unresolved(token: Token, known: Finding) -> bool:
    """Held under a fingerprint, and the API told no id for it: nobody can revoke it by id."""
    return not token.has_issuer_id and known.info is None


def born_at(token: Token, seen: Seen) -> datetime | None:
    known = seen.finding(token)
    told = known.info.created_at if known is not None and known.info is not None else None
    return token.issued_at or told or seen.versions.promoted_at
