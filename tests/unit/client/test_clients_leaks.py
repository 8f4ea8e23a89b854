"""What a failing Client shows of the token, the number and the text: nothing."""

from __future__ import annotations

import logging
import traceback

import pytest

from cmzon_secrets.client import Client
from cmzon_secrets.errors import CMzonSecretsError
from cmzon_secrets.testing import ManualClock

TO, TEXT = "+4915112345678", "a private word"
FIRST = "cmz_first_value"


@pytest.mark.parametrize(
    "fault", ["refused", "reset", "hang", "401", "500", "not JSON", "too long"]
)
def test_no_error_log_or_traceback_shows_the_token(
    open_client, server, vault, caplog, events, fault
):
    caplog.set_level(logging.DEBUG)
    for name in ("httpx2", "httpcore2"):
        caplog.set_level(logging.DEBUG, logger=name)
    url = server.url
    if fault == "refused":
        server.stop()
    elif fault.isdigit():
        server.say(int(fault))
    elif fault == "not JSON":
        server.say(200, b"OK")
    elif fault == "too long":
        server.say(200, b"x" * 3_000_000)
    else:
        server.say(fault=fault)
    with (
        open_client(
            vault, base_url=url, timeout=0.3, clock=ManualClock(), subscriber=events.append
        ) as client,
        pytest.raises(CMzonSecretsError) as caught,
    ):
        client.send_message(TO, TEXT)
    shown = [shown_with_locals(caught.value), caplog.text, repr(client), repr(events)]
    assert FIRST not in "\n".join(shown)
    shown[0] = shown_with_locals(caught.value, ours_only=True)
    assert TO not in "\n".join(shown)
    assert TEXT not in "\n".join(shown)
    assert reachable(caught.value).isdisjoint(
        {FIRST, f"Bearer {FIRST}", f"Bearer {FIRST}".encode()}
    )
    for text in (repr(events), caplog.text, str(caught.value), str(caught.value.hint)):
        assert TO not in text
        assert TEXT not in text


def test_an_interrupted_send_shows_nothing_in_its_traceback(server, vault, monkeypatch):
    import httpcore2

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    with Client(vault, base_url=server.url) as client:
        client.send_message(TO, TEXT)
        monkeypatch.setattr(httpcore2.HTTP11Connection, "handle_request", interrupted)
        with pytest.raises(KeyboardInterrupt) as caught:
            client.send_message(TO, TEXT)
        shown = shown_with_locals(caught.value, ours_only=True)
        assert FIRST not in shown_with_locals(caught.value)
        assert TO not in shown
        assert TEXT not in shown


def shown_with_locals(error, *, ours_only=False):
    """The traceback as a reporter that prints locals has it; ``ours_only``: without the test's frames."""
    told = traceback.TracebackException.from_exception(error, capture_locals=True)
    if ours_only:
        told.stack[:] = [frame for frame in told.stack if "/src/cmzon_secrets/" in frame.filename]
    return "".join(told.format())


def reachable(error, depth=14):
    """Every string and bytes that an inspector finds from the error, its causes and its frames."""
    found, seen, layer = set(), set(), [error]
    for _ in range(depth):
        following = []
        for thing in layer:
            if id(thing) in seen:
                continue
            seen.add(id(thing))
            if isinstance(thing, str | bytes):
                found.add(thing)
            following += parts(thing)
        layer = following
    return found


def parts(thing):
    if isinstance(thing, dict):
        return [*thing.keys(), *thing.values()]
    if isinstance(thing, list | tuple | set | frozenset):
        return list(thing)
    if isinstance(thing, BaseException):
        return [thing.__cause__, thing.__context__, thing.args, vars(thing)]
    if type(thing).__module__.split(".")[0] in ("httpx2", "httpcore2"):
        return [vars(thing)] if hasattr(thing, "__dict__") else []
    return []
