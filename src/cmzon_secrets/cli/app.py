"""The table of commands, and how one command line is run from words to exit code."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Any

import click

from cmzon_secrets import __version__
from cmzon_secrets.cli.failures import TYPED, report_failure
from cmzon_secrets.cli.interrupts import repeat_lost_interrupt

__all__ = ["COMMANDS", "run"]

PROGRAM = "cmzon-secrets"

URI_HELP = (
    "URI says where the token is, for example 'file:token.sealed?key=keyfile:token.key'; default"
    " $CMZON_TOKEN_URI, and --account takes it from the configuration file."
)

COMMANDS = {
    "quickstart": "See it all on this machine: messages flow while the token rotates.",
    "init": "Write what a new account needs: configuration, Terraform, manifests or units.",
    "emulator": "Serve the CMzon API and its dashboard on this machine, for trying and testing.",
    "keygen": "Make a new key file.",
    "put": "Store a token made in the dashboard as CURRENT.",
    "get": "Show a token's metadata; its value only with --reveal.",
    "status": "Show stages, ages, expiry, and when rotation is due.",
    "rotate": "Rotate a token where due, until done or something to wait for.",
    "revoke": "Emergency: kill a token now, replacing it first.",
    "send": "Send one message, or every message of a file.",
    "outbox": "See what became of queued messages; send some again, forget some.",
    "run": "Run a program with CMZON_API_TOKEN in its environment.",
    "doctor": "Check all that can be wrong, and say what mends it.",
    "copy": "Copy the current token from one place to another.",
    "rekey": "Seal a file with another key.",
}
"""Name → one-line help, in the order shown; the module of the same name holds ``command``."""


class _LazyGroup(click.Group):
    """Imports a command's module when it is called, not when it is listed."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click calls it so
        return list(COMMANDS)

    def get_command(
        self,
        ctx: click.Context,  # noqa: ARG002  # click calls it so
        cmd_name: str,
    ) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = import_module(f"cmzon_secrets.cli.{cmd_name}").command
        if not isinstance(command, click.Command):
            return None
        if any(parameter.name == "account" for parameter in command.params):
            command.epilog = URI_HELP
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in COMMANDS and not args[0].startswith("-"):
            raise click.NoSuchCommand(args[0], possibilities=COMMANDS, ctx=ctx)
        return super().resolve_command(ctx, args)

    def format_commands(
        self,
        ctx: click.Context,  # noqa: ARG002  # click calls it so
        formatter: click.HelpFormatter,
    ) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(
    cls=_LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=URI_HELP,
)
@click.version_option(__version__, prog_name=PROGRAM)
def group() -> None:
    """Keep a CMzon API token safe, rotate it while messages flow, and send with it."""


def run(argv: list[str]) -> int:
    """Run one command line; whatever goes wrong becomes one line and an exit code."""
    sys.unraisablehook = repeat_lost_interrupt
    TYPED.set(argv)
    _replace_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # an ASCII terminal shows "?" for a dash, not an error
            stream.reconfigure(errors="replace")
    try:
        code = _call(argv)
    except Exception as error:  # noqa: BLE001  # the last resort: one line, never a traceback
        code = report_failure(error, argv)
    return _flushed(code)


def _replace_closed_streams() -> None:
    """Where a standard stream is closed Python has None; and the next file opened takes its number."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115  # for good


def _call(argv: list[str]) -> int:
    result: Any = group.main(args=argv, prog_name=PROGRAM, standalone_mode=False)
    return result if isinstance(result, int) else 0


def _flushed(code: int) -> int:
    """Write out what is buffered; a reader that has gone away is not worth a word."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return report_failure(error, [])
    return code
