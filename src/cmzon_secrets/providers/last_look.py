"""What a handle found at its last look: a verb may rest on it where the backend guards the write.

Whoever rotates looks, decides and acts. Where the backend itself refuses the act if somebody wrote
since, a second look before it is a round trip for nothing. So a handle remembers what it found, for
as long as the view is held that it gave to whoever looked: when that is gone, so is the memory,
and no value stays here longer than it stays there. It serves one verb.

Nothing is answered from memory. A verb that would say "no change" or ConflictError looks first.
"""

from __future__ import annotations

import weakref
from contextlib import suppress
from typing import Generic, TypeVar

from cmzon_secrets.tokens import Versions

__all__ = ["LastLook"]

_F = TypeVar("_F")


class LastLook(Generic[_F]):
    """The last view, and what was found beside it. Thread-safe, and without a lock to be forked."""

    def __init__(self) -> None:
        self._kept: list[tuple[weakref.ref[Versions], _F]] = []

    def keep(self, view: Versions, found: _F) -> None:
        """Remember ``found`` while somebody holds ``view``; it must not hold it itself."""
        kept: list[tuple[weakref.ref[Versions], _F]] = []
        kept.append((weakref.ref(view, lambda _: kept.clear()), found))
        self.forget()
        self._kept = kept

    def take(self) -> tuple[Versions, _F] | None:
        """Both, once; None where there is nothing, or nobody holds the view any more."""
        with suppress(IndexError):  # another thread took it, or the view has just died
            reference, found = self._kept.pop()
            view = reference()
            if view is not None:
                return view, found
        return None

    def forget(self) -> None:
        """Remember nothing."""
        self._kept.clear()
