"""The templates, and how they show things. Everything is escaped: message texts are hostile."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from cmzon_secrets.emulator.clock import format_time
from cmzon_secrets.emulator.web.curl import quoted

__all__ = ["make_environment"]

_BIDI = dict(
    zip(
        (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)),
        ("ALM", "LRM", "RLM", "LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI"),
        strict=True,
    )
)
"""What turns the direction of writing, by Unicode's short names."""
_PICTURES = {
    **{n: chr(0x2400 + n) for n in range(0x20) if chr(n) not in "\n\t"},
    **{n: f"⟨{n:02X}⟩" for n in range(0x80, 0xA0)},
    **{n: f"⟨{name}⟩" for n, name in _BIDI.items()},
    0x7F: "\u2421",
}
"""Control characters as the pictures that Unicode has of them, and those without one as ⟨marks⟩."""

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
        "quoted": quoted,
        "rfc3339": format_time,
        "clock_time": clock_time,
        "day": day,
        "duration": duration,
    }
    environment.globals["link"] = link
    return environment


def visible(text: str) -> str:
    """``text`` with every control character, which would not be seen, shown."""
    return text.translate(_PICTURES)


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


def link(path: str, query: dict[str, object], **changed: object) -> str:
    """``path`` with the query that is in force, some of it changed; None and "" leave a name out."""
    kept = {name: value for name, value in (query | changed).items() if value not in (None, "")}
    return f"{path}?{urlencode(kept)}" if kept else path
