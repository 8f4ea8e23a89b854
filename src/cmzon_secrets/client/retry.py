"""Whether a request is sent again, and when: one pure function, and the budget it spends.

====================================  =========================================================
what came                             then
====================================  =========================================================
429                                   again when the API says, with some jitter; the longer of
                                      body and header. Everybody waits, not one call
408, 425; 503 with Retry-After or     again, after exponential backoff with full jitter, or when
with the vendor's own error body      the API says, whichever is later
any other 5xx with that body          the same, where the request carries a key or its method is
                                      idempotent (RFC 9110 §9.2.2)
no answer, never left                 the same, but for a certificate that is not trusted
no answer, may have been sent; 504;   only where its method is idempotent, or it carries a key
any other 5xx: a gateway's            that the API is trusted to honour. Else the outcome is
                                      unknown, and that is reported
401                                   not here: another token is tried once (``exchange``)
403 and every other status            never
====================================  =========================================================

That the vendor's own error, and a 503 with Retry-After whoever sent it, mean "not processed" is
**assumed**. A 503 without either is what a gateway says when a connection breaks under a request.

Nothing is sent again past ``max_attempts``, past the deadline, or when the budget is spent: what
fails everywhere must not be met with several times the load.

Source: "Exponential Backoff And Jitter" (AWS Architecture Blog) for full jitter; the standard retry
mode of AWS SDKs for the budget.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

from cmzon_secrets.answers import Answer, is_error_of_api, retry_after
from cmzon_secrets.errors import CMzonSecretsError, TransportError
from cmzon_secrets.forks import renew_in_child

__all__ = [
    "IDEMPOTENT",
    "Attempt",
    "RetryBudget",
    "Terms",
    "Wait",
    "decide",
    "is_refusal",
    "is_unknown",
]

FIRST_BACKOFF, LONGEST_BACKOFF = 0.25, 8.0
"""Seconds: the longest first wait, doubled with each attempt, and the longest of all."""
JITTER_ON_REQUEST = 0.1
"""Share of the API's own wait that is added at random, so that not all come back at one moment."""

_NOT_PROCESSED = frozenset([408, 425])  # RFC 9110 §15.5.9, RFC 8470 §5.2
IDEMPOTENT = frozenset(["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"])
"""Methods whose requests do no more when they come twice (RFC 9110 §9.2.2)."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What the caller allows. ``deadline`` in seconds; ``keyed``: whether the request says by its key,
    or its method, that it is the same one again; ``repeatable``: whether that is relied on."""

    max_attempts: int
    deadline: float
    repeatable: bool
    keyed: bool = True

    @classmethod
    def of(
        cls, method: str, *, max_attempts: int, deadline: float, keyed: bool, trusted: bool
    ) -> Terms:
        """For a request with this method; ``keyed``: with a key, which is ``trusted`` to be honoured."""
        same = method.upper() in IDEMPOTENT
        return cls(max_attempts, deadline, same or (keyed and trusted), same or keyed)


@dataclass(frozen=True, slots=True)
class Attempt:
    """The ``number``-th request of a call, ``elapsed`` seconds after its beginning, and what came of it."""

    number: int
    outcome: Answer | TransportError
    elapsed: float


@dataclass(frozen=True, slots=True)
class Wait:
    """Send it again after so many seconds. ``everybody``: nobody else sends in the meantime either."""

    seconds: float
    everybody: bool = False


def decide(attempt: Attempt, terms: Terms, *, chance: float) -> Wait | None:
    """What comes after an attempt that did not succeed; None: it is not sent again.

    ``chance``: from 0 to 1, where jitter falls.
    """
    if not _may_help(attempt.outcome) or attempt.number >= terms.max_attempts:
        return None
    if is_unknown(attempt.outcome, keyed=terms.keyed) and not terms.repeatable:
        return None
    wait = _wait(attempt, chance)
    return wait if attempt.elapsed + wait.seconds < terms.deadline else None


def is_unknown(outcome: Answer | TransportError, *, keyed: bool) -> bool:
    """Whether the request may have taken effect although no success was seen."""
    if isinstance(outcome, TransportError):
        return outcome.may_have_been_sent
    if outcome.status < 500:
        return False
    if outcome.status == 503 and retry_after(outcome) is not None:  # RFC 9110 §15.6.4
        return False
    if outcome.status == 504 or not is_error_of_api(outcome):
        return True
    return outcome.status != 503 and not keyed


def is_refusal(outcome: Answer | CMzonSecretsError) -> bool:
    """Whether a message was definitely not accepted, so that it counts for no daily limit.

    A 429 is taken to count: nobody says that it does not.
    """
    if not isinstance(outcome, Answer):
        return not getattr(outcome, "may_have_been_sent", False)
    return 300 <= outcome.status < 500 and outcome.status != 429


def _may_help(outcome: Answer | TransportError) -> bool:
    if isinstance(outcome, TransportError):
        return outcome.retryable
    return outcome.status >= 500 or outcome.status == 429 or outcome.status in _NOT_PROCESSED


def _wait(attempt: Attempt, chance: float) -> Wait:
    outcome = attempt.outcome
    backoff = chance * min(LONGEST_BACKOFF, FIRST_BACKOFF * 2.0 ** min(attempt.number - 1, 16))
    said = None if isinstance(outcome, TransportError) else retry_after(outcome)
    if said is not None:
        backoff = max(backoff, said * (1 + JITTER_ON_REQUEST * chance))
    return Wait(backoff, everybody=isinstance(outcome, Answer) and outcome.status == 429)


class RetryBudget:
    """Retries that a client may make: each costs, each success earns a little. Thread-safe.

    A retry that the API itself asked for (429) costs nothing: the limits hold it back already.
    """

    CAPACITY = 500
    RETRY_COST = 5
    EARNED = 1

    def __init__(self) -> None:
        self._left = self.CAPACITY
        self._lock = threading.Lock()
        renew_in_child(self)

    def after_fork(self) -> None:
        """In a child: a new lock."""
        self._lock = threading.Lock()

    def spend(self, wait: Wait) -> bool:
        """Pay for a retry; whether there was enough."""
        if wait.everybody:
            return True
        with self._lock:
            enough = self._left >= self.RETRY_COST
            if enough:
                self._left -= self.RETRY_COST
            return enough

    def earn(self) -> None:
        """A request succeeded."""
        if self._left < self.CAPACITY:
            with self._lock:
                self._left = min(self.CAPACITY, self._left + self.EARNED)
