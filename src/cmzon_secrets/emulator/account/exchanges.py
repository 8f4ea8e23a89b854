"""Every ``POST /v1/messages`` with its answer, as sent, for who looks: the inbox and the test API.

Secrets are taken out before anything is kept. Without a state folder the newest ``KEPT`` are kept.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from cmzon_secrets.emulator.account.changes import MESSAGES, Changes
from cmzon_secrets.emulator.account.messages import LONGEST_TEXT
from cmzon_secrets.emulator.clock import format_time
from cmzon_secrets.emulator.http.redaction import without_secrets
from cmzon_secrets.emulator.storage.journal import Journal
from cmzon_secrets.emulator.storage.queries import Where

__all__ = [
    "ACCEPTED",
    "KEPT",
    "LONGEST_FILTER",
    "LONGEST_RECIPIENT",
    "NOBODY",
    "STATUS",
    "Conversation",
    "Exchange",
    "ExchangeFilter",
    "Exchanges",
]

KEPT = 500
LONGEST_RECIPIENT = 64
LONGEST_FILTER = 200
"""Characters; what is looked for anywhere in a text costs as much for each of them."""
NOBODY = ""
"""The recipient of a request that names none."""

_COLUMNS = (
    *("seq", "id", "at", "seconds", "recipient", "text", "status", "message_id", "token_id"),
    *("ip", "idempotency_key", "notes"),
    *("request_headers", "request_body", "response_headers", "response_body"),
)
_INSERT = f"INSERT INTO exchanges VALUES ({', '.join('?' * len(_COLUMNS))})"  # noqa: S608  # only marks
_FORGET = (
    "DELETE FROM exchanges WHERE seq <="
    " (SELECT seq FROM exchanges ORDER BY seq DESC LIMIT 1 OFFSET ?)"
)
STATUS = r"accepted|failed|none|[1-5]([0-9]{2}|xx)"
"""What ``ExchangeFilter.status`` can be."""
ACCEPTED = "accepted"
_FAILED = "message_id IS NULL"
_OUTCOMES = {ACCEPTED: "message_id IS NOT NULL", "failed": _FAILED, "none": "status IS NULL"}
_Headers = list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and its answer. ``status`` None: the connection was reset, or the client left.

    ``seq`` counts up, ``id`` is the answer's ``X-Request-Id``, ``at`` the account's time in Unix
    seconds, ``seconds`` how long it took. ``recipient`` and ``text`` are what the body says, if it
    says so, cut where no message goes on. ``message_id`` is there where the API took the message,
    whatever became of the answer. ``notes`` tell what the answer does not: faults that struck,
    fields that were ignored.
    """

    seq: int
    id: str
    at: float
    seconds: float
    recipient: str
    text: str
    status: int | None
    message_id: str | None
    token_id: str | None
    ip: str
    idempotency_key: str | None
    notes: list[str]
    request_headers: _Headers
    request_body: str
    response_headers: _Headers
    response_body: str

    @property
    def accepted(self) -> bool:
        """Whether the API took the message; that it did may have been lost with the answer."""
        return self.message_id is not None

    @property
    def reason(self) -> str:
        """The error that was answered, in the API's words; empty where none was."""
        try:
            error = json.loads(self.response_body)["error"]
            return str(error.get("details") or error["message"])
        except (ValueError, LookupError, TypeError, AttributeError):
            return ""

    def row(self) -> tuple[Any, ...]:
        """What the journal keeps."""
        return (
            *(self.seq, self.id, self.at, self.seconds, self.recipient, self.text, self.status),
            *(self.message_id, self.token_id, self.ip, self.idempotency_key),
            *(json.dumps(self.notes), json.dumps(self.request_headers), self.request_body),
            *(json.dumps(self.response_headers), self.response_body),
        )

    @classmethod
    def from_row(cls, row: tuple[Any, ...]) -> Exchange:
        """What ``row`` gave."""
        values = dict(zip(_COLUMNS, row, strict=True))
        for name in ("notes", "request_headers", "response_headers"):
            values[name] = json.loads(values[name])
        return cls(**values)

    def entry(self) -> dict[str, Any]:
        """The exchange as the test API shows it."""
        return {
            "seq": self.seq,
            "message_id": self.message_id,
            "request_id": self.id,
            "accepted": self.accepted,
            "at": format_time(self.at),
            "seconds": round(self.seconds, 6),
            "to": self.recipient or None,
            "text": self.text,
            "status": self.status,
            "token_id": self.token_id,
            "ip": self.ip,
            "idempotency_key": self.idempotency_key,
            "notes": self.notes,
            "request": {"headers": self.request_headers, "body": self.request_body},
            "response": {"headers": self.response_headers, "body": self.response_body},
        }


@dataclass(frozen=True, slots=True)
class ExchangeFilter:
    """Which exchanges are wanted; an empty field wants all.

    ``to`` is a recipient (None: any; "": of nobody), ``number`` a part of one; ``status`` is
    ``accepted``, ``failed``, a status, a class like ``4xx``, or ``none`` for no answer; ``text`` is
    found anywhere in the text, in any case; ``after`` and ``before`` are ``seq`` and exclude
    themselves.
    """

    to: str | None = None
    number: str = ""
    token_id: str = ""
    status: str = ""
    text: str = ""
    idempotency_key: str = ""
    message_id: str = ""
    after: int = 0
    before: int | None = None

    def where(self) -> Where:
        """The condition in SQL."""
        where = Where()
        if self.to is not None:
            where.add("recipient = ?", self.to)
        if self.number:
            where.add("instr(recipient, ?)", self.number)
        if self.text:
            where.add("instr(casefold(text), ?)", self.text.casefold())
        for column in ("token_id", "idempotency_key", "message_id"):
            if value := getattr(self, column):
                where.add(f"{column} = ?", value)
        if self.status in _OUTCOMES:
            where.add(_OUTCOMES[self.status])
        elif self.status:
            low = int(self.status[0]) * 100 if self.status.endswith("xx") else int(self.status)
            where.add("status BETWEEN ? AND ?", low, low + 99 * self.status.endswith("xx"))
        if self.after:
            where.add("seq > ?", self.after)
        if self.before is not None:
            where.add("seq < ?", self.before)
        return where


