"""The one secret of ``layout=single``, or the two of ``layout=split``, as one thing that changes at once.

With ``single`` a change is one write. With ``split`` CURRENT is in the secret that readers see and the rest
in ``PATH.rotation``; a change of the rest is one write, and a promotion is three:

1. what will be replaced is saved in ``PATH.rotation``, with the version of the first secret that will be replaced;
2. that version is replaced, by check-and-set: here it happens;
3. ``PATH.rotation`` is tidied up.

Whoever finds the first step alone and wants something else writes the first secret anew, unchanged:
from then on the second step cannot happen. ``vault_documents.settled`` judges all that can be found.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import count
from typing import Any

from cmzon_secrets.clock import Clock
from cmzon_secrets.clouds.vault import Calls
from cmzon_secrets.clouds.vault_paths import checked_segments
from cmzon_secrets.deadline import backoff
from cmzon_secrets.errors import ConfigurationError, InvalidToken, InvalidURI, retold
from cmzon_secrets.providers.vault_documents import (
    LAYOUTS,
    MAIN,
    SINGLE,
    STATE,
    Document,
    Layout,
    settled,
)
from cmzon_secrets.providers.vault_secrets import BACKOFF, Held, Moved, VaultSecret
from cmzon_secrets.tokens import Token, Versions
from cmzon_secrets.uri import Location

__all__ = ["SECOND", "Look", "Secrets", "Seen", "layout_of", "mount_and_path", "naming"]

SECOND = ".rotation"
"""Behind the path: the second secret of ``layout=split``."""


@dataclass(frozen=True, slots=True)
class Seen:
    """Both secrets at one moment; with ``layout=single`` the second is the first."""

    main: Held
    state: Held
    document: Document
    notes: Document

    @property
    def versions(self) -> Versions:
        """The stages. A new object each time."""
        return settled(self.document, self.notes)

    @property
    def being_replaced(self) -> bool:
        """Somebody may be about to replace the first secret, or died there."""
        return self.notes.moving is not None and self.main.version <= self.notes.moving


@dataclass(frozen=True, slots=True)
class Look:
    """What ``versions`` found: where the server's clock stood, and ours that never steps back."""

    seen: Seen
    server_date: datetime | None
    at: float

    def now(self, clock: Clock) -> datetime:
        """The later of our clock and the server's, as of a look that is over."""
        now = clock.now()
        if self.server_date is None:
            return now
        return max(now, self.server_date + timedelta(seconds=clock.monotonic() - self.at))


class Secrets:
    """``main`` is the secret that readers see. ``uri`` begins each error."""

    def __init__(self, mount: str, path: str, layout: Layout, *, uri: str) -> None:
        self._layout = layout
        self._uri = uri
        self._second = path + SECOND
        self.main = VaultSecret(mount, path, uri=uri)
        self._state = self.main if layout == "single" else VaultSecret(mount, self._second, uri=uri)

    def look(self, calls: Calls) -> Seen:
        """Both at one moment: the second is read between two equal reads of the first.

        Raises InvalidToken or ConfigurationError where a document is not ours.
        """
        while True:
            main = self.main.read(calls)
            if main.data is None:
                return Seen(main, main, Document(), Document())
            if self._state is self.main:
                document = self._document(main, SINGLE)
                return Seen(main, main, document, document)
            state = self._state.read(calls)
            if self.main.read(calls).version == main.version:
                return Seen(main, state, self._document(main, MAIN), self._document(state, STATE))

    def write(self, calls: Calls, seen: Seen, before: Versions, after: Versions) -> None:
        """Make ``after`` of ``before``, which was ``seen``. Raises Moved where that is no longer so."""
        if self._state is self.main:
            self._write_main(calls, seen, after, **_stages(after))
        elif after.current is not before.current:
            self._replace(calls, seen, before, after)
        else:
            if seen.being_replaced:
                self._write_main(calls, seen, before)  # from here on that promotion cannot happen
            tidy = self._rendered(seen.notes.holding(_stages(after)))
            self._state.write(calls, tidy, cas=seen.state.version)

    def create(self, calls: Calls) -> None:
        """Make those that are not there, empty."""
        for secret in (self.main, self._state):
            for tries in count(1):
                held = secret.read(calls)
                if held.data is not None:
                    break
                if held.gone == "absent":
                    secret.require_version_2(calls)
                with suppress(Moved):
                    secret.write(calls, self._rendered(Document()), cas=held.version)
                    break
                calls.deadline.pause(backoff(tries, *BACKOFF))

    def _replace(self, calls: Calls, seen: Seen, before: Versions, after: Versions) -> None:
        tokens = _stages(before) | {"replaced": before.current}
        saved = self._rendered(seen.notes.holding(tokens, moving=seen.main.version))
        tidy = self._rendered(seen.notes.holding(_stages(after)))
        version = self._state.write(calls, saved, cas=seen.state.version)
        self._write_main(calls, seen, after)
        with suppress(Moved):  # somebody else has tidied up
            self._state.write(calls, tidy, cas=version)

    def _write_main(self, calls: Calls, seen: Seen, view: Versions, **stages: Token | None) -> None:
        tokens = {"token": view.current, **stages}
        document = seen.document.holding(tokens, promoted_at=view.promoted_at)
        self.main.write(calls, self._rendered(document), cas=seen.main.version)

    def _document(self, held: Held, fields: tuple[str, ...]) -> Document:
        with naming(self._uri, f"{self._second}: " if fields == STATE else ""):
            return Document.read(held.data or {}, fields, self._layout, written_at=held.written_at)

    def _rendered(self, document: Document) -> dict[str, Any]:
        with naming(self._uri):
            return document.write(self._layout)


@contextmanager
def naming(uri: str, secret: str = "") -> Iterator[None]:
    """A document knows no place: its errors are told here which one they are about."""
    try:
        yield
    except (InvalidToken, ConfigurationError) as error:
        raise retold(error, f"{uri} — {secret}{error}") from None


def mount_and_path(location: Location) -> tuple[str, str]:
    """``mount=``, or the first part of the path, and the rest. Raises InvalidURI."""
    segments = checked_segments(location, "hashivault://MOUNT/PATH")
    mount = location.options.get("mount", segments[0]).strip("/").split("/")
    path = segments[len(mount) :]
    if segments[: len(mount)] != mount or not path:
        raise InvalidURI(
            f"{location.scheme}: URI — its path does not begin with mount= and go on behind it",
            hint="for a mount with slashes: hashivault://team/kv/PATH?mount=team/kv",
        )
    if path[-1].endswith(SECOND):
        raise InvalidURI(
            f"{location.scheme}: URI — a path that ends in {SECOND} is the second secret of another",
            hint="name the path without it, with layout=split",
        )
    return "/".join(mount), "/".join(path)


def layout_of(location: Location) -> Layout:
    """Its option ``layout``. Raises InvalidURI."""
    given = location.options.get("layout", LAYOUTS[0])
    for layout in LAYOUTS:
        if given == layout:
            return layout
    raise InvalidURI(
        f"{location.scheme}: URI — layout={given[:40]!r} is not known; valid: {', '.join(LAYOUTS)}"
    )


def _stages(view: Versions) -> dict[str, Token | None]:
    return {"pending": view.pending, "previous": view.previous}
