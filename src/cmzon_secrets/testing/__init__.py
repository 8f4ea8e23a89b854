"""What proves a backend, and what tests of users need. Shipped, so that third parties have it too.

    from cmzon_secrets.testing import StoreSuite

    class TestMyStore(StoreSuite):
        ...  # docs/extending.md

Names are loaded on first use: pytest is needed only where a suite is.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cmzon_secrets.testing.clock import ManualClock as ManualClock
    from cmzon_secrets.testing.conformance import IssuerSuite as IssuerSuite
    from cmzon_secrets.testing.conformance import KeySuite as KeySuite
    from cmzon_secrets.testing.conformance import ProviderSuite as ProviderSuite
    from cmzon_secrets.testing.conformance import StoreSuite as StoreSuite
    from cmzon_secrets.testing.interposing import interposed as interposed
    from cmzon_secrets.testing.memory_issuer import MemoryIssuer as MemoryIssuer
    from cmzon_secrets.testing.memory_store import MemoryStore as MemoryStore

_HOMES = {
    "IssuerSuite": "conformance",
    "KeySuite": "conformance",
    "ManualClock": "clock",
    "MemoryIssuer": "memory_issuer",
    "MemoryStore": "memory_store",
    "ProviderSuite": "conformance",
    "StoreSuite": "conformance",
    "interposed": "interposing",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value
