"""The two contracts of a backend: something that yields the current token, something that keeps three.

A backend is one small class. It answers with the errors of ``cmzon_secrets.errors`` and nothing
else, and passes ``cmzon_secrets.testing.StoreSuite`` unchanged.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from cmzon_secrets.errors import ConfigurationError, ConflictError
from cmzon_secrets.tokens import Token, Versions

if TYPE_CHECKING:  # it loads urllib, which only those who open a URI need
    from cmzon_secrets.uri import Location

__all__ = ["TokenProvider", "TokenStore"]


class TokenProvider(ABC):
    """Anything that yields the current token. Thread-safe."""

    OPTIONS: ClassVar[frozenset[str]] = frozenset()
    """The names that may stand behind the ``?`` of its URI. Anything else is refused."""

    @classmethod
    def from_location(cls, location: Location) -> Self:
        """Open the place that a URI names; nothing is read yet. Raises InvalidURI.

        With ``"key"`` among ``OPTIONS`` it is called with ``key=``, the opened key, as well.
        """
        raise ConfigurationError(f"{location.scheme}: URI — {cls.__name__} is not opened by one")

    @property
    @abstractmethod
    def uri(self) -> str:
        """The place, safe to log."""

    @abstractmethod
    def get(self) -> Token:
        """Read the backend now.

        Raises TokenNotFound, AccessDenied, ProviderUnavailable, SealBroken or InvalidToken.
        """

    def invalidate(self, token: Token) -> None:  # noqa: B027  # most providers keep no token
        """The API refused ``token``: whoever still keeps it must read anew at the next ``get``."""

    def close(self) -> None:  # noqa: B027  # most backends hold nothing open
        """Let go of connections; using the provider afterwards is an error of the caller."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.uri}>"


class TokenStore(TokenProvider):
    """A provider that also holds the stages CURRENT, PENDING and PREVIOUS.

    Every verb is safe to repeat after a crash at any point, and safe against another process doing
    the same. The rules are ``cmzon_secrets.stages``; each verb applies one of its functions to
    what the backend holds, atomically where the backend can (``cas``).
    """

    cas: Literal["atomic", "detected"] = "atomic"
    """``"detected"``: no compare-and-set there; a lost race is found, repaired, and reported."""

    WRITES_PER_SECOND: ClassVar[float | None] = None
    """Verbs that change something, per second, that the service bears from one caller; None: any."""

    @property
    def rotating_natively(self) -> str | None:
        """A rotation that the service itself has begun and that has no token yet, by its own id.

        As the last ``versions()`` saw it. None: there is none, as in every service but AWS's.
        """
        return None

    def stage_as(
        self,
        version_id: str,
        token: Token,  # noqa: ARG002  # for those who can
        *,
        rotation_token: str | None = None,  # noqa: ARG002  # for those who can
    ) -> None:
        """``stage``, under the id of a rotation that the service itself has begun.

        ``rotation_token`` is the service's own leave to do so, where it gave one. Raises
        ConflictError where services do not rotate by themselves.
        """
        raise ConflictError(
            f"{self.uri} — {version_id} is no rotation of the service's own", uri=self.uri
        )

    @property
    @abstractmethod
    def identity(self) -> str:
        """Names the place, the same however it was addressed. May create an empty store."""

    @abstractmethod
    def versions(self) -> Versions:
        """A consistent view of all stages. An empty or absent store is an empty view."""

    @abstractmethod
    def stage(self, token: Token) -> None:
        """PENDING := token. The same id again: no change.

        Raises ConflictError where another PENDING is held, where CURRENT has this id or value,
        or where this id is held with another value. Equal to PREVIOUS is allowed (rollback).
        """

    @abstractmethod
    def promote(self, token_id: str, *, replacing: str | None) -> None:
        """PENDING becomes CURRENT, CURRENT becomes PREVIOUS. Already done: no change.

        Raises ConflictError unless CURRENT's id is ``replacing`` (None: there is no CURRENT yet)
        and no other token is held as PREVIOUS.
        """

    @abstractmethod
    def discard(self, token_id: str) -> None:
        """Forget this id as PENDING and as PREVIOUS. Not there: no change.

        Raises ConflictError for CURRENT.
        """
