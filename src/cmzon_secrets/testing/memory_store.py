"""A store in this process's memory: the stage rules under a lock, and nothing else."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable

from cmzon_secrets import stages
from cmzon_secrets.clock import SYSTEM_CLOCK, Clock
from cmzon_secrets.errors import InvalidToken, TokenNotFound
from cmzon_secrets.provider import TokenStore
from cmzon_secrets.tokens import Token, Versions

__all__ = ["MemoryStore"]


class MemoryStore(TokenStore):
    """A TokenStore for tests, gone with the process. ``reopen`` gives further handles on it."""

    def __init__(self, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self._memory = _Memory()

    def reopen(self, *, clock: Clock | None = None) -> MemoryStore:
        """Another handle on the same memory, as a second process would have one."""
        handle = MemoryStore(clock=clock or self._clock)
        handle._memory = self._memory
        return handle

    @property
    def uri(self) -> str:
        return f"memory:{self._memory.name}"

    @property
    def identity(self) -> str:
        return self.uri

    def get(self) -> Token:
        current = self._memory.load().current
        if current is None:
            raise TokenNotFound(
                f"{self.uri} — no CURRENT token is stored",
                uri=self.uri,
                hint="stage and promote one",
            )
        return current

    def versions(self) -> Versions:
        return self._memory.load()

    def stage(self, token: Token) -> None:
        self._change(lambda held: stages.staged(held, token, uri=self.uri))

    def promote(self, token_id: str, *, replacing: str | None) -> None:
        now = self._clock.now()
        self._change(
            lambda held: stages.promoted(held, token_id, replacing=replacing, now=now, uri=self.uri)
        )

    def discard(self, token_id: str) -> None:
        self._change(lambda held: stages.discarded(held, token_id, uri=self.uri))

    def paste(self, text: str) -> None:
        """What somebody does who pastes text into the backend's own console, whatever it is."""
        try:
            held: Versions | InvalidToken = Versions(current=Token(text))
        except InvalidToken as error:
            held = error
        with self._memory.lock:
            self._memory.save(held)

    def _change(self, rule: Callable[[Versions], Versions]) -> None:
        with self._memory.lock:
            self._memory.save(rule(self._memory.load()))


class _Memory:
    def __init__(self) -> None:
        self.name = uuid.uuid4().hex
        self.lock = threading.Lock()
        self._held: Versions | InvalidToken = Versions()

    def load(self) -> Versions:
        if isinstance(self._held, InvalidToken):
            raise InvalidToken(self._held.message, hint=self._held.hint)
        return self._held

    def save(self, held: Versions | InvalidToken) -> None:
        self._held = held
