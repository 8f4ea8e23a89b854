"""One frozen record per event, to whoever subscribed."""

import dataclasses
import json
from datetime import UTC, datetime

import pytest

from cmzon_secrets.events import Emitter, Event, as_json
from cmzon_secrets.testing import ManualClock

NOW = datetime(2026, 11, 24, 21, tzinfo=UTC)


def test_an_event_carries_the_time_the_place_and_the_facts():
    seen = []
    emit = Emitter(seen.append, uri="file:t", clock=ManualClock(NOW))
    emit("token.promoted", "tok_1", replacing="tok_0", attempt=1)
    assert seen == [
        Event(
            "token.promoted",
            at=NOW,
            uri="file:t",
            token_id="tok_1",
            facts={"replacing": "tok_0", "attempt": 1},
        )
    ]


def test_without_a_subscriber_nothing_happens():
    Emitter(None)("token.promoted", "tok_1")


def test_an_event_cannot_be_changed_by_a_subscriber():
    event = Event("token.promoted", at=NOW)
    with pytest.raises(dataclasses.FrozenInstanceError):
        event.name = "other"


def test_a_subscriber_that_raises_stops_what_it_was_told_of():
    def full(event):
        raise OSError("audit trail is full")

    with pytest.raises(OSError, match="full"):
        Emitter(full)("token.promoted")


def test_as_json_an_event_is_one_line_whatever_its_facts_say():
    told = Event("revoke_failed", at=NOW, uri="file:t", token_id="tok_1", facts={"reason": "a\nb"})
    line = as_json(told)
    assert "\n" not in line
    assert json.loads(line) == {
        "event": "revoke_failed",
        "at": "2026-11-24T21:00:00Z",
        "uri": "file:t",
        "token_id": "tok_1",
        "facts": {"reason": "a\nb"},
    }
