"""Sealing: the contract of a key, and the envelope. Bytes in, bytes out; no file, no network.

The envelope, format version 1:

    bytes  content
    23     magic line ``cmzon-secrets sealed 1`` and a line feed; the number is the format version
    4      H, the length of the header in bytes, big-endian, at most 16,384
    H      header: JSON in ASCII, members sorted, no spaces:
             {"algorithm":"AES-256-GCM","id":ID,"key":KEY,"stanza":STANZA}
             ID      32 hex digits, drawn when the file was first sealed and kept ever since
             KEY     URI of the key that sealed it, to be told to a reader who has another
             STANZA  what the key wrote: the wrapped data key and its parameters, strings and integers
    12     nonce
    rest   the document encrypted with AES-256-GCM, then the 16-byte tag

Data key (32 bytes) and nonce are drawn anew at each write. The associated data are all bytes before
the ciphertext, then the *binding*: for a file its real path, so that no file passes for another.
Nothing in the header is believed before the tag has been checked; until then it is only bounded.
docs/sealed-file-format.md says the same for people who write their own reader.
"""

from __future__ import annotations

import json
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from cmzon_secrets.errors import ConfigurationError, SealBroken, shielded
from cmzon_secrets.uri import Location

__all__ = [
    "MAGIC",
    "MAX_ENVELOPE",
    "Header",
    "SealingKey",
    "Stanza",
    "new_id",
    "read_header",
    "seal",
    "unseal",
]

Stanza = Mapping[str, str | int]
"""What a key writes into the header of what it sealed: the wrapped data key and its parameters."""

MAX_ENVELOPE = 1024 * 1024
"""Bytes; three tokens with all their metadata take a few thousand."""
MAX_HEADER = 16 * 1024

MAGIC = b"cmzon-secrets sealed 1\n"
_ALGORITHM = "AES-256-GCM"
_DATA_KEY, _NONCE, _TAG = 32, 12, 16
_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)
_ANEW = "move the file away, then `cmzon-secrets put` a new token"  # put never writes over it
_RESTORE = f"restore it from a backup, or {_ANEW}"


class SealingKey(ABC):
    """A key that encrypts keys (KEK): it wraps the 32-byte data key of one envelope. Thread-safe.

    The key knows no envelope and the envelope no key. Both verbs may raise AccessDenied,
    ConfigurationError or ProviderUnavailable.
    """

    OPTIONS: ClassVar[frozenset[str]] = frozenset()
    """The names that may stand behind the ``?`` of its URI. Anything else is refused."""

    @classmethod
    def from_location(cls, location: Location) -> Self:
        """Open the key that a URI names; nothing is read yet. Raises InvalidURI."""
        raise ConfigurationError(f"{location.scheme}: URI — {cls.__name__} is not opened by one")

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


@dataclass(frozen=True, slots=True)
class Header:
    """What an envelope says of itself. True only where ``unseal`` has accepted that envelope."""

    id: str
    key_uri: str
    stanza: Stanza


def new_id() -> str:
    """An id for something sealed for the first time."""
    return os.urandom(16).hex()


@shielded
def seal(document: bytes, key: SealingKey, *, id: str, binding: bytes, uri: str = "") -> bytes:
    """The envelope of a document. ``binding`` must be given again to open it.

    Raises what ``key.wrap`` raises, and ConfigurationError where it would be over its bounds;
    ``uri`` begins the message.
    """
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    data_key, nonce = os.urandom(_DATA_KEY), os.urandom(_NONCE)
    header = _encode(Header(id, key.uri, key.wrap(data_key)))
    before = MAGIC + len(header).to_bytes(4, "big") + header + nonce
    if len(header) > MAX_HEADER or len(before) + len(document) + _TAG > MAX_ENVELOPE:
        raise ConfigurationError(
            f"{uri or 'envelope'} — what is to be sealed is larger than {MAX_ENVELOPE} bytes,"
            f" or its header than {MAX_HEADER}",
            hint="store fewer scopes and addresses with the token",
        )
    return before + AESGCM(data_key).encrypt(nonce, document, before + binding)


