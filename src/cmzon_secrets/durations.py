"""How durations are written: ``30d``, ``24h``, ``15m``, ``90s``, in options, files and messages."""

from __future__ import annotations

import re
from datetime import timedelta

__all__ = ["format_duration", "parse_duration", "rounded"]

_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)([smhd]?)", re.ASCII)
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_LONGEST = 100 * 365 * 86400.0


def parse_duration(value: object) -> timedelta:
    """``"30d"``, ``"24h"``, ``"15m"``, ``"90s"``, or seconds as a number. Raises ValueError."""
    text = str(value) if isinstance(value, str | int | float) and value is not True else ""
    match = _DURATION.fullmatch(text.strip())
    seconds = float(match[1]) * _UNITS[match[2]] if match else 0.0
    if not 0 < seconds <= _LONGEST:
        raise ValueError('a duration like "30d", "24h", "15m" or "90s", or seconds')
    return timedelta(seconds=seconds)


def format_duration(span: timedelta) -> str:
    """Exactly, as ``parse_duration`` reads it, in the largest unit that needs no fraction.

    A single day is ``24h``. A negative span, which two clocks can make, is ``0s``.
    """
    seconds = max(span.total_seconds(), 0.0)
    for unit, size, least in (("d", 86400, 2), ("h", 3600, 1), ("m", 60, 1)):
        if seconds % size == 0 and seconds >= least * size:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:.6f}".rstrip("0").rstrip(".") + "s"


def rounded(span: timedelta) -> timedelta:
    """To what a person wants to read: whole days, hours, minutes or seconds."""
    unit = next(
        (u for u in (timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)) if span >= 2 * u),
        timedelta(seconds=1),
    )
    return (span // unit) * unit
