"""``cmzon-secrets send``: one message."""

from __future__ import annotations

import click

from cmzon_secrets.cli.options import account_option, api_options, json_option, uri_argument
from cmzon_secrets.cli.output import print_items, say
from cmzon_secrets.cli.targets import find_target

__all__ = ["command"]


@click.command()
@uri_argument
@click.option("--to", required=True, metavar="+N", help="Phone number in international form.")
@click.option("--text", required=True, metavar="T", help="The message.")
@api_options
@account_option
@json_option
def command(
    *,
    uri: str | None,
    to: str,
    text: str,
    base_url: str | None,
    ca: str | None,
    account: str | None,
    as_json: bool,
) -> None:
    """Send one message.

    Prints its id and status. A token that was rotated meanwhile is replaced once, unseen.
    """
    from cmzon_secrets.client import Client

    target = find_target(uri, account)
    with Client(target.uri, base_url=base_url or target.base_url, ca=ca) as client:
        result = client.send_message(to, text)
    if as_json:
        print_items(
            [
                {
                    "account": account,
                    "id": result.id,
                    "status": result.status,
                    "to": result.to,
                    "request_id": result.request_id,
                    "attempts": result.attempts,
                }
            ]
        )
    else:
        say(f"{result.status}  {result.id}  to {result.to}")
