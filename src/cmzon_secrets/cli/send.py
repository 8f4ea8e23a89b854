"""``cmzon-secrets send``: one message, or every message of a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from cmzon_secrets.cli.clients import opened_client
from cmzon_secrets.cli.failures import Mistyped, UsageFailure
from cmzon_secrets.cli.options import account_option, api_options, json_option, uri_argument
from cmzon_secrets.cli.output import print_items, say
from cmzon_secrets.cli.targets import find_target
from cmzon_secrets.errors import APIError, RequestRejected, retold

if TYPE_CHECKING:
    from cmzon_secrets.client import Client, SendResult

__all__ = ["command"]

_OPTIONS = {"to": "--to", "message": "--text"}


@click.command()
@uri_argument
@click.option("--to", metavar="+N", help="Phone number in international form.")
@click.option("--text", metavar="T", help="The message.")
@click.option(
    "--from-file",
    metavar="FILE",
    help="CSV (to,text[,key][,not_before]) or JSON lines; - is standard input.",
)
@click.option(
    "--format",
    type=click.Choice(["csv", "jsonl"]),
    help="Of the file, where its name does not say it.",
)
@click.option(
    "--outbox",
    metavar="PATH",
    help="Where the messages of a file are queued, and remembered (FILE.outbox). Without a file:"
    " send what waits there.",
)
@click.option("--skip-bad", is_flag=True, help="Send the rest where lines of the file are bad.")
@click.option(
    "--priority",
    type=int,
    default=0,
    metavar="N",
    help="Of the file's messages; in an outbox, the higher goes first (0).",
)
@click.option("--new-account", is_flag=True, help="The limits of one: 1,000 messages a day.")
@click.option(
    "--per-second",
    type=click.FloatRange(min=0, min_open=True),
    metavar="N",
    help="Messages a second that CMzon allows this account (80).",
)
@click.option(
    "--per-day", type=click.IntRange(min=1), metavar="N", help="The same for a day (10,000)."
)
@click.option(
    "--limits-state",
    metavar="PATH",
    help="Where the day's messages are counted; with --from-file, default: under $XDG_STATE_HOME.",
)
@click.option(
    "--idempotency",
    type=click.Choice(["send", "trust", "off"]),
    default="send",
    help="Send keys (default); trust the API to honour them, and repeat what may have arrived; or off.",
)
@api_options
@account_option
@json_option
def command(
    *,
    uri: str | None,
    account: str | None,
    to: str | None,
    text: str | None,
    from_file: str | None,
    as_json: bool,
    **options: Any,
) -> int:
    """Send one message, or every message of a file.

    Prints its id and status. A token that was rotated meanwhile is replaced once, unseen.

    With --from-file, the whole file is checked first, then queued in an outbox and sent within the
    limits: nothing is lost or sent twice if it is interrupted or killed, and the same command goes
    on. Exit code 0 all sent, 1 some not, 3 where nobody knows of some: see `cmzon-secrets outbox`.
    """
    if options["new_account"] and options["per_day"] is not None:
        raise UsageFailure("--new-account and --per-day cannot go together")
    if from_file is None:
        _refuse_words_of_a_file(**options)
    if from_file is not None or options["outbox"] is not None:
        _refuse_words_of_one_message(to=to, text=text)
        from cmzon_secrets.cli.send_many import send_many

        return send_many(from_file, find_target(uri, account), options, as_json=as_json)
    if to is None or text is None:
        name = "--to" if to is None else "--text"
        raise click.MissingParameter(param_hint=f"'{name}'", param_type="option")
    target = find_target(uri, account)
    with opened_client(target, options, limits_state=options["limits_state"]) as client:
        result = _sent(client, to, text)
    _tell(result, account=account, as_json=as_json)
    return 0


def _refuse_words_of_one_message(**given: str | None) -> None:
    for name in (name for name, value in given.items() if value is not None):
        raise UsageFailure(
            f"--{name} is for one message: it cannot go with --from-file or --outbox"
        )


def _refuse_words_of_a_file(**given: Any) -> None:
    for name in (name for name in ("format", "skip_bad", "priority") if given[name]):
        raise UsageFailure(
            f"--{name.replace('_', '-')} is for many messages", hint="add --from-file"
        )


def _sent(client: Client, to: str, text: str) -> SendResult:
    try:
        return client.send_message(to, text)
    except RequestRejected as error:
        if error.status is None:  # it never left: the number or the text is at fault
            raise Mistyped(_by_option(error)) from error
        raise
    except APIError as error:
        if error.may_have_been_sent:
            error.hint = "the message may have been sent: check before sending it again"
        raise


def _by_option(error: RequestRejected) -> RequestRejected:
    """The same, of the option that was typed."""
    what, _, why = error.message.partition(" — ")
    return retold(error, f"{_OPTIONS.get(what, what)} — {why}")


def _tell(result: SendResult, *, account: str | None, as_json: bool) -> None:
    if not as_json:
        say(f"{result.status}  {result.id}  to {result.to}")
        return
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
