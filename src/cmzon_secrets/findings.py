"""What an examination of a place finds: one fact each, with its evidence and its remedy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Finding", "Role", "Severity"]

Severity = Literal["ok", "note", "warning", "problem"]
"""``ok``: as it should be. ``note``: worth knowing, or not checked and why. ``warning``: it works, but
somebody should mend it. ``problem``: it does not work, or will stop working."""

Role = Literal["reader", "rotator"]
"""What the caller is meant to be: applications read, rotation writes."""


@dataclass(frozen=True, slots=True)
class Finding:
    """``check`` is a stable name (``permissions.excess``); ``remedy`` is the command or step that
    mends it, None where nothing is to be mended. Nothing in it is ever a secret."""

    check: str
    severity: Severity
    message: str
    evidence: str
    remedy: str | None = None
