"""What every page is sent with, and the stream that tells it to look again."""

import asyncio
import time

import pytest

from cmzon_secrets.emulator.account.account import Account
from cmzon_secrets.emulator.account.changes import MESSAGES, REHEARSAL, TOKENS
from cmzon_secrets.emulator.account.tokens import deriving
from cmzon_secrets.emulator.storage.journal import Journal
from cmzon_secrets.emulator.web import live
from cmzon_secrets.emulator.web.site import Site

HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'self'; script-src 'self';"
    " connect-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none';"
    " frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
EVERYTHING = f"event: changed\ndata: {MESSAGES} {REHEARSAL} {TOKENS}\n\n"


@pytest.mark.parametrize(
    "path",
    [
        "/dashboard",
        "/dashboard/tokens",
        "/dashboard/rotation",
        "/dashboard/rehearse",
        "/dashboard/audit",
        "/dashboard/base.css",
        "/dashboard/script.js",
        "/dashboard/nope",
        "/dashboard/",
    ],
)
def test_a_page_says_what_a_browser_may_do_with_it(api, path):
    answer = api.http.get(path)
    assert {name: answer.headers[name] for name in HEADERS} == HEADERS


def test_the_stream_says_the_same(api):
    with api.http.stream("GET", "/dashboard/events") as answer:
        assert {name: answer.headers[name] for name in HEADERS} == HEADERS
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"


class Listening:
    """A page that listens to a site of its own."""

    def __init__(self, seen=None):
        self._journal = Journal(None)
        self.account = Account(self._journal, deriving(bytes(32)))
        self.site = Site(self.account, [], stopping=asyncio.Event())
        seen = self.account.changes.version if seen is None else seen
        self._events = live._events(self.site, seen)

    async def next(self):
        return await asyncio.wait_for(anext(self._events), 10)

    async def __aenter__(self):
        assert await self.next() == "retry: 1000\n\n"
        return self

    async def __aexit__(self, *_):
        await self._events.aclose()
        self._journal.close()


def listening(test, **options):
    """Run ``test`` with a page that listens."""

    async def run():
        async with Listening(**options) as page:
            await test(page)

    asyncio.run(run())


def test_a_stream_on_which_nothing_happens_says_that_it_is_alive(monkeypatch):
    monkeypatch.setattr(live, "BEAT", 0.01)

    async def test(page):
        assert [await page.next() for _ in range(2)] == [": alive\n\n"] * 2
        page.account.changes.tell(TOKENS)
        told = await page.next()
        while told == ": alive\n\n":
            told = await page.next()
        assert told == f"event: changed\ndata: {TOKENS}\n\n"

    listening(test)


def test_changes_that_follow_each_other_closely_are_one_event():
    async def test(page):
        page.account.changes.tell(TOKENS)
        assert await page.next() == f"event: changed\ndata: {TOKENS}\n\n"
        begun = time.monotonic()
        following = asyncio.ensure_future(page.next())
        for topic in (MESSAGES, REHEARSAL, TOKENS):
            page.account.changes.tell(topic)
            await asyncio.sleep(0)
        assert await following == EVERYTHING
        assert time.monotonic() - begun >= 0.09  # a tenth of a second, by whatever clock waits

    listening(test)


def test_a_page_of_another_version_is_told_at_once_that_everything_may_have_changed():
    async def test(page):
        assert await page.next() == EVERYTHING

    listening(test, seen="another")


def test_the_stream_ends_while_changes_are_gathered_when_the_emulator_stops(monkeypatch):
    monkeypatch.setattr(live, "GATHER", 60)

    async def test(page):
        page.account.changes.tell(TOKENS)
        await page.next()
        page.site.stopping.set()
        with pytest.raises(StopAsyncIteration):
            await page.next()

    listening(test)
