"""``env:NAME``: a key that is 32 bytes as one line of base64 in an environment variable.

For containers and CI, whose secret injection ends in the environment. A child process inherits the
variable, ``/proc/PID/environ`` shows it to the same user: where a file can be mounted, prefer
``keyfile:PATH``. Needs no permission. ``cmzon-secrets keygen PATH`` makes such a line.
"""

from __future__ import annotations

import os
from typing import Self

from cmzon_secrets.errors import ConfigurationError
from cmzon_secrets.key_wrapping import LocalKey, decode_key
from cmzon_secrets.uri import Location, shown_variable

__all__ = ["EnvironmentKey"]


class EnvironmentKey(LocalKey):
    """The key in the environment variable ``name``, read at each use."""

    def __init__(self, name: str) -> None:
        self._name = Location("env", name, {}).variable

    @classmethod
    def from_location(cls, location: Location) -> Self:
        """``env:NAME``."""
        return cls(location.variable)

    @property
    def uri(self) -> str:
        """``env:NAME``; a name that may be a key is not shown."""
        return f"env:{shown_variable(self._name)}"

    def read_key(self) -> bytes:
        """The 32 bytes. Raises ConfigurationError."""
        name = shown_variable(self._name)
        hint = f"cmzon-secrets keygen PATH, then: export {name}=$(cat PATH)"
        if not os.environ.get(self._name):
            raise ConfigurationError(f"{self.uri} — the variable {name} is not set", hint=hint)
        return decode_key(os.environ[self._name], name=self.uri, hint=hint)
