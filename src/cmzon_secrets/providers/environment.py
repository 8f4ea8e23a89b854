"""``env:NAME``: a plain token in an environment variable. Read-only.

The vendor's own "store your tokens in environment variables". The value is read at each ``get``, so
a process that changes its own environment is understood; one from outside cannot change it. Needs
no permission; children inherit the variable, and the same user sees it in ``/proc/PID/environ``.
"""

from __future__ import annotations

import os
import re
from typing import Self

from cmzon_secrets.errors import InvalidToken, InvalidURI, TokenNotFound
from cmzon_secrets.provider import TokenProvider
from cmzon_secrets.tokens import Token
from cmzon_secrets.uri import Location

__all__ = ["EnvironmentVariable"]

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


class EnvironmentVariable(TokenProvider):
    """The token in the environment variable ``name``; its id is its fingerprint."""

    def __init__(self, name: str) -> None:
        if _NAME.fullmatch(name) is None:
            raise InvalidURI(
                "env: URI — what follows is no variable name (not repeated: it may be a token)",
                hint="put the token into a variable and write env:NAME, for example env:CMZON_API_TOKEN",
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

    def get(self) -> Token:
        """The token. Raises TokenNotFound where the variable is unset or empty, InvalidToken."""
        if not os.environ.get(self._name):
            raise TokenNotFound(
                f"{self.uri} — the environment variable {self._name} is not set",
                uri=self.uri,
                hint=f"export {self._name}, or name another place in CMZON_TOKEN_URI",
            )
        try:
            return Token(os.environ[self._name])
        except InvalidToken as error:
            fault = error.message.removeprefix("token — ")
            raise InvalidToken(f"{self.uri} — {fault}", hint=error.hint) from None
