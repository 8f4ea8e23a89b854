"""``--events``: what a rotation tells step by step, one JSON line per event, in a file or on a stream."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from cmzon_secrets.cli.output import note
from cmzon_secrets.errors import ConfigurationError
from cmzon_secrets.events import Event, Subscriber, as_json

__all__ = ["event_lines"]

STANDARD_ERROR = "-"


@contextmanager
def event_lines(path: str | None) -> Iterator[Subscriber | None]:
    """What appends each event to the file ``path``, which is made 0600; ``-`` is standard error.

    Raises ConfigurationError where it cannot be opened. What cannot be written later is said once
    and stops nothing: a disk that is full must not keep a leaked token alive.
    """
    if path is None or path == STANDARD_ERROR:
        yield None if path is None else _on_standard_error
        return
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigurationError(
            f"{path} — events cannot be written there: {(error.strerror or 'unknown').lower()}",
            hint="--events names a file to append to, or - for standard error",
        ) from error
    lines = _Appending(descriptor, path)
    try:
        yield lines
    finally:
        lines.close()


def _on_standard_error(event: Event) -> None:
    note(as_json(event))


class _Appending:
    """One write for each line, so that those of several processes do not mix."""

    def __init__(self, descriptor: int, path: str) -> None:
        self._descriptor = descriptor
        self._path = path
        self._broken = False
        self._lock = threading.Lock()

    def __call__(self, event: Event) -> None:
        line = f"{as_json(event)}\n".encode()
        with self._lock:
            if self._descriptor < 0:
                return
            try:
                os.write(self._descriptor, line)
            except OSError as error:
                self._say_once(error)

    def close(self) -> None:
        """Nothing is written any more: after Ctrl-C other threads may still tell something."""
        with self._lock:
            os.close(self._descriptor)
            self._descriptor = -1

    def _say_once(self, error: OSError) -> None:
        if not self._broken:
            self._broken = True
            note(f"warning: {self._path} — events are lost: {(error.strerror or '').lower()}")
