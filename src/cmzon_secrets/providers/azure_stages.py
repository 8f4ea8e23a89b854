"""The stages in the two secrets of a token, in as few requests as can tell them.

A look asks for the top of NAME-pending, then for NAME. What is known is not asked for again:

- NAME was listed before, and its top is still the same: nothing was put since, or it would be on top;
- CURRENT was made from the top of NAME-pending: that has won, or nobody could have promoted it, and
  its value is CURRENT's;
- the value of a version never changes.

Everything else is listed, for only a listing shows who of its writers won.
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from cmzon_secrets.clouds.azure import Calls
from cmzon_secrets.providers.azure_secrets import SETTLED, Secret
from cmzon_secrets.providers.azure_versions import (
    EMPTY,
    EMPTY_TAGS,
    NONE,
    Line,
    Version,
    tags_of,
    top_of,
)
from cmzon_secrets.tokens import Token, Versions

__all__ = ["Held", "Place"]


class Held(NamedTuple):
    """What a look found, or a write left. A line is None where there is no such secret."""

    versions: Versions
    line: Line | None
    pending: Line | None

    @property
    def final(self) -> bool:
        """Whether it can only change by what is put on top."""
        return all(line.final for line in (self.line, self.pending) if line is not None)

    @property
    def absent(self) -> bool:
        """Whether there is no such place."""
        return self.line is None and self.pending is None

    @property
    def spares_listing(self) -> bool:
        """Whether asking for the top of NAME is less than listing it, which also shows PREVIOUS."""
        return self.line is not None and (self.versions.previous is None or self.line.long)

    def bare(self) -> Held:
        """To be remembered: the values are in its tokens alone, which show them to nobody."""
        line = self.line.bare() if self.line is not None else None
        pending = self.pending.bare() if self.pending is not None else None
        return Held(self.versions, line, pending)

    def token(self, version_id: str) -> Token | None:
        """What this version of NAME holds, where it was CURRENT or PREVIOUS."""
        if self.line is None:
            return None
        top = self.line.latest
        return {top.previous: self.versions.previous, top.id: self.versions.current}.get(version_id)


class Place:
    """Both secrets, within one verb. ``uri`` begins the errors."""

    def __init__(self, calls: Calls, name: str, pending: str, *, uri: str) -> None:
        self._calls = calls
        self._uri = uri
        self.secret = Secret(calls, name)
        self.pending = Secret(calls, pending, may_be_disabled=True)

    def exists(self) -> bool:
        """Whether one of them is there."""
        return self.secret.latest() is not None or self.pending.latest() is not None

    def create(self) -> None:
        """Make NAME-pending, without a token."""
        self.pending.put_on(NONE, EMPTY, EMPTY_TAGS)

    def write(self, held: Held, after: Versions) -> Held | None:
        """Make ``after`` of what is held. None where a rival came in between; then look who won."""
        if after.current is not held.versions.current and after.current is not None:
            line = self._promote(held, after.current)
            return Held(after, line, held.pending) if line is not None else None
        if after.previous is not held.versions.previous and held.line is not None:
            self.secret.disable(held.line.latest.previous)
        if after.pending is held.versions.pending:
            return Held(after, held.line, held.pending)
        pending = self._stage(held, after.pending)
        return Held(after, held.line, pending) if pending is not None else None

    def _promote(self, held: Held, token: Token) -> Line | None:
        below = top_of(held.line)
        tags = tags_of(token) | {"cmzon-prev": below, "cmzon-src": top_of(held.pending)}
        return self.secret.put_on(below, token.reveal(), tags, expires_on=token.expires_at)

    def _stage(self, held: Held, token: Token | None) -> Line | None:
        value, tags = (EMPTY, EMPTY_TAGS) if token is None else (token.reveal(), tags_of(token))
        return self.pending.put_on(top_of(held.pending), value, tags)

    def look(self, last: Held | None = None, *, settled: bool = False) -> Held:
        """All stages as they were at one moment. ``settled``: no rival can change them any more.

        ``last``: what was found before.
        """
        last = last if last is not None and last.final else None
        known = last.line if last is not None and last.spares_listing else None
        while True:
            top = self.pending.latest()
            asked_at = self._calls.server_time
            line = self.secret.line(settled=settled, known=known, source=top)
            pending = self._below(top, line, last, settled=settled)
            if top_of(pending) != (top.id if top is not None else NONE):
                continue  # it got another top meanwhile
            held = Held(self._view(line, pending, last), line, pending)
            if held.versions.pending is None or _older(line, asked_at) or self._waits(pending):
                return held  # PENDING was there when CURRENT was

    def _below(
        self, top: Version | None, line: Line | None, last: Held | None, *, settled: bool
    ) -> Line | None:
        """NAME-pending below its top. Where it has to be listed, it may have another top by then."""
        if top is None:
            return None
        if last is not None and last.pending is not None and last.pending.latest.id == top.id:
            return last.pending.under(top)
        if line is not None and line.in_order and line.latest.source == top.id:
            return Line([], top, settled=True)
        return self.pending.line(settled=settled, source=top)

    def _waits(self, pending: Line | None) -> bool:
        return self.pending.still(top_of(pending))

    def _view(self, line: Line | None, pending: Line | None, last: Held | None) -> Versions:
        waiting = None
        if pending is not None and not _spent(pending, line):
            waiting = pending.latest.token(f"{self._uri} (its PENDING)")
        current = line.latest.token(self._uri) if line is not None else None
        if line is None or current is None:
            return Versions(pending=waiting)
        return Versions(current, waiting, self._previous(line, last), line.latest.written_at)

    def _previous(self, line: Line, last: Held | None) -> Token | None:
        seen = last if last is not None and top_of(last.line) == line.latest.id else None
        if seen is not None and seen.versions.previous is None:
            return None  # what was disabled stays so
        listed = line.find(line.latest.previous)
        if listed is None or not listed.enabled:
            return None
        if last is not None and (seen is None or not seen.spares_listing):  # listed just now
            token = last.token(listed.id)
            if token is not None:
                return token
        whole = self.secret.version(listed.id)
        return whole.token(f"{self._uri} (version {listed.id})") if whole is not None else None


def _older(line: Line | None, asked_at: datetime | None) -> bool:
    """Whether CURRENT was there before that, by the server's own clock."""
    if line is None:
        return True
    return asked_at is not None and line.latest.created + SETTLED <= asked_at.timestamp()


def _spent(pending: Line, line: Line | None) -> bool:
    """Whether what is pending was promoted: this version of it, or one of the same request."""
    made = (v for v in line or () if pending.same(pending.latest.id, v.source))
    return line is not None and any(line.won(v.id) for v in made)
