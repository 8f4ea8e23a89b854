"""``cmzon-secrets get``: what is known of the current token."""

from __future__ import annotations

from datetime import datetime

import click

from cmzon_secrets.cli.options import account_option, json_option, uri_argument
from cmzon_secrets.cli.output import (
    describe_moment,
    masked,
    print_items,
    print_pairs,
    say,
    token_facts,
)
from cmzon_secrets.cli.targets import answering, find_target
from cmzon_secrets.clock import SYSTEM_CLOCK
from cmzon_secrets.tokens import Token

__all__ = ["command"]


@click.command()
@uri_argument
@click.option("--reveal", is_flag=True, help="Print the value: alone, or within --json as `token`.")
@account_option
@json_option
def command(uri: str | None, reveal: bool, account: str | None, as_json: bool) -> None:
    """Show a token's metadata; its value only with --reveal.

    Reads the place now, without a cache. The fingerprint is the beginning of the value's SHA-256:
    two people can compare their tokens without showing them.
    """
    with find_target(uri, account).open_provider() as provider:
        token = provider.get()
        place = answering(provider).uri
    if as_json:
        value = {"token": token.reveal()} if reveal else {}
        print_items([{"account": account, "uri": place, **token_facts(token), **value}])
    elif reveal:
        say(token.reveal())
    else:
        print_pairs(_facts(token, place, SYSTEM_CLOCK.now()))


def _facts(token: Token, place: str, now: datetime) -> list[tuple[str, str]]:
    issued, expires = token.issued_at, token.expires_at
    return [
        ("token", masked(token)),
        ("id", token.id),
        ("scopes", ", ".join(token.scopes) or "not recorded"),
        ("issued", describe_moment(issued, now) if issued else "not recorded"),
        ("expires", describe_moment(expires, now) if expires else "no expiry recorded"),
        ("allowed IPs", ", ".join(token.allowed_ips) or "no restriction recorded"),
        ("from", place),
    ]
