"""``file:PATH?key=KEYURI``: the three stages in one sealed file on this machine.

The document is the JSON of ``records.py``. ``sealing.py`` says what bytes they become, ``private_files.py`` how
those get to the disk. Reads take no lock: a rename shows the old file or the new one. Writes hold
``PATH.lock`` from reading to renaming, so ``cas`` is atomic between all processes that see one disk.

The seal is bound to the real path (symbolic links resolved): a file copied over another's, or
moved, is SealBroken. Permissions: the file must be ours (or root's) with nothing for group or others;
writing needs the right to create files in its folder. A missing file is an empty store.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cmzon_secrets.clock import SYSTEM_CLOCK, Clock
from cmzon_secrets.errors import (
    CMzonSecretsError,
    InvalidToken,
    SealBroken,
    TokenNotFound,
    retold,
    shielded,
)
from cmzon_secrets.private_files import (
    LOCK_TIMEOUT,
    exclusive_lock,
    read_private,
    replace_durably,
)
from cmzon_secrets.provider import TokenStore
from cmzon_secrets.records import from_document, to_document
from cmzon_secrets.sealing import MAX_ENVELOPE, SealingKey, new_id, read_header, seal, unseal
from cmzon_secrets.stages import discarded, promoted, staged
from cmzon_secrets.tokens import Token, Versions
from cmzon_secrets.uri import Location

__all__ = ["SealedFile"]


@dataclass(frozen=True, slots=True)
class _Held:
    """What the file holds; ``id`` is None where there is no file yet."""

    versions: Versions
    id: str | None


class SealedFile(TokenStore):
    """A sealed file. ``lock_timeout``: seconds to wait for other writers."""

    OPTIONS = frozenset({"key"})

    def __init__(
        self,
        path: str | os.PathLike[str],
        key: SealingKey,
        *,
        clock: Clock = SYSTEM_CLOCK,
        lock_timeout: float = LOCK_TIMEOUT,
    ) -> None:
        self._given = os.fspath(path)
        # Not Path.absolute, which keeps "..": fixed now, because a daemon may change its folder.
        self._path = os.path.abspath(self._given)  # noqa: PTH100
        self._key = key
        self._clock = clock
        self._lock_timeout = lock_timeout

    @classmethod
    def from_location(cls, location: Location, *, key: SealingKey) -> Self:  # type: ignore[override]  # "key" is among OPTIONS
        """``file:PATH`` or ``file:///PATH``."""
        return cls(location.file_path, key)

    @property
    def uri(self) -> str:
        """``file:PATH?key=KEYURI``, the path as it was given."""
        return str(Location("file", self._given, {"key": self._key.uri}))

    @property
    def address(self) -> Path:
        """Where it was said to be, from the root; it may be a symbolic link."""
        return Path(self._path)

    @property
    def path(self) -> Path:
        """Where it is now, symbolic links resolved."""
        return Path(self._place())

    @property
    def key(self) -> SealingKey:
        """What seals it."""
        return self._key

    @property
    @shielded
    def identity(self) -> str:
        """``file:`` and the id in the header. Makes an empty sealed file where there is none."""
        return f"file:{self._update(lambda held: held, create=True)}"

    def get(self) -> Token:
        """CURRENT, read now."""
        current = self.versions().current
        if current is None:
            raise self._nothing_there()
        return current

    @shielded
    def versions(self) -> Versions:
        """All stages; empty where there is no file."""
        return self._read(self._place()).versions

    @shielded
    def stage(self, token: Token) -> None:
        """PENDING := token."""
        self._update(lambda held: staged(held, token, uri=self.uri))

    @shielded
    def promote(self, token_id: str, *, replacing: str | None) -> None:
        """PENDING becomes CURRENT, CURRENT becomes PREVIOUS."""
        self._update(
            lambda held: promoted(
                held, token_id, replacing=replacing, now=self._clock.now(), uri=self.uri
            )
        )

    @shielded
    def discard(self, token_id: str) -> None:
        """Forget a PENDING or PREVIOUS."""
        self._update(lambda held: discarded(held, token_id, uri=self.uri))

    @shielded
    def rekey(self, key: SealingKey) -> None:
        """Seal the file with another key from now on; its id stays. Raises TokenNotFound."""
        place = self._place()
        if self._read(place).id is None:
            raise TokenNotFound(f"{self.uri} — there is no file to rekey", uri=self.uri)
        self._rehearse(place, key)
        with self._locked(place):
            self._write(place, self._read(place), key)
        self._key = key

    def close(self) -> None:
        """Close the key."""
        self._key.close()

    def _update(
        self, change: Callable[[Versions], Versions], *, create: bool = False
    ) -> str | None:
        """Apply ``change`` to what is held, atomically; returns the file's id."""
        place = self._place()
        held = self._read(place)  # may ask for a passphrase: never while others wait at the lock
        if not _needs_writing(held, change(held.versions), create):
            return held.id
        if held.id is None:
            self._rehearse(place, self._key)
        with self._locked(place):
            held = self._read(place)
            versions = change(held.versions)
            if not _needs_writing(held, versions, create):
                return held.id
            return self._write(place, _Held(versions, held.id), self._key)

    def _place(self) -> str:
        return os.path.realpath(self._path)  # at each use: a symbolic link may be changed

    @contextmanager
    def _locked(self, place: str) -> Iterator[None]:
        with exclusive_lock(f"{place}.lock", uri=self.uri, timeout=self._lock_timeout):
            yield

    def _rehearse(self, place: str, key: SealingKey) -> None:
        """Let a key ask, derive or connect for the first time while nobody waits at the lock."""
        with self._locked(place):
            pass  # a folder that is missing or read-only is told before anybody types
        with self._naming_key():
            key.wrap(os.urandom(32))

    def _read(self, place: str) -> _Held:
        envelope = read_private(place, limit=MAX_ENVELOPE, uri=self.uri)
        if envelope is None:
            return _Held(Versions(), None)
        with self._naming_key():
            document = unseal(envelope, self._key, binding=os.fsencode(place), uri=self.uri)
        try:
            versions = from_document(json.loads(document))
        except InvalidToken as error:
            raise retold(error, f"{self.uri} — {error}") from None
        return _Held(versions, read_header(envelope).id)

    def _write(self, place: str, held: _Held, key: SealingKey) -> str:
        file_id = held.id or new_id()
        document = json.dumps(to_document(held.versions), separators=(",", ":")).encode("ascii")
        with self._naming_key():
            envelope = seal(document, key, id=file_id, binding=os.fsencode(place), uri=self.uri)
        replace_durably(place, envelope, uri=self.uri)
        return file_id

    def _nothing_there(self) -> TokenNotFound:
        why, remedy = "no token is stored there", f"cmzon-secrets put {shlex.quote(self.uri)}"
        folder = Path(self._place()).parent
        if not folder.is_dir():
            why = f"{why}: its folder is missing"
            remedy = f"mkdir -p {shlex.quote(str(folder))} && {remedy}"
        return TokenNotFound(f"{self.uri} — {why}", uri=self.uri, hint=f"store one with: {remedy}")

    @contextmanager
    def _naming_key(self) -> Iterator[None]:
        """A key knows no file, so its errors are told here which option they are about."""
        try:
            yield
        except SealBroken:
            raise
        except CMzonSecretsError as error:
            option = f"key= of {Location('file', self._given, {})}"
            raise retold(error, f"{option}: {error}", uri=self.uri) from error


def _needs_writing(held: _Held, versions: Versions, create: bool) -> bool:
    return versions is not held.versions or (create and held.id is None)
