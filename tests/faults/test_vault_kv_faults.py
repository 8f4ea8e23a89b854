"""What goes wrong with ``hashivault:``, on a real server; its column of docs/faults.md."""

import sys
import time

import pytest

from cmzon_secrets.providers.vault_kv import VaultKV
from cmzon_secrets.testing.conformance.store_hooks import bootstrap
from cmzon_secrets.uri import parse
from faults.backend_faults import BackendFaults
from servers.child_process import free_port
from servers.openbao import unused
from servers.relay import relay


def opened(path, mount="secret", timeout=10.0, query=""):
    location = parse(f"hashivault://{mount}/{path}{query}", schemes=["hashivault"])
    return VaultKV(location, timeout=timeout)


@pytest.fixture(autouse=True)
def as_root(openbao, vault_environment):
    vault_environment(openbao.environment(openbao.root_token))


@pytest.fixture
def path():
    """Where a token is CURRENT."""
    made = unused("fault")
    with opened(made) as store:
        store.create()
        bootstrap(store)
    return made


class TestVaultKVFaults(BackendFaults):
    scheme = "hashivault"

    @pytest.fixture
    def not_found(self):
        return opened(unused("absent")), "put --create"

    @pytest.fixture
    def denied(self, path, openbao, vault_environment):
        vault_environment({"VAULT_TOKEN": openbao.token("default")})
        return opened(path), f'path "secret/data/{path}" {{ capabilities = ["read"] }}'

    @pytest.fixture
    def throttled(self, path, openbao):
        quota = f"sys/quotas/rate-limit/{unused('quota')}"
        openbao.admin("POST", quota, {"path": f"secret/data/{path}", "rate": 1, "interval": "60s"})
        store = opened(path, timeout=0.5)
        store.get()  # the one of this minute
        yield store, "rate limit quota"
        openbao.admin("DELETE", quota)

    @pytest.fixture
    def unreachable(self, path):
        query = f"?address=https://127.0.0.1:{free_port()}"
        return opened(path, timeout=0.3, query=query), "check the address"

    @pytest.fixture
    def slow(self, path, openbao):
        with relay(openbao.port) as between:
            store = opened(path, timeout=0.5, query=f"?address=https://127.0.0.1:{between.port}")
            between.silent = True
            yield store, "no answer"  # the deadline and the socket end at the same moment

    @pytest.fixture
    def sealed_server(self, path, openbao):
        store = opened(path, timeout=0.5)
        openbao.seal()
        yield store, "operator unseal"
        openbao.unseal()

    @pytest.fixture
    def deleted_but_recoverable(self, path, openbao):
        openbao.admin("DELETE", f"secret/data/{path}")
        return opened(path), f"bao kv undelete -mount secret -versions 3 {path}"

    @pytest.fixture
    def malformed_value(self, path, openbao):
        openbao.admin("POST", f"secret/data/{path}", {"data": {"token": "two words"}})
        return opened(path), "its field token: it contains a space"

    @pytest.fixture
    def foreign_value(self, path, openbao):
        openbao.admin("POST", f"secret/data/{path}", {"data": {"user": "me", "password": "x"}})
        return opened(path), "none of them is token"

    @pytest.fixture
    def expired_credentials(self, path, openbao, vault_environment):
        vault_environment({"VAULT_TOKEN": openbao.token("root", ttl="1s")})
        store = opened(path)
        store.get()
        time.sleep(1.2)
        return store, "expired"

    @pytest.fixture
    def no_credentials(self, path, monkeypatch):
        monkeypatch.delenv("VAULT_TOKEN")
        return opened(path), "VAULT_TOKEN"

    @pytest.fixture
    def sdk_missing(self, path, vault_environment, monkeypatch):
        vault_environment({"VAULT_TOKEN": unused("another")})  # whose session has no connection yet
        for module in ("hvac", "hvac.adapters"):
            monkeypatch.setitem(sys.modules, module, None)
        return opened(path), 'pip install "cmzon-secrets[vault]"'
