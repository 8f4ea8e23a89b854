"""What the outcome of a call means for its message, and for all others: pure decisions.

==========================================  ===============  =====================================
what came                                   the message      the run
==========================================  ===============  =====================================
it was accepted                             sent             goes on
``may_have_been_sent``                      unknown          goes on
the same, where keys are honoured           again, later     may pause
RequestRejected (4xx)                       dead             goes on
RateLimited                                 again, then, or  goes on: the client holds everybody;
                                            in 15 minutes    ends where that is long and it is to
                                                             drain the outbox
ServerError, and it was not accepted        again, later;    may pause
                                            dead after
                                            ``max_tries``
TransportError, and it never left;          again            may pause
ProviderUnavailable
DailyLimitReached                           again            pauses until then; ends where it
                                                             is to drain the outbox
401, 403, no token, no access, and          again            ends, raising it: every other message
whatever else is not the message's fault                     would fail in the same way
==========================================  ===============  =====================================

Where several in a row fail, with no success between, everybody pauses, longer each time: an outage
must not cost the messages their tries. A run that is to drain the outbox does not wait for long: it
ends, raising what came last.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from cmzon_secrets.client.outbox.model import Leased, State
from cmzon_secrets.errors import (
    APIError,
    CMzonSecretsError,
    DailyLimitReached,
    ProviderUnavailable,
    RateLimited,
    RequestRejected,
    ServerError,
    TransportError,
)

__all__ = ["MAX_TRIES", "Verdict", "accepted", "judge"]

MAX_TRIES = 20
FIRST_WAIT, LONGEST_WAIT = 2.0, 900.0
"""Seconds until a message is tried again: the first time, doubled with each try, at the longest. So
20 tries take about three hours."""

_LONGEST_REASON = 500  # characters


@dataclass(frozen=True, slots=True)
class Verdict:
    """``state`` of the message and the ``reason``; ``wait``: seconds until it may be tried again.

    ``outage``: others may fail likewise. ``resumes_at``: nobody sends before. ``ends``: the run ends.
    """

    state: State
    reason: str | None = None
    message_id: str | None = None
    wait: float = 0.0
    outage: bool = False
    resumes_at: datetime | None = None
    ends: bool = False


def accepted(message_id: str | None) -> Verdict:
    """The API took it."""
    return Verdict(State.SENT, message_id=message_id)


def judge(
    error: BaseException, message: Leased, *, started: bool, trusted: bool, max_tries: int
) -> Verdict:
    """What ``error`` means. ``started``: it may have left, as far as the runner knows; ``trusted``:
    the API honours keys."""
    reason = _reason(error)
    if not isinstance(error, CMzonSecretsError):  # a defect, or Ctrl-C: the client knows more
        unknown = getattr(error, "may_have_been_sent", started) and not trusted
        return Verdict(State.UNKNOWN if unknown else State.PENDING, reason, ends=True)
    if isinstance(error, APIError) and error.may_have_been_sent:
        return _unknown(message, reason, trusted=trusted, max_tries=max_tries)
    match error:
        case RequestRejected():
            return Verdict(State.DEAD, reason)
        case RateLimited():
            return Verdict(State.PENDING, reason, wait=min(LONGEST_WAIT, error.retry_after or 1.0))
        case ServerError():
            return _again(message, reason, max_tries=max_tries, at_last=State.DEAD)
        case TransportError() | ProviderUnavailable():
            return Verdict(State.PENDING, reason, outage=True)
        case DailyLimitReached(resets_at=moment) if moment is not None:
            return Verdict(State.PENDING, reason, resumes_at=moment)
        case _:
            return Verdict(State.PENDING, reason, ends=True)


def _unknown(message: Leased, reason: str, *, trusted: bool, max_tries: int) -> Verdict:
    if not trusted:
        return Verdict(State.UNKNOWN, reason)
    return _again(message, reason, max_tries=max_tries, at_last=State.UNKNOWN)


def _again(message: Leased, reason: str, *, max_tries: int, at_last: State) -> Verdict:
    if message.tries + 1 >= max_tries:
        return Verdict(at_last, reason, outage=True)
    wait = min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** min(message.tries, 16))
    return Verdict(State.PENDING, reason, wait=wait, outage=True)


def _reason(error: BaseException) -> str:
    """One line; an error of ours repeats nothing of the message."""
    said = str(error) if isinstance(error, CMzonSecretsError) else type(error).__name__
    return said[:_LONGEST_REASON]
