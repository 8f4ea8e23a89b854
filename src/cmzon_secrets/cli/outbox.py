"""``cmzon-secrets outbox``: what became of queued messages, and what a person decides about them."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from cmzon_secrets.cli.asking import agreed
from cmzon_secrets.cli.clients import existing_outbox
from cmzon_secrets.cli.failures import ATTENTION, FAILED, UsageFailure, repeatable
from cmzon_secrets.cli.options import json_option
from cmzon_secrets.cli.output import note, print_items, print_pairs, say
from cmzon_secrets.errors import ConfigurationError

if TYPE_CHECKING:
    from cmzon_secrets.client.outbox import Outbox

__all__ = ["command"]


@click.group()
def command() -> None:
    """See what became of queued messages; send some again, forget some.

    An outbox is the file that `send --from-file` or a program of yours queues messages in. Needs
    neither a token nor the API.
    """


path_argument = click.argument("path", metavar="PATH")

selecting = (
    click.option("--key", "keys", multiple=True, metavar="KEY", help="This one; repeatable."),
    click.option("--dead", is_flag=True, help="All that could not be sent."),
    click.option("--unknown", is_flag=True, help="All of which nobody knows whether they were."),
    click.option("--yes", is_flag=True, help="Do not ask."),
)


def _selection(function: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(selecting):
        function = option(function)
    return function


@command.command()
@path_argument
@click.option("--list", "listed", is_flag=True, help="Also each message that is dead or unknown.")
@json_option
def status(*, path: str, listed: bool, as_json: bool) -> int:
    """Count the messages that wait, were sent, are dead, or unknown.

    Dead: it cannot be sent, and was not. Unknown: its answer was lost, so a person has to decide,
    and the exit code is 3. Of numbers, the last three digits are shown; of texts, nothing.
    """
    with _opened(path) as outbox:
        counts = outbox.status()
        messages = [_item(record) for record in _troubled(outbox)] if listed else []
    if as_json:
        print_items(
            [{"outbox": repeatable(path), **counts, **({"messages": messages} if listed else {})}]
        )
    else:
        print_pairs([(state, f"{count:,}") for state, count in counts.items()])
        for message in messages:
            say(_line(message))
    return ATTENTION if counts["unknown"] else 0


@command.command()
@path_argument
@_selection
@json_option
def retry(
    *, path: str, keys: tuple[str, ...], dead: bool, unknown: bool, yes: bool, as_json: bool
) -> int:
    """Let messages that are dead or unknown be sent again.

    They wait in the outbox until the next run. One that is unknown may arrive twice: look first
    whether it did.
    """
    _check_selection(keys, dead=dead, unknown=unknown)
    with _opened(path) as outbox:
        doubtful = _doubtful(outbox, keys, unknown=unknown)
        if doubtful and not yes:
            agreed(
                f"{doubtful:,} of them may arrive twice: nobody knows whether they were sent. Go on?"
            )
        changed = _change(outbox.retry, keys, dead=dead, unknown=unknown)
    return _tell("will be sent by the next run", path, changed, keys, as_json=as_json)


@command.command()
@path_argument
@_selection
@json_option
def drop(
    *, path: str, keys: tuple[str, ...], dead: bool, unknown: bool, yes: bool, as_json: bool
) -> int:
    """Forget messages: they are not sent, and no longer listed.

    With their keys: put in once more, such a message is a new one.
    """
    _check_selection(keys, dead=dead, unknown=unknown)
    with _opened(path) as outbox:
        if not yes:
            agreed(f"Forget {_described(keys, dead=dead, unknown=unknown)}, for good?")
        changed = _change(outbox.drop, keys, dead=dead, unknown=unknown)
    return _tell("forgotten", path, changed, keys, as_json=as_json)


def _masked(number: str) -> str:
    """A phone number as it may be shown."""
    return f"…{number[-3:]}"


@contextmanager
def _opened(path: str) -> Iterator[Outbox]:
    """The outbox of this file, or ConfigurationError: a look makes none."""
    from cmzon_secrets.client.outbox import Outbox

    with Outbox(existing_outbox(path)) as outbox:
        yield outbox


def _check_selection(keys: Iterable[str], **states: bool) -> None:
    if not keys and not any(states.values()):
        raise UsageFailure(
            "which messages? nothing is selected", hint="give --key, --dead or --unknown"
        )
    if keys and any(states.values()):
        raise UsageFailure("--key and a whole state cannot go together")


def _described(keys: tuple[str, ...], **states: bool) -> str:
    if keys:
        return f"{_messages(len(keys))} by key"
    return f"all that are {' or '.join(state for state, chosen in states.items() if chosen)}"


def _doubtful(outbox: Outbox, keys: tuple[str, ...], *, unknown: bool) -> int:
    """How many of those selected may have been sent."""
    return sum(1 for record in outbox.unknown() if unknown or record.key in keys)


def _change(act: Callable[..., int], keys: tuple[str, ...], **states: bool) -> int:
    if not keys:
        return sum(act(state=state) for state, chosen in states.items() if chosen)
    return act(*keys)


def _troubled(outbox: Outbox) -> Iterator[Any]:
    yield from outbox.dead()
    yield from outbox.unknown()


def _item(record: Any) -> dict[str, Any]:
    return {
        "key": record.key,
        "to": _masked(record.to),
        "state": record.state.lower(),
        "reason": repeatable(record.reason or ""),
        "tries": record.tries,
        "put_at": record.put_at,
    }


def _line(item: dict[str, Any]) -> str:
    return f"{item['state']:<7}  {item['key']}  {item['to']}  {item['reason']}"


def _tell(what: str, path: str, changed: int, keys: tuple[str, ...], *, as_json: bool) -> int:
    """Say what was done; the exit code. Raises ConfigurationError where none of the keys was found."""
    missed = len(set(keys)) - changed if keys else 0
    if missed and not changed:
        raise ConfigurationError(
            f"{path} — no message with {'this key' if missed == 1 else 'these keys'} is there to be"
            " changed",
            hint=f"cmzon-secrets outbox status {shlex.quote(path)} --list",
        )
    if as_json:
        print_items([{"outbox": repeatable(path), "changed": changed}])
    else:
        say(f"{_messages(changed)} {what}")
    if missed:
        note(f"{missed:,} of the keys {'is' if missed == 1 else 'are'} no such message's")
    return FAILED if missed else 0


def _messages(count: int) -> str:
    return "1 message" if count == 1 else f"{count:,} messages"