@dataclass(frozen=True, slots=True)
class Conversation:
    """What was sent to one recipient: how many requests, how many of them failed, and the last."""

    recipient: str
    requests: int
    failed: int
    last: Exchange


class Exchanges:
    """The exchanges kept."""

    def __init__(self, journal: Journal, changes: Changes) -> None:
        self._journal = journal
        self._changes = changes
        ((newest,),) = journal.rows("SELECT coalesce(max(seq), 0) FROM exchanges")
        self.last = int(newest)
        """``seq`` of the last one that was added."""

    def go_on_from(self, before: Exchanges) -> None:
        """Take the place of others: a ``seq`` that was given is not given again."""
        self.last = max(self.last, before.last)

    def add(
        self,
        *,
        presented: tuple[str, ...],
        idempotency_key: str | None,
        notes: Iterable[str],
        request_body: str,
        response_body: str,
        **facts: Any,
    ) -> None:
        """Keep one; ``presented`` are the secrets it came with, taken out wherever they stand."""

        def clean(text: str) -> str:
            return without_secrets(text, *presented)

        recipient, text = _addressed(request_body)
        exchange = Exchange(
            seq=self.last + 1,
            recipient=clean(recipient)[:LONGEST_RECIPIENT],
            text=clean(text)[:LONGEST_TEXT],
            idempotency_key=idempotency_key and clean(idempotency_key),
            notes=[clean(note) for note in notes],
            request_body=clean(request_body),
            response_body=clean(response_body),
            **facts,
        )
        self.last = exchange.seq
        self._journal.later(_INSERT, exchange.row())
        if self._journal.in_memory:
            self._journal.later(_FORGET, (KEPT,), replaces="exchanges forgotten")
        self._changes.tell(MESSAGES)

    def clear(self) -> None:
        """Forget them all; their numbers are not given again."""
        self._journal.write(("DELETE FROM exchanges", ()))
        self._changes.tell(MESSAGES)

    def get(self, request_id: str) -> Exchange | None:
        """The exchange with this ``X-Request-Id``."""
        rows = self._select("id = ? LIMIT 1", request_id)
        return next(rows, None)

    def known(self, request_ids: Iterable[str]) -> set[str]:
        """Which of these are the ``X-Request-Id`` of an exchange."""
        query = "SELECT id FROM exchanges WHERE id IN (SELECT value FROM json_each(?))"
        return {found for (found,) in self._journal.rows(query, json.dumps(list(request_ids)))}

    def oldest(self, wanted: ExchangeFilter, limit: int) -> list[Exchange]:
        """The exchanges wanted, in their order; of more than ``limit`` the first."""
        where = wanted.where()
        return list(self._select(f"{where} ORDER BY seq LIMIT ?", *where.arguments, limit))

    def newest(self, wanted: ExchangeFilter, limit: int) -> list[Exchange]:
        """The exchanges wanted, in their order; of more than ``limit`` the last."""
        where = wanted.where()
        return list(self._select(f"{where} ORDER BY seq DESC LIMIT ?", *where.arguments, limit))[
            ::-1
        ]

    def count(self, wanted: ExchangeFilter) -> int:
        """How many are wanted."""
        where = wanted.where()
        query = f"SELECT count(*) FROM exchanges WHERE {where}"  # noqa: S608  # our own conditions
        ((found,),) = self._journal.rows(query, *where.arguments)
        return int(found)

    def conversations(self, wanted: ExchangeFilter, limit: int) -> list[Conversation]:
        """By recipient, the one with the newest exchange first."""
        where = wanted.where()
        groups = self._journal.rows(
            f"SELECT recipient, count(*), sum({_FAILED}), max(seq)"  # noqa: S608  # our own conditions
            f" FROM exchanges WHERE {where} GROUP BY recipient ORDER BY max(seq) DESC LIMIT ?",
            *where.arguments,
            limit,
        )
        last = {exchange.seq: exchange for exchange in self._each(seq for *_, seq in groups)}
        return [Conversation(to, n, failed, last[seq]) for to, n, failed, seq in groups]

    def _each(self, numbers: Iterator[int]) -> Iterator[Exchange]:
        wanted = list(numbers)
        return self._select(f"seq IN ({', '.join('?' * len(wanted))})", *wanted)

    def _select(self, rest: str, *arguments: Any) -> Iterator[Exchange]:
        query = f"SELECT {', '.join(_COLUMNS)} FROM exchanges WHERE {rest}"  # noqa: S608  # our own conditions
        return map(Exchange.from_row, self._journal.rows(query, *arguments))


def _addressed(body: str) -> tuple[str, str]:
    """To whom a body says it is, and what: as far as it does, whatever else is wrong with it."""
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError):
        return NOBODY, ""
    if not isinstance(parsed, dict):
        return NOBODY, ""
    text = parsed.get("text")
    return _text(parsed.get("to")), _text(text.get("body") if isinstance(text, dict) else None)


def _text(value: object) -> str:
    """A string fit to be kept and shown; anything else is empty."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else ""
