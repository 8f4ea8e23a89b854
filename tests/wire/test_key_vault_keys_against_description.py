"""What our key sends and the Key Vault double answers, against Microsoft's OpenAPI description."""

import json
import re
from pathlib import Path

import pytest

from cmzon_secrets.clouds.azure import Vault
from cmzon_secrets.clouds.azure_credentials import Login
from cmzon_secrets.sealing_keys.azure_key import AzureKey
from servers.key_vault_keys import Keys

DESCRIPTION = json.loads((Path(__file__).parent / "azure" / "keys-2026-04-01.json").read_text())
BASE64URL = re.compile(r"[0-9A-Za-z_-]+", re.ASCII)


@pytest.fixture
def traffic(key_vault_with_keys):
    """A seal made and opened, before and after a rotation of the key."""
    vault = key_vault_with_keys.vault()
    keys = Keys.of(vault)
    keys.create("cmzon")
    key = AzureKey(Vault(vault.host, Login("managed", client_id="owner")), "cmzon")
    stanza = key.wrap(bytes(32))
    keys.create("cmzon")
    key.unwrap(stanza)
    return vault.traffic


def described(exchange):
    for operation in DESCRIPTION["operations"]:
        pattern = re.sub(r"\{[^}]+\}", "[^/]*", operation["path"])
        if operation["method"] == exchange.method and re.fullmatch(pattern, exchange.path):
            return operation
    raise AssertionError(f"not described: {exchange.method} {exchange.path}")


def check(members, definition):
    kinds = DESCRIPTION["definitions"][definition]
    assert set(kinds.get("required", ())) <= set(members) <= set(kinds["properties"])
    for name, value in members.items():
        assert isinstance(value, str)
        if kinds["properties"][name] == "base64url":
            assert BASE64URL.fullmatch(value), name


def test_every_exchange_is_as_described(traffic):
    for exchange in traffic:
        operation = described(exchange)
        assert exchange.status == int(operation["status"])
        assert set(exchange.query) == set(operation["query"])
        check(exchange.sent, operation["body"])
        check(exchange.answered, operation["response"])
        assert exchange.sent["alg"] in DESCRIPTION["algorithms"]
    assert {described(e)["operationId"] for e in traffic} == {"wrapKey", "unwrapKey"}


def test_the_answer_names_the_version_that_did_it(traffic):
    wrapped, proved, opened = (exchange.answered["kid"] for exchange in traffic)
    assert re.fullmatch(r"https://[a-z0-9.-]+/keys/cmzon/[0-9a-f]{32}", wrapped)
    assert wrapped == proved == opened
