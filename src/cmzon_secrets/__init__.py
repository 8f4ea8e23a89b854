"""Keep a CMzon API token in a secret manager, rotate it while messages flow, send with it.

    from cmzon_secrets import Client
    with Client("file:token.sealed?key=keyfile:token.key") as client:
        client.send_message("+1234567890", "Hello from CMzon!")

Every public name is loaded on first use: importing the package costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False  # type checkers take it for true; typing.TYPE_CHECKING would load typing
if TYPE_CHECKING:
    from cmzon_secrets.cache import TokenCache as TokenCache
    from cmzon_secrets.client import Client as Client
    from cmzon_secrets.client import RateLimits as RateLimits
    from cmzon_secrets.client import SendResult as SendResult
    from cmzon_secrets.client.async_client import AsyncClient as AsyncClient
    from cmzon_secrets.issuer import TokenInfo as TokenInfo
    from cmzon_secrets.issuer import TokenIssuer as TokenIssuer
    from cmzon_secrets.issuer import TokenRequest as TokenRequest
    from cmzon_secrets.issuers.cmzon import CMzonIssuer as CMzonIssuer
    from cmzon_secrets.issuers.manual import ManualIssuer as ManualIssuer
    from cmzon_secrets.provider import TokenProvider as TokenProvider
    from cmzon_secrets.provider import TokenStore as TokenStore
    from cmzon_secrets.registry import open_provider as open_provider
    from cmzon_secrets.registry import open_store as open_store
    from cmzon_secrets.rotation import RotationPolicy as RotationPolicy
    from cmzon_secrets.rotation import RotationReport as RotationReport
    from cmzon_secrets.rotation import Rotator as Rotator
    from cmzon_secrets.tokens import Token as Token
    from cmzon_secrets.tokens import Versions as Versions

__version__ = "0.1.0"

_HOMES = {
    "AsyncClient": "client.async_client",
    "CMzonIssuer": "issuers.cmzon",
    "Client": "client",
    "ManualIssuer": "issuers.manual",
    "RateLimits": "client",
    "RotationPolicy": "rotation",
    "RotationReport": "rotation",
    "Rotator": "rotation",
    "SendResult": "client",
    "Token": "tokens",
    "TokenCache": "cache",
    "TokenInfo": "issuer",
    "TokenIssuer": "issuer",
    "TokenProvider": "provider",
    "TokenRequest": "issuer",
    "TokenStore": "provider",
    "Versions": "tokens",
    "open_provider": "registry",
    "open_store": "registry",
}

__all__ = list(_HOMES)  # one table: tests hold it against what type checkers see


def __getattr__(name: str) -> object:
    if name == "errors":  # the one module that is part of the public interface
        return import_module(f"{__name__}.errors")
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
