"""The token for tasks of asyncio: nobody blocks the event loop, and one read serves all."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from cmzon_secrets import Token, TokenCache
from cmzon_secrets.errors import AccessDenied
from cmzon_secrets.integrations.authorizing import Authorizer, Bearer

FIRST, SECOND = Token("cmz_first_value"), Token("cmz_second_value")


@pytest.fixture
def authorizer(backend):
    return Authorizer(backend)


def test_the_event_loop_goes_on_while_a_backend_is_slow(authorizer, backend):
    async def main():
        task = asyncio.create_task(authorizer.get_async())
        await backend.was_asked()
        for _ in range(10):
            await asyncio.sleep(0)
        assert not task.done()
        backend.answers.set()
        return await task

    assert asyncio.run(main()) == FIRST
    assert threading.get_ident() not in backend.threads


def test_any_number_of_tasks_is_one_read_in_one_thread(authorizer, backend):
    async def main():
        before = set(threading.enumerate())  # of which some, another test's, may end meanwhile
        tasks = [asyncio.create_task(authorizer.get_async()) for _ in range(200)]
        await backend.was_asked()
        begun = set(threading.enumerate()) - before
        backend.answers.set()
        assert await asyncio.gather(*tasks) == [FIRST] * 200
        return len(begun)

    assert asyncio.run(main()) == 1
    assert backend.calls == 1


def test_a_task_that_is_cancelled_does_not_end_the_read_of_the_others(authorizer, backend):
    async def main():
        first = asyncio.create_task(authorizer.get_async())
        other = asyncio.create_task(authorizer.get_async())
        await backend.was_asked()
        first.cancel()
        backend.answers.set()
        with pytest.raises(asyncio.CancelledError):
            await first
        return await other

    assert asyncio.run(main()) == FIRST
    assert backend.calls == 1


def test_tasks_share_a_failure_but_not_its_object(authorizer, backend):
    backend.token = AccessDenied("test:slow — no", uri="test:slow")

    async def main():
        tasks = [asyncio.create_task(authorizer.get_async()) for _ in range(20)]
        await backend.was_asked()
        backend.answers.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    errors = asyncio.run(main())
    assert {type(error) for error in errors} == {AccessDenied}
    assert len({id(error) for error in errors}) == 20
    assert backend.calls == 1


def test_a_token_in_memory_is_had_without_a_thread(backend):
    backend.answers.set()
    cache = TokenCache(backend)
    cache.get()
    authorizer = Authorizer(cache)

    async def main():
        before = threading.active_count()
        assert await authorizer.get_async() == FIRST
        return threading.active_count() - before

    assert asyncio.run(main()) == 0


def test_a_read_that_has_ended_with_the_refused_token_is_not_joined(authorizer, backend):
    """It ended in its thread, the loop has not heard of it, and meanwhile that token was refused."""

    async def main():
        joined = asyncio.create_task(authorizer.get_async())
        await backend.was_asked()
        backend.answers.set()
        while authorizer._cache.peek() is None:
            time.sleep(0.001)  # noqa: ASYNC251  # the loop is not to hear of it
        backend.token = SECOND
        authorizer.reject(FIRST)
        return await authorizer.get_async(), await joined

    assert asyncio.run(main()) == (SECOND, FIRST)


def test_every_event_loop_is_served_while_another_waits(authorizer, backend):
    found, asking = [], threading.Semaphore(0)

    async def main():
        asking.release()
        found.append(await authorizer.get_async())

    loops = [threading.Thread(target=asyncio.run, args=(main(),)) for _ in range(4)]
    for loop in loops:
        loop.start()
    for _ in loops:
        asking.acquire()
    backend.answers.set()
    for loop in loops:
        loop.join()
    assert found == [FIRST] * 4
    assert backend.calls == 1


@pytest.mark.parametrize(
    ("base_url", "origin", "trusted"),
    [
        ("https://api.cmzon.com", ("https", "api.cmzon.com", None), True),
        ("https://api.cmzon.com", ("HTTPS", "API.CMZON.COM", 443), True),
        ("https://api.cmzon.com:443/", ("https", "api.cmzon.com", None), True),
        ("https://API.cmzon.com", ("https", "api.cmzon.com", None), True),
        ("http://[::1]:8080", ("http", "::1", 8080), True),
        ("http://localhost", ("http", "localhost", 80), True),
        ("https://api.cmzon.com", ("http", "api.cmzon.com", None), False),
        ("https://api.cmzon.com", ("http", "api.cmzon.com", 443), False),
        ("https://api.cmzon.com", ("https", "api.cmzon.com", 8443), False),
        ("https://api.cmzon.com", ("https", "api.cmzon.com.", None), False),
        ("https://api.cmzon.com", ("https", "cmzon.com", None), False),
        ("https://api.cmzon.com:8443", ("https", "api.cmzon.com", None), False),
        ("http://localhost", ("http", "127.0.0.1", 80), False),
    ],
)
def test_an_origin_is_scheme_host_and_port(backend, base_url, origin, trusted):
    assert Authorizer(backend, base_url=base_url).trusts(*origin) is trusted


def test_a_header_that_is_printed_is_masked_and_one_that_is_sent_is_not():
    header = Bearer.of(FIRST)
    assert header == f"{header}" == "Bearer cmz_first_value"
    assert header.encode() == b"Bearer cmz_first_value"
    assert "cmz_first_value" not in f"{header!r} { {'Authorization': header} }"
