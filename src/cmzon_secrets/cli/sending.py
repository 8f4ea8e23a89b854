"""A file of messages on its way: what is shown meanwhile, how it is stopped, what is told at the end."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from types import FrameType, TracebackType
from typing import Any, Self

import click

from cmzon_secrets.cli.failures import ATTENTION, FAILED, error_record, explain, hinted, repeatable
from cmzon_secrets.cli.interrupts import BY_SIGNAL
from cmzon_secrets.cli.message_files import Fault
from cmzon_secrets.cli.output import describe_span, note, print_items, say
from cmzon_secrets.cli.reports import summary
from cmzon_secrets.clock import SYSTEM_CLOCK
from cmzon_secrets.errors import CMzonSecretsError

__all__ = ["Counts", "Sending", "Stop", "shown_progress"]

Counts = Mapping[str, int]
"""Messages of an outbox by state, as its ``status()`` has them."""

_NONE: Counts = {"pending": 0, "sent": 0, "unknown": 0, "dead": 0}
_ORDER = ("sent", "unknown", "dead", "left", "skipped")
GO_ON = "the same command goes on where this one stopped"


@dataclass
class Sending:
    """What is known of it so far. ``repeated``: lines that were not new, ``doubled`` of them because an
    earlier line has their key. ``before`` and ``after``: the outbox before it was sent from, and since."""

    account: str | None
    outbox: str
    lines: int = 0
    queued: int = 0
    repeated: int = 0
    doubled: int = 0
    skipped: tuple[Fault, ...] = ()
    before: Counts = field(default_factory=lambda: _NONE)
    after: Counts = field(default_factory=lambda: _NONE)
    error: CMzonSecretsError | None = None
    stopped_by: int | None = None
    since: float = field(default_factory=SYSTEM_CLOCK.monotonic)

    def begin(self, counts: Counts) -> None:
        """Say what is about to be sent: ``outbox m.csv.outbox: 1,998 queued, 2 left from before``."""
        self.before = counts
        told = [f"{self.queued:,} queued"]
        if known := self.repeated - self.doubled:
            told.append(f"{known:,} in it already")
        if self.doubled:
            told.append(f"{self.doubled:,} twice in the file")
        if waiting := counts["pending"] - self.queued:
            told.append(f"{waiting:,} left from before")
        note(repeatable(f"outbox {self.outbox}: {', '.join(told)}"))

    def tell(self, *, as_json: bool) -> int:
        """Print all of it; returns the exit code."""
        counts = self._counts()
        if as_json:
            print_items([self._item(counts)])
        elif self._sent_from and not any(counts.values()):
            say("nothing to send")
        elif self._sent_from:
            took = timedelta(seconds=SYSTEM_CLOCK.monotonic() - self.since)
            say(f"{summary(counts, _ORDER)} in {describe_span(took)}")
        if self.error is not None:
            explain(error_record(self.error))
        self._say_how_to_go_on(counts)
        return self._exit_code(counts)

    @property
    def _sent_from(self) -> bool:
        return self.after is not _NONE

    def _counts(self) -> dict[str, int]:
        """Sent by this run; and of the outbox, whatever still is not."""
        return {
            "sent": self.after["sent"] - self.before["sent"],
            "unknown": self.after["unknown"],
            "dead": self.after["dead"],
            "left": self.after["pending"],
            "skipped": len(self.skipped),
        }

    def _item(self, counts: Mapping[str, int]) -> dict[str, Any]:
        return {
            "account": self.account,
            "outbox": repeatable(self.outbox),
            "lines": self.lines,
            "queued": self.queued,
            "repeated": self.repeated,
            **counts,
            "skipped": [asdict(fault) for fault in self.skipped],
            "error": error_record(self.error) if self.error is not None else None,
        }

    def _say_how_to_go_on(self, counts: Mapping[str, int]) -> None:
        left = f"{counts['left']:,} left"
        if self.stopped_by is not None and not self._sent_from:
            note("interrupted before anything was sent; the same command begins again")
        elif self.stopped_by is not None:
            note(f"interrupted, {left}; nothing is lost: {GO_ON}")
        elif counts["left"] and self.error is not None:
            note(f"{left}: {GO_ON}")
        elif counts["left"]:
            note(f"{left}, which wait for their time: the same command sends them then")
        if counts["unknown"] or counts["dead"]:
            see = f"cmzon-secrets outbox status {shlex.quote(self.outbox)} --list"
            note(hinted(repeatable(f"{see}; then `outbox retry` or `outbox drop`")))

    def _exit_code(self, counts: Mapping[str, int]) -> int:
        if self.stopped_by is not None:
            return BY_SIGNAL + self.stopped_by
        if self.error is not None or counts["dead"] or counts["skipped"]:
            return FAILED
        return ATTENTION if counts["unknown"] else 0


STOPPING = b"\nstopping when the messages under way are answered (again: at once)\n"
ABANDONED = b"\nstopped; the next run finds what was under way to be unknown\n"
_SHOW_CURSOR = b"\x1b[?25h"  # the bar hides it


class Stop:
    """Ctrl-C, SIGTERM and SIGHUP let the messages under way come to their end; a second one does not.

    A context manager; ``by`` is the signal. Those ignored, as nohup does, stay so.
    """

    def __init__(self) -> None:
        self.by: int | None = None
        self._before: dict[int, Any] = {}

    def is_set(self) -> bool:
        """Whether nothing more is to be begun."""
        return self.by is not None

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._asked)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_IGN if self.by is not None else handler)

    def _asked(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002  # signal's own signature
        if self.by is not None:
            _write_at_once((_SHOW_CURSOR if _can_draw() else b"") + ABANDONED)
            os._exit(BY_SIGNAL + number)  # the outbox is made for worse
        self.by = number
        _write_at_once(STOPPING)


@contextmanager
def shown_progress(before: Counts) -> Iterator[Callable[[Counts], None]]:
    """A function to be told of the outbox's counts: it draws a bar, where standard error can show one."""
    if not _can_draw():
        yield lambda _counts: None
        return
    began = SYSTEM_CLOCK.monotonic()

    def described(counts: Counts | None) -> str | None:
        if counts is None:
            return None
        rate = (counts["sent"] - before["sent"]) / max(SYSTEM_CLOCK.monotonic() - began, 1e-3)
        new = {state: counts[state] - before[state] for state in ("unknown", "dead")}
        return ", ".join([f"{rate:.0f}/s", *(f"{n:,} {state}" for state, n in new.items() if n)])

    with click.progressbar(
        length=before["pending"],
        label="sending",
        file=sys.stderr,
        show_pos=True,
        item_show_func=described,
    ) as bar:
        yield lambda counts: bar.update(before["pending"] - counts["pending"] - bar.pos, counts)


def _write_at_once(text: bytes) -> None:
    """Past the buffer of standard error: a signal may come in the midst of a write to it."""
    with suppress(OSError):
        os.write(sys.stderr.fileno(), text)


def _can_draw() -> bool:
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
