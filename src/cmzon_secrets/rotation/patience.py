"""How long a replaced token is spared, and what is known of a token's dates and use."""

from __future__ import annotations

from datetime import datetime

from cmzon_secrets.issuer import TokenInfo
from cmzon_secrets.rotation.due import Dates
from cmzon_secrets.rotation.model import Finding, Seen
from cmzon_secrets.rotation.policy import RotationPolicy
from cmzon_secrets.tokens import Token

__all__ = ["dates", "grace_end", "in_use", "patience_end", "unresolved"]


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


def dates(token: Token, seen: Seen) -> Dates:
    """By the token itself and by what the issuer says: an expiry may have been set there since."""
    known = seen.finding(token)
    told = known.info if known is not None else None
    born = token.issued_at or (told.created_at if told else None) or seen.versions.promoted_at
    ends = (token.expires_at, told.expires_at if told else None)
    return Dates(born, min((end for end in ends if end is not None), default=None))
