"""What is peculiar to HTTPX and HTTPX2: one object for both, and clients that do not block."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import threading

import pytest

from cmzon_secrets import Token
from cmzon_secrets.integrations.httpx_auth import TokenAuth
from unit.client.conftest import ACCEPTED, REFUSED

httpx2 = pytest.importorskip("httpx2", reason="not run: httpx2 (not installed)")
FIRST, SECOND = Token("cmz_first_value", id="tok_1"), Token("cmz_second_value", id="tok_2")


@pytest.fixture
def auth(vault, server):
    return TokenAuth(vault, base_url=server.url)


def test_one_object_serves_clients_of_every_kind(auth, server, vault):
    httpx = pytest.importorskip("httpx", reason="not run: httpx (not installed)")

    async def ask(library):
        async with library.AsyncClient(auth=auth) as client:
            return (await client.get(server.url)).status_code

    statuses = []
    for library in (httpx, httpx2):
        with library.Client(auth=auth) as client:
            statuses += [client.get(server.url).status_code, asyncio.run(ask(library))]
    assert statuses == [200] * 4
    assert vault.calls == 1


def test_tasks_with_the_same_dead_token_cost_one_read(auth, server, vault):
    def turn(request):
        vault.token = SECOND
        return REFUSED if request.token == FIRST.reveal() else ACCEPTED

    server.answer = turn

    async def main():
        async with httpx2.AsyncClient(auth=auth) as client:
            answers = await asyncio.gather(*(client.get(server.url) for _ in range(5)))
        return [answer.status_code for answer in answers]

    assert asyncio.run(main()) == [200] * 5
    assert vault.calls == 2


def test_other_tasks_go_on_while_a_backend_is_slow(backend, server):
    auth = TokenAuth(backend, base_url=server.url)

    async def main():
        async with httpx2.AsyncClient(auth=auth) as client:
            asking = asyncio.create_task(client.get(server.url))
            await backend.was_asked()
            assert not asking.done()
            backend.answers.set()
            return (await asking).status_code

    assert asyncio.run(main()) == 200
    assert threading.get_ident() not in backend.threads


def test_logs_show_no_token(auth, server, caplog):
    for name in ("httpx2", "httpcore2"):
        caplog.set_level(logging.DEBUG, logger=name)
    with httpx2.Client(auth=auth) as client:
        request = client.get(server.url).request
    assert caplog.records
    assert FIRST.reveal() not in f"{caplog.text} {request!r} {request.headers!r}"


WITHOUT = """
import sys
import threading
for name in {missing}: sys.modules[name] = None
from cmzon_secrets.errors import ConfigurationError
try:
    from cmzon_secrets.integrations.httpx_auth import TokenAuth
except ConfigurationError as error:
    print(error.hint)
else:
    print(sorted({{cls.__module__.split(".")[0] for cls in TokenAuth.__mro__}} & {{"httpx", "httpx2"}}))
"""


@pytest.mark.parametrize(
    ("missing", "outcome"),
    [
        (["httpx"], "['httpx2']"),
        (["httpx2"], "['httpx']"),
        (["httpx", "httpx2"], "pip install httpx2"),
    ],
)
def test_either_library_is_enough(missing, outcome):
    pytest.importorskip("httpx", reason="not run: httpx (not installed)")
    script = WITHOUT.format(missing=missing)
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == outcome
