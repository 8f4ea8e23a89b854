"""``env:NAME``: a key that is 32 bytes as one line of base64 in an environment variable.

For containers and CI, whose secret injection ends in the environment. A child process inherits the
variable, ``/proc/PID/environ`` shows it to the same user: where a file can be mounted, prefer
``keyfile:PATH``. Needs no permission. ``cmzon-secrets keygen PATH`` makes such a line.
"""

from __future__ import annotations

import os
import re
from typing import Self

from cmzon_secrets.errors import ConfigurationError, InvalidURI
from cmzon_secrets.key_wrapping import LocalKey, decode_key
from cmzon_secrets.uri import Location

__all__ = ["EnvironmentKey"]

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


class EnvironmentKey(LocalKey):
    """The key in the environment variable ``name``, read at each use."""

    def __init__(self, name: str) -> None:
        if _NAME.fullmatch(name) is None:
            raise InvalidURI(
                "env: key URI — what follows is no variable name (not repeated: it may be the key)",
                hint="put the key into a variable and write env:NAME",
            )
        self._name = name

    @classmethod
    def from_location(cls, location: Location) -> Self:
        """``env:NAME``."""
        return cls("//" + location.path if location.authority else location.path)

    @property
    def uri(self) -> str:
        """``env:NAME``."""
        return f"env:{self._name}"

    def read_key(self) -> bytes:
        """The 32 bytes. Raises ConfigurationError."""
        hint = f"cmzon-secrets keygen PATH, then: export {self._name}=$(cat PATH)"
        if not os.environ.get(self._name):
            raise ConfigurationError(
                f"{self.uri} — the variable {self._name} is not set", hint=hint
            )
        return decode_key(os.environ[self._name], name=self.uri, hint=hint)
