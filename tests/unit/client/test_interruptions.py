"""Ctrl-C, cancellation and abandonment at every step of a call: what it held is let go."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

import pytest

from cmzon_secrets.client import Client, RateLimits
from cmzon_secrets.client.effects import NeedToken, Park, Request, Sleep, Work
from cmzon_secrets.testing import ManualClock
from unit.client.conftest import Reply
from unit.client.desk import OLD, TEXT, TO, answer, refusal


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def sender(vault: Any, clock: ManualClock, events: list[Any]) -> Any:
    """A client nobody performs for: the test holds its steps in hand."""
    limits = RateLimits(per_second=10, per_day=100)
    client = Client(
        vault,
        base_url="http://127.0.0.1:9",
        limits=limits,
        clock=clock,
        subscriber=events.append,
        idempotency="trust",
    )
    yield client
    client.close()


def steps_of(client: Client, departing: Any = None) -> Any:
    return client._message(TO, TEXT, None, 0, departing)


def sent_today(client: Client) -> int:
    return client.usage.sent_today


def advance(steps: Any, clock: ManualClock, until: type) -> None:
    """Perform effects up to the first of the kind ``until``, which is left unanswered."""
    effect = next(steps)
    while not isinstance(effect, until):
        reply = None
        if isinstance(effect, Sleep):
            clock.advance(effect.seconds)
        if isinstance(effect, NeedToken):
            reply = OLD
        if isinstance(effect, Work):
            reply = effect.function()
        if isinstance(effect, Request):
            reply = refusal(503)
        effect = steps.send(reply)


def end(steps: Any, how: type[BaseException]) -> None:
    if how is GeneratorExit:
        steps.close()
        return
    with pytest.raises(how):
        steps.throw(how())


ENDS = [KeyboardInterrupt, asyncio.CancelledError, GeneratorExit]


@pytest.mark.parametrize("how", ENDS)
@pytest.mark.parametrize("at", [NeedToken, Work])
def test_before_it_leaves_nothing_counts(sender, clock, events, at, how) -> None:
    steps = steps_of(sender, departing=lambda: None)
    advance(steps, clock, at)
    assert sent_today(sender) == 1
    end(steps, how)
    assert sent_today(sender) == 0
    assert events[-1].facts["error"] == how.__name__
    assert not events[-1].facts["may_have_been_sent"]
    assert events[-1].facts["attempts"] == 0


@pytest.mark.parametrize("how", ENDS)
def test_while_it_waits_for_its_slot_nothing_counts(sender, clock, how) -> None:
    advance(steps_of(sender), clock, Request)  # another has the first slot
    steps = steps_of(sender)
    advance(steps, clock, Sleep)
    end(steps, how)
    assert sent_today(sender) == 1


@pytest.mark.parametrize("how", ENDS)
def test_who_leaves_the_queue_calls_the_next(sender, clock, how) -> None:
    sender._shared.limits.hold(10, clock)
    first, second = steps_of(sender), steps_of(sender)
    advance(first, clock, Sleep)
    effect = next(second)
    assert isinstance(effect, Park)
    end(first, how)
    called: list[bool] = []
    effect.ticket.on_call(lambda: called.append(True))
    assert called
    second.close()


@pytest.mark.parametrize("how", ENDS)
def test_on_its_way_it_counts_and_may_arrive(sender, clock, events, how) -> None:
    steps = steps_of(sender)
    advance(steps, clock, Request)
    end(steps, how)
    assert sent_today(sender) == 1
    assert events[-1].name == "message_failed"
    assert events[-1].token_id == "tok_old"
    assert events[-1].facts["may_have_been_sent"]
    assert events[-1].facts["attempts"] == 1


def test_while_a_retry_waits_only_the_attempt_before_counts(sender, clock, events) -> None:
    steps = steps_of(sender)
    advance(steps, clock, Request)
    effect = steps.send(refusal(503))
    assert isinstance(effect, Sleep)
    end(steps, KeyboardInterrupt)
    assert sent_today(sender) == 1
    assert events[-1].facts["attempts"] == 1
    assert not events[-1].facts["may_have_been_sent"]


def test_a_retry_that_never_left_counts_once_and_keeps_its_doubt(sender, clock, events) -> None:
    steps = steps_of(sender)
    advance(steps, clock, Request)
    effect = steps.send(answer(504))
    while not isinstance(effect, NeedToken):
        clock.advance(getattr(effect, "seconds", 0))
        effect = steps.send(None)
    assert sent_today(sender) == 2
    end(steps, KeyboardInterrupt)
    assert sent_today(sender) == 1
    assert events[-1].facts["may_have_been_sent"]


def test_ctrl_c_in_the_midst_of_a_request_ends_it_and_the_client_goes_on(server, vault, events):
    def interrupt(request: Any) -> Any:
        server.answer = server._accept
        os.kill(os.getpid(), signal.SIGINT)
        return Reply(fault="hang")

    server.answer = interrupt
    with Client(vault, base_url=server.url, subscriber=events.append) as client:
        with pytest.raises(KeyboardInterrupt):
            client.send_message(TO, TEXT)
        assert client.send_message(TO, TEXT).attempts == 1
        assert client.usage.sent_today == 2
    assert [e.name for e in events] == ["message_failed", "message_sent"]
    assert events[0].facts["may_have_been_sent"]
    assert events[0].facts["attempts"] == 1


def test_ctrl_c_while_the_backend_is_read_gives_the_message_back(open_client, server, vault):
    read = vault.get

    def interrupted() -> Any:
        vault.get = read
        raise Interrupted

    with open_client(vault, base_url=server.url) as client:
        vault.get = interrupted
        with pytest.raises(Interrupted):
            client.send_message(TO, TEXT)
        assert client.usage.sent_today == 0
        assert client.send_message(TO, TEXT).attempts == 1
        assert client.usage.sent_today == 1


class Interrupted(BaseException):
    """Like KeyboardInterrupt, which would end the test's own event loop."""
