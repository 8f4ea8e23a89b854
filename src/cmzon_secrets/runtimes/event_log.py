"""Lines of JSON on standard output, which runtimes take for their log. Ids only, never a value."""

from __future__ import annotations

import json
import os
import sys
import threading
from typing import Any

from cmzon_secrets.events import Event, as_json
from cmzon_secrets.typed import without_secrets

__all__ = ["event_line", "item_line", "log_event", "log_item", "told"]

_WRITING = threading.Lock()


def event_line(event: Event) -> str:
    """The event as one line."""
    return told(as_json(event))


def item_line(item: dict[str, Any]) -> str:
    """How the run of one account ended, as one line ``{"item": …}``."""
    return told(json.dumps({"item": item}, ensure_ascii=False))


def log_event(event: Event) -> None:
    """A subscriber."""
    _write(event_line(event))


def log_item(item: dict[str, Any]) -> None:
    """Print ``item_line``."""
    _write(item_line(item))


def told(text: str) -> str:
    """``text`` without line breaks, and without what stands in our variables and may be a secret."""
    line = "".join(c if c.isprintable() else " " for c in text)
    return without_secrets(line, (v for k, v in os.environ.items() if k.startswith("CMZON_")))


def _write(line: str) -> None:
    with _WRITING:  # accounts are rotated in threads, and half lines are no JSON
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