@shielded
def unseal(envelope: bytes, key: SealingKey, *, binding: bytes, uri: str = "") -> bytes:
    """The document in an envelope.

    Raises SealBroken where the key is the wrong one, or where any bit of the envelope or of the
    binding is not as it was sealed; else what ``key.unwrap`` raises. ``uri`` begins the message.
    """
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    header, start = _split(envelope, uri)
    data_key = _unwrapped(key, header, uri)
    before, nonce = envelope[:start], envelope[start - _NONCE : start]
    try:
        return AESGCM(data_key).decrypt(nonce, envelope[start:], before + binding)
    except InvalidTag:
        raise _broken(
            uri,
            "its key fits, but it was altered, truncated, or sealed under another path",
            hint="a sealed file is bound to its path: put it back there and use `cmzon-secrets copy`",
        ) from None


def read_header(envelope: bytes, *, uri: str = "") -> Header:
    """The header, bounded and well-formed but not yet proved. Raises SealBroken."""
    return _split(envelope, uri)[0]


def _unwrapped(key: SealingKey, header: Header, uri: str) -> bytes:
    try:
        data_key = key.unwrap(header.stanza)
    except SealBroken:
        data_key = b""
    if len(data_key) != _DATA_KEY:
        raise _broken(
            uri,
            f"key={key.uri} does not open it{_claim(header, key)}: a wrong key, or an altered file",
            hint=f"use the key that it was sealed with; where that is lost, {_ANEW}",
        )
    return data_key


def _claim(header: Header, key: SealingKey) -> str:
    """Whose seal it claims to be. Not proved, so it is shown only where no terminal minds."""
    claimed = header.key_uri
    if claimed == key.uri or not (claimed.isascii() and claimed.isprintable()):
        return ""
    return f" (it says it was sealed with {claimed[:200]})"


def _encode(header: Header) -> bytes:
    members = {
        "algorithm": _ALGORITHM,
        "id": header.id,
        "key": header.key_uri,
        "stanza": dict(header.stanza),
    }
    return json.dumps(members, sort_keys=True, separators=(",", ":")).encode("ascii")


def _split(envelope: bytes, uri: str) -> tuple[Header, int]:
    """The header, and where the ciphertext begins."""
    fixed = len(MAGIC) + 4
    if len(envelope) > MAX_ENVELOPE:
        raise _broken(uri, f"it is larger than {MAX_ENVELOPE} bytes")
    if not envelope.startswith(MAGIC):
        raise _broken(uri, "it does not begin like a sealed file of format version 1")
    length = int.from_bytes(envelope[len(MAGIC) : fixed], "big")
    start = fixed + length + _NONCE
    if length > MAX_HEADER or len(envelope) < start + _TAG:
        raise _broken(uri, "it is truncated, or the length of its header was altered")
    header = _decode(envelope[fixed : fixed + length])
    if header is None:
        raise _broken(uri, "its header was altered")
    return header, start


def _decode(text: bytes) -> Header | None:
    try:
        members: Any = json.loads(text.decode("ascii"))
        header = Header(members["id"], members["key"], members["stanza"])
    except (ValueError, TypeError, LookupError, RecursionError):
        return None
    well_formed = (
        isinstance(header.id, str)
        and _ID.fullmatch(header.id) is not None
        and isinstance(header.key_uri, str)
        and isinstance(header.stanza, dict)
        and all(type(v) in {str, int} for v in header.stanza.values())
    )
    return header if well_formed and _encode(header) == text else None


def _broken(uri: str, why: str, *, hint: str = _RESTORE) -> SealBroken:
    return SealBroken(f"{uri or 'envelope'} — {why}", uri=uri, hint=hint)
