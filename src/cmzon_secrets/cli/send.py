"""``cmzon-secrets send``: one message."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cmzon_secrets.cli.failures import Mistyped
from cmzon_secrets.cli.options import account_option, api_options, json_option, uri_argument
from cmzon_secrets.cli.output import print_items, say
from cmzon_secrets.cli.targets import find_target
from cmzon_secrets.errors import RequestRejected, TransportError

if TYPE_CHECKING:
    from cmzon_secrets.client import Client, SendResult

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
    with (
        target.open_provider() as provider,
        Client(provider, base_url=base_url or target.base_url, ca=ca) as client,
    ):
        result = _sent(client, to, text)
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


def _sent(client: Client, to: str, text: str) -> SendResult:
    try:
        return client.send_message(to, text)
    except RequestRejected as error:
        if error.status is None:  # it never left: the number or the text is at fault
            raise Mistyped(error) from error
        raise
    except TransportError as error:
        if error.may_have_been_sent:
            error.hint = "the message may have been sent: check before sending it again"
        raise
