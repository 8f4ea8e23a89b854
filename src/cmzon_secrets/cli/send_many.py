"""``send --from-file``: a file of messages is checked, queued in an outbox, and sent from there."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Self

from cmzon_secrets.cli.clients import existing_outbox, opened_client, usual_limits_state
from cmzon_secrets.cli.failures import UsageFailure, repeatable
from cmzon_secrets.cli.interrupts import interrupt_on
from cmzon_secrets.cli.message_files import Format, format_of, read_messages
from cmzon_secrets.cli.output import note
from cmzon_secrets.cli.sending import Sending, Stop, shown_progress
from cmzon_secrets.cli.staging import Queued, Staged
from cmzon_secrets.errors import CMzonSecretsError, ConfigurationError

if TYPE_CHECKING:
    from cmzon_secrets.cli.targets import Target
    from cmzon_secrets.client.outbox import Outbox

__all__ = ["send_many"]

STANDARD_INPUT = "-"
PUT_AT_ONCE = 20_000
"""Messages, which need some 20 MB; a smaller file is put in as a whole or not at all."""


def send_many(
    path: str | None, target: Target, options: Mapping[str, Any], *, as_json: bool
) -> int:
    """Send the messages of a file, and what else waits in the outbox; returns the exit code.

    ``path`` None: only what waits there. Raises UsageFailure, ConfigurationError or what the outbox
    raises, before anything is sent.
    """
    source = _Source.of(path, options["format"]) if path is not None else None
    sending = Sending(target.account, _outbox_path(source, options["outbox"]))
    interrupt_on(signal.SIGTERM, signal.SIGHUP)
    try:
        if source is None or _queued(sending, source, options):
            _send(sending, target, options)
    except KeyboardInterrupt as interrupt:
        sending.stopped_by = next(iter(interrupt.args), signal.SIGINT)
    return sending.tell(as_json=as_json)


@dataclass(frozen=True, slots=True)
class _Source:
    """Where messages are read from; ``name`` is how errors call it."""

    path: str
    format: Format

    @classmethod
    def of(cls, path: str, given: Format | None) -> Self:
        """Raises UsageFailure for a folder, and where neither the name nor ``given`` says the format."""
        if Path(path).is_dir():
            raise UsageFailure(f"{path} is a folder", hint="name the file of messages in it")
        found = given or format_of(path)
        if found is None:
            raise UsageFailure(
                "the file's name does not say its format",
                hint="give --format csv or --format jsonl",
            )
        return cls(path, found)

    @property
    def name(self) -> str:
        return "standard input" if self.path == STANDARD_INPUT else self.path

    @property
    def is_stream(self) -> bool:
        """Whether it is gone once it is read: standard input, or a pipe."""
        return self.path == STANDARD_INPUT or (
            Path(self.path).exists() and not Path(self.path).is_file()
        )

    @contextmanager
    def opened(self) -> Iterator[BinaryIO]:
        """Raises ConfigurationError where it cannot be read."""
        if self.path == STANDARD_INPUT:
            yield sys.stdin.buffer
            return
        try:
            file = Path(self.path).open("rb")  # noqa: SIM115  # closed below
        except OSError as error:
            why = (error.strerror or "unreadable").lower()
            raise ConfigurationError(f"{self.name} — {why}") from error
        with file:
            yield file


def _outbox_path(source: _Source | None, given: str | None) -> str:
    if source is None:
        return existing_outbox(given or "")
    if given is not None:
        return given
    if source.is_stream:
        raise UsageFailure(
            f"{source.name} is no file beside which an outbox could be",
            hint="give --outbox PATH; the same PATH goes on where an interrupted run stopped",
        )
    return f"{source.path}.outbox"


def _queued(sending: Sending, source: _Source, options: Mapping[str, Any]) -> bool:
    """Put the file's messages into the outbox; False, and nothing put, where lines are bad."""
    from cmzon_secrets.client.outbox import Outbox

    with Staged() as staged:
        with source.opened() as file:
            staged.add(read_messages(file, source.format, name=source.name))
        sending.lines, sending.skipped = staged.lines, tuple(staged.faults())
        for fault in sending.skipped:
            note(repeatable(f"{source.name}:{fault}"))
        if sending.skipped and not options["skip_bad"]:
            sending.error = _bad_lines(source.name, len(sending.skipped), staged.lines)
            return False
        with Outbox(sending.outbox) as outbox:
            messages = staged.messages(salt=bytes.fromhex(outbox.id))
            sending.queued = _put(outbox, messages, priority=options["priority"])
    sending.repeated = sending.lines - len(sending.skipped) - sending.queued
    sending.doubled = staged.repeated
    return True


def _put(outbox: Outbox, messages: Iterator[Queued], *, priority: int) -> int:
    """Those that were new."""
    return sum(outbox.put_many(some, priority=priority) for some in _batches(messages))


def _batches(messages: Iterator[Queued]) -> Iterator[Iterable[Queued]]:
    while some := list(islice(messages, PUT_AT_ONCE)):
        yield some


def _bad_lines(name: str, bad: int, lines: int) -> ConfigurationError:
    return ConfigurationError(
        f"{name} — {bad:,} of {lines:,} lines cannot be sent, and nothing was queued or sent",
        hint="mend them, or add --skip-bad to send the others",
    )


def _send(sending: Sending, target: Target, options: Mapping[str, Any]) -> None:
    """Send what waits in the outbox, from earlier runs too. What stops it is kept in ``sending``."""
    from cmzon_secrets.client.outbox import Outbox

    stop = Stop()
    with Outbox(sending.outbox) as outbox:
        sending.begin(outbox.status())
        try:
            if sending.before["pending"]:
                _run(sending, target, options, stop)
        except CMzonSecretsError as error:
            sending.error = error
        finally:
            sending.after = outbox.status()
            sending.stopped_by = stop.by


def _run(sending: Sending, target: Target, options: Mapping[str, Any], stop: Stop) -> None:
    state = options["limits_state"] or usual_limits_state(target, options)
    with (
        opened_client(target, options, limits_state=state) as client,
        # Kept for ever: a file that is run again in a month must not be sent again.
        client.outbox(sending.outbox, keep=None) as outbox,
        stop,
        shown_progress(sending.before) as show,
    ):
        outbox.run(until_empty=True, stop=stop, progress=show)
