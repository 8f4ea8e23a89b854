"""The token and its stages: age, expiry, what is stuck. Asks nobody."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

from cmzon_secrets.durations import format_duration
from cmzon_secrets.findings import Finding
from cmzon_secrets.tokens import Token, Versions

__all__ = ["examine_stages", "examine_token"]

AHEAD = timedelta(minutes=5)
"""A token issued later than this from now was issued by another clock."""
ROTATE = "cmzon-secrets rotate"


def examine_token(
    token: Token,
    now: datetime,
    *,
    rotate_every: timedelta,
    renewal_margin: Callable[[timedelta | None], timedelta],
) -> Iterator[Finding]:
    """Its expiry and age, by what is recorded of it.

    ``renewal_margin``: how long before its expiry a token of that life is to be replaced.
    """
    yield _expiry(token, now, renewal_margin)
    yield _age(token, now, rotate_every)


def examine_stages(
    versions: Versions, now: datetime, *, grace: timedelta, stuck: timedelta = timedelta(hours=1)
) -> Iterator[Finding]:
    """PENDING and PREVIOUS: how long they may be there, and whether they are there longer."""
    pending, previous = versions.pending, versions.previous
    if pending is not None:
        yield _pending(pending, now, stuck)
    if previous is not None and previous != pending:
        yield _previous(previous, versions.promoted_at, now, grace)
    if pending is None and previous is None:
        yield Finding("token.stages", "ok", "no rotation is under way", "only CURRENT is held")


def _expiry(
    token: Token, now: datetime, renewal_margin: Callable[[timedelta | None], timedelta]
) -> Finding:
    check, end = "token.expiry", token.expires_at
    if end is None:
        evidence = f"{token.id} has no expires_at; a leaked one works until somebody revokes it"
        return Finding(check, "note", "no expiry is recorded", evidence)
    evidence = f"{token.id} expires at {end:%Y-%m-%d %H:%M} UTC"
    if token.expired(now):
        return Finding(check, "problem", f"it expired {_span(now - end)} ago", evidence, ROTATE)
    margin = renewal_margin(None if token.issued_at is None else end - token.issued_at)
    left = f"it expires in {_span(end - now)}"
    if end - now <= margin:
        return Finding(check, "warning", f"{left}: it should be replaced by now", evidence, ROTATE)
    return Finding(check, "ok", left, evidence)


def _age(token: Token, now: datetime, rotate_every: timedelta) -> Finding:
    check, born = "token.age", token.issued_at
    if born is None:
        evidence = f"{token.id} has no issued_at, as tokens stored by hand"
        return Finding(check, "note", "its age is not recorded", evidence)
    evidence = f"{token.id} was issued at {born:%Y-%m-%d %H:%M} UTC"
    if born - now > AHEAD:
        message = f"it was issued {_span(born - now)} from now: some clock is wrong"
        return Finding(check, "warning", message, evidence, "timedatectl status")
    age = f"it is {_span(now - born)} old"
    if now - born > rotate_every:
        limit = format_duration(rotate_every)
        return Finding(check, "warning", f"{age}, rotation is due every {limit}", evidence, ROTATE)
    return Finding(check, "ok", age, evidence)


def _pending(pending: Token, now: datetime, stuck: timedelta) -> Finding:
    check, born = "token.pending", pending.issued_at
    if born is None:
        evidence = f"{pending.id} has no issued_at"
        return Finding(check, "note", "a token is staged, since when is not recorded", evidence)
    evidence = f"{pending.id} was issued at {born:%Y-%m-%d %H:%M} UTC"
    message = f"a token is staged for {_span(now - born)}"
    if now - born >= stuck:
        return Finding(check, "warning", f"{message} and was not promoted", evidence, ROTATE)
    return Finding(check, "note", f"{message}: a rotation is under way", evidence)


def _previous(
    previous: Token, promoted_at: datetime | None, now: datetime, grace: timedelta
) -> Finding:
    check = "token.previous"
    if promoted_at is None:
        evidence = f"{previous.id} is PREVIOUS, since when is not recorded"
        return Finding(check, "note", "the replaced token is not revoked yet", evidence)
    evidence = f"{previous.id} was replaced at {promoted_at:%Y-%m-%d %H:%M} UTC"
    over = now - promoted_at - grace
    if over > timedelta(0):
        message = f"the replaced token should have been revoked {_span(over)} ago"
        return Finding(check, "warning", message, evidence, ROTATE)
    return Finding(check, "ok", f"the replaced token lives on for {_span(-over)}", evidence)


def _span(span: timedelta) -> str:
    """In the largest unit that says enough, as people read it."""
    seconds = max(1, round(span.total_seconds()))
    unit = next(size for size in (86400, 3600, 60, 1) if seconds >= 2 * size or size == 1)
    return format_duration(timedelta(seconds=seconds // unit * unit))
