"""``cmzon-secrets quickstart``: the whole story on this machine."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cmzon_secrets.cli.failures import FAILED
from cmzon_secrets.cli.interrupts import interrupt_on
from cmzon_secrets.cli.output import note, paint, print_items, print_pairs, say

if TYPE_CHECKING:
    from cmzon_secrets.cli.story import Outcome, Senders

__all__ = ["command"]

TICK = 0.1  # seconds between two looks at the counters
SLOWLY = 0.2  # seconds between two messages that are sent afterwards


@click.command()
@click.option(
    "--dir",
    "folder",
    metavar="DIR",
    type=click.Path(path_type=Path),
    default="cmzon-quickstart",
    show_default=True,
    help="Where the sealed file and its key are made.",
)
@click.option("--keep", is_flag=True, help="Go on sending afterwards, until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="Print the account as one JSON document.")
def command(folder: Path, keep: bool, as_json: bool) -> int:
    """See it all on this machine: messages flow while the token rotates.

    Starts an emulator of the CMzon API, has it generate a token, seals that in a file, and sends
    from 8 threads while the token is rotated twice and then revoked in an emergency. Takes about
    ten seconds, needs no account, and leaves nothing running. Exit code 0 only if nothing failed.
    With --keep the emulator and its dashboard stay, and a few messages a second go on.
    """
    from cmzon_secrets.cli.story import prepare_folder, tell_story

    interrupt_on(signal.SIGTERM, signal.SIGHUP)
    uri = prepare_folder(folder)
    stage = _Stage()

    def account_for(outcome: Outcome) -> None:
        stage.clear()
        if as_json:
            print_items([{**asdict(outcome), "went_well": outcome.went_well}])
        else:
            _account_for(outcome, folder)

    def go_on(outcome: Outcome, dashboard: str, send: Callable[[], None]) -> None:
        account_for(outcome)
        _send_until_interrupted(dashboard, send)

    outcome = tell_story(uri, stage.tell, stage.wait, go_on if keep else None)
    if not keep:
        account_for(outcome)
    return 0 if outcome.went_well else FAILED


def _send_until_interrupted(dashboard: str, send: Callable[[], None]) -> None:
    sys.stdout.flush()  # on a pipe it would wait for the end
    note(f"messages go on; the dashboard is {dashboard}, and Ctrl-C ends it")
    with suppress(KeyboardInterrupt):
        while True:
            send()
            time.sleep(SLOWLY)


class _Stage:
    """Shows each event as a line, and on a terminal the counters while time passes."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._live = sys.stderr.isatty()

    def tell(self, heading: str, text: str) -> None:
        self.clear()
        at = f"{time.monotonic() - self._began:5.1f} s"
        bold = paint(heading.ljust(15), sys.stderr, bold=True)
        note(f"{paint(at, sys.stderr, dim=True)}  {bold}  {text}")

    def wait(self, seconds: float, senders: Senders) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._count(senders)
            time.sleep(min(TICK, left))

    def _count(self, senders: Senders) -> None:
        if self._live:
            sent, failed = senders.count("sent"), senders.count("failed")
            self.clear()
            sys.stderr.write(f"         {sent} messages sent, {failed} failed")
            sys.stderr.flush()

    def clear(self) -> None:
        """Take the counters off the screen."""
        if self._live:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def _account_for(outcome: Outcome, folder: Path) -> None:
    say()
    if outcome.went_well:
        say(
            paint("The token changed three times, and no message was lost.", sys.stdout, fg="green")
        )
    for fault in outcome.faults:
        say(f"{paint('fault:', sys.stdout, fg='red', bold=True)} {fault}")
    say()
    print_pairs(
        [
            ("messages sent", f"{outcome.sent}"),
            ("messages accepted", f"{outcome.accepted}  as the emulator counts"),
            ("sends that failed", f"{outcome.failed}"),
            ("401s seen by callers", f"{outcome.unauthorized}{_unseen(outcome)}"),
            ("tokens issued", f"{outcome.issued}"),
            ("tokens revoked", f"{outcome.revoked}  each proved dead"),
            ("sealed file", str(folder / "token.sealed")),
        ],
        indent="  ",
    )
    say()
    say("Try next")
    for why, step in _next_steps(outcome.uri):
        say(paint(f"  # {why}", sys.stdout, dim=True))
        say(f"  {step}")


def _unseen(outcome: Outcome) -> str:
    if not outcome.met_inside:
        return ""
    return f"  ({outcome.met_inside} met inside the client, which took the new token)"


def _next_steps(uri: str) -> list[tuple[str, str]]:
    program = _as_started(sys.argv[0])
    return [
        ("what the sealed file holds", f"{program} get {shlex.quote(uri)}"),
        ("the same API for your own experiments", f"{program} emulator"),
        ("a key for a token of your own", f"{program} keygen token.key"),
        (
            "asks for the token, without echo",
            f"{program} put 'file:token.sealed?key=keyfile:token.key'",
        ),
    ]


def _as_started(started: str) -> str:
    """Our name; where that is not on PATH, the path by which we were started."""
    name = "cmzon-secrets"
    on_path = os.path.realpath(shutil.which(name) or "")
    if os.path.basename(started) != name or os.path.realpath(started) == on_path:  # noqa: PTH119
        return name
    near = os.path.relpath(started)
    return shlex.quote(started if near.startswith("..") else near)
