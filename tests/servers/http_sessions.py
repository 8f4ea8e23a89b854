"""Both HTTP sessions behind one face, so that each test is about both; and what of a secret can be seen."""

import asyncio
import threading
import time
import traceback
from contextlib import suppress

import pytest

from cmzon_secrets import Token
from cmzon_secrets.http import Session
from cmzon_secrets.http.async_session import AsyncSession

TOKEN = Token("cmz_the-token-that-must-not-be-shown")
MESSAGE = {"to": "+4915112345678", "text": {"body": "a private word"}}
PRIVATE = (TOKEN.reveal(), MESSAGE["to"], MESSAGE["text"]["body"])


class Awaited:
    """An AsyncSession in an event loop of a thread of its own: any number of threads may call it."""

    def __init__(self, *args, **options):
        self.session = AsyncSession(*args, **options)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    def send(self, *args, **options):
        return self.run(self.session.send(*args, **options))

    def close(self):
        self.run(self.session.close())

    def run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(30)

    def end(self):
        with suppress(Exception):
            self.close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def connections(self):
        return self.session._pool.connections


class Blocking:
    """A Session."""

    def __init__(self, *args, **options):
        self.session = Session(*args, **options)
        self.send, self.close, self.end = self.session.send, self.session.close, self.session.close

    def connections(self):
        return self.session._pool.connections


@pytest.fixture(params=[Blocking, Awaited], ids=["blocking", "asyncio"])
def open_session(request):
    """Opens sessions of one kind and, in the end, closes them: ``open_session(url, …)``."""
    opened = []

    def open_one(*args, **options):
        opened.append(request.param(*args, **options))
        return opened[-1]

    yield open_one
    for session in opened:
        session.end()


def failure(call):
    """What ``call`` raises, and the seconds until then."""
    began = time.monotonic()
    with pytest.raises(Exception) as caught:  # the caller judges
        call()
    return caught.value, time.monotonic() - began


def shown(error):
    """All that a reporter shows of an error: its text, its fields, its causes, and their frames' locals.

    The frames of tests are left out: they made the secrets.
    """
    found, links = [], [error]
    for link in links:
        links += [x for x in (link.__cause__, link.__context__) if x is not None and x not in links]
        found += [str(link), repr(link), repr(vars(link)), str(getattr(link, "hint", ""))]
        for frame, _ in traceback.walk_tb(link.__traceback__):
            if "/tests/" not in frame.f_code.co_filename:
                found += [repr(frame.f_locals), *map(_inside, frame.f_locals.values())]
    return "\n".join(found)


def _inside(value):
    """One level deeper than its repr: where an inspector of objects would look."""
    names = [*getattr(value, "__dict__", ()), *getattr(type(value), "__slots__", ())]
    return repr([getattr(value, name, None) for name in names])


def hides(error, *secrets):
    """Nothing that is shown of an error holds one of them."""
    seen = shown(error)
    return not any(secret in seen for secret in secrets or PRIVATE)
