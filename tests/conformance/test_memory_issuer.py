"""MemoryIssuer keeps the contract it helps others to test."""

import pytest

from cmzon_secrets.testing import IssuerSuite, MemoryIssuer


class TestMemoryIssuer(IssuerSuite):
    cannot = {
        "unreachable": "a dict always answers",
        "dead_admin": "a dict asks for no credentials",
        "secrets_of": "a dict has no credentials",
    }

    @pytest.fixture
    def place(self):
        return MemoryIssuer()

    def open(self, place):
        return place
