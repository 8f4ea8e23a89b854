"""Waiting for a message: woken when one comes, and answered at once where it came before.

A look that found nothing is followed by a pause, so that a thousand messages a second cost those who
wait a few looks and not a thousand; the more there are, the longer, so that all of them together cost
no more than a few. Only who has just looked pauses: a message after a silence is seen as it comes.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

from cmzon_secrets.emulator.account.account import Account
from cmzon_secrets.emulator.account.changes import MESSAGES, Watcher
from cmzon_secrets.emulator.account.exchanges import Exchange, ExchangeFilter

__all__ = ["wait_for"]

PAUSE = 0.02
"""Seconds, at least."""
LOOKS = 400
"""Looks a second of all who wait."""
SHOWN = 80
"""Characters of a text that are shown of a message that did not match."""


async def wait_for(account: Account, wanted: ExchangeFilter, seconds: float) -> Exchange:
    """The oldest exchange wanted, be it there already or come within ``seconds`` of real time.

    Raises TimeoutError saying what came instead.
    """
    search = _Search(account, wanted)
    with account.changes.watched() as watcher:
        try:
            async with asyncio.timeout(seconds):
                return await _found(account, search, watcher)
        except TimeoutError:
            found = search.look()  # what came in the last pause came in time
    if found is None:
        raise TimeoutError(_explanation(account, wanted, seconds))
    return found


async def _found(account: Account, search: _Search, watcher: Watcher) -> Exchange:
    found = search.look()
    while found is None:
        if MESSAGES in await watcher.changed() and (found := search.look()) is None:
            await asyncio.sleep(max(PAUSE, account.changes.watchers / LOOKS))
    return found


class _Search:
    """Looks again and again, at what came since the last look only."""

    def __init__(self, account: Account, wanted: ExchangeFilter) -> None:
        self._account = account
        self._wanted = wanted
        self._left = wanted
        self._era = account.era

    def look(self) -> Exchange | None:
        """The oldest one wanted."""
        exchanges = self._account.exchanges
        if self._account.era is not self._era:  # all of it is new
            self._era, self._left = self._account.era, self._wanted
        found = exchanges.oldest(self._left, 1)
        self._left = replace(self._left, after=max(self._left.after, exchanges.last))
        return found[0] if found else None


def _explanation(account: Account, wanted: ExchangeFilter, seconds: float) -> str:
    """Why it waited in vain, for who reads the failing test."""
    others = ExchangeFilter(after=wanted.after)
    number = account.exchanges.count(others)
    came = "none came at all"
    if number:
        (last,) = account.exchanges.newest(others, 1)
        came = f"{number} others came, the last" if number > 1 else "1 other came,"
        came += f" to {last.recipient or 'no number'} {_outcome(last)}"
    return f"within {seconds:g} s no message matched; {came}"


def _outcome(exchange: Exchange) -> str:
    answer = "and got no answer"
    if exchange.status is not None:
        answer = f"with status {exchange.status}"
    if exchange.accepted:
        return f"{answer}: {exchange.text[:SHOWN]!r}"
    return f"{answer}: {exchange.reason}" if exchange.reason else answer
