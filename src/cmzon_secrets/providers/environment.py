"""``env:NAME``: a plain token in an environment variable. Read-only.

The vendor's own "store your tokens in environment variables". The value is read at each ``get``, so
a process that changes its own environment is understood; one from outside cannot change it. Needs
no permission; children inherit the variable, and the same user sees it in ``/proc/PID/environ``.
"""

from __future__ import annotations

import os
from typing import Self

from cmzon_secrets.errors import InvalidToken, TokenNotFound, retold
from cmzon_secrets.provider import TokenProvider
from cmzon_secrets.tokens import Token
from cmzon_secrets.uri import Location, shown_variable

__all__ = ["EnvironmentVariable"]


class EnvironmentVariable(TokenProvider):
    """The token in the environment variable ``name``; its id is its fingerprint."""

    def __init__(self, name: str) -> None:
        self._name = Location("env", name, {}).variable

    @classmethod
    def from_location(cls, location: Location) -> Self:
        """``env:NAME``."""
        return cls(location.variable)

    @property
    def uri(self) -> str:
        """``env:NAME``; a name that may be a token is not shown."""
        return f"env:{shown_variable(self._name)}"

    def get(self) -> Token:
        """The token. Raises TokenNotFound where the variable is unset or empty, InvalidToken."""
        if not os.environ.get(self._name):
            name = shown_variable(self._name)
            raise TokenNotFound(
                f"{self.uri} — the environment variable {name} is not set",
                uri=self.uri,
                hint=f"export {name}, or name another place in CMZON_TOKEN_URI",
            )
        try:
            return Token(os.environ[self._name])
        except InvalidToken as error:
            fault = error.message.removeprefix("token — ")
            raise retold(error, f"{self.uri} — {fault}") from None
