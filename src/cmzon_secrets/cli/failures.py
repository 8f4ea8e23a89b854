"""What went wrong, as one line on standard error, a hint, and an exit code: all of them stand here."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import timedelta
from typing import Any

import click

from cmzon_secrets.cli.interrupts import BY_SIGNAL
from cmzon_secrets.cli.output import (
    describe_moment,
    describe_span,
    note,
    oneline,
    paint,
    print_json,
)
from cmzon_secrets.clock import SYSTEM_CLOCK
from cmzon_secrets.errors import CMzonSecretsError, ProviderError, RateLimited
from cmzon_secrets.typed import without_secrets

__all__ = [
    "ATTENTION",
    "FAILED",
    "NOT_EXECUTABLE",
    "NOT_FOUND",
    "TYPED",
    "Mistyped",
    "NotBegun",
    "UsageFailure",
    "error_record",
    "exit_code",
    "explain",
    "hinted",
    "repeatable",
    "report_failure",
    "typed_here",
]

FAILED, USAGE, ATTENTION = 1, 2, 3
NOT_EXECUTABLE, NOT_FOUND = 126, 127
"""As in POSIX shells, for a program that cannot be started."""

DEBUG = "CMZON_SECRETS_DEBUG"
"""Where set, an internal error shows the lines of code it came through: no values, no locals."""

TYPED: ContextVar[list[str]] = ContextVar("TYPED")
"""The words of this command line: what of them may be a secret stays out of every error."""


def exit_code(states: Collection[str]) -> int:
    """What the states of one or many rotations come to."""
    return FAILED if "failed" in states else ATTENTION if "attention" in states else 0


class UsageFailure(click.UsageError):
    """A command line that cannot be meant, with the remedy."""

    def __init__(
        self, message: str, *, hint: str | None = None, ctx: click.Context | None = None
    ) -> None:
        super().__init__(message, ctx)
        self.hint = hint


class NotBegun(click.Abort):
    """Interrupted at a question, before anything was done."""


class Mistyped(Exception):
    """An error of ours whose cause stands on this command line."""

    def __init__(self, error: CMzonSecretsError) -> None:
        super().__init__(str(error))
        self.error = error


@contextmanager
def typed_here(kind: type[CMzonSecretsError], *, when: bool = True) -> Iterator[None]:
    """What of this ``kind`` is raised within lies in what was typed, so it is a usage error."""
    try:
        yield
    except kind as error:
        if not when:
            raise
        raise Mistyped(error) from error


def report_failure(error: Exception, argv: list[str]) -> int:
    """Print ``error`` (with ``--json`` on standard output too) and return the exit code."""
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        note(error.format_message())
        return USAGE
    record, code = _described(error, argv)
    explain(record)
    if "--json" in _own_words(argv):
        with suppress(OSError):  # the very stream that failed may be this one
            print_json({"error": record})
    if os.environ.get(DEBUG):
        note("".join(traceback.format_tb(error.__traceback__)).rstrip())
    return code


def explain(record: dict[str, Any]) -> None:
    """The two lines people see."""
    note(f"{paint('error:', sys.stderr, fg='red', bold=True)} {record['message']}")
    if record["hint"]:
        note(hinted(record["hint"]))


def hinted(remedy: str) -> str:
    """The line of a remedy."""
    return f"{paint('hint:', sys.stderr, fg='cyan')} {remedy}"


def error_record(error: CMzonSecretsError) -> dict[str, Any]:
    """An error as it stands in JSON, with the facts it carries."""
    names = ("status", "request_id", "retry_after", "may_have_been_sent")
    facts = {name: getattr(error, name, None) for name in names}
    return {
        **_record(type(error).__name__, str(error) + _missing_package(error), _remedy(error)),
        **{name: fact for name, fact in facts.items() if fact is not None},
    }


def repeatable(text: str) -> str:
    """``text`` as one line, without what was typed here and may be a secret."""
    ours = (value for name, value in os.environ.items() if name.startswith("CMZON_"))
    return without_secrets(oneline(text), [*_but_ids(TYPED.get([])), *ours])


def _but_ids(argv: list[str]) -> Iterator[str]:
    """``--id`` is checked by its command, and whoever repeats an emergency needs to see it."""
    for before, word in zip(["", *argv], argv, strict=False):
        if before != "--id" and not word.startswith("--id="):
            yield word


def _remedy(error: CMzonSecretsError) -> str | None:
    if isinstance(error, RateLimited) and error.retry_after is not None:
        wait = timedelta(seconds=error.retry_after)
        if wait >= timedelta(hours=1):
            now = SYSTEM_CLOCK.now()
            return f"the API asks to wait until {describe_moment(now + wait, now)}"
        return f"the API asks to wait {describe_span(wait)} before the next try"
    if error.hint is not None and isinstance(error, ProviderError):
        return error.hint.replace("CMZON_TOKEN_URI", _where_named(error.uri))
    return error.hint


def _where_named(uri: str) -> str:
    """Where the user said that a token is at ``uri``."""
    if uri in TYPED.get([]):
        return "this command line"
    names = (n for n in ("CMZON_TOKEN_URI", "CMZON_ADMIN_URI") if os.environ.get(n) == uri)
    return next(names, "cmzon-secrets.toml")


def _missing_package(error: CMzonSecretsError) -> str:
    cause = error.__cause__
    return f": {cause.name}" if isinstance(cause, ModuleNotFoundError) else ""


def _described(error: Exception, argv: list[str]) -> tuple[dict[str, Any], int]:
    match error:
        case Mistyped():
            return error_record(error.error), USAGE
        case CMzonSecretsError():
            return error_record(error), FAILED
        case click.Abort():
            begun = not isinstance(error, NotBegun)
            what, how_on = _interruption(argv, begun), _resumption(argv) if begun else None
            return _record("Interrupted", what, how_on), BY_SIGNAL + _signal_behind(error)
        case click.UsageError():
            return _usage(error, argv), error.exit_code
        case click.ClickException():
            return _record(type(error).__name__, error.format_message(), None), error.exit_code
        case OSError():
            why = error.strerror or type(error).__name__
            return _record("OSError", f"the operating system refused — {why.lower()}", None), FAILED
        case _:
            # Only the type: the text of an unforeseen error may quote anything.
            what = f"internal — an unexpected {type(error).__name__}"
            hint = f"set {DEBUG}=1 to see where, and report it"
            return _record("InternalError", what, hint), FAILED


def _signal_behind(error: click.Abort) -> int:
    numbers = (a for a in getattr(error.__cause__, "args", ()) if isinstance(a, int))
    return next(numbers, signal.SIGINT)


def _usage(error: click.UsageError, argv: list[str]) -> dict[str, Any]:
    command = " ".join(["cmzon-secrets", *(word for word in argv[:1] if word[:1] != "-")])
    path = error.ctx.command_path if error.ctx is not None else command
    message = error.format_message().rstrip(".")
    hint = error.hint if isinstance(error, UsageFailure) else None
    if "unexpected extra argument" in message:
        message = "more arguments than it takes (not repeated here: they may be secret)"
    if isinstance(error, click.NoSuchOption) and _asks_for_secret(error.option_name):
        message = f"no such option '{error.option_name}'"
        hint = (
            "no option takes a secret: `put` asks for it, or give --from-file, --from-env or a pipe"
        )
    elif isinstance(error, click.NoSuchOption) and path == "cmzon-secrets run":
        hint = "an option of the program itself stands behind --: cmzon-secrets run URI -- CMD…"
    if not isinstance(error, UsageFailure):
        message = message[:1].lower() + message[1:]  # click's own sentences
    return _record("UsageError", f"{path} — {message}", hint or f"{path} --help")


def _asks_for_secret(option: str) -> bool:
    return any(word in option.lower() for word in ("token", "secret", "pass", "value"))


def _interruption(argv: list[str], begun: bool) -> str:
    command = argv[0] if argv else "cmzon-secrets"
    if not begun:
        return f"{command} — interrupted, nothing was changed"
    consequences = {
        "revoke": ", the token may be STILL ALIVE",
        "send": ", the message may have been sent",
    }
    return f"{command} — interrupted{consequences.get(command, '')}"


def _resumption(argv: list[str]) -> str | None:
    return {
        "revoke": "look at `cmzon-secrets status`, then repeat with --id and the id of the leaked token",
        "rotate": "nothing is lost: the same command goes on where this one stopped",
        "send": "check before sending it again",
    }.get(argv[0] if argv else "")


def _own_words(argv: list[str]) -> list[str]:
    """What was said to us, not to the program behind ``--``."""
    return argv[: argv.index("--")] if "--" in argv else argv


def _record(kind: str, message: str, hint: str | None) -> dict[str, Any]:
    return {"type": kind, "message": repeatable(message), "hint": hint and repeatable(hint)}
