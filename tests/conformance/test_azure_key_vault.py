"""``azurekeyvault:`` passes what every store must pass: the real SDK against the strict double."""

import secrets
from datetime import timedelta
from functools import partial

import pytest

from cmzon_secrets.clouds.azure import Vault
from cmzon_secrets.clouds.azure_credentials import Login
from cmzon_secrets.permissions import policy
from cmzon_secrets.providers.azure_key_vault import AzureKeyVault
from cmzon_secrets.testing import StoreSuite, interposed
from servers.key_vault import SwiftClock, open_there
from servers.key_vault_secrets import paste

SPEED = 100
"""The double's clock runs ahead, and the store's waits are as much shorter: a write settles in 20 ms."""


def opened(host, name, client_id="rotator", timeout=10.0):
    """A handle; picklable arguments only."""
    vault = Vault(host, Login(credential="managed", client_id=client_id))
    return AzureKeyVault(vault, name, clock=SwiftClock(SPEED), timeout=timeout)


@pytest.mark.slow
class TestAzureKeyVault(StoreSuite):
    takes_clock = False
    clock_skew = timedelta(hours=24)  # a second of this run is a hundred of the double's
    race_rounds = 2
    model_examples = 4
    model_steps = 10
    max_crash_points = 3

    @pytest.fixture
    def new_place(self, key_vault):
        self.server, self.vault = key_vault, key_vault.vault(speed=SPEED)

        def make():
            name = f"token-{secrets.token_hex(4)}"
            role = policy("azurekeyvault", "rotator", {"resource_group_id": "/"})
            self.vault.assign("rotator", role, f"secrets/{name}", f"secrets/{name}-pending")
            empty = {"cmzon-v": "1", "cmzon-state": "empty", "cmzon-base": "none"}
            paste(self.vault, f"{name}-pending", "(empty)", tags=empty)  # as create() would
            return name

        return make

    def open(self, place, clock):
        return opened(self.vault.host, place)

    def opener(self, place):
        return partial(open_there, self.server.port, partial(opened, self.vault.host, place))

    def aliases(self, place):
        host, login = self.vault.host, Login(credential="managed", client_id="owner")
        another = AzureKeyVault(Vault(host, login), place, clock=SwiftClock(SPEED))
        return [opened(host, place.upper()), another]

    def paste(self, place, text):
        paste(self.vault, place, text)

    def steps(self, place, step):
        from azure.core.pipeline.transport import RequestsTransport

        return interposed(step, RequestsTransport, "send")

    def denied(self, place):
        return opened(self.vault.host, place, "nobody")

    def unreachable(self, place):
        return opened(f"down-{self.vault.host}", place, timeout=1.0)
