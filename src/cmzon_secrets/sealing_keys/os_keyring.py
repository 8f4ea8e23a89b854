"""``keyring:SERVICE``: a key kept by the operating system's keyring, unlocked with the login.

Needs the extra ``keyring`` (PyPI ``keyring``). The entry has the user name ``cmzon-secrets`` and
32 bytes in base64 as its password; it is made when something is sealed with it for the first
time. macOS Keychain, Secret Service (GNOME, KDE) and KWallet are good; backends that keep clear
text, nothing, or whatever another backend refused are not used.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Self

from cmzon_secrets.errors import (
    AccessDenied,
    CMzonSecretsError,
    ConfigurationError,
    ProviderUnavailable,
    missing_extra,
    shielded,
    without_frames,
)
from cmzon_secrets.key_wrapping import LocalKey, decode_key, encode_bytes, new_key
from cmzon_secrets.private_files import exclusive_lock, os_errors_as_ours
from cmzon_secrets.sealing import Stanza
from cmzon_secrets.uri import Location

if TYPE_CHECKING:
    from keyring.backend import KeyringBackend

__all__ = ["KeyringKey"]

_USER = "cmzon-secrets"
_UNSAFE = ("keyring.backends.fail", "keyring.backends.null", "keyrings.alt.")


class KeyringKey(LocalKey):
    """The key that the keyring holds for ``service``, read at each use."""

    def __init__(self, service: str) -> None:
        if find_spec("keyring") is None:
            raise missing_extra("keyring", f"keyring:{service}")
        self._service = service

    @classmethod
    def from_location(cls, location: Location) -> Self:
        """``keyring:SERVICE``."""
        return cls(location.name)

    @property
    def uri(self) -> str:
        """``keyring:SERVICE``."""
        return str(Location("keyring", self._service, {}))

    @shielded
    def wrap(self, data_key: bytes) -> Stanza:
        """As LocalKey does; makes the key where the keyring has none for this service."""
        self._ensure_key()
        return super().wrap(data_key)

    @shielded
    def read_key(self) -> bytes:
        """The 32 bytes. Raises ConfigurationError, AccessDenied or ProviderUnavailable."""
        with self._keyring() as backend:
            entry = backend.get_password(self._service, _USER)
        if entry is None:
            raise ConfigurationError(
                f"{self.uri} — the keyring has no key of this name",
                hint="is it the keyring of the user and machine that sealed the file?",
            )
        hint = "that entry was not made by cmzon-secrets; use another name"
        return decode_key(entry, name=self.uri, hint=hint)

    def _ensure_key(self) -> None:
        if self._has_key():
            return
        with exclusive_lock(_lock_file(self.uri), uri=self.uri):  # else two processes make two keys
            if not self._has_key():
                with self._keyring() as backend:
                    backend.set_password(self._service, _USER, encode_bytes(new_key()))

    def _has_key(self) -> bool:
        with self._keyring() as backend:
            return backend.get_password(self._service, _USER) is not None

    @contextmanager
    def _keyring(self) -> Iterator[KeyringBackend]:
        """The backend in use; its errors leave as ours."""
        from keyring import errors

        try:
            yield _safe_backend(self.uri)
        except errors.KeyringLocked as error:
            raise AccessDenied(
                f"{self.uri} — the keyring is locked", uri=self.uri, hint="unlock it and try again"
            ) from without_frames(error)
        except CMzonSecretsError:
            raise
        except Exception as error:  # noqa: BLE001  # what a bus or its library raises
            raise ProviderUnavailable(
                f"{self.uri} — the keyring failed ({type(error).__name__})", uri=self.uri
            ) from without_frames(error)


def _safe_backend(uri: str) -> KeyringBackend:
    """The best backend of this machine, unless it is one that keeps no secret."""
    import keyring

    backend = keyring.get_keyring()
    for candidate in _members(backend):
        if f"{type(candidate).__module__}.".startswith(_UNSAFE):
            raise ConfigurationError(
                f"{uri} — the keyring in use is {candidate.name}, which does not protect what it keeps",
                hint="install and unlock a keyring (GNOME Keyring, KWallet, macOS Keychain), or use keyfile:PATH",
            )
    return _members(backend)[0]


def _members(backend: KeyringBackend) -> list[KeyringBackend]:
    """The backends behind a chain, best first. A chain falls silently from one to the next."""
    return list(getattr(backend, "backends", ())) or [backend]


def _lock_file(uri: str) -> str:
    """One per user, whatever the service: keys are made rarely."""
    folder = Path("~/.cache/cmzon-secrets").expanduser()
    with os_errors_as_ours(uri):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return str(folder / "keyring.lock")
