"""What the outbox costs: messages put in durably, beside a bare insert; and how fast it is drained.

    python benchmarks/outbox.py [SECONDS]      default: 10, of each way of draining

"Bare" is a table with a number, a text and a unique key, in a SQLite file of the same durability
(write-ahead log, one fsync a commit), filled with nothing checked. The two take turns, so that a
disk that others use is slow for both. The outbox also keeps indexes of what is next, for whom, and
looks whether an earlier message to the same number is open.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

from serving import Server, busiest_second, serving

from cmzon_secrets import AsyncClient, Client, RateLimits
from cmzon_secrets.client.outbox import Outbox, Summary

SECONDS = 10.0
BATCH, SINGLE, ROUNDS = 10_000, 300, 7
LEAST_IN_BATCHES, LEAST_ONE_BY_ONE = 20_000, 2_000
LEAST_RATE, MOST_IN_A_SECOND = 77.0, 80
BACKLOG = 20_000

Put = Callable[[Sequence[tuple[str, str]]], object]


def messages(count: int) -> list[tuple[str, str]]:
    """A number each, and a text."""
    return [(f"+1202{n:07}", f"Your parcel {n} is on its way.") for n in range(count)]


class Bare:
    """The least that any program could do."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute("CREATE TABLE messages (key TEXT NOT NULL UNIQUE, recipient, text)")

    def put_many(self, batch: Sequence[tuple[str, str]]) -> None:
        self._db.execute("BEGIN IMMEDIATE")
        rows = [(str(uuid.uuid4()), to, text) for to, text in batch]
        self._db.executemany("INSERT INTO messages VALUES (?, ?, ?)", rows)
        self._db.execute("COMMIT")

    def put(self, to: str, text: str) -> None:
        self._db.execute("INSERT INTO messages VALUES (?, ?, ?)", (str(uuid.uuid4()), to, text))


def one_by_one(put: Callable[[str, str], object]) -> Put:
    def put_each(batch: Sequence[tuple[str, str]]) -> None:
        for to, text in batch:
            put(to, text)

    return put_each


def compared(name: str, ours: Put, bare: Put, count: int, least: int) -> bool:
    """Print both rates; whether ours is enough."""
    batch, rates = messages(count), {"ours": [], "bare": []}
    for _ in range(ROUNDS):
        for who, put in (("ours", ours), ("bare", bare)):
            began = time.perf_counter()
            put(batch)
            rates[who].append(count / (time.perf_counter() - began))
    mine, theirs = (statistics.median(rates[who]) for who in ("ours", "bare"))
    print(
        f"{name:24}  outbox {mine:9,.0f}/s   bare {theirs:9,.0f}/s   {theirs / mine:4.1f} times its time"
        f"   best {max(rates['ours']):9,.0f}/s   at least {least:,}"
    )
    return max(rates["ours"]) >= least


def report_putting(folder: Path) -> list[str]:
    bare, missed = Bare(folder / "bare.db"), []
    with Outbox(folder / "outbox.db") as outbox:
        if not compared(
            f"in batches of {BATCH:,}", outbox.put_many, bare.put_many, BATCH, LEAST_IN_BATCHES
        ):
            missed.append("putting in batches")
        ours, theirs = one_by_one(outbox.put), one_by_one(bare.put)
        if not compared("one by one", ours, theirs, SINGLE, LEAST_ONE_BY_ONE):
            missed.append("putting in one by one")
    return missed


def by_threads(server: Server, path: Path, limits: RateLimits, seconds: float) -> Summary:
    with Client("env:CMZON_API_TOKEN", base_url=server.base_url, limits=limits) as client:
        end = time.monotonic() + seconds
        return client.outbox(path).run(until_empty=True, stop=lambda: time.monotonic() > end)


def by_tasks(server: Server, path: Path, limits: RateLimits, seconds: float) -> Summary:
    async def main() -> Summary:
        async with AsyncClient(
            "env:CMZON_API_TOKEN", base_url=server.base_url, limits=limits
        ) as client:
            end = time.monotonic() + seconds
            outbox = client.outbox(path)
            return await outbox.run(until_empty=True, stop=lambda: time.monotonic() > end)

    return asyncio.run(main())


def drained(name: str, server: Server, run: Callable[[], Summary]) -> tuple[float, int]:
    """Print what arrived; the rate, and the most within a second."""
    server.arrivals()
    before = time.process_time()
    sent = run().sent
    spent = time.process_time() - before
    arrivals = server.arrivals()
    rate = (len(arrivals) - 1) / (arrivals[-1] - arrivals[0])
    busiest = busiest_second(arrivals)
    print(
        f"{name:24}  {rate:6.1f}/s   {busiest:4d} in the busiest second"
        f"   {spent / sent * 1e6:5.0f} µs CPU a message"
    )
    return rate, busiest


def report_draining(folder: Path, seconds: float) -> list[str]:
    missed = []
    with serving() as server:
        for name, way in (("threads", by_threads), ("tasks", by_tasks)):
            for limits in (RateLimits(), RateLimits.unlimited()):
                path = folder / f"{name}-{limits.per_second}.db"
                with Outbox(path) as outbox:
                    outbox.put_many(messages(BACKLOG))
                limited = limits.per_second is not None
                title = f"{name}, {'80 a second' if limited else 'no limit'}"
                rate, busiest = drained(
                    title,
                    server,
                    lambda way=way, p=path, kept=limits: way(server, p, kept, seconds),
                )
                if limited and not (rate >= LEAST_RATE and busiest <= MOST_IN_A_SECOND):
                    missed.append(title)
    return missed


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else SECONDS
    os.environ["CMZON_API_TOKEN"] = "cmz_benchmark"
    with tempfile.TemporaryDirectory() as name:
        missed = report_putting(Path(name))
        print(
            f"draining {BACKLOG:,} messages for {seconds:g} s   at least {LEAST_RATE}/s, at most 80"
        )
        missed += report_draining(Path(name), seconds)
    if missed:
        raise SystemExit(f"out of bounds: {', '.join(missed)}")


if __name__ == "__main__":
    main()
