"""What a cached token costs, against a clock read and against other caches.

Every figure is the best of several rounds in this process: other work on the machine makes a round
slower, never faster. The other caches hold the same token.
"""

from __future__ import annotations

import threading
import time
import timeit
from collections.abc import Callable

from cmzon_secrets import Token, TokenCache, TokenProvider

CALLS, ROUNDS = 100_000, 9
LIMIT = 0.3
"""Microseconds for a cached read where time.monotonic() takes CLOCK_COST."""
CLOCK_COST = 0.05
THREADS = 1000


class Backend(TokenProvider):
    """Takes half a second, as a slow secret manager does."""

    uri = "benchmark:"

    def __init__(self, delay: float) -> None:
        self.calls = 0
        self._delay = delay

    def get(self) -> Token:
        self.calls += 1
        time.sleep(self._delay)
        return Token("cmz_benchmark")


def microseconds(call: Callable[[], object]) -> float:
    return min(timeit.repeat(call, number=CALLS, repeat=ROUNDS)) / CALLS * 1e6


def cachetools_with_lock() -> Callable[[], object] | str:
    try:
        from cachetools import TTLCache
    except ModuleNotFoundError:
        return "cachetools is not installed"
    cache: TTLCache[str, Token] = TTLCache(maxsize=1, ttl=3600)
    cache["token"] = Token("cmz_benchmark")
    lock = threading.Lock()

    def get() -> Token:
        with lock:
            return cache["token"]

    return get


def aws_caching_client() -> Callable[[], object] | str:
    try:
        from aws_secretsmanager_caching import SecretCache
    except ModuleNotFoundError:
        return "aws-secretsmanager-caching is not installed"
    cache = SecretCache(client=SecretsManager())
    return lambda: cache.get_secret_string("token")


class SecretsManager:
    """The two calls the AWS caching client makes, answered from memory."""

    def describe_secret(self, **_: object) -> dict[str, object]:
        return {"VersionIdsToStages": {"v1": ["AWSCURRENT"]}}

    def get_secret_value(self, **_: object) -> dict[str, object]:
        return {"SecretString": "cmz_benchmark", "VersionId": "v1"}


def calls_of_a_cold_start() -> int:
    backend = Backend(0.5)
    barrier = threading.Barrier(THREADS)
    with TokenCache(backend) as cache:

        def read() -> None:
            barrier.wait()
            cache.get()

        threads = [threading.Thread(target=read) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return backend.calls


def main() -> None:
    with TokenCache(Backend(0)) as cache:
        cache.get()
        clock, ours = microseconds(time.monotonic), microseconds(cache.get)
    budget = LIMIT * max(1.0, clock / CLOCK_COST)
    print(f"time.monotonic()                        {clock:8.3f} µs")
    print(f"TokenCache.get(), cached                {ours:8.3f} µs   budget {budget:.3f}")
    for name, other in (
        ("cachetools.TTLCache + lock", cachetools_with_lock()),
        ("aws-secretsmanager-caching", aws_caching_client()),
    ):
        if isinstance(other, str):
            print(f"{name:38}  not run: {other}")
            continue
        cost = microseconds(other)
        print(f"{name:38}  {cost:8.3f} µs   {cost / ours:.1f} times ours")
    calls = calls_of_a_cold_start()
    print(f"{THREADS} threads, cold cache: backend calls  {calls:3d}         must be 1")
    if calls != 1 or ours > budget:
        raise SystemExit("token cache: a figure is out of bounds")


if __name__ == "__main__":
    main()
