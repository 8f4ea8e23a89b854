"""``env:`` is a provider."""

import os
import uuid

import pytest

from cmzon_secrets import open_provider
from cmzon_secrets.providers.environment import EnvironmentVariable
from cmzon_secrets.testing import ProviderSuite


class TestEnvironmentVariable(ProviderSuite):
    cannot = {
        "denied": "a process may always read its own environment",
        "unreachable": "the environment always answers",
    }

    @pytest.fixture
    def new_place(self, monkeypatch):
        def new() -> str:
            name = f"TOKEN_{uuid.uuid4().hex}"
            monkeypatch.setenv(name, "")  # so that what a test puts there goes away with it
            return name

        return new

    def open(self, place):
        provider = open_provider(f"env:{place}")
        assert isinstance(provider, EnvironmentVariable)
        return provider

    def put(self, place, text):
        os.environ[place] = text
