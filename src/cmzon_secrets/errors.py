"""Everything that can go wrong, drawn once.

CMzonSecretsError
├─ InvalidURI               a provider or key URI we cannot accept; names the part
├─ ConfigurationError       a policy, option, file or extra that must be mended first
├─ InvalidToken             not an RFC 6750 bearer token
├─ ProviderError            .uri
│  ├─ TokenNotFound         the place exists or may exist, but holds no token
│  ├─ AccessDenied          the backend, or the file's mode, says no
│  ├─ ProviderUnavailable   down, slow, throttled, full: worth another try (.retryable)
│  ├─ ReadOnlyProvider      it can be read, never written
│  ├─ ConflictError         someone else moved the stage first
│  └─ SealBroken            wrong key, or the file was altered: never returns data
├─ IssuerError              the issuer answered, but not with what its API promises
├─ RotationError            a rotation that cannot go on
└─ APIError                 .status .code .message .details .request_id .headers
   │                        .attempts .may_have_been_sent: nobody knows whether it took effect
   ├─ AuthenticationError   401
   ├─ PermissionDenied      403
   ├─ RequestRejected       any other 4xx
   ├─ RateLimited           429  .retry_after seconds
   ├─ ServerError           5xx
   ├─ TransportError        no usable answer
   └─ DailyLimitReached     raised by us; nothing was sent  .resets_at

Errors carry facts and nothing else: they do not log, print or exit. No message ever holds a
secret. Whoever shows one prints ``str(error)`` and, where there is one, ``hint`` (the remedy),
which a traceback shows as well.
"""

from __future__ import annotations

import sys
from copy import copy
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping
    from datetime import datetime

_E = TypeVar("_E", bound=BaseException)
_Ours = TypeVar("_Ours", bound="CMzonSecretsError")
_P = ParamSpec("_P")
_T = TypeVar("_T")

__all__ = [
    "APIError",
    "AccessDenied",
    "AuthenticationError",
    "CMzonSecretsError",
    "ConfigurationError",
    "ConflictError",
    "DailyLimitReached",
    "InvalidToken",
    "InvalidURI",
    "IssuerError",
    "PermissionDenied",
    "ProviderError",
    "ProviderUnavailable",
    "RateLimited",
    "ReadOnlyProvider",
    "RequestRejected",
    "RotationError",
    "SealBroken",
    "ServerError",
    "TokenNotFound",
    "TransportError",
    "missing_extra",
    "retold",
    "shielded",
    "shielded_async",
    "without_frames",
]


class CMzonSecretsError(Exception):
    """Root of every error this package raises.

    ``message`` is one line, "what — why"; ``hint`` is the remedy where we know one.
    """

    retryable: bool = False

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self._hint: str | None = None
        self.hint = hint

    @property
    def hint(self) -> str | None:
        """The remedy, which is a note of the error too, so that a traceback shows it."""
        return self._hint

    @hint.setter
    def hint(self, remedy: str | None) -> None:
        if hasattr(self, "__notes__"):  # a list of its own, for a copy shares its attributes
            self.__notes__ = [n for n in self.__notes__ if n != _as_note(self._hint)]
        self._hint = remedy
        if remedy is not None:
            self.add_note(_as_note(remedy))


def _as_note(remedy: str | None) -> str:
    return f"hint: {remedy}"


class InvalidURI(CMzonSecretsError):
    """A URI that names no place we know; the message names the part and lists what is valid."""


class ConfigurationError(CMzonSecretsError):
    """A policy, option, file or missing extra that has to be mended before anything can run."""


class InvalidToken(CMzonSecretsError):
    """Not a bearer token as RFC 6750 defines it, or metadata that cannot belong to one."""


