"""Rotation: issue → verify → stage → promote → grace → revoke, as a reconcile loop.

``decide`` is pure and total; ``Rotator`` performs one decision and looks again. The store is the
only state, so any process can take over from any other after any crash.
"""

from __future__ import annotations

from cmzon_secrets.rotation.fleet import Fleet, Member, Opened, Outcome
from cmzon_secrets.rotation.outlook import Outlook, outlook
from cmzon_secrets.rotation.policy import RotationPolicy
from cmzon_secrets.rotation.report import Action, RotationReport
from cmzon_secrets.rotation.rotator import Rotator

__all__ = [
    "Action",
    "Fleet",
    "Member",
    "Opened",
    "Outcome",
    "Outlook",
    "RotationPolicy",
    "RotationReport",
    "Rotator",
    "outlook",
]
