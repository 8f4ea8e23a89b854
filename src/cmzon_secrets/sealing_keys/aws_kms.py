"""``awskms://KEY``: a key in AWS KMS, which never leaves it, wraps the data key of a sealed file.

One call for each write and one for each read of the file; data keys are not cached. The encryption
context is the URI's ``context.NAME=VALUE`` pairs and always ``cmzon-secrets:purpose=sealed-file``, so
that a data key passes for nothing else that the KMS key encrypts.

``KEY`` is a key id, ``alias/NAME`` or an ARN. Options: ``context.NAME=VALUE``, ``region``, ``profile``,
``role_arn``, ``endpoint_url``. Credentials are those of the SDK's chain (``clouds/aws_sessions.py``).
Permissions: ``kms:Decrypt`` on the key to read, ``kms:Encrypt`` as well to write.
Source: AWS KMS API Reference, *Encrypt* and *Decrypt*.
"""

from __future__ import annotations

from typing import Self

from cmzon_secrets.clock import SYSTEM_CLOCK, Clock
from cmzon_secrets.clouds.aws_kms import OPTIONS, KeyName, KMSKey
from cmzon_secrets.deadline import DEFAULT_DEADLINE
from cmzon_secrets.errors import InvalidURI, shielded
from cmzon_secrets.key_wrapping import (
    KEY_BYTES,
    check_data_key,
    decode_bytes,
    encode_bytes,
    not_this_seal,
)
from cmzon_secrets.sealing import SealingKey, Stanza
from cmzon_secrets.uri import Location

__all__ = ["AWSKMSKey"]

_PURPOSE = {"cmzon-secrets:purpose": "sealed-file"}


class AWSKMSKey(SealingKey):
    """The KMS key that a URI names. ``timeout``: seconds for one verb."""

    OPTIONS = OPTIONS

    def __init__(
        self,
        location: Location,
        *,
        timeout: float = DEFAULT_DEADLINE,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        name = KeyName.from_location(location)
        if not _PURPOSE.keys().isdisjoint(name.context):
            raise InvalidURI(f"awskms: URI — context.{next(iter(_PURPOSE))} is set by us")
        self._uri = str(location)
        self.kms = KMSKey(
            name, context={**name.context, **_PURPOSE}, uri=self._uri, timeout=timeout, clock=clock
        )
        """The key itself: for examinations."""

    @classmethod
    def from_location(cls, location: Location) -> Self:
        """``awskms://KEY``."""
        return cls(location)

    @property
    def uri(self) -> str:
        """As it was given: it opens the same key again."""
        return self._uri

    @shielded
    def wrap(self, data_key: bytes) -> Stanza:
        """``{"wrap": "awskms", "wrapped": base64}``. Needs ``kms:Encrypt``."""
        check_data_key(data_key)
        return {"wrap": "awskms", "wrapped": encode_bytes(self.kms.encrypt(data_key))}

    @shielded
    def unwrap(self, stanza: Stanza) -> bytes:
        """The data key. Needs ``kms:Decrypt``. Raises SealBroken for a stanza of another key,
        context or kind of key."""
        ours = set(stanza) == {"wrap", "wrapped"} and stanza["wrap"] == "awskms"
        wrapped = decode_bytes(stanza["wrapped"]) if ours else None
        data_key = self.kms.decrypt(wrapped) if wrapped is not None else b""
        if len(data_key) != KEY_BYTES:
            raise not_this_seal(self.uri)
        return data_key
