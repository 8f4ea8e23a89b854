"""A process that sends under shared limits, with threads and an event loop, until it is told to stop.

Its one argument is JSON: url, account, base_url, threads, tasks, seconds, and what else
``RateLimits.shared`` takes in ``limits``. It says "ready" once a first slot was granted, sends from
the line "go" on, and ends with what came of it as one line of JSON.
"""

import asyncio
import json
import sys
import threading
import time
from collections import Counter
from contextlib import contextmanager

from cmzon_secrets.client import Client, RateLimits
from cmzon_secrets.client.async_client import AsyncClient
from cmzon_secrets.clock import SYSTEM_CLOCK
from cmzon_secrets.errors import CMzonSecretsError

TO, TEXT = "+4915112345678", "a private word"


class Sender:
    def __init__(self, told):
        self.told = told
        self.events = []
        self.outcomes = Counter()
        self.answered = []  # by a clock that all processes of this machine share
        self.limits = RateLimits.shared(
            told["url"],
            account=told["account"],
            subscriber=lambda event: self.events.append([event.name, time.time()]),
            **told.get("limits", {}),
        )
        self.common = {"base_url": told["base_url"], "limits": self.limits, "deadline": 30}

    async def run(self):
        with Client("env:TOKEN", **self.common) as client:
            async with AsyncClient("env:TOKEN", **self.common) as async_client:
                await asyncio.to_thread(self.wait_until_told)
                senders = [self.by_thread(client) for _ in range(self.told["threads"])]
                senders += [self.by_task(async_client) for _ in range(self.told["tasks"])]
                await asyncio.gather(*senders)
        self.limits.close()

    def wait_until_told(self):
        """Redis grants slots, and the test says that all are there."""
        while self.limits._ask(SYSTEM_CLOCK) is not None or self.limits.degraded:
            time.sleep(0.05)
        print("ready", flush=True)
        sys.stdin.readline()
        self.ends = time.monotonic() + self.told["seconds"]

    async def by_thread(self, client):
        done = asyncio.Event()
        loop = asyncio.get_running_loop()

        def run():
            while self.goes_on():
                with self.outcome():
                    client.send_message(TO, TEXT)
            loop.call_soon_threadsafe(done.set)

        threading.Thread(target=run).start()
        await done.wait()

    async def by_task(self, client):
        while self.goes_on():
            with self.outcome():
                await client.send_message(TO, TEXT)

    def goes_on(self):
        return time.monotonic() < self.ends and not self.outcomes["DailyLimitReached"]

    @contextmanager
    def outcome(self):
        try:
            yield
        except CMzonSecretsError as error:
            self.outcomes[type(error).__name__] += 1
        else:
            self.outcomes["sent"] += 1
            self.answered.append(time.monotonic())


if __name__ == "__main__":
    sender = Sender(json.loads(sys.argv[1]))
    asyncio.run(sender.run())
    told = {name: getattr(sender, name) for name in ("outcomes", "events", "answered")}
    print(json.dumps(told), flush=True)
