"""Why a crash cannot lose a token: what is seen goes in, the one next step comes out.

``decide`` is pure and total. A run performs one decision, looks again, and asks anew, until it is
told to stop. Nothing is remembered between runs, so a run that died after any step is continued by
the next one, in whichever process it happens. Rows, first match wins:

0  CURRENT alive, past the end the API tells       attention: no date can be trusted
1  PREVIOUS outlived its grace and is not in use   revoke, prove dead, discard
2  PENDING, nothing in its way                     verify with the token itself, then promote
3  no CURRENT, no PENDING                          issue, verify, stage
4  CURRENT due, nothing in the way                 issue, verify, stage
5  CURRENT due or PENDING, but PREVIOUS in the way wait; a dying CURRENT does not wait, once a
                                                   successor is at hand
6  tokens under our name that nobody holds         revoke
7  otherwise                                       done

A question (``Verify``, ``ListTokens``) is a decision too: facts are asked for when a row needs
them, never earlier.
"""

from __future__ import annotations

from datetime import datetime

from cmzon_secrets.rotation.emergency import kill_leaked, revoke_loose, roll_back
from cmzon_secrets.rotation.endings import finished, prepared, retired
from cmzon_secrets.rotation.model import (
    Decision,
    Emergency,
    Intent,
    Prepare,
    Retire,
    Rollback,
    Seen,
)
from cmzon_secrets.rotation.orphans import sweep
from cmzon_secrets.rotation.policy import RotationPolicy
from cmzon_secrets.rotation.rows import (
    blocked,
    doubt_clock,
    native_first,
    outdated_pending,
    renew,
    replace_current,
    retire_previous,
    settle_pending,
)

__all__ = ["decide"]


def decide(seen: Seen, intent: Intent, policy: RotationPolicy, now: datetime) -> Decision:
    """The next step. Total: every state has one."""
    if (loose := revoke_loose(seen)) is not None:
        return loose
    if isinstance(intent, Emergency):
        return kill_leaked(seen, intent, policy, now)
    if isinstance(intent, Rollback):
        return roll_back(seen, policy, now)
    if isinstance(intent, Retire):
        return (
            doubt_clock(seen, now)
            or retire_previous(seen, policy, now)
            or retired(seen, policy, now)
        )
    if isinstance(intent, Prepare):
        return (
            doubt_clock(seen, now)
            or retire_previous(seen, policy, now)
            or prepared(seen, policy, now)
            or native_first(seen, now)
            or replace_current(seen, policy, now)
        )
    return (
        doubt_clock(seen, now)
        or retire_previous(seen, policy, now)
        or outdated_pending(seen, policy)
        or settle_pending(seen, now)
        or renew(seen, intent, policy, now)
        or blocked(seen, intent, policy, now)
        or sweep(seen, policy, now)
        or finished(seen, policy, now)
    )
