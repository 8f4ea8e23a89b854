"""A program whose children put messages into an outbox and send them: real processes, to be killed.

It imports everything once and forks for every job, so that one begins in milliseconds. A job is a
line of JSON on stdin. What happens is told in lines on stdout: ``began PID``, ``put KEY`` once
``put`` returned, ``done PID``. The API's token is in ``CMZON_API_TOKEN``.
"""

import itertools
import json
import os
import signal
import sys
import time

from cmzon_secrets import Client, RateLimits
from cmzon_secrets.client.outbox import Outbox
from cmzon_secrets.http import Session  # noqa: F401  # imported before the forks

RECIPIENTS = 25


def tell(what, fact):
    """One line, whole even among those of others."""
    os.write(1, f"{what} {fact}\n".encode())


def put(path, name):
    """Messages whose text is their key, until killed."""
    with Outbox(path) as outbox:
        for n in itertools.count():
            key = f"{name}-{n:05}"
            outbox.put(f"+1202555{n % RECIPIENTS:04}", key, key=key)
            tell("put", key)
            time.sleep(0.002)


def send(path, base_url, idempotency, *, until_empty=False, workers=8):
    """Send them, as fast as can be."""
    limits = RateLimits.unlimited()
    with Client(
        "env:CMZON_API_TOKEN",
        base_url=base_url,
        limits=limits,
        idempotency=idempotency,
        max_attempts=2,
    ) as client:
        client.outbox(path).run(until_empty=until_empty, workers=workers)


def child(job):
    tell("began", os.getpid())
    {"put": put, "send": send}[job.pop("do")](**job)
    tell("done", os.getpid())


def main():
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nothing remains of who ends
    for line in sys.stdin:
        if os.fork() == 0:
            child(json.loads(line))
            os._exit(0)


if __name__ == "__main__":
    main()
