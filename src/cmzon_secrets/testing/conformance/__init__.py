"""The suites: subclass one, say where a clean place is and how to open it, run pytest.

Each test is a sentence of the contract. A hook that is neither defined nor excused in ``cannot``
fails its tests, so that nothing passes by being forgotten. docs/extending.md shows whole examples.
"""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite(
    *(
        f"{__name__}.{module}"
        for module in (
            "issuers",
            "keys",
            "leaks",
            "providers",
            "store_crashes",
            "store_errors",
            "store_model",
            "store_races",
            "store_values",
            "store_verbs",
        )
    )
)

from cmzon_secrets.testing.conformance.issuers import IssuerSuite  # noqa: E402
from cmzon_secrets.testing.conformance.keys import KeySuite  # noqa: E402
from cmzon_secrets.testing.conformance.providers import ProviderSuite  # noqa: E402
from cmzon_secrets.testing.conformance.stores import StoreSuite  # noqa: E402

__all__ = ["IssuerSuite", "KeySuite", "ProviderSuite", "StoreSuite"]
