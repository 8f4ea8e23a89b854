"""The messages of a conversation as its page shows them: short, with what became of each, in blocks.

A page may hold thousands. A browser passes over the blocks that are out of sight, and a message says
no more than it takes to choose it: the details have the whole of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import NamedTuple

from cmzon_secrets.emulator.account.exchanges import Exchange

__all__ = ["Block", "Bubble", "Verdict", "ignored", "in_blocks"]

LONGEST_TEXT = 1000
"""Characters of a message's text."""
LONGEST_REMARK = 300
"""Characters of what is remarked on a message."""
REASONS = ("fault: ", "limit: ", "token: ", "address: ", "scope: ")
"""How the notes begin that tell more than the answer does."""
IGNORED = "ignored"
"""How those begin that are much the same of every message that a program sends."""
MOMENT = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})T([0-9]{2}:[0-9]{2}:[0-9]{2})(\.[0-9]+)?Z", re.ASCII
)
BLOCK = 100
"""Messages in a block, about."""


class Verdict(NamedTuple):
    """What became of a message: how it looks (a class of the style sheet), and in words."""

    look: str
    words: str

    @classmethod
    def of(cls, exchange: Exchange) -> Verdict:
        """Of a request that was taken the answer may still be lost; its sender does not know then."""
        status = exchange.status
        if not exchange.accepted:
            return cls("bad", f"✗ {status or 'no answer'}")
        answered = status is not None and status < 300
        return cls("good", "✓ accepted") if answered else cls("lost", "✓ accepted, answer lost")


class Bubble(NamedTuple):
    """One message; ``new_day``: it is not of the day of the one above."""

    id: str
    href: str
    new_day: bool
    day: str
    time: str
    text: str
    remarks: str
    verdict: Verdict
    exchange: Exchange


class Block(NamedTuple):
    """Messages that are laid out together; ``full``: so many that it pays to do it only in sight."""

    id: str
    full: bool
    bubbles: list[Bubble]


def in_blocks(exchanges: Sequence[Exchange], start: str) -> Iterator[Block]:
    """The messages from above; ``start`` is a link to which the request's id is added.

    A message stays in its block while others come and go, so that a page which follows need not move
    it: blocks are cut by ``seq``, and wider where few of all messages are shown.
    """
    width = BLOCK * _spread(exchanges)
    for number, group in groupby(
        _bubbles(exchanges, start), lambda each: each.exchange.seq // width
    ):
        bubbles = list(group)
        yield Block(f"b{number * width}", len(bubbles) > BLOCK / 2, bubbles)


def ignored(exchanges: Iterable[Exchange]) -> str:
    """What the API passed over in any of these messages, each once: said of all of them together."""
    notes = (note for each in exchanges for note in each.notes if note.startswith(IGNORED))
    return _cut(", ".join(dict.fromkeys(notes)), LONGEST_REMARK)


def _spread(exchanges: Sequence[Exchange]) -> int:
    """How many messages there were for each one shown, as a power of two: it changes seldom."""
    if not exchanges:
        return 1
    span = exchanges[-1].seq - exchanges[0].seq + 1
    return int(2 ** ((span // len(exchanges)).bit_length() - 1))


def _bubbles(exchanges: Sequence[Exchange], start: str) -> Iterator[Bubble]:
    above = ""
    for each in exchanges:
        day, time = format(datetime.fromtimestamp(each.at, UTC), "%Y-%m-%d %H:%M:%S").split()
        yield Bubble(
            id=f"m{each.seq}",
            href=f"{start}{each.id}#m{each.seq}",
            new_day=day != above,
            day=day,
            time=time,
            text=_cut(each.text, LONGEST_TEXT),
            remarks=_cut("\n".join(_remarks(each, day)), LONGEST_REMARK),
            verdict=Verdict.of(each),
            exchange=each,
        )
        above = day


def _remarks(exchange: Exchange, day: str) -> Iterator[str]:
    """What was noted, and what the answer says where the message was not taken and no note tells why."""
    for note in exchange.notes:
        if not note.startswith(IGNORED):
            yield MOMENT.sub(lambda at: at[2] if at[1] == day else f"{at[1]} {at[2]}", note)
    told = any(note.startswith(REASONS) for note in exchange.notes)
    if not exchange.accepted and exchange.response_body and not told:
        yield exchange.reason


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[:longest]}…"
