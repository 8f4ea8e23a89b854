"""AWS KMS: one key, that encrypts and decrypts a few bytes under an encryption context.

A key is named ``KEY``: its id, ``alias/NAME``, or the ARN of either, which also says the region.
``context.NAME=VALUE`` options are the encryption context: not secret (it stands in CloudTrail),
but the same must be given to decrypt. Decrypting always names the key, so that what another key
encrypted, perhaps an attacker's own, is never accepted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from cmzon_secrets.clock import SYSTEM_CLOCK, Clock
from cmzon_secrets.clouds.aws import OPTIONS as AWS_OPTIONS
from cmzon_secrets.clouds.aws import Place, Refused, Service
from cmzon_secrets.deadline import DEFAULT_DEADLINE
from cmzon_secrets.errors import InvalidURI, ProviderUnavailable, SealBroken, shielded
from cmzon_secrets.uri import Location

__all__ = ["OPTIONS", "KMSKey", "KeyName"]

OPTIONS = AWS_OPTIONS | {"context."}
"""What every ``awskms:`` URI takes."""

_KEY = re.compile(
    r"(arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:)?(key/[A-Za-z0-9-]{1,64}|alias/[A-Za-z0-9/_-]{1,250})"
    r"|[A-Za-z0-9-]{1,64}",
    re.ASCII,
)
_MAX_CONTEXT = 8192
_MAX_CIPHERTEXT = 6144
_WRONG = {
    "IncorrectKeyException": "another key encrypted it",
    "InvalidCiphertextException": "its encryption context is another, or it was altered",
}


@dataclass(frozen=True, slots=True)
class KeyName:
    """What an ``awskms:`` URI says of a key."""

    key: str
    place: Place
    context: Mapping[str, str]

    @classmethod
    def from_location(cls, location: Location) -> Self:
        """Raises InvalidURI, or ConfigurationError for plain http."""
        if not location.authority or _KEY.fullmatch(location.path) is None:
            raise InvalidURI(
                f"{location.scheme}: URI — what follows is no KMS key",
                hint="write awskms://KEY, where KEY is its id, alias/NAME, or its ARN",
            )
        names = [name for name in location.options if name.startswith("context.")]
        context = {name.removeprefix("context."): location.options[name] for name in names}
        if "" in context or len(json.dumps(context)) > _MAX_CONTEXT:
            raise InvalidURI(
                f"{location.scheme}: URI — the encryption context has a pair without a name,"
                f" or more than {_MAX_CONTEXT} characters"
            )
        return cls(location.path, Place.from_location(location), context)


class KMSKey:
    """The key. ``context`` goes with every call; ``timeout``: seconds for one of them.

    Raises AccessDenied, ConfigurationError or ProviderUnavailable as ``aws_errors.py`` says.
    """

    def __init__(
        self,
        name: KeyName,
        *,
        context: Mapping[str, str],
        uri: str,
        timeout: float = DEFAULT_DEADLINE,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.name = name
        self.service = Service("kms", name.place, uri=uri, timeout=timeout, clock=clock)
        self._named = {"KeyId": name.key, "EncryptionContext": dict(context)}

    @shielded
    def encrypt(self, plaintext: bytes) -> bytes:
        """The ciphertext of at most 4,096 bytes. Needs ``kms:Encrypt``."""
        answer = self.service.begin()("encrypt", Plaintext=plaintext, **self._named)
        return self._bytes(answer, "CiphertextBlob")

    @shielded
    def decrypt(self, ciphertext: bytes) -> bytes:
        """The plaintext. Needs ``kms:Decrypt``. Raises SealBroken where this key, with this
        context, did not encrypt it."""
        if not 0 < len(ciphertext) <= _MAX_CIPHERTEXT:
            raise self._broken("it has not the size of anything that KMS encrypts")
        calls = self.service.begin()
        try:
            answer = calls("decrypt", expecting=_WRONG, CiphertextBlob=ciphertext, **self._named)
        except Refused as refusal:
            raise self._broken(_WRONG[refusal.code]) from refusal
        return self._bytes(answer, "Plaintext")

    def _bytes(self, answer: Mapping[str, object], member: str) -> bytes:
        value = answer.get(member)
        if not isinstance(value, bytes):  # a page of some proxy is an empty answer to the SDK
            raise ProviderUnavailable(
                f"{self.service.uri} — the answer holds no {member}: is it KMS that answers?",
                uri=self.service.uri,
            )
        return value

    def _broken(self, why: str) -> SealBroken:
        uri = self.service.uri
        return SealBroken(
            f"{uri} — {why}",
            uri=uri,
            hint="give the key and the context.NAME=VALUE options that it was encrypted with",
        )
