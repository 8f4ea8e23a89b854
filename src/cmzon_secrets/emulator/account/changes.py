"""What changed, told to whoever watches: the pages that are open, and who waits for a message.

Only the topic is told, never what happened: a watcher that is slow hears of a thousand messages
once, reads what there is to read, and holds no queue.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["EVERYTHING", "MESSAGES", "REHEARSAL", "TOKENS", "Changes", "Watcher"]

MESSAGES = "messages"
TOKENS = "tokens"
REHEARSAL = "rehearsal"
"""Faults, limits, the clock, snapshots."""
EVERYTHING = (MESSAGES, TOKENS, REHEARSAL)


class Watcher:
    """One who is told. Used in the server's event loop alone."""

    def __init__(self) -> None:
        self._changed: set[str] = set()
        self._woken = asyncio.Event()

    async def changed(self) -> set[str]:
        """Wait for a change; the topics that changed since the last call."""
        await self._woken.wait()
        self._woken.clear()
        changed, self._changed = self._changed, set()
        return changed

    def tell(self, topic: str) -> None:
        """Note a topic."""
        self._changed.add(topic)
        self._woken.set()


class Changes:
    """The watchers of one account."""

    def __init__(self) -> None:
        self._watchers: set[Watcher] = set()
        self._run = secrets.token_hex(4)
        self._told = 0

    @property
    def version(self) -> str:
        """What is another one after every change, and in every run of the emulator."""
        return f"{self._run}.{self._told}"

    @property
    def watchers(self) -> int:
        """How many there are."""
        return len(self._watchers)

    def tell(self, *topics: str) -> None:
        """Tell every watcher."""
        self._told += 1
        for watcher in self._watchers:
            for topic in topics:
                watcher.tell(topic)

    @contextmanager
    def watched(self) -> Iterator[Watcher]:
        """A watcher, told of everything until the block ends."""
        watcher = Watcher()
        self._watchers.add(watcher)
        try:
            yield watcher
        finally:
            self._watchers.discard(watcher)
