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

    __slots__ = ("_lock", "_wake", "called", "left", "order")

    def __init__(self, order: tuple[float, float, int], lock: threading.Lock) -> None:
        self.order = order
        self.called = False
        """Whether it is the next one's, as far as anybody said."""
        self.left = False
        self._wake: Callable[[], None] | None = None
        self._lock = lock

    def on_call(self, wake: Callable[[], None]) -> None:
        """Call ``wake`` once it is this one's turn; at once where it is."""
        with self._lock:
            self._wake = wake
            called = self.called
        if called:
            wake()

    def call(self) -> None:
        """It is his turn. Called with the lock held: ``wake`` must not wait."""
        if not self.called:
            self.called = True
            if self._wake is not None:
                self._wake()

    def __lt__(self, other: Ticket) -> bool:
        return self.order < other.order


class Turns:
    """A queue of tickets. Thread-safe; in a forked child it is empty."""

    def __init__(self) -> None:
        self.after_fork()
        renew_in_child(self)

    def after_fork(self) -> None:
        """In a child: nobody waits here, for no other thread runs."""
        self._lock = threading.Lock()
        self._waiting: list[Ticket] = []
        self._joined = 0

    def join(self, priority: int, since: float) -> Ticket:
        """A place behind those of more ``priority``, and of the same who have waited longer."""
        with self._lock:
            self._joined += 1
            ticket = Ticket((-priority, since, self._joined), self._lock)
            before = self._waiting[0] if self._waiting else None
            heapq.heappush(self._waiting, ticket)
            if self._waiting[0] is ticket:
                if before is not None:
                    before.called = False  # he has to wait again
                ticket.called = True
            return ticket

    def leave(self, ticket: Ticket) -> None:
        """He has what he came for, or gave up; whoever is next now is called. Again: no change."""
        with self._lock:
            if ticket.left:
                return
            ticket.left = True
            while self._waiting and self._waiting[0].left:
                heapq.heappop(self._waiting)
            if self._waiting:
                self._waiting[0].call()
