"""The templates, and how they show things. Everything is escaped: message texts are hostile."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from cmzon_secrets.emulator.clock import format_time
from cmzon_secrets.emulator.web.curl import quoted
from cmzon_secrets.emulator.web.visible import as_on_a_phone, visible

__all__ = ["make_environment"]

_UNITS = ((86400, "d"), (3600, "h"), (60, "min"))


@cache
def make_environment(folder: Path) -> Environment:
    """Jinja, with everything escaped and nothing undefined passed over; one for all who ask."""
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"sort_keys": False}  # as the API documents them
    environment.filters |= {
        "visible": visible,
        "as_on_a_phone": as_on_a_phone,
        "quoted": quoted,
        "rfc3339": format_time,
        "clock_time": clock_time,
        "day": day,
        "duration": duration,
        "percent": percent,
    }
    environment.globals["link"] = link
    return environment


def clock_time(timestamp: float) -> str:
    """Hours, minutes and seconds, UTC."""
    return datetime.fromtimestamp(timestamp, UTC).strftime("%H:%M:%S")


def day(timestamp: float) -> str:
    """The date, UTC."""
    return datetime.fromtimestamp(timestamp, UTC).strftime("%Y-%m-%d")


def duration(seconds: float) -> str:
    """Seconds in the two largest units that matter: ``59 d 23 h``, ``4 min 10 s``, ``7 s``."""
    left = int(abs(seconds))
    parts = []
    for size, unit in _UNITS:
        count, left = divmod(left, size)
        parts.append((count, unit))
    parts.append((left, "s"))
    while len(parts) > 1 and parts[0][0] == 0:
        del parts[0]
    return " ".join(f"{count} {unit}" for count, unit in parts[:2] if count or len(parts) == 1)


def percent(share: float) -> str:
    """A share of 1, to three digits: ``33.3 %``."""
    return f"{100 * share:.3g} %"


def link(path: str, query: dict[str, object], **changed: object) -> str:
    """``path`` with the query that is in force, some of it changed; None and "" leave a name out."""
    kept = {name: value for name, value in (query | changed).items() if value not in (None, "")}
    return f"{path}?{urlencode(kept)}" if kept else path
