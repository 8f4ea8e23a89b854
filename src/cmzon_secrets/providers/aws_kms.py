"""``awskms://KEY?ciphertext=env:NAME`` or ``file:PATH``: a token encrypted with AWS KMS. Read-only.

The ciphertext may stand in a repository, an image or a manifest: it is decrypted in memory at each
``get``, by one call. In a variable it is base64; a file holds base64 (line breaks allowed), or the
bytes as KMS gave them. What was encrypted is the bare token or our record of one (``records.py``).

``KEY`` is a key id, ``alias/NAME`` or an ARN. Options: ``context.NAME=VALUE`` (the encryption context it
was encrypted with), ``region``, ``profile``, ``role_arn``, ``endpoint_url``. Credentials are those of the
SDK's chain (``clouds/aws_sessions.py``). Permission: ``kms:Decrypt`` on the key.
Source: AWS KMS API Reference, *Decrypt*; AWS KMS Developer Guide, *Encryption context*.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from contextlib import suppress
from typing import Any, Self

from cmzon_secrets.clock import SYSTEM_CLOCK, Clock
from cmzon_secrets.clouds.aws_kms import OPTIONS, KeyName, KMSKey
from cmzon_secrets.deadline import DEFAULT_DEADLINE
from cmzon_secrets.errors import (
    InvalidToken,
    InvalidURI,
    SealBroken,
    TokenNotFound,
    retold,
    shielded,
)
from cmzon_secrets.private_files import os_errors_as_ours
from cmzon_secrets.provider import TokenProvider
from cmzon_secrets.records import from_record
from cmzon_secrets.tokens import Token
from cmzon_secrets.uri import Location, parse, shown_variable

__all__ = ["AWSKMSCiphertext"]

_LIMIT = 16 * 1024  # bytes; KMS makes at most 6,144, and base64 adds a third


class AWSKMSCiphertext(TokenProvider):
    """The token in the ciphertext that a URI names. ``timeout``: seconds for one ``get``."""

    OPTIONS = OPTIONS | {"ciphertext"}

    def __init__(
        self,
        location: Location,
        *,
        timeout: float = DEFAULT_DEADLINE,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        name = KeyName.from_location(location)
        self._stored = _stored(location)
        options = {**location.options, "ciphertext": str(_shown(self._stored))}
        self._uri = str(Location("awskms", location.path, options, authority=True))
        self.kms = KMSKey(name, context=name.context, uri=self._uri, timeout=timeout, clock=clock)
        """The key itself: for examinations."""

    @classmethod
    def from_location(cls, location: Location) -> Self:
        """``awskms://KEY?ciphertext=…``."""
        return cls(location)

    @property
    def uri(self) -> str:
        """The place; a variable's name that may be a token is not shown."""
        return self._uri

    @shielded
    def get(self) -> Token:
        """The token, decrypted now.

        Raises TokenNotFound where there is no ciphertext, SealBroken where this key with this
        context does not decrypt it, InvalidToken where no token comes out.
        """
        plaintext = self.kms.decrypt(self._ciphertext())
        try:
            return _token(plaintext)
        except InvalidToken as error:
            fault = error.message.partition(" — ")[2]
            told = retold(error, f"{self._uri} — in its ciphertext: {fault}")
        if plaintext.endswith(b"\n"):
            told.hint = (
                "a line feed was encrypted with it: encrypt it anew, with printf %s, not echo"
            )
        raise told

    def _ciphertext(self) -> bytes:
        content = self._content()
        if not content.strip():
            raise TokenNotFound(
                f"{self._uri} — there is no ciphertext",
                uri=self._uri,
                hint="docs/backends/awskms.md shows how to encrypt a token",
            )
        if len(content) <= _LIMIT:
            if not content.isascii() and self._stored.scheme == "file":
                return content  # as KMS gave it
            with suppress(binascii.Error):
                return base64.b64decode(b"".join(content.split()), validate=True)
        raise SealBroken(  # and never sent anywhere: it may be a token pasted in clear
            f"{self._uri} — what is stored there is not the base64 of a ciphertext", uri=self._uri
        )

    def _content(self) -> bytes:
        if self._stored.scheme == "env":
            return os.environb.get(self._stored.path.encode(), b"")
        with os_errors_as_ours(self._uri):
            try:
                with open(self._stored.path, "rb") as file:  # noqa: PTH123  # read no more than needed
                    return file.read(_LIMIT + 1)
            except FileNotFoundError:
                return b""


def _stored(location: Location) -> Location:
    """``env:NAME``, or ``file:PATH`` with a path that stays when a daemon changes its folder."""
    if "ciphertext" not in location.options:
        raise InvalidURI(
            "awskms: URI — it does not say where the ciphertext is",
            hint="write awskms://KEY?ciphertext=env:NAME, or ciphertext=file:PATH",
        )
    found = parse(location.options["ciphertext"], schemes=("env", "file"), what="ciphertext=")
    found.refuse_unknown_options(())
    if found.scheme == "env":
        return Location("env", found.variable, {})
    return Location("file", os.path.abspath(found.file_path), {})  # noqa: PTH100  # Path.absolute keeps ".."


def _shown(stored: Location) -> Location:
    return Location("env", shown_variable(stored.path), {}) if stored.scheme == "env" else stored


def _token(plaintext: bytes) -> Token:
    """A bare token, or a record. Raises InvalidToken."""
    text = plaintext.decode("utf-8", "replace")
    if not text.startswith("{"):
        return Token(text)
    record: Any = None
    with suppress(ValueError, RecursionError):
        record = json.loads(text)
    return from_record(record)
