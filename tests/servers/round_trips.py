"""What a rotation asks of its backend and its issuer, counted while it happens.

``rotation(open_store, issuer)`` lives through one account: a first token, a rotation, the end of its
grace, and runs in which nothing is due. Requests are counted where every SDK's HTTP library ends, in
``http.client``; CMzonIssuer uses another one, so its calls are counted by method.
"""

from __future__ import annotations

import http.client
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, Protocol, cast

from cmzon_secrets import RotationPolicy, Rotator, TokenIssuer, TokenStore
from cmzon_secrets.clock import Clock
from cmzon_secrets.providers import sealed_file
from cmzon_secrets.testing import ManualClock

VERBS = ("get", "versions", "stage", "promote", "discard")
CALLS = ("issue", "verify", "list", "revoke")
DAY = 86_400.0


@dataclass
class Cost:
    """Of one run: the store's verbs, what they asked for, and the issuer's calls, in order."""

    verbs: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    issuer: list[str] = field(default_factory=list)

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.verbs + other.verbs, self.requests + other.requests, self.issuer + other.issuer
        )

    def summary(self) -> str:
        """How often each request, most frequent first."""
        return ", ".join(f"{n} {name}" for name, n in Counter(self.requests).most_common())


@dataclass(frozen=True)
class Rotation:
    """``rotating`` issues and promotes, ``retiring`` revokes and discards after the grace;
    then nothing is due: ``idle`` at once, ``idle_later`` when the issuer may be listed again."""

    rotating: Cost
    retiring: Cost
    idle: Cost
    idle_later: Cost

    @property
    def full(self) -> Cost:
        return self.rotating + self.retiring


class MovableClock(Protocol):
    """A Clock that a test can move, such as ManualClock."""

    def advance(self, seconds: float) -> None: ...


def rotation(
    open_store: Callable[[Any], TokenStore],
    issuer: TokenIssuer,
    clock: MovableClock | None = None,
) -> Rotation:
    """Of a place that is empty, or does not exist yet, in a process that keeps its handle.

    A new handle on Vault asks one thing more, once: who the cluster is.
    """
    clock, policy = clock or ManualClock(), RotationPolicy("acme")
    with open_store(clock) as store:
        if hasattr(store, "create"):
            store.create()
        rotator = Rotator(store, issuer, policy, clock=cast("Clock", clock))
        report = rotator.run()
        assert report.state == "done", report

        def cost(state: str, *, after: float = 0.0, force: bool = False) -> Cost:
            clock.advance(after)
            with counted(store, issuer) as found:
                report = rotator.run(force=force)
            assert report.state == state, report
            return found

        return Rotation(
            cost("done", force=True),
            cost("done", after=policy.grace.total_seconds() + DAY),
            cost("done", after=1.0),
            cost("done", after=policy.orphan_age.total_seconds()),
        )


@contextmanager
def counted(store: TokenStore, issuer: TokenIssuer) -> Iterator[Cost]:
    """The cost of the block."""
    cost = Cost()
    with (
        _telling(cost.verbs, store, *VERBS),
        _telling(cost.issuer, issuer, *CALLS),
        _telling(cost.requests, sealed_file, "read_private", "replace_durably"),
        requests_sent(cost.requests),
    ):
        yield cost


@contextmanager
def requests_sent(told: list[str]) -> Iterator[None]:
    """Each request of this process: ``GET /path``, or an AWS operation's name."""
    connection = http.client.HTTPConnection
    putrequest, putheader = connection.putrequest, connection.putheader

    def line(self: Any, method: str, url: str, *args: Any, **kwargs: Any) -> None:
        told.append(f"{method} {url.partition('?')[0]}")
        putrequest(self, method, url, *args, **kwargs)

    def header(self: Any, name: Any, *values: Any) -> None:
        if str(name).lower() == "x-amz-target":
            told[-1] = _text(values[0]).rpartition(".")[2]
        putheader(self, name, *values)

    connection.putrequest, connection.putheader = line, header  # type: ignore[method-assign]
    try:
        yield
    finally:
        connection.putrequest, connection.putheader = putrequest, putheader  # type: ignore[method-assign]


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


@contextmanager
def _telling(told: list[str], owner: object, *names: str) -> Iterator[None]:
    """While entered, these functions or methods of ``owner`` say that they were called."""
    before = {name: vars(owner).get(name) for name in names}
    for name in names:
        setattr(owner, name, _told(told, name, getattr(owner, name)))
    try:
        yield
    finally:
        for name, function in before.items():
            if function is None:
                delattr(owner, name)
            else:
                setattr(owner, name, function)


def _told(told: list[str], name: str, original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        told.append(name)
        return original(*args, **kwargs)

    return call
