"""``file:PATH?key=KEYURI``: the three stages in one sealed file on this machine.

The document is JSON: ``{"current", "pending", "previous", "promoted_at"}``, the first three records
as in ``records.py`` or null. ``sealing.py`` says what bytes they become, ``private_files.py`` how
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
from typing import Any, Self

from cmzon_secrets.clock import SYSTEM_CLOCK, Clock
from cmzon_secrets.errors import (
    CMzonSecretsError,
    InvalidToken,
    InvalidURI,
    ProviderError,
    SealBroken,
    TokenNotFound,
    shielded,
)
from cmzon_secrets.private_files import (
    LOCK_TIMEOUT,
    exclusive_lock,
    read_private,
    replace_durably,
)
from cmzon_secrets.provider import TokenStore
from cmzon_secrets.records import format_time, from_record, parse_time, to_record
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
    def from_location(cls, location: Location, *, key: SealingKey) -> Self:
        """``file:PATH`` or ``file:///PATH``."""
        if location.authority and not location.path.startswith("/"):
            raise InvalidURI(
                "file: URI — a host after // has no meaning here",
                hint="write file:PATH, or file:///PATH for an absolute one",
            )
        return cls(location.path, key)

    @property
    def uri(self) -> str:
        """``file:PATH?key=KEYURI``, the path as it was given."""
        return str(Location("file", self._given, {"key": self._key.uri}))

    @property
    @shielded
    def identity(self) -> str:
        """``file:`` and the id in the header. Makes an empty sealed file where there is none."""
        return f"file:{self._update(lambda held: held, create=True)}"

    def get(self) -> Token:
        """CURRENT, read now."""
        current = self.versions().current
        if current is None:
            raise TokenNotFound(
                f"{self.uri} — no token is stored there",
                uri=self.uri,
                hint=f"store one with: cmzon-secrets put {shlex.quote(self.uri)}",
            )
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
            versions = _parse(document)
        except InvalidToken as error:
            raise InvalidToken(f"{self.uri} — {error.message}", hint=error.hint)
        return _Held(versions, read_header(envelope).id)

    def _write(self, place: str, held: _Held, key: SealingKey) -> str:
        file_id = held.id or new_id()
        document = _format(held.versions)
        with self._naming_key():
            envelope = seal(document, key, id=file_id, binding=os.fsencode(place), uri=self.uri)
        replace_durably(place, envelope, uri=self.uri)
        return file_id

    @contextmanager
    def _naming_key(self) -> Iterator[None]:
        """A key knows no file, so its errors are told here which option they are about."""
        try:
            yield
        except SealBroken:
            raise
        except CMzonSecretsError as error:
            error.message = f"key= of {Location('file', self._given, {})}: {error.message}"
            error.args = (error.message,)
            if isinstance(error, ProviderError):
                error.uri = self.uri
            raise


def _needs_writing(held: _Held, versions: Versions, create: bool) -> bool:
    return versions is not held.versions or (create and held.id is None)


def _format(versions: Versions) -> bytes:
    document = {
        "current": _record(versions.current),
        "pending": _record(versions.pending),
        "previous": _record(versions.previous),
        "promoted_at": versions.promoted_at and format_time(versions.promoted_at),
    }
    return json.dumps(document, separators=(",", ":")).encode("ascii")


def _record(token: Token | None) -> dict[str, Any] | None:
    return None if token is None else to_record(token)


def _parse(document: bytes) -> Versions:
    members = json.loads(document)
    return Versions(
        current=_token(members.get("current")),
        pending=_token(members.get("pending")),
        previous=_token(members.get("previous")),
        promoted_at=parse_time(members.get("promoted_at")),
    )


def _token(record: Any) -> Token | None:
    return None if record is None else from_record(record)
