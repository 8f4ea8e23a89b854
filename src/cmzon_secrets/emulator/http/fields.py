"""Request bodies and queries, checked field by field; every complaint names the field."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any, NoReturn

from cmzon_secrets.emulator.http.answers import Refusal, invalid_request

__all__ = ["Fields", "parse_object", "refuse_unknown", "safe_name"]

LONGEST_NAME = 60
"""Characters of a field's name that are repeated."""
_BEGINNING = 7
"""Characters of a longer one: too few to be the beginning of a secret that was cut."""


def parse_object(body: bytes) -> dict[str, Any]:
    """The body as a JSON object. Raises Refusal (400), also for a field that is there twice."""
    try:
        text = body.decode() or "null"  # of bytes json would guess at UTF-16 and UTF-32 too
        parsed = json.loads(text, parse_constant=_not_json, object_pairs_hook=_each_once)
    except (ValueError, RecursionError):
        raise invalid_request("body — it is not JSON in UTF-8") from None
    if not isinstance(parsed, dict):
        raise invalid_request("body — a JSON object is needed")
    return parsed


def refuse_unknown(given: Collection[str], known: Collection[str]) -> None:
    """Raise Refusal (400) naming the first name that is not known."""
    for name in given:
        if name not in known:
            names = ", ".join(sorted(known)) or "none"
            raise invalid_request(f"{safe_name(name)} — unknown; known: {names}")


class Fields:
    """One JSON object, read by typed accessors. An absent field and null are the same.

    Unknown fields are refused where it is ``strict``; else their names are ``ignored``.
    """

    def __init__(
        self,
        body: Mapping[str, Any],
        *,
        known: Collection[str],
        within: str = "",
        strict: bool = True,
    ) -> None:
        self._body = body
        self._within = within
        self._strict = strict
        unknown = [within + name for name in body if name not in known]
        if strict:
            refuse_unknown(unknown, [within + name for name in known])
        self.ignored = tuple(safe_name(name) for name in unknown)

    def complain(self, name: str, why: str) -> Refusal:
        """The refusal (400) that names a field."""
        return invalid_request(f"{self._within}{name} — {why}", field=f"{self._within}{name}")

    def has(self, name: str) -> bool:
        """Whether a field is there."""
        return self._body.get(name) is not None

    def text(self, name: str, *, longest: int) -> str:
        """A string of 1 to ``longest`` characters that must be there."""
        value = self._body.get(name)
        if not isinstance(value, str) or not 0 < len(value) <= longest:
            raise self.complain(name, f"a string of 1 to {longest} characters is needed")
        if not value.isascii() and _has_lone_surrogates(value):
            raise self.complain(name, "it is not valid Unicode")
        return value

    def choice(self, name: str, *, among: Collection[str]) -> str:
        """One of some strings; it must be there."""
        value = self._body.get(name)
        if not isinstance(value, str) or value not in among:
            raise self.complain(name, f"one of {', '.join(among)} is needed")
        return value

    def texts(self, name: str, *, most: int, longest: int) -> list[str]:
        """A list of distinct strings of at most ``longest`` characters; an absent one is empty."""
        value = self._body[name] if self.has(name) else []
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.complain(name, "a list of strings is needed")
        if len(value) > most or len(set(value)) != len(value):
            raise self.complain(name, f"at most {most} entries, each once, can stand there")
        if any(len(item) > longest or _has_lone_surrogates(item) for item in value):
            raise self.complain(name, f"Unicode of at most {longest} characters is needed in each")
        return value

    def number(self, name: str, *, least: float, most: float) -> float | None:
        """A number between ``least`` and ``most``; None where it is absent."""
        value = self._body.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.complain(name, "a number is needed")
        if not least <= value <= most:
            raise self.complain(name, f"a number from {least:,.16g} to {most:,.16g} is needed")
        return value

    def integer(self, name: str, *, least: int, most: int) -> int | None:
        """A whole number between ``least`` and ``most``; None where it is absent."""
        value = self.number(name, least=least, most=most)
        if value is None:
            return None
        if value != math.floor(value):
            raise self.complain(name, "a whole number is needed")
        return int(value)

    def flag(self, name: str) -> bool:
        """True or false; an absent one is false."""
        value = self._body[name] if self.has(name) else False
        if not isinstance(value, bool):
            raise self.complain(name, "true or false is needed")
        return value

    def inner(self, name: str, *, known: Collection[str]) -> Fields:
        """An object inside this one that must be there."""
        value = self._body.get(name)
        if not isinstance(value, dict):
            raise self.complain(name, "an object is needed")
        return Fields(value, known=known, within=f"{self._within}{name}.", strict=self._strict)


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        number = Counter(name for name, _ in pairs)
        twice = next(name for name in number if number[name] > 1)
        raise invalid_request(f"{safe_name(twice)} — it is given twice")
    return found


def _not_json(constant: str) -> NoReturn:
    raise ValueError(constant)  # NaN and Infinity are Python's, not JSON's


def _has_lone_surrogates(value: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in value)


def safe_name(name: str) -> str:
    """A field name fit to be sent back: short and printable."""
    shown = name if len(name) <= LONGEST_NAME else f"{name[:_BEGINNING]}…"
    return "".join(c if c.isprintable() else "?" for c in shown)
