"""The outbox for threads: messages put in by whoever has them, sent by whoever has a client."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from datetime import timedelta
from functools import partial
from math import inf
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from cmzon_secrets.client.outbox.model import (
    Leased,
    NotBefore,
    Record,
    State,
    Summary,
    Waiting,
    checked,
)
from cmzon_secrets.client.outbox.run import POLL, Progress, Run, Stop, Terms, check_workers
from cmzon_secrets.client.outbox.store import Store
from cmzon_secrets.client.outbox.verdicts import MAX_TRIES
from cmzon_secrets.client.results import SendResult
from cmzon_secrets.clock import SYSTEM_CLOCK, Clock, seconds
from cmzon_secrets.errors import ConfigurationError, RequestRejected, retold, shielded

__all__ = ["KEPT", "WORKERS", "Message", "Outbox", "Sends", "needed"]

KEPT = timedelta(days=7)
"""How long sent messages, and with them their keys, are kept."""
WORKERS = 64
"""Messages under way at once: 80 a second, each of which may take 0.8 s."""

Message = tuple[str, str] | tuple[str, str, str | None] | tuple[str, str, str | None, NotBefore]
"""Number and text; the key, and the earliest time to send at."""

_C = TypeVar("_C")


class Sends(Protocol):
    """What a run asks of its client. ``trusts_keys``: the API is trusted to honour them."""

    @property
    def trusts_keys(self) -> bool: ...

    def send_queued(self, message: Leased, departing: Callable[[], None], /) -> SendResult: ...


class Outbox:
    """Messages in a SQLite file: put in durably, sent once. Thread-safe, fork-safe; any number of
    processes of one machine may share the file.

    ``Outbox(path)`` needs no client, no token and no network; only ``run`` does, and
    ``client.outbox(path)`` brings its own. The file is made where there is none, mode 0600.
    ``keep``: how long sent messages are kept, a timedelta or seconds; None: for ever.

    Every method raises ConfigurationError for a file that is no outbox, AccessDenied, and
    ProviderUnavailable for a disk that is full and a file that stays locked, or was removed or replaced
    meanwhile; then nothing was done.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        keep: timedelta | float | None = KEPT,
        clock: Clock = SYSTEM_CLOCK,
        client: Sends | None = None,
    ) -> None:
        self.path = str(path)
        self._store = Store(path)
        self._keep = inf if keep is None else seconds("keep", keep)
        self._clock = clock
        self._client = client

    @property
    def id(self) -> str:
        """A random number of this outbox, 32 hex digits."""
        return self._store.id

    @shielded
    def put(
        self,
        to: str,
        message: str,
        *,
        key: str | None = None,
        not_before: NotBefore = None,
        priority: int = 0,
    ) -> str:
        """Put a message in; its key. What it returned from is on the disk.

        ``key``: the idempotency key that it is sent with, default a new one; a key that is there
        already, with the same number and text, changes nothing. ``not_before``: an aware datetime,
        or a timedelta or seconds from now. ``priority``: the higher goes first, but for messages to
        one recipient, which keep their order.

        Raises RequestRejected for what could not be sent, and for a key with another number or text.
        """
        waiting = self._checked((to, message, key, not_before), priority)
        self._store.put([waiting], self._clock.now().timestamp())
        return waiting.key

    @shielded
    def put_many(self, messages: Iterable[Message], *, priority: int = 0) -> int:
        """Put ``(to, text)``, ``(to, text, key)`` or ``(to, text, key, not_before)`` in, all of them or none; how many were new.

        They are held in memory until then: give a hundred thousand or so at a time. Raises like
        ``put``, naming the position of the message at fault, from 0.
        """
        waiting = []
        for position, message in enumerate(messages):
            try:
                waiting.append(self._checked(message, priority))
            except RequestRejected as error:
                raise retold(error, f"message {position}: {error.message}") from None
        return self._store.put(waiting, self._clock.now().timestamp())

    def run(
        self,
        *,
        until_empty: bool = False,
        stop: Stop = None,
        workers: int = WORKERS,
        max_tries: int = MAX_TRIES,
        progress: Progress | None = None,
    ) -> Summary:
        """Send what is due, until ``stop`` is set or returns True: then what is on the wire is
        awaited, and the rest given back. Only for an outbox made by ``client.outbox(path)``.

        ``until_empty``: until nothing is due any more; messages for later stay. ``workers``: messages
        under way at once. ``max_tries``: after so many, a message that the API fails on is dead.
        ``progress`` is called with the counts of ``status()``.

        Ends early, with what was under way settled and the rest left for the next run, raising
        AuthenticationError, PermissionDenied and what the provider raises, for every other message
        would fail likewise; with ``until_empty`` also DailyLimitReached, the error of an outage that
        lasts, and what came last where for two minutes nothing could be tried again, or can be. Without
        it, those are waited for.
        """
        client = needed(self._client)
        check_workers(workers)
        trusted = client.trusts_keys
        run = self.new_run(trusted=trusted, until_empty=until_empty, stop=stop, max_tries=max_tries)
        with ThreadPoolExecutor(workers, "cmzon-outbox") as pool:
            try:
                _fly(run, partial(_submit, pool, run, client), workers, progress)
            except BaseException as error:  # noqa: BLE001  # ``finish`` raises it
                run.halt(error)
        summary = run.finish()
        run.tell(progress)
        return summary

    def new_run(self, *, trusted: bool, until_empty: bool, stop: Stop, max_tries: int) -> Run:
        """The part of ``run`` that does not send, for whoever drives it."""
        terms = Terms(until_empty, stop, max_tries, trusted, self._keep)
        return Run(self._store, terms, self._clock)

    def status(self) -> dict[str, int]:
        """Messages by state: ``pending`` (with those on the wire), ``sent``, ``unknown``, ``dead``."""
        return self._store.counts()

    def dead(self) -> list[Record]:
        """Those that were not accepted and will not be sent, with the reasons."""
        return self._store.look(State.DEAD)

    def unknown(self) -> list[Record]:
        """Those that may have been accepted: look at the other end, then ``retry`` or ``drop``."""
        return self._store.look(State.UNKNOWN)

    def retry(self, *keys: str, state: str | None = None) -> int:
        """Send dead or unknown ones after all: those with these keys, or all in ``state``; how many.

        Raises ConfigurationError where neither is given.
        """
        return self._store.retry(keys, _chosen(keys, state), self._clock.now().timestamp())

    def drop(self, *keys: str, state: str | None = None) -> int:
        """Forget those with these keys, or all in ``state``, but for what is being sent; how many.

        Raises ConfigurationError where neither is given.
        """
        return self._store.drop(keys, _chosen(keys, state), self._clock.now().timestamp())

    def close(self) -> None:
        """Close the file."""
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.path}>"

    def _checked(self, message: tuple[Any, ...], priority: int) -> Waiting:
        if not isinstance(message, tuple) or not 2 <= len(message) <= 4:
            raise RequestRejected("message — (to, text[, key[, not_before]]) is needed")
        return checked(*message, priority=priority, now=self._clock.now())


