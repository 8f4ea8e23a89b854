"""``cmzon-secrets put``: a token made in the dashboard becomes CURRENT."""

from __future__ import annotations

import click

from cmzon_secrets.cli.asking import read_token
from cmzon_secrets.cli.options import account_option, create_option, json_option, uri_argument
from cmzon_secrets.cli.placing import place
from cmzon_secrets.cli.reports import placement
from cmzon_secrets.cli.targets import find_target
from cmzon_secrets.rotation.places import require_place

__all__ = ["command"]


@click.command()
@uri_argument
@click.option("--from-file", metavar="FILE", help="Read the token from a file.")
@click.option("--from-env", metavar="NAME", help="Read the token from an environment variable.")
@create_option
@click.option(
    "--discard-previous",
    is_flag=True,
    help="Forget a PENDING or PREVIOUS in the way; neither is revoked.",
)
@account_option
@json_option
def command(
    *,
    uri: str | None,
    from_file: str | None,
    from_env: str | None,
    create: bool,
    discard_previous: bool,
    account: str | None,
    as_json: bool,
) -> None:
    """Store a token made in the dashboard as CURRENT.

    The token is asked for without echo, or read as one line from standard input. What was CURRENT
    becomes PREVIOUS. Refused, with the remedy, while another token is PENDING or PREVIOUS.
    """
    with find_target(uri, account).open_store() as store:
        store.versions()  # a wrong key or path is told before anybody pastes a token
        if not create:
            require_place(store)
        token = read_token(from_file=from_file, from_env=from_env)
        if create:
            require_place(store, create=True)
        placed = place(store, token, discard=discard_previous)
        placement(placed, store.uri, account=account, as_json=as_json)
