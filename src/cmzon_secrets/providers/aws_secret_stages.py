"""The stages of one secret in AWS Secrets Manager: seen as one view, and moved label by label."""

from __future__ import annotations

from dataclasses import dataclass

from cmzon_secrets.providers.aws_secret_calls import SecretCalls
from cmzon_secrets.providers.aws_secret_values import CURRENT, NEWEST, PENDING, PREVIOUS, Labels
from cmzon_secrets.tokens import Token, Versions

__all__ = [
    "TRIES",
    "Held",
    "attached",
    "complete",
    "forgotten",
    "held_under",
    "look",
    "made_current",
]

TRIES = 5
"""Looks at what others changed meanwhile, before a verb gives up."""


@dataclass(frozen=True, slots=True)
class Held:
    """What a look found: the labels, and the tokens under them."""

    labels: Labels
    versions: Versions

    @property
    def announced(self) -> str | None:
        """The version that a native rotation has announced, and not written yet."""
        return self.labels.stages.get(PENDING) if self.versions.pending is None else None


def look(calls: SecretCalls) -> Held:
    """What is held, before a change. Raises TokenNotFound, ReadOnlyProvider."""
    held = held_under(calls, calls.labels())
    if held.labels.is_replica:
        raise calls.replica(held.labels.primary_region)
    return held


def held_under(calls: SecretCalls, labels: Labels) -> Held:
    """The tokens under ``labels``: a version never changes, so one DescribeSecret is one view."""
    while True:
        tokens = {stage: calls.token(version) for stage, version in labels.stages.items()}
        again = labels if None not in tokens.values() else calls.labels()
        if again.stages == labels.stages:  # what is missing has no value, and was not dropped
            break
        labels = again
    current, pending, previous = map(tokens.get, (CURRENT, PENDING, PREVIOUS))
    moment = labels.promoted_at if current is not None else None
    return Held(labels, Versions(current, pending, previous, moment))


def attached(
    calls: SecretCalls, labels: Labels, version: str, token: Token, text: str, **extra: str
) -> bool:
    """Make this version PENDING; False: somebody else was first.

    It is written under a label of ours, which the next one written takes along.
    """
    written = version not in labels.known
    if written and CURRENT in calls.put(version, token, text, **extra):
        calls.note_promotion(version, None)
        return True
    moved = calls.move(PENDING, to=version, off=labels.holders.get(PENDING))
    if written and not moved:
        calls.move(NEWEST, off=version)
    return moved


def made_current(calls: SecretCalls, labels: Labels) -> bool:
    """PENDING becomes CURRENT; False: CURRENT is no longer where ``labels`` has it."""
    version, replaced = labels.stages[PENDING], labels.stages.get(CURRENT)
    if not calls.move(CURRENT, to=version, off=replaced):
        return False
    calls.note_promotion(version, replaced)
    calls.move(PENDING, off=version)
    return True


def complete(calls: SecretCalls, labels: Labels) -> None:
    """Do what somebody who made CURRENT what it is did not come to."""
    version = labels.holders[CURRENT]
    ours = {label for label in (PENDING, NEWEST) if labels.holders.get(label) == version}
    if ours and not labels.noted:
        calls.note_promotion(version, labels.holders.get(PREVIOUS))
    if PENDING in ours:
        calls.move(PENDING, off=version)


def forgotten(calls: SecretCalls, labels: Labels, stage: str) -> None:
    """Take a stage off its version, and our own label with it: then the service drops the version."""
    version = labels.stages[stage]
    calls.move(stage, off=version)
    if labels.holders.get(NEWEST) == version:
        calls.move(NEWEST, off=version)