class ProviderError(CMzonSecretsError):
    """A backend could not do what it was asked; ``uri`` says which, and is safe to log."""

    def __init__(self, message: str, *, uri: str = "", hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.uri = uri


class TokenNotFound(ProviderError):
    """Nothing is stored there."""


class AccessDenied(ProviderError):
    """The backend, or the file's mode or owner, refuses."""


class ProviderUnavailable(ProviderError):
    """The backend is down, slow, throttling or full; the same call may succeed later."""

    retryable = True


class ReadOnlyProvider(ProviderError):
    """This provider can be read but never written."""


class ConflictError(ProviderError):
    """The stages are not as the caller assumed: another writer was first."""


class SealBroken(ProviderError):
    """A wrong key, or a sealed file that was altered, truncated or put in another's place."""


class IssuerError(CMzonSecretsError):
    """The issuer answered, but not with what its API promises."""


class RotationError(CMzonSecretsError):
    """A rotation that cannot go on."""


class APIError(CMzonSecretsError):
    """The CMzon API refused, failed, or could not be reached.

    ``status`` is the HTTP status (None where there was no answer); ``code``, ``message`` and
    ``details`` are the fields of the vendor's error body, ``message`` our own words where it has
    none; ``headers`` those of the response, looked up in any case. ``str()`` is the whole line.
    ``may_have_been_sent``: whether the request may have taken effect all the same, so that nobody
    knows the outcome. ``attempts``: how many requests were made.
    """

    may_have_been_sent: bool = False
    attempts: int = 0

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: int | str | None = None,
        details: str | None = None,
        request_id: str | None = None,
        headers: Mapping[str, str] | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.code = code
        self.details = details
        self.request_id = request_id
        self.headers: Mapping[str, str] = headers if headers is not None else {}


class AuthenticationError(APIError):
    """401: the token is expired, revoked or unknown."""


class PermissionDenied(APIError):
    """403: the token lacks the scope, or this address is not on its allow-list."""


class RequestRejected(APIError):
    """Any other 4xx: the request itself is at fault and repeating it will not help."""


class RateLimited(APIError):
    """429; ``retry_after`` is the wait the API asks for, in seconds."""

    retryable = True
    retry_after: float | None = None


class ServerError(APIError):
    """5xx."""

    retryable = True


class TransportError(APIError):
    """No usable answer. ``may_have_been_sent`` is False only where the request cannot have arrived."""

    retryable = True
    may_have_been_sent: bool = True


class DailyLimitReached(APIError):
    """The day's quota is used up; raised by us before anything is sent. ``resets_at`` is UTC."""

    resets_at: datetime | None = None


def missing_extra(extra: str, what: str) -> ConfigurationError:
    """The error to raise where ``what`` needs a package that only the extra ``extra`` installs."""
    return ConfigurationError(
        f"{what} — it needs a package that is not installed",
        hint=f'pip install "cmzon-secrets[{extra}]"',
    )


def retold(error: _Ours, message: str, *, uri: str = "") -> _Ours:
    """A copy of ``error`` with another message, and where it has a ``uri``, with that one.

    For whoever knows, unlike the one that raised it, what the user calls the place.
    """
    told = copy(error)
    told.message, told.args = message, (message,)
    told.hint = error.hint  # with notes of its own
    if uri and isinstance(told, ProviderError):
        told.uri = uri
    return told


def without_frames(error: _E, *, until: BaseException | None = None) -> _E:
    """Strip the tracebacks of ``error`` and of everything it was raised from; returns ``error``.

    ``until`` is what the caller was handling already (``sys.exception()`` on the way in): it is
    somebody else's and keeps its traceback.

    A traceback keeps the locals of every frame alive, and an HTTP library's frames hold the
    ``Authorization`` header. Reporters that print locals would show it. The exceptions
    themselves stay reachable as causes.
    """
    seen: set[int] = set()
    pending: list[BaseException | None] = [error]
    while pending:
        link = pending.pop()
        if link is None or link is until or id(link) in seen:
            continue
        seen.add(id(link))
        link.__traceback__ = None
        pending += [link.__cause__, link.__context__]
    return error


def shielded(function: Callable[_P, _T]) -> Callable[_P, _T]:
    """Decorator: what ``function`` raises leaves without its frames and those below it.

    For functions whose arguments or locals hold a secret. Ctrl-C in their midst counts too.
    """

    @wraps(function)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        handled = sys.exception()
        try:
            return function(*args, **kwargs)
        except BaseException as error:  # noqa: BLE001  # it is raised again
            del args, kwargs
            raise without_frames(error, until=handled)  # noqa: B904  # the same error again

    return call


def shielded_async(
    function: Callable[_P, Coroutine[Any, Any, _T]],
) -> Callable[_P, Coroutine[Any, Any, _T]]:
    """``shielded`` for coroutine functions. Cancellation counts, too."""

    @wraps(function)
    async def call(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        handled = sys.exception()
        try:
            return await function(*args, **kwargs)
        except BaseException as error:  # noqa: BLE001  # it is raised again
            del args, kwargs
            raise without_frames(error, until=handled)  # noqa: B904  # the same error again

    return call
