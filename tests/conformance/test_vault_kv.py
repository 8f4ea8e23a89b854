"""``hashivault:`` passes what every store must pass, in both layouts, with the rotator's rights alone."""

from datetime import UTC, datetime
from functools import partial

import pytest

from cmzon_secrets import open_store, permissions
from cmzon_secrets.clock import SYSTEM_CLOCK
from cmzon_secrets.clouds import vault
from cmzon_secrets.deadline import DEFAULT_DEADLINE
from cmzon_secrets.providers.vault_kv import VaultKV
from cmzon_secrets.testing import ManualClock, StoreSuite, interposed
from cmzon_secrets.uri import parse
from servers.child_process import free_port
from servers.openbao import unused

pytestmark = pytest.mark.slow


class Rotator:
    """A token that may do what the policy file says, at each of the places that were made so far."""

    def __init__(self, openbao, scheme):
        self._openbao, self._scheme = openbao, scheme
        self._policies = []
        self._name = unused("rotator")
        self.token = openbao.token(self._name)

    def may_use(self, path):
        names = {"mount": "secret", "path": path}
        self._policies.append(permissions.policy(self._scheme, "rotator", names))
        self._openbao.policy("\n".join(self._policies), self._name)


class TestVaultKV(StoreSuite):
    scheme, query = "hashivault", "?layout=single"
    model_examples, model_steps, race_rounds = 5, 12, 2

    @pytest.fixture(scope="class")
    @classmethod
    def rotator(cls, openbao):
        return Rotator(openbao, cls.scheme)

    @pytest.fixture
    def new_place(self, openbao, rotator, vault_environment):
        def new():
            uri = f"hashivault://secret/{unused('app/db')}{self.query}"
            vault_environment({"VAULT_TOKEN": openbao.root_token})
            with self.open(uri) as store:
                store.create()
                rotator.may_use(store.path)
            vault_environment({"VAULT_TOKEN": rotator.token})
            return uri

        self.bao, self.setenv = openbao, vault_environment
        vault_environment(openbao.environment())
        return new

    def open(self, place, clock=SYSTEM_CLOCK, timeout=DEFAULT_DEADLINE):
        return VaultKV(parse(place, schemes=["hashivault"]), clock=clock, timeout=timeout)

    def opener(self, place):
        return partial(open_store, place)

    def aliases(self, place):
        return [
            self.open(f"{place}&address=https://localhost:{self.bao.port}"),
            self.open(f"{place}&mount=secret&ca={self.bao.ca}"),
        ]

    def paste(self, place, text):
        path = self.open(place).path
        self.bao.admin("POST", f"secret/data/{path}", {"data": {"token": text}})

    def steps(self, place, step):
        return interposed(step, vault.Calls, "write")  # whoever dies while reading changes nothing

    def denied(self, place):
        stranger = Rotator(self.bao, self.scheme)
        stranger.may_use(unused("elsewhere"))
        self.setenv({"VAULT_TOKEN": stranger.token})
        return self.open(place)

    def was_promoted(self, view, *, not_before, clock):
        """By the given clock, or by the server's, which is this machine's, where that is later."""
        later = ManualClock(max(clock.now(), datetime.now(UTC)))
        super().was_promoted(view, not_before=not_before, clock=later)

    def mend(self, place):
        self.setenv({"VAULT_TOKEN": self.bao.root_token})

    def unreachable(self, place):
        return self.open(f"{place}&address=https://127.0.0.1:{free_port()}", timeout=0.3)


class TestVaultKVSplit(TestVaultKV):
    scheme, query = "hashivault-split", "?layout=split"
    model_examples, race_rounds = 4, 2
