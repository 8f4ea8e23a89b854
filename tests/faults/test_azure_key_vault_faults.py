"""The column ``azurekeyvault`` of docs/faults.md."""

import sys

import pytest

from cmzon_secrets.clouds.azure import Vault
from cmzon_secrets.clouds.azure_credentials import Login
from cmzon_secrets.permissions import policy
from cmzon_secrets.providers.azure_key_vault import AzureKeyVault
from faults.backend_faults import BackendFaults
from servers.key_vault import SwiftClock
from servers.key_vault_secrets import disable, paste, secrets_of


class TestAzureKeyVaultFaults(BackendFaults):
    scheme = "azurekeyvault"

    @pytest.fixture
    def vault(self, key_vault):
        vault = key_vault.vault(speed=50)
        role = policy("azurekeyvault", "reader", {"resource_group_id": "/"})
        vault.assign("reader", role, "secrets/token")
        return vault

    @pytest.fixture
    def opened(self, vault):
        def make(principal="reader", *, host=vault.host, timeout=10.0):
            login = Login(credential="managed", client_id=principal)
            return AzureKeyVault(Vault(host, login), "token", clock=SwiftClock(50), timeout=timeout)

        return make

    @pytest.fixture
    def held(self, vault):
        paste(vault, "token", "cmz_a_token")
        return vault

    @pytest.fixture
    def not_found(self, opened):
        return opened(), "put --create"

    @pytest.fixture
    def denied(self, held, opened):
        return opened("nobody"), "getSecret"

    @pytest.fixture
    def throttled(self, held, opened):
        held.throttle(times=1000)
        return opened(timeout=0.6), "throttles"

    @pytest.fixture
    def unreachable(self, vault, opened):
        return opened(host=f"down-{vault.host}", timeout=1.0), "connect"

    @pytest.fixture
    def slow(self, held, opened):
        held.delay(3, times=1000)
        return opened(timeout=0.3), "no answer within"

    @pytest.fixture
    def deleted_but_recoverable(self, held, opened):
        secrets_of(held).by_name["token"].state = "deleted"
        return opened("owner"), "az keyvault secret recover"

    @pytest.fixture
    def disabled(self, held, opened):
        disable(held, "token")
        return opened(), "disabled"

    @pytest.fixture
    def malformed_value(self, vault, opened):
        paste(vault, "token", "cmz_a_token\n")
        return opened(), "line break"

    @pytest.fixture
    def foreign_value(self, vault, opened):
        paste(vault, "token", '{"user": "u", "password": "p"}')
        return opened(), "JSON"

    @pytest.fixture
    def expired_credentials(self, held, opened):
        return opened("expired"), "credential"

    @pytest.fixture
    def no_credentials(self, held):
        vault = Vault(held.host, Login(credential="client-secret"))
        return AzureKeyVault(vault, "token"), "AZURE_CLIENT_SECRET"

    @pytest.fixture
    def sdk_missing(self, held, monkeypatch):
        monkeypatch.setitem(sys.modules, "azure.keyvault.secrets", None)
        login = Login(credential="managed", client_id="without-sdk")
        return AzureKeyVault(Vault(held.host, login), "token"), "cmzon-secrets[azure]"