def needed(client: _C | None) -> _C:
    """Raises ConfigurationError where there is none."""
    if client is None:
        raise ConfigurationError(
            "outbox — it has no client, and cannot send", hint="client.outbox(path).run()"
        )
    return client


def _chosen(keys: tuple[str, ...], state: str | None) -> State | None:
    if not keys and state is None:
        raise ConfigurationError(
            "outbox — which messages?", hint='name their keys, or a state: state="dead"'
        )
    return None if state is None else State.named(state)


def _fly(
    run: Run, submit: Callable[[Leased], Future[None]], workers: int, progress: Progress | None
) -> None:
    """Until the run is over, have as many messages under way as there are workers for."""
    flying: set[Future[None]] = set()
    while (messages := run.next(workers - len(flying))) is not None:
        flying |= {submit(message) for message in messages}
        landed, flying = wait(flying, POLL, FIRST_COMPLETED)
        for call in landed:
            call.result()  # what is wrong with the file itself ends the run
        if not (landed or flying):
            SYSTEM_CLOCK.sleep(POLL)
        run.tell(progress)


def _submit(pool: ThreadPoolExecutor, run: Run, client: Sends, message: Leased) -> Future[None]:
    return pool.submit(_deliver, run, client, message)


def _deliver(run: Run, client: Sends, message: Leased) -> None:
    try:
        result = client.send_queued(message, partial(run.departing, message))
    except BaseException as error:  # noqa: BLE001  # it is settled, and the run ends with it
        run.failed(message, error)
    else:
        run.sent(message, result)
