"""What a run did and how it ended."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from cmzon_secrets.errors import CMzonSecretsError

__all__ = ["Action", "RotationReport", "State"]

State = Literal["done", "waiting", "attention", "failed"]


@dataclass(frozen=True, slots=True)
class Action:
    """One thing done to one token: ``issue``, ``stage``, ``promote``, ``revoke`` or ``discard``.

    ``outcome`` is ``"ok"``, ``"planned"`` (dry run), or says what went wrong.
    """

    kind: str
    token_id: str
    outcome: str = "ok"


@dataclass(frozen=True, slots=True)
class RotationReport:
    """How a run ended.

    ``done``: nothing to do now. ``waiting``: something goes on by itself at ``next_due``.
    ``attention``: a person is needed, ``reason`` says for what. ``failed``: ``error`` says why; the
    store is as the last action left it and the next run goes on from there.
    """

    state: State
    actions: tuple[Action, ...] = ()
    reason: str = ""
    next_due: datetime | None = None
    error: CMzonSecretsError | None = None
