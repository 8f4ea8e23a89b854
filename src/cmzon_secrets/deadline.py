"""One total deadline for all that a verb asks of a service.

SDKs bound each socket read, not the whole call: a server that sends one byte a second keeps a
caller for ever. So each SDK call runs in another thread that is no longer waited for when the time is
up. What was sent by then may still be carried out, like any request whose answer was lost. What was not
is stopped: whoever sends calls ``stop_if_given_up`` last, after logins, name lookups and retries.
"""

from __future__ import annotations

import contextvars
import math
import os
import random
import threading
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from typing import Any, TypeVar

from cmzon_secrets.clock import SYSTEM_CLOCK, Clock
from cmzon_secrets.errors import ProviderUnavailable

__all__ = ["DEFAULT_DEADLINE", "Deadline", "GivenUp", "backoff", "stop_if_given_up"]

_T = TypeVar("_T")

DEFAULT_DEADLINE = 10.0
"""Seconds that reading or writing a backend may take in all."""


class Deadline:
    """``seconds`` from now, for as many calls as fit into them. ``uri`` begins the error."""

    def __init__(
        self, seconds: float = DEFAULT_DEADLINE, *, uri: str, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self._seconds = seconds
        self._uri = uri
        self._clock = clock
        self._ends = clock.monotonic() + seconds

    @property
    def remaining(self) -> float:
        """Seconds left; 0 when the time is up."""
        return max(0.0, self._ends - self._clock.monotonic())

    def call(self, function: Callable[..., _T], *args: Any, **kwargs: Any) -> _T:
        """What ``function`` returns or raises. Raises ProviderUnavailable when the time is up."""
        if not self.remaining:
            raise self.passed()
        call = _Call(function, args, kwargs)
        call.done.wait(self.remaining)
        if not call.done.is_set():
            call.given_up = True
            raise self.passed()
        return call.outcome()  # type: ignore[no-any-return]  # as typed as the function

    def pause(self, seconds: float) -> None:
        """Wait before another try. Raises ProviderUnavailable where it would end too late."""
        if seconds >= self.remaining:
            raise self.passed()
        self._clock.sleep(seconds)

    def passed(self) -> ProviderUnavailable:
        """The error that says so."""
        return ProviderUnavailable(
            f"{self._uri} — no answer within {math.ceil(self._seconds)} s",
            uri=self._uri,
            hint="try again; if it stays so, look at the network and the service's health page",
        )


def backoff(tries: int, first: float, longest: float, *, least: float = 0.0) -> float:
    """Seconds to wait after ``tries`` tries, for ``Deadline.pause``: ``first``, doubled each time, at most
    ``longest``; of that a random part, no smaller than ``least`` (0 is "full jitter")."""
    whole = min(longest, first * 2.0 ** min(tries - 1, 64))
    return whole * random.uniform(least, 1.0)  # noqa: S311  # it spreads load and guards nothing


class GivenUp(Exception):
    """Nobody waits for this call any more. It ends in the thread of that call and is never seen."""


def stop_if_given_up() -> None:
    """Raise GivenUp in a call whose caller was told that the time is up: it may do something else now."""
    call = _AT_WORK.get()
    if call is not None and call.given_up:
        raise GivenUp


class _Call:
    """A function at work in another thread, in the caller's context."""

    def __init__(self, function: Callable[..., Any], args: Any, kwargs: Any) -> None:
        self.done = threading.Event()
        self.given_up = False
        self._error: BaseException | None = None
        self._answer: Any = None
        run = contextvars.copy_context().run
        run(_AT_WORK.set, self)
        _worker().work(partial(run, self._run, function, args, kwargs), self.done)

    def outcome(self) -> Any:
        error, self._error = self._error, None
        if error is not None:
            raise error
        return self._answer

    def _run(self, function: Callable[..., Any], args: Any, kwargs: Any) -> None:
        try:
            self._answer = function(*args, **kwargs)
        except BaseException as error:  # noqa: BLE001  # it is raised again where it is waited for
            self._error = error


_AT_WORK: contextvars.ContextVar[_Call | None] = contextvars.ContextVar("at work", default=None)


class _Worker:
    """A daemon thread that takes call after call: to wake one costs a fifth of starting one."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[tuple[Callable[[], None], threading.Event]] = SimpleQueue()
        threading.Thread(target=self._serve, daemon=True).start()

    def work(self, call: Callable[[], None], done: threading.Event) -> None:
        self._calls.put((call, done))

    def _serve(self) -> None:
        kept = True
        while kept:
            call, done = self._calls.get()
            call()
            kept = len(_IDLE) < _KEPT
            if kept:
                _IDLE.append(self)  # before anybody is told, so that he finds it at his next call
            done.set()
            del call, done  # they hold what was sent and answered


_KEPT = 16
"""Threads that wait for the next call; more may be at work."""
_IDLE: list[_Worker] = []
os.register_at_fork(after_in_child=_IDLE.clear)  # a child has none of our threads


def _worker() -> _Worker:
    try:
        return _IDLE.pop()
    except IndexError:
        return _Worker()
