"""One run through an outbox, but for the sending: what is next, what came of it, when it is over.

Both runners, for threads and for tasks, are drivers of this.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from math import inf
from typing import Protocol

from cmzon_secrets.client.outbox.model import Leased, State, Summary
from cmzon_secrets.client.outbox.owners import new_owner
from cmzon_secrets.client.outbox.store import Store
from cmzon_secrets.client.outbox.verdicts import MAX_TRIES, Verdict, accepted, judge
from cmzon_secrets.client.results import SendResult
from cmzon_secrets.clock import Clock
from cmzon_secrets.errors import (
    ConfigurationError,
    ProviderUnavailable,
    RateLimited,
    without_frames,
)

__all__ = ["POLL", "Progress", "Run", "Stop", "Terms", "WithFlag", "check_workers"]

LEASE = 60.0
"""Seconds for which a message is a runner's own; renewed while it works."""
POLL = 0.2
"""Seconds after which a runner looks again, for what others put in and for ``stop``."""
FAILED_IN_A_ROW = 10
"""Calls, none that succeeded between them, after which it is an outage, and everybody pauses."""
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""Seconds: the first such pause, doubled with each that follows."""
PATIENCE = 30.0
"""Seconds of the pause at which a run that is to drain the outbox rather ends."""
LONGEST_IDLE = 120.0
"""Seconds for which such a run waits for messages that are to be tried again, or that others hold:
twice what it takes until those of one that died are free."""
REJECTED_IN_A_ROW = 100
"""Messages, none accepted between them, after which it is not the messages."""

_RECOVER, _REPORT, _PURGE = 1.0, 0.5, 60.0  # seconds between two


class WithFlag(Protocol):
    """A ``threading.Event`` or ``asyncio.Event``."""

    def is_set(self) -> bool: ...


Stop = WithFlag | Callable[[], bool] | None
"""Set, or returning True, once a run should end."""
Progress = Callable[[dict[str, int]], None]
"""Called with the counts of ``status()``, twice a second while they change."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What the caller of a run wants. ``keep``: seconds for which sent messages are kept."""

    until_empty: bool
    stop: Stop
    max_tries: int = MAX_TRIES
    trusted: bool = False
    keep: float = inf

    def __post_init__(self) -> None:
        """Raises ConfigurationError for a ``stop`` that cannot be asked."""
        if self.stop is not None and not callable(self.stop) and not hasattr(self.stop, "is_set"):
            raise ConfigurationError(
                f"stop — an Event or a function is needed, got {type(self.stop).__name__}"
            )


class NotNow(Exception):
    """Raised in a call about to send: the run is over, or the message is another runner's now."""


