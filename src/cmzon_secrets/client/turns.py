"""Whose turn it is among those who wait: the more urgent first, then first come, first served.

One at a time is *next*, and only he looks for a slot. All others wait until they are called, and
look up every few seconds: a thousand who wait cost next to nothing, and a more urgent one who comes
is at once ahead of all.

Who was not seen for a while is passed over, or an event loop that stopped with a task in the queue
would halt everybody who shares it. Once he is seen again, he has his old place.
"""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable
from math import inf

from cmzon_secrets.forks import renew_in_child

__all__ = ["LOOKS_EVERY", "Ticket", "Turns"]

LOOKS_EVERY = 2.0
"""Seconds after which everybody in the queue is seen again, if his thread or event loop runs."""
GONE_AFTER = 5.0
"""Seconds after which who was not seen is passed over."""


class Ticket:
    """A place in the queue."""

    __slots__ = ("_turns", "_wake", "left", "place", "queued", "seen_at")

    def __init__(self, turns: Turns, place: tuple[float, float, int]) -> None:
        self._turns = turns
        self._wake: Callable[[], None] | None = None
        self.place = place
        self.queued = False
        """Not while he is passed over."""
        self.seen_at = -inf
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

    @property
    def anybody(self) -> bool:
        """Whether somebody is in the queue, perhaps only just."""
        return bool(self._waiting)

    def join(self, priority: int, since: float) -> Ticket:
        """A place behind those of more ``priority``, and of the same who have waited longer."""
        with self._lock:
            self._joined += 1
            ticket = Ticket(self, (-priority, since, self._joined))
            self._queue(ticket)
        return ticket

    def is_next(self, ticket: Ticket, now: float) -> bool:
        """Whether it is the turn of this one, who is seen ``now`` (monotonic seconds)."""
        with self._lock:
            ticket.seen_at = now
            self._queue(ticket)
            while (first := self.next()) is not None and first.seen_at + GONE_AFTER < now:
                heapq.heappop(self._waiting)
                first.queued = False
        if first is not None and first is not ticket:
            first.call()  # he may be next only now
        return first is ticket

    def next(self) -> Ticket | None:
        """Whose turn it is; None where nobody waits."""
        with self._lock:
            while self._waiting and self._waiting[0][-1].left:
                heapq.heappop(self._waiting)
            return self._waiting[0][-1] if self._waiting else None

    def _queue(self, ticket: Ticket) -> None:
        if not ticket.queued:
            ticket.queued = True
            heapq.heappush(self._waiting, (*ticket.place, ticket))

    def leave(self, ticket: Ticket) -> None:
        """He has what he came for, or gave up; whoever is next now is called. Again: no change."""
        ticket.left = True
        following = self.next()
        if following is not None:
            following.call()
