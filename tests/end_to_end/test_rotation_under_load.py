"""Rotation after rotation while threads and tasks send as fast as they may: nobody notices."""

import asyncio
import threading
import time
from collections import Counter

import pytest

from cmzon_secrets import (
    AsyncClient,
    Client,
    CMzonIssuer,
    RateLimits,
    RotationPolicy,
    Rotator,
    Token,
    TokenCache,
    open_store,
)
from cmzon_secrets.errors import CMzonSecretsError
from cmzon_secrets.sealing_keys.key_file import generate_key_file
from cmzon_secrets.testing import MemoryStore

pytestmark = [pytest.mark.slow, pytest.mark.paced]

SECONDS = 5.0
TO = "+12025550123"
POLICY = RotationPolicy("acme", grace=0.5, reader_ttl=0.25, request_deadline=0.25)


class Load:
    """Threads and tasks that send without a pause; what became of each message."""

    def __init__(self):
        self.sent, self.failures = 0, []
        self._counting = threading.Lock()
        self._over = threading.Event()

    def stop(self):
        self._over.set()

    def thread(self, client):
        while not self._over.is_set():
            try:
                self._count(client.send_message(TO, "from a thread"))
            except CMzonSecretsError as error:
                self.failures.append(error)

    def loop(self, make_client, tasks):
        asyncio.run(self._tasks(make_client, tasks))

    async def _tasks(self, make_client, tasks):
        async with make_client() as client:
            await asyncio.gather(*(self._task(client) for _ in range(tasks)))

    async def _task(self, client):
        while not self._over.is_set():
            try:
                self._count(await client.send_message(TO, "from a task"))
            except CMzonSecretsError as error:
                self.failures.append(error)

    def _count(self, result):
        with self._counting:
            self.sent += 1


def rotate(rotator):
    """One step of a whole rotation: issued and promoted, or the old one revoked."""
    return rotator.run(force=True)


def replace_at_once(rotator):
    """As after a leak: the old token dies without a grace, whoever is sending with it."""
    return rotator.revoke()


@pytest.mark.parametrize(
    ("step", "pause"), [(rotate, 0.05), (replace_at_once, 0.5)], ids=["rotations", "emergencies"]
)
def test_at_full_pace_no_message_is_lost_and_none_is_sent_twice(
    tmp_path, cmzon_emulator, step, pause
):
    base_url, events = cmzon_emulator.base_url, []
    generate_key_file(tmp_path / "the.key")
    uri = f"file:{tmp_path / 'acme.sealed'}?key=keyfile:{tmp_path / 'the.key'}"
    issuer = CMzonIssuer(admin(cmzon_emulator), base_url=base_url)
    limits, load = RateLimits(), Load()
    with open_store(uri) as store, TokenCache(store, ttl=POLICY.reader_ttl) as cache:
        rotator = Rotator(store, issuer, POLICY, subscriber=events.append)
        assert rotator.run().state == "done"
        options = {"base_url": base_url, "limits": limits, "subscriber": events.append}
        with Client(cache, **options) as client:
            threads = [threading.Thread(target=load.thread, args=(client,)) for _ in range(4)]
            make_async = lambda: AsyncClient(cache, **options)  # noqa: E731
            threads.append(threading.Thread(target=load.loop, args=(make_async, 20)))
            for thread in threads:
                thread.start()
            go_on(step, pause, rotator)
            load.stop()
            for thread in threads:
                thread.join(30)
        last = store.get()
    issuer.close()

    told = Counter(event.name for event in events)
    stats = cmzon_emulator.stats()
    assert load.failures == []
    assert load.sent == told["message_sent"] == stats["messages"]
    assert stats["distinct_idempotency_keys"] == stats["messages"]
    assert load.sent > 0.5 * 80 * SECONDS  # judged elsewhere: here only that it was a load
    assert told["token_promoted"] >= 4
    assert stats["tokens"]["revoked"] == told["token_revoked"] >= told["token_promoted"] - 2
    senders = {event.token_id for event in events if event.name == "message_sent"}
    assert last.id in senders
    assert len(senders) >= 4


def go_on(step, pause, rotator):
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        report = step(rotator)
        assert report.state in ("done", "waiting"), report.reason
        time.sleep(pause)


def admin(emulator):
    store = MemoryStore()
    store.stage(Token(emulator.admin_token, id="admin"))
    store.promote("admin", replacing=None)
    return store
