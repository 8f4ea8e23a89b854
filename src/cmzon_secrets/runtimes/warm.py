"""What is kept open between two calls of one process: the issuers' connections and admin tokens.

The steps of a native rotation follow each other within seconds, and each would pay for TLS and for
the admin token again. Nothing is opened when this is imported, so a snapshot of the process
(SnapStart) holds none of it. Age goes by the wall clock: while a function is frozen the monotonic
one may stand still, and a kept token would look young. ``CMZON_CA`` names a CA (PEM file) to trust
instead of the system's.
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
from cmzon_secrets.forks import renew_in_child

__all__ = ["KEPT_FOR", "warm_issuers"]

KEPT_FOR = timedelta(seconds=60)
"""Since its last use; a connection that was idle for longer may be gone without a word."""


@dataclass(eq=False)
class _Kept:
    settings: dict[str, str]
    used_at: datetime
    issuers: Issuers
    users: int = 0


class _Warm:
    """What this process keeps: the newest issuers, and a lock for who changes that."""

    def __init__(self) -> None:
        self.newest: _Kept | None = None
        self.changing = threading.Lock()
        renew_in_child(self)

    def after_fork(self) -> None:
        """A child begins with nothing: its parent's may be in use, and half changed."""
        self.newest = None
        self.changing = threading.Lock()

    def take(self, settings: dict[str, str], now: datetime) -> _Kept:
        kept = self.newest
        if kept is None or not _usable(kept, settings, now):
            kept = self.newest = _Kept(settings, now, Issuers(ca=settings.get("CMZON_CA") or None))
        kept.users += 1
        return kept

    def close_unless_needed(self, kept: _Kept | None) -> None:
        if kept is not None and kept.users == 0 and kept is not self.newest:
            kept.issuers.close()


_WARM = _Warm()


@contextmanager
def warm_issuers(clock: Clock = SYSTEM_CLOCK) -> Iterator[Issuers]:
    """Issuers for one call, perhaps still open from the one before. Thread-safe."""
    settings = {k: v for k, v in os.environ.items() if k.startswith("CMZON_")}
    with _WARM.changing:
        before = _WARM.newest
        kept = _WARM.take(settings, clock.now())
        _WARM.close_unless_needed(before)
    try:
        yield kept.issuers
    finally:
        with _WARM.changing:
            kept.users -= 1
            kept.used_at = clock.now()
            _WARM.close_unless_needed(kept)


def _usable(kept: _Kept, settings: dict[str, str], now: datetime) -> bool:
    age = now - kept.used_at
    return kept.settings == settings and (kept.users > 0 or timedelta(0) <= age < KEPT_FOR)
