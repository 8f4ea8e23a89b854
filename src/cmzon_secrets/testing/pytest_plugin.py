"""The pytest fixture ``cmzon_emulator``, there as soon as the package is installed.

    def test_a_message_is_accepted(cmzon_emulator):
        with Client("env:CMZON_API_TOKEN", base_url=cmzon_emulator.base_url) as client:
            ...

Every pytest run of whoever installed the package loads this module, so it imports nothing that a
test did not ask for.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from cmzon_secrets.emulator import Emulator

__all__ = ["cmzon_emulator"]


@pytest.fixture
def cmzon_emulator() -> Iterator[Emulator]:
    """A fresh CMzon API on a free loopback port; gone, with its tokens, after the test.

    It is strict: a field that the API does not know is refused, so that a typo is found.

    Raises ConfigurationError where the extra ``emulator`` is not installed.
    """
    from cmzon_secrets.emulator import Emulator

    with Emulator(strict=True) as emulator:
        yield emulator
