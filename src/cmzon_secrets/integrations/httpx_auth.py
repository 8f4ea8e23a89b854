"""The current token on every request of HTTPX2 or HTTPX, blocking or not.

    from cmzon_secrets.integrations.httpx_auth import TokenAuth

    auth = TokenAuth("file:token.sealed?key=keyfile:token.key")
    with httpx2.Client(auth=auth) as client: ...
    async with httpx2.AsyncClient(auth=auth) as client: ...

Needs ``httpx2`` or ``httpx``, whichever the program uses.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any

from cmzon_secrets.errors import ConfigurationError
from cmzon_secrets.integrations.authorizing import Authorizer, Bearer
from cmzon_secrets.provider import TokenProvider
from cmzon_secrets.tokens import Token

if TYPE_CHECKING:
    import httpx
    import httpx2

    class _Auth(httpx2.Auth, httpx.Auth):  # type: ignore[misc]  # each names its own Request
        """Either library takes only its own kind."""
else:

    def _kinds() -> Generator[type]:
        for name in ("httpx2", "httpx"):
            with suppress(ImportError):
                yield import_module(name).Auth

    _Auth = type("_Auth", tuple(_kinds()), {})
    if _Auth.__bases__ == (object,):
        raise ConfigurationError(
            "TokenAuth for HTTPX — neither httpx2 nor httpx is installed",
            hint="pip install httpx2",
        )

__all__ = ["TokenAuth"]

_Steps = Generator[Any, Any, None]
_TOKEN = object()
"""Yielded for the current token, where a request is yielded for its answer."""


class TokenAuth(_Auth):
    """``auth=`` of a Client or AsyncClient: the token at the time of each request.

    Thread-safe, fork-safe, and one object may serve clients of both kinds. With asyncio, a read of
    the backend takes place in a thread.

    A 401 is answered by sending the request once more, if there is a different token by then and
    its body is in memory: one that is streamed is sent once. The answer returned has the first one
    in its ``history``. A redirect to another host, where they are followed, loses the token, as the
    library has it, but a 307 or 308 not the body.

    ``provider``: a TokenCache, any other provider, or a URI, which ``close`` closes. ``base_url``:
    default ``$CMZON_BASE_URL``, else the vendor's; a request to any other origin raises
    ConfigurationError before a byte is sent. Sending raises what the provider raises, too.
    """

    def __init__(self, provider: TokenProvider | str, *, base_url: str | None = None) -> None:
        self._authorizer = Authorizer(provider, base_url=base_url)

    def sync_auth_flow(self, request: Any) -> Generator[Any, Any, None]:
        """The requests to send; their answers come back."""
        steps, outcome = self._steps(request), None
        with suppress(StopIteration):
            while True:
                wanted = steps.send(outcome)
                outcome = self._authorizer.get() if wanted is _TOKEN else (yield wanted)

    async def async_auth_flow(self, request: Any) -> AsyncGenerator[Any, Any]:
        """The same for an AsyncClient."""
        steps, outcome = self._steps(request), None
        with suppress(StopIteration):
            while True:
                wanted = steps.send(outcome)
                outcome = await self._authorizer.get_async() if wanted is _TOKEN else (yield wanted)

    def close(self) -> None:
        """Close what a URI opened."""
        self._authorizer.close()

    def __repr__(self) -> str:
        return f"<TokenAuth {self._authorizer}>"

    def _steps(self, request: Any) -> _Steps:
        """What both kinds of client do, without I/O."""
        self._authorizer.check(*_origin(request))
        token = yield _TOKEN
        response = yield _with(request, token)
        refused = response.request  # of a redirect that was followed: the one that got this answer
        if response.status_code != 401 or not self._carried(token, refused):
            return
        self._authorizer.reject(token)
        if not _in_memory(refused):
            return
        another = yield _TOKEN
        if another == token:
            return
        response = yield _with(refused, another)
        if response.status_code == 401 and self._carried(another, response.request):
            self._authorizer.reject(another)

    def _carried(self, token: Token, request: Any) -> bool:
        header = request.headers.get("Authorization")
        return bool(header == Bearer.of(token)) and self._authorizer.trusts(*_origin(request))


def _origin(request: Any) -> tuple[str, str, int | None]:
    url = request.url
    return url.scheme, url.raw_host.decode("ascii"), url.port


def _with(request: Any, token: Token) -> Any:
    request.headers["Authorization"] = Bearer.of(token)
    return request


def _in_memory(request: Any) -> bool:
    with suppress(RuntimeError):  # RequestNotRead: it was streamed, and is gone
        _ = request.content
        return True
    return False
