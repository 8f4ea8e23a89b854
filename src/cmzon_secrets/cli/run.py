"""``cmzon-secrets run``: a program gets the current token in its environment, and our place."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import click

from cmzon_secrets.cli.failures import NOT_EXECUTABLE, NOT_FOUND, UsageFailure
from cmzon_secrets.cli.options import account_option
from cmzon_secrets.cli.targets import Target, find_target
from cmzon_secrets.errors import InvalidURI, shielded
from cmzon_secrets.uri import split

__all__ = ["command"]

_OURS = ("CMZON_SECRETS_PASSPHRASE", "CMZON_SECRETS_KEY")
_OF_VAULT = [
    prefix + name
    for prefix in ("VAULT_", "BAO_")
    for name in ("TOKEN", "SECRET_ID", "WRAPPED_SECRET_ID")
]
_POINTERS = ("CMZON_SECRETS_KEY", "CMZON_TOKEN_URI", "CMZON_ADMIN_URI")


class _ProgramCommand(click.Command):
    """Everything after ``--`` is the program's; before it stands at most a URI."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ours, program = _split(args)
        ctx.meta["program"] = program
        rest = super().parse_args(ctx, ours)
        if not program and not ctx.resilient_parsing:
            raise UsageFailure("no program is given", hint="cmzon-secrets run URI -- CMD…", ctx=ctx)
        return rest


@click.command(cls=_ProgramCommand, options_metavar="[OPTIONS]", add_help_option=True)
@click.argument("uri", metavar="[URI] -- CMD…", required=False)
@account_option
@click.pass_context
def command(ctx: click.Context, uri: str | None, account: str | None) -> None:
    """Run a program with CMZON_API_TOKEN in its environment.

    The program takes the place of this one: signals and exit codes are its own. It does not get
    what opens the store: CMZON_SECRETS_PASSPHRASE, CMZON_SECRETS_KEY, the variables that the URIs
    in use name (with --account: those of the whole file), and where one leads to Vault, the login
    there (VAULT_TOKEN, VAULT_SECRET_ID, VAULT_WRAPPED_SECRET_ID, BAO_…). It keeps the logins of
    clouds (AWS_…, AZURE_…), which are its own as well, and can read the files that we can. A
    program that is not there is 127, one that cannot be started 126.
    """
    program: list[str] = ctx.meta["program"]
    target = find_target(uri, account)
    _replace_ourselves(_find(program[0]), program, target)


def _split(args: list[str]) -> tuple[list[str], list[str]]:
    at = args.index("--") if "--" in args else len(args)
    return args[:at], args[at + 1 :]


def _find(name: str) -> str:
    """Where the program is; asked before the token is read."""
    path = shutil.which(name)
    if path is None and os.path.sep in name and Path(name).exists():
        raise _CannotStart(f"{name} — it is not executable")
    if path is None:
        raise _NotFound(f"{name} — there is no such program")
    return path


class _CannotStart(click.ClickException):
    exit_code = NOT_EXECUTABLE


class _NotFound(click.ClickException):
    exit_code = NOT_FOUND


@shielded
def _replace_ourselves(path: str, program: list[str], target: Target) -> NoReturn:
    with target.open_provider() as provider:
        environment = {
            **_without_ours(os.environ, target),
            "CMZON_API_TOKEN": provider.get().reveal(),
        }
    sys.stdout.flush()
    sys.stderr.flush()
    # Python ignores these, and what is ignored stays so in the program.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    try:
        os.execve(path, program, environment)  # noqa: S606  # replacing ourselves is the point
    except OSError as error:
        why = (error.strerror or "it cannot be started").lower()
    raise _CannotStart(f"{program[0]} — {why}")


def _without_ours(environment: Mapping[str, str], target: Target) -> dict[str, str]:
    hidden = {*_OURS, *_opening(_uris_of(target)), *_opening(map(environment.get, _POINTERS))}
    return {name: value for name, value in environment.items() if name not in hidden}


def _uris_of(target: Target) -> Iterator[str | None]:
    """Where tokens are: those of the target, and of every account that stands in the same file."""
    yield from (*target.uris, target.admin)
    for account in target.config.accounts.values() if target.config is not None else ():
        yield account.admin
        yield from (account.token,) if isinstance(account.token, str) else account.token


def _opening(uris: Iterable[str | None]) -> Iterator[str]:
    """The variables that open these places: ``env:NAME``, also nested as ``key=env:NAME``, and Vault's."""
    for uri in filter(None, uris):
        with suppress(InvalidURI):
            location = split(uri)
            if location.scheme == "env":
                yield location.path
            if location.scheme.startswith("hashivault"):
                yield from _OF_VAULT
            yield from _opening(location.options.values())
