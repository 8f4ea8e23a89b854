"""Rights held against what a role needs: those that are missing, those that are too many, or just enough."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from cmzon_secrets.findings import Finding, Role, Severity

__all__ = ["Excess", "judged", "policy_command"]


class Excess(NamedTuple):
    """A right that the role does not need: what it means, and how it was seen."""

    meaning: str
    evidence: str
    grave: bool = True


def policy_command(role: Role, uri: str) -> str:
    """What prints the least permissions, ready to be typed."""
    return f"cmzon-secrets doctor --policy {role} {shlex.quote(uri)}"


def judged(
    role: Role,
    missing: Iterable[str],
    excess: Iterable[Excess],
    *,
    denied: str,
    asked: str,
    remedy: str,
) -> Iterator[Finding]:
    """``denied``: how it is seen that a right is missing; ``asked``: what was asked for in all."""
    missing, excess = list(missing), list(excess)
    if missing:
        message = f"as a {role} it lacks: {', '.join(missing)}"
        yield Finding("permissions.missing", "problem", message, denied, remedy)
    for right in excess:
        severity: Severity = "warning" if right.grave else "note"
        yield Finding("permissions.excess", severity, right.meaning, right.evidence, remedy)
    if not missing and not excess:
        message = f"as far as can be asked, it may what a {role} needs, no more"
        yield Finding("permissions.least", "ok", message, f"asked: {asked}")
