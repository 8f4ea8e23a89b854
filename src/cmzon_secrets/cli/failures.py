"""What went wrong, as one line on standard error, a hint, and an exit code."""

from __future__ import annotations

import os
import re
import sys
import traceback
from typing import Any

import click

from cmzon_secrets.cli.output import note, oneline, paint, print_json
from cmzon_secrets.errors import CMzonSecretsError, InvalidURI

__all__ = [
    "FAILED",
    "INTERRUPTED",
    "USAGE",
    "UsageFailure",
    "error_record",
    "explain",
    "report_failure",
]

FAILED, USAGE, INTERRUPTED = 1, 2, 130

DEBUG = "CMZON_SECRETS_DEBUG"
"""Where set, an internal error shows the lines of code it came through: no values, no locals."""

_MAYBE_SECRET = re.compile(r"[A-Za-z0-9\-._~+/=]{20,}", re.ASCII)


class UsageFailure(click.UsageError):
    """A command line that cannot be meant, with the remedy."""

    def __init__(
        self, message: str, *, hint: str | None = None, ctx: click.Context | None = None
    ) -> None:
        super().__init__(message, ctx)
        self.hint = hint


def report_failure(error: Exception, argv: list[str]) -> int:
    """Print ``error`` (with ``--json`` on standard output too) and return the exit code."""
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        note(error.format_message())
        return USAGE
    record, code = _described(error, argv)
    explain(record)
    if "--json" in _own_words(argv):
        print_json({"error": record})
    if os.environ.get(DEBUG):
        note("".join(traceback.format_tb(error.__traceback__)).rstrip())
    return code


def explain(record: dict[str, Any]) -> None:
    """The two lines people see."""
    note(f"{paint('error:', sys.stderr, fg='red', bold=True)} {oneline(record['message'])}")
    if record["hint"]:
        note(f"{paint('hint:', sys.stderr, fg='cyan')} {oneline(record['hint'])}")


def error_record(error: CMzonSecretsError) -> dict[str, Any]:
    """An error as it stands in JSON."""
    return _record(type(error).__name__, error.message, error.hint)


def _described(error: Exception, argv: list[str]) -> tuple[dict[str, Any], int]:
    match error:
        case CMzonSecretsError():
            return error_record(error), USAGE if isinstance(error, InvalidURI) else FAILED
        case click.Abort():
            return _record("Interrupted", _interruption(argv), _resumption(argv)), INTERRUPTED
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
            return _record("InternalError", what, f"set {DEBUG}=1 to see where, and report it"), 1


def _usage(error: click.UsageError, argv: list[str]) -> dict[str, Any]:
    path = error.ctx.command_path if error.ctx is not None else "cmzon-secrets"
    message = error.format_message().rstrip(".")
    if "unexpected extra argument" in message:
        message = "more arguments than it takes (not repeated here: they may be secret)"
    hint = None
    if isinstance(error, UsageFailure):
        hint = error.hint
    else:  # click's own sentences
        message = _without_values(message[:1].lower() + message[1:], argv)
    return _record("UsageError", f"{path} — {message}", hint or f"{path} --help")


def _without_values(message: str, argv: list[str]) -> str:
    """Hide what may be a token that was typed in the wrong place."""
    for word in argv:
        for part in (word, word.partition("=")[2]):
            if _MAYBE_SECRET.fullmatch(part) and not part.startswith("--"):
                message = message.replace(part, "(not shown)")
    return message


def _interruption(argv: list[str]) -> str:
    if argv[:1] == ["revoke"]:
        return "revoke — interrupted, the token may be STILL ALIVE"
    return f"{argv[0] if argv else 'cmzon-secrets'} — interrupted"


def _resumption(argv: list[str]) -> str | None:
    if argv[:1] == ["revoke"]:
        return (
            "look at `cmzon-secrets status`, then repeat with --id and the id of the leaked token"
        )
    if argv[:1] == ["rotate"]:
        return "nothing is lost: the same command goes on where this one stopped"
    return None


def _own_words(argv: list[str]) -> list[str]:
    """What was said to us, not to the program behind ``--``."""
    return argv[: argv.index("--")] if "--" in argv else argv


def _record(kind: str, message: str, hint: str | None) -> dict[str, Any]:
    return {"type": kind, "message": oneline(message), "hint": hint and oneline(hint)}
