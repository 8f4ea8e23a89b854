"""An account whose token lies in a sealed file, the CMzon it is for, and a hand that replaces it."""

import json
import os
import urllib.request
from pathlib import Path

import pytest

from cmzon_secrets import CMzonIssuer, RotationPolicy, Rotator, Token, open_store
from cmzon_secrets.sealing_keys.key_file import generate_key_file
from cmzon_secrets.testing import MemoryStore

SOURCE = Path(__file__).parents[2] / "src"


class SendingAccount:
    """``environment``: what a program needs that sends with this account's token."""

    def __init__(self, folder, emulator):
        generate_key_file(folder / "the.key")
        self.emulator = emulator
        self.uri = f"file:{folder / 'acme.sealed'}?key=keyfile:{folder / 'the.key'}"
        self.environment = {
            "CMZON_BASE_URL": emulator.base_url,
            "CMZON_TOKEN_URI": self.uri,
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(SOURCE),
        }
        admin = MemoryStore()
        admin.stage(Token(emulator.admin_token, id="admin"))
        admin.promote("admin", replacing=None)
        self.store = open_store(self.uri)
        self._issuer = CMzonIssuer(admin, base_url=emulator.base_url)
        self._rotator = Rotator(self.store, self._issuer, RotationPolicy("acme"))
        assert self._rotator.run().state == "done"

    def replace(self):
        """As after a leak: a new token is CURRENT and the old one is dead, without a grace."""
        assert self._rotator.revoke().state == "done"

    def fault(self, **facts):
        """What goes wrong with the next messages, as the emulator takes it."""
        request = urllib.request.Request(
            f"{self.emulator.base_url}/_emulator/faults",
            json.dumps({"route": "POST /v1/messages", **facts}).encode(),
            {"Content-Type": "application/json"},
        )
        urllib.request.urlopen(request).close()

    @property
    def messages(self):
        """How many the API accepted."""
        return self.emulator.stats()["messages"]

    @property
    def refused(self):
        """How many requests the API answered with 401."""
        return self.emulator.stats()["by_status"].get("401", 0)

    def close(self):
        self._issuer.close()
        self.store.close()


@pytest.fixture
def sending_account(tmp_path, cmzon_emulator):
    account = SendingAccount(tmp_path, cmzon_emulator)
    yield account
    account.close()


@pytest.fixture
def in_its_environment(sending_account, monkeypatch):
    """This process sends with the account's token."""
    for name, value in sending_account.environment.items():
        monkeypatch.setenv(name, value)
    return sending_account
