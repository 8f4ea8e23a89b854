"""``cmzon-secrets keygen PATH``: a new key file."""

from __future__ import annotations

import shlex

import click

from cmzon_secrets.cli.failures import UsageFailure
from cmzon_secrets.cli.options import json_option
from cmzon_secrets.cli.output import note, print_items, say
from cmzon_secrets.typed import NOT_SHOWN, may_be_secret

__all__ = ["command"]


@click.command()
@click.argument("path", type=click.Path())
@json_option
def command(path: str, as_json: bool) -> None:
    """Make a new key file.

    32 random bytes as one line of base64, mode 0600. A file that is there is never overwritten.
    Prints the key's URI. Keep a copy where the sealed files are not: without it they are lost.
    """
    from cmzon_secrets.sealing_keys.key_file import KeyFile, generate_key_file

    if "/" not in path and may_be_secret(path):
        raise UsageFailure(
            f"PATH {NOT_SHOWN}", hint="if it is the name of a file, write ./ in front of it"
        )
    generate_key_file(path)
    uri = KeyFile(path).uri
    if as_json:
        print_items([{"uri": uri}])
        return
    say(uri)
    note(f"made {shlex.quote(path)}; use it as key={uri} in a file: URI, or as CMZON_SECRETS_KEY")
