"""What is kept open between two calls of one process: the issuers' connections and admin tokens.

The steps of a native rotation follow each other within seconds, and each would pay for TLS and for
the admin token again. Nothing is opened when this is imported, so a snapshot of the process
(SnapStart) holds none of it. ``CMZON_CA`` names a CA (PEM file) to trust instead of the system's. Age goes by the wall clock: while a function is frozen the monotonic
one may stand still, and a kept token would look young.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

from cmzon_secrets.accounts import Issuers
from cmzon_secrets.clock import SYSTEM_CLOCK, Clock

__all__ = ["KEPT_FOR", "warm_issuers"]

KEPT_FOR = timedelta(seconds=60)
"""Since its last use; a connection that was idle for longer may be gone without a word."""


@dataclass(eq=False)
class _Kept:
    settings: dict[str, str]
    used_at: datetime
    issuers: Issuers
    users: int = 0


_kept: list[_Kept] = []  # at most one: the newest
_CHANGING = threading.Lock()


@contextmanager
def warm_issuers(clock: Clock = SYSTEM_CLOCK) -> Iterator[Issuers]:
    """Issuers for one call, perhaps still open from the one before. Thread-safe."""
    settings = {k: v for k, v in os.environ.items() if k.startswith("CMZON_")}
    with _CHANGING:
        kept = _usable(settings, clock.now())
        kept.users += 1
    try:
        yield kept.issuers
    finally:
        with _CHANGING:
            kept.users -= 1
            kept.used_at = clock.now()
            _close_unless_needed(kept)


def _usable(settings: dict[str, str], now: datetime) -> _Kept:
    for kept in list(_kept):
        age = now - kept.used_at
        if kept.settings == settings and (kept.users or timedelta(0) <= age < KEPT_FOR):
            return kept
        _kept.remove(kept)
        _close_unless_needed(kept)
    _kept.append(_Kept(settings, now, Issuers(ca=settings.get("CMZON_CA") or None)))
    return _kept[0]


def _close_unless_needed(kept: _Kept) -> None:
    if kept.users == 0 and kept not in _kept:
        kept.issuers.close()
