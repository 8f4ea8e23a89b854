"""Other people's code fails while it is told of a message: what came of the message stays as it is."""

from __future__ import annotations

import sys
import traceback
from contextlib import contextmanager

import pytest

from cmzon_secrets.client import Client
from cmzon_secrets.client.telling import told_apart
from cmzon_secrets.errors import APIError, AuthenticationError, RequestRejected, ServerError
from cmzon_secrets.events import Event
from unit.client.conftest import REFUSED, Reply, failing

TO, TEXT = "+4915112345678", "a private word"


@pytest.fixture
def lost(monkeypatch):
    """What was handed to ``sys.unraisablehook``, as text: who keeps the errors keeps what they hold."""
    told: list[str] = []

    def keep(unraisable):
        frames = traceback.TracebackException.from_exception(
            unraisable.exc_value, capture_locals=True
        )
        told.append("".join(frames.format()))

    monkeypatch.setattr(sys, "unraisablehook", keep)
    return told


def raising_at(*names: str):
    """A subscriber that fails at these events."""

    def subscriber(event: Event) -> None:
        if event.name in names:
            raise LookupError(f"cannot log {event.name}")

    return subscriber


@pytest.fixture
def send(server, vault, open_client):
    """Send one message with these options."""

    def sent(**options):
        with open_client(vault, base_url=server.url, **options) as client:
            return client.send_message(TO, TEXT)

    return sent


# ── subscribers ─────────────────────────────────────────────────────────────────────────────


def test_a_message_that_was_accepted_is_a_result_whatever_the_subscriber_raises(send, server, lost):
    assert send(subscriber=raising_at("message_sent")).id == "msg_1"
    assert len(server.received) == 1
    (told,) = lost
    assert "LookupError: cannot log message_sent" in told
    assert "in subscriber" in told


@pytest.mark.parametrize(
    ("reply", "events", "kind"),
    [
        (Reply(fault="close"), ["message_failed"], APIError),
        (failing(422), ["message_failed"], RequestRejected),
        (REFUSED, ["token_rejected", "message_failed"], AuthenticationError),
        (failing(500), ["message_retried", "message_failed"], ServerError),
    ],
)
def test_a_message_that_failed_is_the_error_it_failed_with(send, server, lost, reply, events, kind):
    server.answer = lambda _: reply
    with pytest.raises(kind) as caught:
        send(subscriber=raising_at(*events), max_attempts=2)
    assert caught.value.may_have_been_sent is (reply.fault is not None)
    assert len(lost) == len(events)
    for told, event in zip(lost, events, strict=True):
        assert f"cannot log {event}" in told


def test_what_is_told_does_not_show_the_message_that_was_told_of(send, server, lost):
    server.say(422)
    with pytest.raises(RequestRejected):
        send(subscriber=raising_at("message_failed"))
    (told,) = lost
    for secret in (TO, TEXT, "cmz_first_value"):
        assert secret not in told


def test_ctrl_c_in_a_subscriber_is_ctrl_c(server, vault, lost):
    def interrupted(event: Event) -> None:
        raise KeyboardInterrupt(event.name)

    with (
        Client(vault, base_url=server.url, subscriber=interrupted) as client,
        pytest.raises(KeyboardInterrupt, match="message_sent"),
    ):
        client.send_message(TO, TEXT)
    assert lost == []


def test_an_error_that_nobody_can_receive_keeps_where_it_was_raised(lost):
    def fail():
        raise ValueError("here")

    told_apart(fail)
    (told,) = lost
    assert "in fail" in told
    assert told.endswith("ValueError: here\n")


# ── tracing ─────────────────────────────────────────────────────────────────────────────────


class Tracing:
    """Fails at one place: "call", "call.returned", "call.end", "request", "request.came"…"""

    def __init__(self, place: str) -> None:
        self.place = place

    @contextmanager
    def call(self, *, is_message):
        self._reach("call")
        yield Span(self, "call")
        self._reach("call.end")

    @contextmanager
    def request(self, request, base_url):
        self._reach("request")
        try:
            yield Span(self, "request")
        finally:
            self._reach("request.end")

    def _reach(self, place: str) -> None:
        if place == self.place:
            raise LookupError(place)


class Span:
    def __init__(self, tracing: Tracing, name: str) -> None:
        self.reach = lambda end: tracing._reach(f"{name}.{end}")

    @property
    def headers(self):
        self.reach("headers")
        return {}

    def returned(self, result):
        self.reach("returned")

    def came(self, answer):
        self.reach("came")


@pytest.mark.parametrize("place", ["call.returned", "call.end", "request.came", "request.end"])
def test_tracing_that_fails_once_a_message_has_left_changes_nothing(send, server, lost, place):
    assert send(tracing=Tracing(place)).id == "msg_1"
    (told,) = lost
    assert f"LookupError: {place}" in told


def test_tracing_that_fails_at_the_end_of_a_failed_request_does_not_hide_the_doubt(
    send, server, lost
):
    server.say(fault="close")
    with pytest.raises(APIError) as caught:
        send(tracing=Tracing("request.end"))
    assert caught.value.may_have_been_sent
    (told,) = lost
    assert TO not in told
    assert TEXT not in told


@pytest.mark.parametrize("place", ["call", "request", "request.headers"])
def test_tracing_that_fails_before_a_message_has_left_stops_it(send, server, events, lost, place):
    with pytest.raises(LookupError, match=place):
        send(tracing=Tracing(place), subscriber=events.append)
    assert server.received == []
    assert not any(event.facts["may_have_been_sent"] for event in events)
    assert lost == []
