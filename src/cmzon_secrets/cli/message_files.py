"""Files of messages, read line by line: CSV with a header, or JSON lines. UTF-8.

Each line is a Message or a Fault that names it. Neither holds on to the file: a million lines need
no more memory than one. No fault repeats a number or a text.
"""

from __future__ import annotations

import codecs
import csv
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any, BinaryIO, Literal, TypeVar

from cmzon_secrets.client.messages import check_key, check_message
from cmzon_secrets.errors import ConfigurationError, RequestRejected
from cmzon_secrets.typed import quoted

__all__ = ["FIELDS", "Fault", "Format", "Message", "format_of", "read_messages"]

_Raw = TypeVar("_Raw")
Format = Literal["csv", "jsonl"]

REQUIRED, OPTIONAL = ("to", "text"), ("key", "not_before")
FIELDS = (*REQUIRED, *OPTIONAL)
LONGEST_LINE = 1 << 20
"""Bytes; the longest text, with every character escaped, needs a twentieth."""

_FORMATS: Mapping[str, Format] = {
    ".csv": "csv",
    ".json": "jsonl",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_BOM = "\N{ZERO WIDTH NO-BREAK SPACE}"


@dataclass(frozen=True, slots=True)
class Message:
    """One line that can be sent. ``not_before`` is UTC."""

    to: str = field(repr=False)
    text: str = field(repr=False)
    key: str | None = None
    not_before: datetime | None = None


@dataclass(frozen=True, slots=True)
class Fault:
    """Why one line cannot be sent; ``field`` is None where the line as a whole is at fault."""

    line: int
    field: str | None
    reason: str

    def __str__(self) -> str:
        return f"{self.line}: {f'{self.field} — ' if self.field else ''}{self.reason}"


Line = tuple[int, Message] | Fault


def format_of(name: str) -> Format | None:
    """The format that a file's name says; None for a name that says none."""
    endings = (found for ending, found in _FORMATS.items() if name.lower().endswith(ending))
    return next(endings, None)


def read_messages(file: BinaryIO, format: Format, *, name: str) -> Iterator[Line]:  # its own name
    """The messages with their line numbers, and the faults, in the order of the file.

    Raises ConfigurationError, beginning with ``name``, for what is no such file at all.
    """
    lines = _text_lines(file, name)
    return _from_csv(lines, name) if format == "csv" else _from_json(lines)


def _text_lines(file: BinaryIO, name: str) -> Iterator[str]:
    """What is not UTF-8 comes as lone surrogates: a fault of its line, found later."""
    number = 0
    while line := file.readline(LONGEST_LINE + 1):
        number += 1
        if number == 1 and line.startswith(_UTF16):
            raise ConfigurationError(
                f"{name} — it is UTF-16, not UTF-8",
                hint='save it as UTF-8 (in a spreadsheet: "CSV UTF-8")',
            )
        if len(line) > LONGEST_LINE:
            raise ConfigurationError(
                f"{name} — line {number} has more than {LONGEST_LINE:,} bytes",
                hint="give a text file with one message to a line",
            )
        text = line.decode("utf-8", "surrogateescape")
        yield text.removeprefix(_BOM) if number == 1 else text


def _from_json(lines: Iterator[str]) -> Iterator[Line]:
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield _line(number, _json_members, line)


def _json_members(line: str) -> Mapping[str, Any]:
    try:
        members = json.loads(_utf8(line), object_pairs_hook=_without_doubles)
    except (ValueError, RecursionError):  # ValueError also for a number of 5,000 digits
        raise _Bad(None, "not JSON") from None
    if not isinstance(members, dict):
        raise _Bad(None, "not a JSON object")
    return members


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise _Bad(None, "a member stands in it twice")
    return members


def _from_csv(lines: Iterator[str], name: str) -> Iterator[Line]:
    reader = csv.reader(lines, strict=True)
    members = partial(_csv_members, _columns(reader, name))
    while True:
        number = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:  # its text speaks of quotes and commas, never of what is there
            yield Fault(number, None, f"not CSV: {error}")
            continue
        if row:
            yield _line(number, members, row)


def _columns(reader: Iterator[list[str]], name: str) -> list[str]:
    """The header's. Raises ConfigurationError for one that does not name our fields."""
    hint = f"begin with a line such as: {','.join(REQUIRED)} (optional: {', '.join(OPTIONAL)})"
    try:
        columns = [column.strip() for column in next(reader, [])]
    except csv.Error:
        columns = []
    if missing := [column for column in REQUIRED if column not in columns]:
        raise ConfigurationError(
            f"{name} — its header has no column {missing[0]!r}{_other_separator(columns)}",
            hint=hint,
        )
    if unknown := [column for column in columns if column not in FIELDS]:
        raise ConfigurationError(
            f"{name} — its header has an unknown column {quoted(unknown[0])}", hint=hint
        )
    if len(set(columns)) < len(columns):
        raise ConfigurationError(f"{name} — its header has a column twice", hint=hint)
    return columns


def _other_separator(columns: list[str]) -> str:
    """What divides a header that no comma does: spreadsheets of some countries write semicolons."""
    for separator, name in ((";", "semicolons"), ("\t", "tabs")):
        if len(columns) == 1 and separator in columns[0]:
            return f": it is divided by {name}, not by commas"
    return ""


def _csv_members(columns: list[str], row: list[str]) -> Mapping[str, Any]:
    if len(row) != len(columns):
        numbers = f"number of fields: {len(row)}, in the header: {len(columns)}"
        raise _Bad(None, f"{numbers}; a text with a comma needs quotes")
    optional_left_out = (c in OPTIONAL and not value for c, value in zip(columns, row, strict=True))
    return {
        column: None if left_out else _utf8(value)
        for column, value, left_out in zip(columns, row, optional_left_out, strict=True)
    }


class _Bad(Exception):
    """A line that cannot be sent: the field, and the reason."""

    def __init__(self, field: str | None, reason: str) -> None:
        super().__init__(reason)
        self.field = field
        self.reason = reason


def _line(number: int, members: Callable[[_Raw], Mapping[str, Any]], raw: _Raw) -> Line:
    try:
        return number, _message(members(raw))
    except _Bad as bad:
        return Fault(number, bad.field, bad.reason)


def _message(members: Mapping[str, Any]) -> Message:
    for name in members:
        if name not in FIELDS:
            raise _Bad(None, f"an unknown member {quoted(name)}; valid: {', '.join(FIELDS)}")
    for name in REQUIRED:
        if name not in members:
            raise _Bad(name, "is missing")
    to, text, key = members["to"], members["text"], members.get("key")
    try:
        check_message(to, text)
        if key is not None:
            check_key(key)
    except RequestRejected as rejected:
        what, _, why = rejected.message.partition(" — ")
        raise _Bad({"message": "text", "idempotency key": "key"}.get(what, what), why) from None
    return Message(to, text, key, _moment(members.get("not_before")))


def _moment(text: object) -> datetime | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)  # type: ignore[arg-type]  # a wrong type is caught
        if moment.tzinfo is not None:
            return moment.astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        pass
    raise _Bad("not_before", "not a time with an offset, such as 2026-12-24T09:00:00+01:00")


def _utf8(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _Bad(None, "not UTF-8") from None
    return text
