"""AES Key Wrap (RFC 3394) with a 32-byte key of ours, and how such a key is written down.

What the sealing keys of this machine share; those of a cloud leave the wrapping to the cloud. Key
Wrap needs no nonce, so nothing can repeat, and its integrity check tells a wrong key at once.
"""

from __future__ import annotations

import base64
import binascii
import os
from abc import abstractmethod

from cmzon_secrets.errors import ConfigurationError, SealBroken, shielded
from cmzon_secrets.sealing import SealingKey, Stanza

__all__ = [
    "KEY_BYTES",
    "LocalKey",
    "check_data_key",
    "decode_bytes",
    "decode_key",
    "encode_bytes",
    "new_key",
    "not_this_seal",
    "unwrap_data_key",
    "wrap_data_key",
]

KEY_BYTES = 32
ALGORITHM = "A256KW"
"""The name of AES Key Wrap with a 256-bit key in JOSE (RFC 7518 §4.4)."""


class LocalKey(SealingKey):
    """A key that lies in some place as 32 bytes in one line of base64, and is read at each use."""

    @abstractmethod
    def read_key(self) -> bytes:
        """The 32 bytes. Raises ConfigurationError, AccessDenied or ProviderUnavailable."""

    @shielded
    def wrap(self, data_key: bytes) -> Stanza:
        """``{"wrap": "A256KW", "wrapped": base64}``."""
        return {"wrap": ALGORITHM, "wrapped": wrap_data_key(self.read_key(), data_key)}

    @shielded
    def unwrap(self, stanza: Stanza) -> bytes:
        """The data key. Raises SealBroken for a stanza of another key or kind of key."""
        ours = set(stanza) == {"wrap", "wrapped"} and stanza["wrap"] == ALGORITHM
        data_key = unwrap_data_key(self.read_key(), stanza["wrapped"]) if ours else None
        if data_key is None:
            raise not_this_seal(self.uri)
        return data_key


def check_data_key(data_key: bytes) -> None:
    """Raise ConfigurationError unless it is as long as a data key."""
    if len(data_key) != KEY_BYTES:
        raise ConfigurationError(f"data key — {KEY_BYTES} bytes are needed, got {len(data_key)}")


def not_this_seal(uri: str) -> SealBroken:
    """What every key says of a stanza that it cannot open, for it cannot tell why."""
    return SealBroken(f"{uri} — not the key of this seal, or the seal was altered", uri=uri)


def wrap_data_key(key: bytes, data_key: bytes) -> str:
    """The data key encrypted with ``key``, as base64."""
    from cryptography.hazmat.primitives.keywrap import aes_key_wrap

    check_data_key(data_key)
    return encode_bytes(aes_key_wrap(key, data_key))


def unwrap_data_key(key: bytes, wrapped: object) -> bytes | None:
    """The data key, or None where ``key`` is the wrong one or ``wrapped`` was altered."""
    from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap

    ciphertext = decode_bytes(wrapped)
    if ciphertext is None or len(ciphertext) != KEY_BYTES + 8:
        return None
    try:
        return aes_key_unwrap(key, ciphertext)
    except InvalidUnwrap:
        return None


def new_key() -> bytes:
    """32 random bytes."""
    return os.urandom(KEY_BYTES)


@shielded
def decode_key(text: str, *, name: str, hint: str) -> bytes:
    """The 32 bytes in one line of base64; one line feed at the end is allowed.

    Raises ConfigurationError, which begins with ``name`` and does not show the text.
    """
    key = decode_bytes(text.removesuffix("\n").removesuffix("\r"))
    if key is not None and len(key) == KEY_BYTES:
        return key
    raise ConfigurationError(
        f"{name} — it is not {KEY_BYTES} bytes as one line of base64", hint=hint
    )


def encode_bytes(data: bytes) -> str:
    """Base64 (RFC 4648 §4) with padding."""
    return base64.b64encode(data).decode("ascii")


def decode_bytes(text: object) -> bytes | None:
    """The bytes in base64, or None; only the one canonical spelling is accepted."""
    if not isinstance(text, str):
        return None
    try:
        data = base64.b64decode(text.encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error):
        return None
    return data if encode_bytes(data) == text else None
