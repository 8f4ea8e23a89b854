"""What an outbox holds, as records: a message on its way in, one on its way out, one looked at.

=========  =======================================================================================
state      meaning
=========  =======================================================================================
pending    it is to be sent: now, when its time comes, or after the messages before it
sending    it may be on the wire at this moment
sent       the API accepted it
unknown    it may have been accepted and nobody knows: a person decides, or the API's honoured keys
dead       it was not accepted and will not be
=========  =======================================================================================
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from cmzon_secrets.client.messages import check_key, check_message, check_priority
from cmzon_secrets.errors import ConfigurationError, RequestRejected

__all__ = ["Leased", "NotBefore", "Record", "State", "Summary", "Waiting", "checked", "tallies"]

NotBefore = datetime | timedelta | float | None
"""The earliest time to send at: an aware datetime, or from now a timedelta or seconds."""

_MOST_URGENT = 2**31
_LAST = datetime.max.replace(tzinfo=UTC).timestamp()


class State(StrEnum):
    """Where a message stands; see the module."""

    PENDING = "pending"
    SENDING = "sending"
    SENT = "sent"
    UNKNOWN = "unknown"
    DEAD = "dead"

    @classmethod
    def named(cls, name: str) -> State:
        """In small or capital letters. Raises ConfigurationError for none of them."""
        try:
            return cls(name.lower())
        except (ValueError, AttributeError):
            valid = ", ".join(cls)
            raise ConfigurationError(f"state — unknown; valid: {valid}") from None


@dataclass(frozen=True, slots=True)
class Waiting:
    """A checked message before it is put in. ``not_before``: Unix time."""

    key: str
    to: str = field(repr=False)
    text: str = field(repr=False)
    not_before: float
    priority: int


@dataclass(frozen=True, slots=True)
class Leased:
    """A message that one runner, and no other, is to send."""

    seq: int
    key: str
    to: str = field(repr=False)
    text: str = field(repr=False)
    priority: int
    tries: int


@dataclass(frozen=True, slots=True)
class Record:
    """A message of the outbox, as it stands. Its repr shows neither the number nor the text.

    ``reason``: why it is unknown or dead, or was not sent at the last try. ``tries``: how often it
    was handed to the API. ``message_id``: the API's, of one that was sent.
    """

    key: str
    to: str = field(repr=False)
    text: str = field(repr=False)
    state: State
    reason: str | None
    tries: int
    message_id: str | None
    put_at: datetime
    due: datetime
    changed_at: datetime


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run did; ``left``: messages that are still to be sent."""

    sent: int
    unknown: int
    dead: int
    left: int


def checked(
    to: str,
    text: str,
    key: str | None = None,
    not_before: NotBefore = None,
    *,
    priority: int,
    now: datetime,
) -> Waiting:
    """The message, with a new key where it has none. Raises RequestRejected."""
    check_message(to, text)
    if key is not None:
        check_key(key)
    check_priority(priority)
    if not -_MOST_URGENT <= priority <= _MOST_URGENT:
        raise RequestRejected("priority — a whole number of reasonable size is needed")
    moment = max(_moment(not_before, now), now.timestamp())
    return Waiting(key if key is not None else str(uuid.uuid4()), to, text, moment, priority)


def _moment(not_before: NotBefore, now: datetime) -> float:
    if not_before is None:
        return now.timestamp()
    if isinstance(not_before, datetime):
        if not_before.tzinfo is None:
            raise RequestRejected(
                "not_before — a datetime without a time zone", hint="datetime.now(UTC) + …"
            )
        return not_before.timestamp()
    delay = not_before.total_seconds() if isinstance(not_before, timedelta) else not_before
    if isinstance(delay, bool) or not isinstance(delay, int | float):
        raise RequestRejected("not_before — a datetime, a timedelta or seconds are needed")
    moment = now.timestamp() + delay
    if not moment <= _LAST:  # not a number is not, either
        raise RequestRejected("not_before — no such time")
    return moment


def tallies(counts: Iterable[tuple[str, int]]) -> dict[str, int]:
    """Counts by state as people want them: what is being sent is not sent yet."""
    by_state = dict(counts)
    pending = by_state.get(State.PENDING, 0) + by_state.get(State.SENDING, 0)
    settled = {
        str(state): by_state.get(state, 0) for state in (State.SENT, State.UNKNOWN, State.DEAD)
    }
    return {"pending": pending, **settled}
