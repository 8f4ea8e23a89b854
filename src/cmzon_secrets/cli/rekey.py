"""``cmzon-secrets rekey``: a sealed file gets another key."""

from __future__ import annotations

import click

from cmzon_secrets.cli.failures import typed_here
from cmzon_secrets.cli.options import json_option
from cmzon_secrets.cli.output import note, print_items, say
from cmzon_secrets.cli.targets import Target
from cmzon_secrets.errors import ConfigurationError, InvalidURI

__all__ = ["command"]


@click.command()
@click.argument("uri", metavar="URI")
@click.option(
    "--key", required=True, metavar="KEYURI", help="The new key, for example keyfile:PATH."
)
@json_option
def command(uri: str, key: str, as_json: bool) -> None:
    """Seal a file with another key.

    URI opens it with the old key. Its tokens stay; only the new key opens it afterwards. Killed at
    any instant, the file has the old key or the new one. Prints the URI to use from now on.
    """
    from cmzon_secrets.providers.sealed_file import SealedFile
    from cmzon_secrets.registry import open_key

    with Target(uri, typed=True).open_store() as store:
        if not isinstance(store, SealedFile):
            raise ConfigurationError(
                f"{store.uri} — only a sealed file has a key of ours", hint="give a file: URI"
            )
        with typed_here(InvalidURI):
            new_key = open_key(key)
        store.rekey(new_key)
        place = store.uri
    if as_json:
        print_items([{"uri": place}])
        return
    say(place)
    note("sealed with the new key; the old one opens only copies made before")
