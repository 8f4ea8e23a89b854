"""What threads share does not survive ``fork``: locks may be held by threads the child lacks.

Whoever holds a lock, a thread or a connection registers itself here and is told in the child
before any other code runs there. References are weak: registering keeps nothing alive.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol

__all__ = ["Forkable", "renew_in_child"]


class Forkable(Protocol):
    """Something with state that a forked child must make anew."""

    def after_fork(self) -> None:
        """Called in the child, where no other thread runs yet."""


def renew_in_child(thing: Forkable) -> None:
    """Call ``thing.after_fork()`` in every child this process forks while ``thing`` lives."""
    _REGISTERED.add(thing)


_REGISTERED: weakref.WeakSet[Forkable] = weakref.WeakSet()


def _renew_all() -> None:
    for thing in list(_REGISTERED):
        thing.after_fork()


os.register_at_fork(after_in_child=_renew_all)
