"""Whose turn it is among those who wait: the more urgent first, then first come, first served.

One at a time is *next*, and only he looks for a slot. All others wait without a timer until they
are called, so that a thousand who wait cost nothing, and a more urgent one who comes is at once
ahead of all.
"""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable

from cmzon_secrets.forks import renew_in_child

__all__ = ["Ticket", "Turns"]


class Ticket:
    """A place in the queue."""

    __slots__ = ("_turns", "_wake", "left")

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._wake: Callable[[], None] | None = None
        self.left = False

    @property
    def called(self) -> bool:
        """Whether it is this one's turn, as of now: somebody more urgent may come."""
        return self._turns.next() is self

    def on_call(self, wake: Callable[[], None]) -> None:
        """Call ``wake`` once it is this one's turn; at once where it is."""
        self._wake = wake
        if self.called:  # asked after ``wake`` is there: whoever leaves now finds it
            self.call()

    def call(self) -> None:
        """It is his turn. ``wake`` must not wait."""
        wake, self._wake = self._wake, None
        if wake is not None:
            wake()


class Turns:
    """A queue of tickets. Thread-safe; in a forked child it is empty."""

    def __init__(self) -> None:
        self.after_fork()
        renew_in_child(self)

    def after_fork(self) -> None:
        """In a child: nobody waits here, for no other thread runs."""
        # Re-entrant, here and in ``limits``: the garbage collector and signal handlers may end a
        # call in the midst of another's. (Tuples, so that the heap compares without running Python.)
        self._lock = threading.RLock()
        self._waiting: list[tuple[float, float, int, Ticket]] = []
        self._joined = 0

    def join(self, priority: int, since: float) -> Ticket:
        """A place behind those of more ``priority``, and of the same who have waited longer."""
        ticket = Ticket(self)
        with self._lock:
            self._joined += 1
            heapq.heappush(self._waiting, (-priority, since, self._joined, ticket))
        return ticket

    def next(self) -> Ticket | None:
        """Whose turn it is; None where nobody waits."""
        with self._lock:
            while self._waiting and self._waiting[0][-1].left:
                heapq.heappop(self._waiting)
            return self._waiting[0][-1] if self._waiting else None

    def leave(self, ticket: Ticket) -> None:
        """He has what he came for, or gave up; whoever is next now is called. Again: no change."""
        ticket.left = True
        following = self.next()
        if following is not None:
            following.call()
