"""``hashivault-transit:`` passes what every key must pass, with the rotator's rights alone."""

import base64

import pytest

from cmzon_secrets import permissions
from cmzon_secrets.sealing_keys.vault_transit import VaultTransitKey
from cmzon_secrets.testing import KeySuite
from cmzon_secrets.uri import parse
from servers.child_process import free_port
from servers.openbao import unused


class TestVaultTransitKey(KeySuite):
    @pytest.fixture
    def new_place(self, openbao, vault_environment):
        policy, policies = unused("sealer"), []

        def new():
            name = unused("kek")
            openbao.admin("POST", f"transit/keys/{name}", {"exportable": True})
            names = {"mount": "transit", "key": name}
            policies.append(permissions.policy("hashivault-transit", "rotator", names))
            openbao.policy("\n".join(policies), policy)
            return f"hashivault-transit://transit/{name}"

        self.bao, self.setenv = openbao, vault_environment
        vault_environment(openbao.environment(openbao.token(policy)))
        return new

    def open(self, place, **arguments):
        return VaultTransitKey(parse(place, schemes=["hashivault-transit"]), **arguments)

    def secrets_of(self, place):
        name = place.rpartition("/")[2]
        exported = self.bao.admin("GET", f"transit/export/encryption-key/{name}")["data"]["keys"]
        return [*exported.values(), *(base64.b64decode(key).hex() for key in exported.values())]

    def denied(self, place):
        self.setenv({"VAULT_TOKEN": self.bao.token("default")})
        return self.open(place)

    def unreachable(self, place):
        return self.open(f"{place}?address=https://127.0.0.1:{free_port()}", timeout=0.3)
