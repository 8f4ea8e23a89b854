"""Whether a key of a cloud seals for us: asked by sealing 32 random bytes and forgetting them."""

from __future__ import annotations

import os
from collections.abc import Iterator

from cmzon_secrets.errors import AccessDenied
from cmzon_secrets.examinations.rights import policy_command
from cmzon_secrets.findings import Finding, Role
from cmzon_secrets.sealing import SealingKey

__all__ = ["examine_sealing", "may_seal"]


def may_seal(key: SealingKey) -> AccessDenied | None:
    """None where it may; else how it was refused."""
    try:
        key.wrap(os.urandom(32))
    except AccessDenied as refusal:
        return refusal
    return None


def examine_sealing(key: SealingKey, role: Role) -> Iterator[Finding]:
    """A rotator must be able to seal, a reader should not. (That it opens, reading shows.)"""
    refusal = may_seal(key)
    if refusal is not None and role == "rotator":
        message = f"as a rotator it cannot seal: {refusal}"
        yield Finding("permissions.missing", "problem", message, key.uri, refusal.hint)
    elif refusal is None and role == "reader":
        remedy = f"grant what `{policy_command('reader', key.uri)}` prints, and no more"
        message = "this reader may also seal with the key"
        yield Finding("permissions.excess", "warning", message, key.uri, remedy)
    else:
        may = "may" if refusal is None else "may not"
        message = f"it {may} seal with the key, as a {role} needs it"
        evidence = "asked by sealing 32 random bytes"
        yield Finding("permissions.seal", "ok", message, evidence)
