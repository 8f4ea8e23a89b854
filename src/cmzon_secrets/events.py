"""What happened, told once: one frozen record, handed to a one-call protocol.

Metrics, logs and the audit trail are subscribers; nothing that emits knows any of them. An event
carries ids and fingerprints, never a value. Subscribers run in the caller's thread and should
return quickly. One that raises stops the action it was told of: that is how an audit trail that
must not miss anything fails closed. Nothing stops a message that has left: see ``client.telling``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from cmzon_secrets.clock import SYSTEM_CLOCK, Clock
from cmzon_secrets.records import format_time

__all__ = ["Emitter", "Event", "Fact", "Subscriber", "as_json"]

Fact = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened.

    ``name`` is stable (``token_promoted``); ``facts`` hold only plain values that are
    safe to log. docs/events.md lists every name with its facts.
    """

    name: str
    at: datetime
    uri: str = ""
    token_id: str | None = None
    facts: Mapping[str, Fact] = field(default_factory=dict)


def as_json(event: Event) -> str:
    """The event as one line of JSON, as logs take it: ``event``, ``at``, ``uri``, ``token_id``, ``facts``.

    ``at`` is RFC 3339 in UTC. The line has no line break, whatever a fact says.
    """
    import json

    members = {
        "event": event.name,
        "at": format_time(event.at),
        "uri": event.uri,
        "token_id": event.token_id,
        "facts": dict(event.facts),
    }
    return json.dumps(members, ensure_ascii=False)


class Subscriber(Protocol):
    """Whatever wants to know: called with each event."""

    def __call__(self, event: Event, /) -> None: ...


class Emitter:
    """Stamps events with the time and the place they come from; silent without a subscriber."""

    def __init__(
        self, subscriber: Subscriber | None, *, uri: str = "", clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self._subscriber = subscriber
        self._uri = uri
        self._clock = clock

    def __call__(self, name: str, token_id: str | None = None, **facts: Fact) -> None:
        if self._subscriber is not None:
            self._subscriber(
                Event(name, at=self._clock.now(), uri=self._uri, token_id=token_id, facts=facts)
            )
