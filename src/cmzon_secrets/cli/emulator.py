"""``cmzon-secrets emulator``: the CMzon API on this machine, until Ctrl-C."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from cmzon_secrets.cli.failures import typed_here
from cmzon_secrets.cli.output import note, print_pairs, say
from cmzon_secrets.errors import ConfigurationError

if TYPE_CHECKING:
    from cmzon_secrets.emulator import ReadyLine

__all__ = ["command"]

LIMITS_ARE_OFF = (
    "limits are off: messages are accepted at any rate, which the vendor's API would refuse"
)


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="A loopback address.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    show_default=True,
    help="0 takes a free one.",
)
@click.option(
    "--state", metavar="DIR", type=click.Path(), help="Keep tokens and messages in this folder."
)
@click.option("--tls", is_flag=True, help="HTTPS, with a certificate of a CA made for it.")
@click.option("--new-account", is_flag=True, help="1,000 messages a day instead of 10,000.")
@click.option(
    "--limits/--no-limits",
    default=True,
    help="Keep the vendor's limits (the default), or lift them for load tests.",
)
@click.option("--strict", is_flag=True, help="Refuse fields that the API does not know, by name.")
@click.option("--json", "as_json", is_flag=True, help="Say where it is as one line of JSON.")
def command(as_json: bool, **settings: Any) -> None:
    """Serve the CMzon API and its dashboard on this machine, for trying and testing.

    The vendor's exact answers, limits, tokens and faults on demand (docs/emulator.md); messages and
    rotations to watch (docs/dashboard.md). Without --state nothing outlives it. Serves until Ctrl-C,
    SIGTERM, or its terminal is closed.
    """
    from cmzon_secrets.emulator import Emulator, serve

    with typed_here(ConfigurationError):
        Emulator(**settings)

    def on_ready(ready: ReadyLine) -> None:
        (_say_as_json if as_json else _say)(ready)
        if not settings["limits"]:
            note(LIMITS_ARE_OFF)

    serve(on_ready, **settings)


def _say_as_json(ready: ReadyLine) -> None:
    say(json.dumps(asdict(ready)))
    sys.stdout.flush()


def _say(ready: ReadyLine) -> None:
    facts = [
        ("API", ready.base_url),
        ("dashboard", ready.dashboard_url),
        ("admin token", ready.admin_token_file),
    ]
    print_pairs(facts if ready.ca is None else [*facts, ("CA", ready.ca)])
    note(f"{_how_to_send_there(ready)}; Ctrl-C ends it")


def _how_to_send_there(ready: ReadyLine) -> str:
    setting = f"export CMZON_BASE_URL={ready.base_url}"
    if ready.ca is None:
        return f"{setting} sends everything there"
    return f"{setting}, with --ca {shlex.quote(ready.ca)} for each command, sends everything there"
