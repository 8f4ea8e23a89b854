"""Sealing: the contract of a key, and the envelope. Bytes in, bytes out; no file, no network."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

__all__ = ["SealingKey", "Stanza"]

Stanza = Mapping[str, str | int]
"""What a key writes into the header of what it sealed: the wrapped data key and its parameters."""


class SealingKey(ABC):
    """A key that encrypts keys (KEK): it wraps the 32-byte data key of one envelope. Thread-safe.

    The key knows no envelope and the envelope no key. Both verbs may raise AccessDenied,
    ConfigurationError or ProviderUnavailable.
    """

    OPTIONS: ClassVar[frozenset[str]] = frozenset()

    @property
    @abstractmethod
    def uri(self) -> str:
        """The key's URI, safe to log; it stands in the header of what the key sealed."""

    @abstractmethod
    def wrap(self, data_key: bytes) -> Stanza:
        """Encrypt a data key; only strings and integers may stand in the stanza."""

    @abstractmethod
    def unwrap(self, stanza: Stanza) -> bytes:
        """The data key in a stanza of ``wrap``.

        Raises SealBroken where the key is the wrong one or the stanza was altered; a stanza is
        hostile input, so parameters are bounded before they are used.
        """

    def close(self) -> None:  # noqa: B027  # most keys hold nothing open
        """Let go of connections and of key material."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.uri}>"