class Run:
    """``next`` is called by one thread at a time; the rest is thread-safe."""

    def __init__(self, store: Store, terms: Terms, clock: Clock) -> None:
        self._store = store
        self._terms = terms
        self._clock = clock
        self._owner = new_owner()
        self._lock = threading.Lock()
        self._error: BaseException | None = None
        self._over = False
        self._halted = False
        self._under_way = 0
        self._started: set[int] = set()
        self._settled: Counter[State] = Counter()
        self._counts: dict[str, int] | None = None
        self._told: dict[str, int] | None = None
        self._failed = 0
        self._pauses = 0
        self._paused_until = -inf
        self._resumes_at: datetime | None = None
        self._rejected = 0
        self._setback: BaseException | None = None
        self._busy_at = clock.monotonic()
        self._last: dict[Callable[[], None], float] = {}

    def next(self, free: int) -> list[Leased] | None:
        """Up to ``free`` messages to send now; None: the run is over."""
        self._every(_RECOVER, self._recover)
        self._every(LEASE / 3, self._renew)
        self._every(_PURGE, self._purge)
        self._every(_REPORT, self._report)
        if self._over or self._is_stopped():
            return None
        leased = self._lease(free) if free > 0 and not self._is_paused() else []
        with self._lock:
            self._under_way += len(leased)
            idle = not self._under_way
        return None if self._terms.until_empty and self._is_done(idle=idle) else leased

    def departing(self, message: Leased) -> None:
        """It leaves in a moment: noted on the disk. Raises NotNow where it must not."""
        now = self._now()
        if self._is_stopped():
            raise NotNow
        if not self._store.start(message.seq, self._owner, now=now, until=now + LEASE):
            raise NotNow
        with self._lock:
            self._started.add(message.seq)

    def sent(self, message: Leased, result: SendResult) -> None:
        """The API accepted it."""
        with self._lock:
            self._failed = self._pauses = self._rejected = 0
        self._settle(message, accepted(result.id))

    def failed(self, message: Leased, error: BaseException) -> None:
        """It was not sent, or may have been."""
        if isinstance(error, NotNow):  # ``finish`` lets go of it
            with self._lock:
                self._under_way -= 1
            return
        verdict = judge(
            error,
            message,
            started=message.seq in self._started,
            trusted=self._terms.trusted,
            max_tries=self._terms.max_tries,
        )
        with self._lock:  # first, for what is begun before the others hear of it waits for its turn
            self._heed(verdict, error)
        self._settle(message, verdict)

    def halt(self, error: BaseException) -> None:
        """Nothing leaves any more, because of ``error``."""
        self._halted = True
        self._end(error)

    def tell(self, progress: Progress | None) -> None:
        """The counts, where they changed since they were told."""
        if progress is not None and self._counts is not None and self._counts != self._told:
            self._told = self._counts
            progress(dict(self._counts))

    def finish(self) -> Summary:
        """After all calls are over: give back what was not sent. Raises what ended the run."""
        self._store.let_go(
            self._owner, reason="it was interrupted", trusted=self._terms.trusted, now=self._now()
        )
        self._report()
        if self._error is not None:
            raise without_frames(self._error)
        counts, settled = self._store.counts(), self._settled
        return Summary(
            sent=settled[State.SENT],
            unknown=settled[State.UNKNOWN],
            dead=settled[State.DEAD],
            left=counts["pending"],
        )

    def _is_done(self, *, idle: bool) -> bool:
        """Whether a run that is to drain the outbox is over: nothing is left, or nothing could be done
        for long, or can be, which the last failure explains."""
        if not idle:
            self._busy_at = self._clock.monotonic()
            return False
        stuck = self._stuck()
        if stuck is not None:
            self._error = self._error or self._setback or stuck
        return stuck is not None or self._store.is_drained(self._now())

    def _stuck(self) -> ProviderUnavailable | None:
        """What is left, and is not worth the wait."""
        if self._clock.monotonic() - self._busy_at > LONGEST_IDLE:
            return _nothing_to_do()
        moment = self._store.next_try(self._now())
        if moment is not None and moment > self._now() + LONGEST_IDLE:
            return _not_before(moment)
        return None

    def _end(self, error: BaseException) -> None:
        """Nothing new is begun, because of ``error``."""
        self._over = True
        self._error = self._error or error

    def _settle(self, message: Leased, verdict: Verdict) -> None:
        self._store.settle(message.seq, self._owner, verdict, self._now())
        with self._lock:
            self._under_way -= 1
            self._started.discard(message.seq)
            self._settled[verdict.state] += 1

    def _heed(self, verdict: Verdict, error: BaseException) -> None:
        """What a failure means for everybody else. Called with the lock held."""
        if verdict.state is State.DEAD:
            self._rejected += 1
        if verdict.state is State.PENDING:
            self._setback = error
        if verdict.ends or self._rejected >= REJECTED_IN_A_ROW:
            self._end(error)
        meant_for_all = isinstance(error, RateLimited) and verdict.wait > LONGEST_IDLE
        if self._terms.until_empty and meant_for_all:
            self._end(error)
        if verdict.outage:
            self._failed += 1
            if self._failed >= FAILED_IN_A_ROW:
                self._pause(error)
        if verdict.resumes_at is not None:
            self._resumes_at = verdict.resumes_at
            if self._terms.until_empty:
                self._end(error)

    def _pause(self, error: BaseException) -> None:
        now = self._clock.monotonic()
        if now < self._paused_until:  # of those that failed together, one counts
            return
        seconds = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(self._pauses, 16))
        self._pauses += 1
        self._paused_until = now + seconds
        if self._terms.until_empty and seconds > PATIENCE:
            self._end(error)

    def _is_paused(self) -> bool:
        if self._resumes_at is not None and self._clock.now() < self._resumes_at:
            return True
        return self._clock.monotonic() < self._paused_until

    def _is_stopped(self) -> bool:
        stop = self._terms.stop
        if stop is not None and (stop() if callable(stop) else stop.is_set()):
            self._halted = True
        return self._halted

    def _lease(self, most: int) -> list[Leased]:
        now = self._now()
        return self._store.lease(self._owner, most, now=now, until=now + LEASE)

    def _recover(self) -> None:
        self._store.recover(self._owner, trusted=self._terms.trusted, now=self._now())

    def _renew(self) -> None:
        self._store.renew(self._owner, self._now() + LEASE)

    def _purge(self) -> None:
        if self._terms.keep < inf:
            before = self._now() - self._terms.keep
            while self._store.purge(before) and not self._is_stopped():
                pass

    def _report(self) -> None:
        self._counts = self._store.counts()

    def _every(self, seconds: float, step: Callable[[], None]) -> None:
        now = self._clock.monotonic()
        if now - self._last.get(step, -inf) >= seconds:
            self._last[step] = now
            step()

    def _now(self) -> float:
        return self._clock.now().timestamp()


def _nothing_to_do() -> ProviderUnavailable:
    return ProviderUnavailable(
        f"outbox — nothing could be sent for {LONGEST_IDLE:.0f} s: what is left is to be tried again"
        " later, or another run holds it",
        uri="outbox",
        hint="run again in a quarter of an hour",
    )


def _not_before(moment: float) -> ProviderUnavailable:
    until = f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d %H:%M} UTC"
    return ProviderUnavailable(
        f"outbox — what is left was tried, and none of it is to be tried again before {until}",
        uri="outbox",
        hint="run again then",
    )


def check_workers(workers: int) -> None:
    """Raises ConfigurationError unless a whole number, 1 or more."""
    if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
        raise ConfigurationError("workers — a whole number, 1 or more, is needed")
