"""``send --from-file``: a file of messages is checked, queued in an outbox, and sent from there."""

from __future__ import annotations

import os
import signal
import stat
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from cmzon_secrets.cli.clients import opened_client, usual_limits_state
from cmzon_secrets.cli.failures import (
    ATTENTION,
    FAILED,
    UsageFailure,
    error_record,
    explain,
    hinted,
    repeatable,
)
from cmzon_secrets.cli.interrupts import BY_SIGNAL, interrupt_on
from cmzon_secrets.cli.message_files import Fault, Format, format_of, read_messages
from cmzon_secrets.cli.output import describe_span, note, print_items, say
from cmzon_secrets.cli.progress import shown_progress
from cmzon_secrets.cli.reports import summary
from cmzon_secrets.cli.staging import Staged
from cmzon_secrets.clock import SYSTEM_CLOCK
from cmzon_secrets.errors import CMzonSecretsError, ConfigurationError

if TYPE_CHECKING:
    from cmzon_secrets.cli.targets import Target
    from cmzon_secrets.client.outbox import Outbox

__all__ = ["send_file"]

STANDARD_INPUT = "-"


def send_file(path: str, target: Target, options: Mapping[str, Any], *, as_json: bool) -> int:
    """Send the messages of a file, and tell how it went; returns the exit code.

    Raises UsageFailure, ConfigurationError or what the outbox raises before anything is sent.
    """
    format = _format(path, options["format"])  # noqa: A001  # the option's name
    run = _Run(target.account, _outbox_path(path, options["outbox"]))
    interrupt_on(signal.SIGTERM, signal.SIGHUP)
    try:
        run.queue(path, format, skip_bad=options["skip_bad"])
    except KeyboardInterrupt as interrupt:
        run.stopped_by = next(iter(interrupt.args), signal.SIGINT)
    ...
