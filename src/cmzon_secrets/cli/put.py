"""``cmzon-secrets put``: a token made in the dashboard becomes CURRENT."""

from __future__ import annotations

import click

from cmzon_secrets.cli.options import account_option, json_option, uri_argument
from cmzon_secrets.cli.output import masked, note, print_items, say, token_facts
from cmzon_secrets.cli.placing import Placed, place
from cmzon_secrets.cli.targets import find_target
from cmzon_secrets.cli.typed_token import read_token

__all__ = ["command", "report"]


@click.command()
@uri_argument
@click.option("--from-file", metavar="FILE", help="Read the token from a file.")
@click.option("--from-env", metavar="NAME", help="Read the token from an environment variable.")
@click.option(
    "--create",
    is_flag=True,
    help="Make a secret that is missing in a cloud; a sealed file is made in any case.",
)
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
    from cmzon_secrets.registry import open_store

    with open_store(find_target(uri, account).uri) as store:
        store.versions()  # a wrong key or path is told before anybody pastes a token
        token = read_token(from_file=from_file, from_env=from_env)
        make = getattr(store, "create", None) if create else None
        if make is not None:
            make()
        placed = place(store, token, discard=discard_previous)
        report(placed, store.uri, account=account, as_json=as_json)


def report(placed: Placed, uri: str, *, account: str | None, as_json: bool) -> None:
    """Tell what became of the token, and of those it pushed aside."""
    if as_json:
        print_items([_record(placed, uri, account)])
        return
    token = placed.token
    if not placed.changed:
        say(f"unchanged: {masked(token)} is CURRENT already in {uri}")
        return
    say(f"stored {masked(token)} as CURRENT in {uri}")
    if placed.replaced is not None:
        note(
            f"{placed.replaced.id} is PREVIOUS now: it stays valid until it is revoked "
            "(`cmzon-secrets rotate`, or in the dashboard)"
        )
    for forgotten in placed.forgotten:
        note(f"{forgotten.id} is forgotten but not revoked: revoke it in the dashboard")


def _record(placed: Placed, uri: str, account: str | None) -> dict[str, object]:
    return {
        "account": account,
        "uri": uri,
        "changed": placed.changed,
        "replaced": placed.replaced.id if placed.replaced is not None else None,
        "forgotten": [token.id for token in placed.forgotten],
        **token_facts(placed.token),
    }
