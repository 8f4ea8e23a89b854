"""Which token a request carries, where to, and what a 401 means: the rules of every auth object.

They are those of ``Client``, for people who keep the HTTP library they have:

- the token is asked for anew for each request, and goes to the API's origin and nowhere else;
- after a 401 the token is rejected, and the request goes out once more if there is a *different* one;
- no token is ever sent again after the API refused it.
"""

from __future__ import annotations

from contextlib import ExitStack
from urllib.parse import urlsplit

from cmzon_secrets.cache import TokenCache
from cmzon_secrets.errors import ConfigurationError
from cmzon_secrets.http.addresses import PORTS, api_base_url
from cmzon_secrets.provider import TokenProvider
from cmzon_secrets.registry import open_provider
from cmzon_secrets.tokens import MASK, Token

__all__ = ["Authorizer", "Bearer"]


class Authorizer:
    """Hands out the current token of ``provider`` for requests to one origin.

    ``provider``: a TokenCache, any other provider (it gets a TokenCache), or a URI. What a URI opened
    is closed with it; a provider object stays open. ``base_url``: as for ``Client``. Thread-safe,
    fork-safe, and good for any number of event loops.

    Raises ConfigurationError or InvalidURI for arguments that cannot work.
    """

    def __init__(self, provider: TokenProvider | str, *, base_url: str | None = None) -> None:
        self.base_url = api_base_url(base_url)
        parts = urlsplit(self.base_url)
        self._origin = _origin(parts.scheme, parts.hostname or "", parts.port)
        self._opened = ExitStack()
        self._cache = _cache(provider, self._opened)

    def trusts(self, scheme: str, host: str, port: int | None) -> bool:
        """Whether that is the API's origin; ``port`` None is the scheme's own."""
        return _origin(scheme, host, port) == self._origin

    def check(self, scheme: str, host: str, port: int | None) -> None:
        """Raise ConfigurationError unless a request to that origin may carry the token."""
        if not self.trusts(scheme, host, port):
            where = f"{scheme}://{host}" + (f":{port}" if port else "")
            raise ConfigurationError(
                f"request to {where} — the token is for {self.base_url} and goes nowhere else",
                hint="where that is the API, give it as base_url or in CMZON_BASE_URL",
            )

    def get(self) -> Token:
        """The current token. Raises what the provider raises."""
        return self._cache.get()

    async def get_async(self) -> Token:
        """``get`` for a task of asyncio: no backend holds up the event loop."""
        return await self._cache.get_async()

    def reject(self, token: Token) -> None:
        """The API answered 401 to ``token``."""
        self._cache.invalidate(token)

    def close(self) -> None:
        """Close what was opened here."""
        self._opened.close()

    def __repr__(self) -> str:
        return f"{self._cache.uri} for {self.base_url}"


class Bearer(str):
    """The value of an ``Authorization`` header that is masked where a header is printed."""

    __slots__ = ()

    @classmethod
    def of(cls, token: Token) -> Bearer:
        """The header with which ``token`` is sent."""
        return cls(f"Bearer {token.reveal()}")

    def __repr__(self) -> str:
        return f"'Bearer {MASK}'"


def _origin(scheme: str, host: str, port: int | None) -> tuple[str, str, int | None]:
    """Scheme, host and port as they compare (RFC 6454 §4)."""
    return scheme.lower(), host.lower(), port or PORTS.get(scheme.lower())


def _cache(provider: TokenProvider | str, opened: ExitStack) -> TokenCache:
    if isinstance(provider, str):
        provider = opened.enter_context(open_provider(provider))
    if isinstance(provider, TokenCache):
        return provider
    if isinstance(provider, TokenProvider):
        return opened.enter_context(TokenCache(provider))
    raise ConfigurationError(
        f"provider — a TokenProvider or a URI is needed, got {type(provider).__name__}",
        hint='for a token in an environment variable: "env:CMZON_API_TOKEN"',
    )
