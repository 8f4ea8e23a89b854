"""The sessions of one process: one for each key, and no more of them than are used.

A session is a login and its connections. The one that was used longest ago is dropped first: it gives
back its idle connections, and whoever still holds it goes on, with new ones where it needs some.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Generic, Protocol, TypeVar

from cmzon_secrets.forks import renew_in_child

__all__ = ["KEPT", "Pool", "Session"]

KEPT = 32
"""Sessions, each with a few sockets and up to some megabytes."""


class Session(Protocol):
    """What a pool keeps."""

    def close(self) -> None:
        """Give back idle connections. Calls under way, and later ones, are not disturbed."""


_S = TypeVar("_S", bound=Session)


class Pool(Generic[_S]):
    """Thread-safe. ``inherited``: a forked child keeps the sessions, which see to themselves there."""

    def __init__(self, *, inherited: bool = False) -> None:
        self._inherited = inherited
        self._lock = threading.Lock()
        self._kept: dict[Hashable, _S] = {}
        renew_in_child(self)

    def of(self, key: Hashable, make: Callable[[], _S]) -> _S:
        """The session for ``key``; ``make`` is called where there is none, by one thread only."""
        with self._lock:
            session = self._kept.pop(key, None) or make()
            self._kept[key] = session  # the one used last comes last
            spare = list(self._kept)[:-KEPT]
            dropped = [self._kept.pop(oldest) for oldest in spare]
        _close(dropped)
        return session

    def forget(self, session: _S) -> None:
        """Make another one the next time that its key is asked for."""
        with self._lock:
            self._kept = {key: kept for key, kept in self._kept.items() if kept is not session}
        session.close()

    def clear(self) -> None:
        """Forget all of them."""
        with self._lock:
            dropped, self._kept = list(self._kept.values()), {}
        _close(dropped)

    def after_fork(self) -> None:
        """A connection must not be shared with the parent, nor closed for it."""
        self._lock = threading.Lock()
        if not self._inherited:
            self._kept = {}


def _close(sessions: list[_S]) -> None:
    for session in sessions:
        session.close()
