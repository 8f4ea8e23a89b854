"""``cmzon-secrets init``: the files of a new account, and what to type then."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cmzon_secrets.cli.failures import UsageFailure, typed_here
from cmzon_secrets.cli.options import json_option
from cmzon_secrets.cli.output import paint, print_items, say
from cmzon_secrets.errors import ConfigurationError
from cmzon_secrets.provisioning.wanted import (
    BACKENDS,
    DETAILS,
    Detail,
    Wanted,
    check_choice,
    check_detail,
    option,
)

if TYPE_CHECKING:
    from cmzon_secrets.provisioning.scaffold import Scaffold

__all__ = ["command"]

_EVERYWHERE = tuple(dict.fromkeys(place for one in BACKENDS.values() for place in one.places))


def _detail_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """An option for each detail, in the order of their table."""
    for key, detail in reversed(list(DETAILS.items())):
        whom = " ".join(filter(None, (detail.backend, *detail.runs_on)))
        default = f"; default {detail.default}" if detail.default else ""
        text = f"{f'[{whom}] ' if whom else ''}{detail.question}{default}."
        function = click.option(option(key), key, metavar="TEXT", help=text)(function)
    return function


@click.command()
@click.option("--backend", type=click.Choice(list(BACKENDS)), help="Where the token shall be.")
@click.option(
    "--runs-on",
    type=click.Choice(_EVERYWHERE),
    help="Where rotation shall run; the default is the backend's own: "
    + ", ".join(f"{one.places[0]} for {backend}" for backend, one in BACKENDS.items())
    + ".",
)
@_detail_options
@click.option(
    "--directory",
    metavar="DIR",
    default=".",
    show_default=True,
    help="Where the files are written; it is made where it is missing.",
)
@click.option("--force", is_flag=True, help="Replace files that are there with other content.")
@json_option
def command(
    *,
    backend: str | None,
    runs_on: str | None,
    directory: str,
    force: bool,
    as_json: bool,
    **details: str | None,
) -> None:
    """Write what a new account needs: configuration, Terraform, manifests or units.

    Asks on a terminal for what is not given. Then prints the commands to type, in order. No secret
    is asked for or written. A file that is there is never overwritten without --force, and where
    something goes wrong nothing is written at all; the same command again changes nothing.
    """
    from cmzon_secrets.provisioning.scaffold import scaffold
    from cmzon_secrets.provisioning.writing import write_all

    with typed_here(ConfigurationError):
        wanted = _wanted(backend, runs_on, details)
        made = scaffold(wanted, directory)
    folder = Path(directory).absolute()
    written = write_all(folder, made.files, replace=force, private=made.private)
    if as_json:
        print_items([_item(wanted, made, written)])
    else:
        _show(made, directory, written)


def _wanted(backend: str | None, runs_on: str | None, given: Mapping[str, str | None]) -> Wanted:
    """What was given and, on a terminal, what is answered."""
    if backend is None:
        names = ", ".join(f"{name}: {one.title}" for name, one in BACKENDS.items())
        backend = _chosen(
            "--backend", f"Where shall the token be? ({names})", list(BACKENDS), "file"
        )
    if runs_on is None:
        places = list(BACKENDS[backend].places)
        runs_on = places[0]
        if _on_terminal():
            runs_on = _chosen("--runs-on", "Where shall rotation run?", places, runs_on)
    check_choice(backend, runs_on)
    details = {key: value for key, value in given.items() if value is not None}
    for key, value in details.items():
        check_detail(key, value, backend, runs_on)
    for key, detail in DETAILS.items():
        if key not in details and detail.concerns(backend, runs_on):
            fits = partial(check_detail, key, backend=backend, runs_on=runs_on)
            details[key] = _answer(key, detail, details.get("name", ""), fits)
    return Wanted(backend, runs_on, details)


def _answer(key: str, detail: Detail, name: str, check: Callable[[str], None]) -> str:
    """What the environment says or is taken without asking; on a terminal it is offered, and asked for."""
    silent = os.environ.get(detail.env) or detail.default
    if not _on_terminal() and silent:
        return silent
    could_be = (silent, detail.suggestion.format(name=name))
    offered = next((text for text in could_be if text and not _objection(check, text)), "")
    shown = offered or f"such as {detail.example}" * bool(detail.example)
    while True:
        answer = _asked(option(key), detail.question, shown) or offered
        objection = _objection(check, answer)
        if objection is None:
            return answer
        sys.stderr.write(f"{objection}; {objection.hint}\n")


def _objection(check: Callable[[str], None], answer: str) -> ConfigurationError | None:
    try:
        check(answer)
    except ConfigurationError as objection:
        return objection
    return None


def _chosen(flag: str, question: str, choices: list[str], default: str) -> str:
    while True:
        answer = _asked(flag, f"{question} {'/'.join(choices)}", default) or default
        if answer in choices:
            return answer
        sys.stderr.write(f"one of: {', '.join(choices)}\n")


def _asked(flag: str, question: str, shown: str) -> str:
    """What is typed at the terminal. Raises UsageFailure where there is none, or nobody answers."""
    if not _on_terminal():
        raise UsageFailure(f"{flag} is missing", hint=f"give it: {question}")
    sys.stderr.write(f"{question} [{shown}] " if shown else f"{question} ")
    sys.stderr.flush()
    line = sys.stdin.readline()
    if not line:
        raise UsageFailure("the answers ended early, nothing was written", hint=f"give {flag}")
    return line.strip()


def _on_terminal() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()


def _item(wanted: Wanted, made: Scaffold, written: list[str]) -> dict[str, Any]:
    return {
        "account": wanted.name,
        "backend": wanted.backend,
        "runs_on": wanted.runs_on,
        "files": [{"path": path, "written": path in written} for path in sorted(made.files)],
        "commands": [{"why": step.why, "command": step.command} for step in made.steps],
    }


def _show(made: Scaffold, directory: str, written: list[str]) -> None:
    if written:
        say(f"written in {directory}")
        for line in _briefly(written):
            say(f"  {line}")
    else:
        say(f"unchanged: all {len(made.files)} files are in {directory} as they should be")
    say()
    say("Then type")
    for number, step in enumerate(made.steps, start=1):
        say(paint(f"     # {step.why}", sys.stdout, dim=True))
        say(f"  {number:>2} {step.command}")


def _briefly(paths: list[str]) -> list[str]:
    """The paths, a Terraform module being one line."""
    modules: dict[str, int] = {}
    lines = []
    for path in paths:
        parts = path.split("/")
        if parts[:2] == ["terraform", "modules"]:
            module = "/".join(parts[:3])
            modules[module] = modules.get(module, 0) + 1
        else:
            lines.append(path)
    return sorted([*lines, *(f"{module}/ ({count} files)" for module, count in modules.items())])
