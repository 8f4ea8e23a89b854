"""How things look: plain when piped, coloured on a terminal, JSON where asked for."""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TextIO

import click

from cmzon_secrets.durations import format_duration
from cmzon_secrets.records import format_time
from cmzon_secrets.tokens import MASK, Token

__all__ = [
    "describe_moment",
    "describe_span",
    "folded",
    "masked",
    "note",
    "oneline",
    "paint",
    "paint_state",
    "print_items",
    "print_json",
    "print_pairs",
    "say",
    "token_facts",
]

SCHEMA = 1
"""Version of every JSON document printed; it changes when a field changes its meaning."""

_STATE_COLOURS = {"done": "green", "waiting": "cyan", "attention": "yellow", "failed": "red"}


def say(text: str = "") -> None:
    """Data: one line on standard output."""
    sys.stdout.write(f"{text}\n")


def note(text: str) -> None:
    """Everything else: a line on standard error, after the data printed so far."""
    sys.stdout.flush()
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def paint(text: str, stream: TextIO, **style: Any) -> str:
    """``text`` in colour where ``stream`` is a terminal and NO_COLOR (no-color.org) is not set."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not stream.isatty()
    return text if plain else click.style(text, **style)


def paint_state(state: str) -> str:
    """A rotation's state in its colour."""
    return paint(state, sys.stdout, fg=_STATE_COLOURS.get(state), bold=True)


def folded(text: str, *, indent: str = "  ") -> str:
    """``text`` indented, and on a terminal broken between words where a line is full."""
    if not sys.stdout.isatty():
        return f"{indent}{text}"
    return textwrap.fill(
        text,
        shutil.get_terminal_size().columns,
        initial_indent=indent,
        subsequent_indent=f"{indent}  ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def print_json(members: Mapping[str, Any]) -> None:
    """One JSON document on one line."""
    say(json.dumps({"schema": SCHEMA, **members}, ensure_ascii=False, default=_plain))


def print_items(items: Iterable[Mapping[str, Any]]) -> None:
    """The JSON document of a command that reports."""
    print_json({"items": list(items)})


def print_pairs(pairs: Sequence[tuple[str, str]], *, indent: str = "") -> None:
    """Labels and values, the values in one column."""
    width = max(len(label) for label, _ in pairs)
    for label, value in pairs:
        say(f"{indent}{paint(label.ljust(width), sys.stdout, dim=True)}  {value}".rstrip())


def masked(token: Token) -> str:
    """A token as people may see it: the same width for each, and a fingerprint to compare."""
    return f"{MASK} sha256:{token.fingerprint}"


def token_facts(token: Token) -> dict[str, Any]:
    """A token as it stands in JSON, without its value."""
    return {
        "id": token.id,
        "fingerprint": token.fingerprint,
        "scopes": token.scopes,
        "issued_at": token.issued_at,
        "expires_at": token.expires_at,
        "allowed_ips": token.allowed_ips,
    }


def describe_moment(moment: datetime, now: datetime) -> str:
    """``2026-11-24 21:00 UTC (3d ago)``."""
    distance = moment - now
    relative = f"in {describe_span(distance)}" if distance > timedelta(0) else "now"
    if distance < -timedelta(seconds=1):
        relative = f"{describe_span(-distance)} ago"
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC ({relative})"


def describe_span(span: timedelta) -> str:
    """Roughly, in the largest unit that says enough: ``3d``, ``24h``, ``5m``, ``12s``."""
    seconds = span.total_seconds()
    size = next(size for limit, size in _PRECISIONS if seconds < limit)
    return format_duration(timedelta(seconds=round(seconds / size) * size))


_PRECISIONS = ((120, 1), (7200, 60), (172_800, 3600), (math.inf, 86400))
"""Seconds up to which a span is told to how many seconds."""


def oneline(text: str) -> str:
    """``text`` without line breaks and control characters: what a server said cannot draw."""
    return "".join(c if c.isprintable() else " " for c in text)


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return format_time(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")
