"""What is found at the strict Key Vault double, for callers with just the right role and with others."""

import json
import secrets
import socket
from datetime import timedelta

import pytest

from cmzon_secrets import open_provider
from cmzon_secrets.examinations import azure_key, azure_secret
from cmzon_secrets.permissions import policy
from cmzon_secrets.registry import open_key
from cmzon_secrets.uri import split
from servers.key_vault_keys import Keys
from servers.key_vault_secrets import paste, secrets_of


@pytest.fixture
def vault(key_vault_with_keys, monkeypatch):
    """A vault of the double; whoever looks at its certificate is led there, too."""
    connect, port = socket.create_connection, key_vault_with_keys.port

    def redirected(address, *args, **kwargs):
        ours = address[0].endswith(".vault.azure.net")
        return connect(("127.0.0.1", port) if ours else address, *args, **kwargs)

    monkeypatch.setattr(socket, "create_connection", redirected)
    return key_vault_with_keys.vault()


@pytest.fixture
def name(vault):
    name = f"doctor-{secrets.token_hex(4)}"
    paste(vault, name, "cmz_secret_value")
    return name


def grant(vault, kind, name, role):
    """A principal with this role of ours, and no other."""
    principal = f"p-{secrets.token_hex(4)}"
    objects = [f"secrets/{name}"] if kind == "azurekeyvault" else [f"keys/{name}"]
    if kind == "azurekeyvault" and role == "rotator":
        objects.append(f"secrets/{name}-pending")
    vault.assign(principal, policy(kind, role, {"resource_group_id": "/"}), *objects)
    return principal


def add(vault, principal, *actions, scope=""):
    full = [f"Microsoft.KeyVault/vaults/{action}" for action in actions]
    vault.assign(principal, json.dumps({"DataActions": full}), scope.removeprefix("/"))


def examined(vault, name, principal, role):
    uri = f"azurekeyvault://{vault.name}/secrets/{name}?credential=managed&client_id={principal}"
    with open_provider(uri) as store:
        found = list(azure_secret.examine(store, role))
    assert "cmz_secret_value" not in repr(found)
    return found


def grave(found):
    return [
        (finding.check, finding.message)
        for finding in found
        if finding.severity in ("warning", "problem")
    ]


@pytest.mark.parametrize("role", ["reader", "rotator"])
def test_the_printed_role_is_just_enough(vault, name, role):
    found = examined(vault, name, grant(vault, "azurekeyvault", name, role), role)
    assert grave(found) == []
    assert {finding.check: finding.severity for finding in found} == {
        "credentials.source": "ok",
        "tls.backend": "ok",
        "clock.backend": "ok",
        "permissions.least": "ok",
        "permissions.unasked": "note",
    }


def test_the_credential_is_named(vault, name):
    found = examined(vault, name, grant(vault, "azurekeyvault", name, "reader"), "reader")
    (source,) = [finding for finding in found if finding.check == "credentials.source"]
    assert "credential=managed (ManagedIdentityCredential)" in source.message


def test_a_rotator_with_the_rights_of_a_reader_lacks_some_by_name(vault, name):
    found = examined(vault, name, grant(vault, "azurekeyvault", name, "reader"), "rotator")
    ((check, message),) = grave(found)
    assert check == "permissions.missing"
    assert f"update on {name}, getSecret on {name}-pending" in message
    assert f"readMetadata on {name}" in message


def test_a_reader_with_the_rights_of_a_rotator_has_too_much(vault, name):
    found = examined(vault, name, grant(vault, "azurekeyvault", name, "rotator"), "reader")
    messages = [message for check, message in grave(found) if check == "permissions.excess"]
    assert "this reader may disable the token" in messages
    assert "this reader may see PENDING" in messages


@pytest.mark.parametrize(
    ("action", "message"),
    [
        ("secrets/getSecret/action", "it may read other secrets"),
        ("secrets/delete", "it may delete secrets"),
    ],
)
def test_a_role_that_is_assigned_to_the_vault_is_too_much(vault, name, action, message):
    principal = grant(vault, "azurekeyvault", name, "rotator")
    add(vault, principal, action)
    ((check, told),) = grave(examined(vault, name, principal, "rotator"))
    assert check == "permissions.excess"
    assert told.startswith(message)


def test_a_clock_that_is_wrong(vault, name):
    vault.skew = timedelta(minutes=10).total_seconds()
    found = examined(vault, name, grant(vault, "azurekeyvault", name, "reader"), "reader")
    ((check, message),) = grave(found)
    assert check == "clock.backend"
    assert "behind that of Key Vault" in message


def test_nothing_is_changed(vault, name):
    before = repr(secrets_of(vault).by_name)
    for role in ("reader", "rotator"):
        examined(vault, name, "owner", role)
    assert repr(secrets_of(vault).by_name) == before
    assert {exchange.method for exchange in vault.traffic} == {
        "GET"
    }  # nothing else was carried out


# the key of a sealed file


@pytest.fixture
def key(vault):
    name = f"doctor-{secrets.token_hex(4)}"
    Keys.of(vault).create(name)
    return name


def key_examined(vault, name, principal, role):
    uri = f"azurekeyvault://{vault.name}/keys/{name}?credential=managed&client_id={principal}"
    return list(azure_key.examine(open_key(uri), role))


@pytest.mark.parametrize("role", ["reader", "rotator"])
def test_the_printed_role_of_a_key_is_just_enough(vault, key, role):
    found = key_examined(vault, key, grant(vault, "azurekeyvault-key", key, role), role)
    assert {finding.severity for finding in found} == {"ok"}
    assert "permissions.seal" in {finding.check for finding in found}


def test_a_reader_of_a_key_that_may_seal(vault, key):
    found = key_examined(vault, key, grant(vault, "azurekeyvault-key", key, "rotator"), "reader")
    assert grave(found) == [("permissions.excess", "this reader may also seal with the key")]


def test_a_sealer_that_may_not_seal(vault, key):
    found = key_examined(vault, key, grant(vault, "azurekeyvault-key", key, "reader"), "rotator")
    ((check, message),) = grave(found)
    assert check == "permissions.missing"
    assert "cannot seal" in message


def test_a_role_over_all_keys_of_the_vault(vault, key):
    principal = grant(vault, "azurekeyvault-key", key, "rotator")
    add(vault, principal, "keys/wrap/action")
    ((check, message),) = grave(key_examined(vault, key, principal, "rotator"))
    assert check == "permissions.excess"
    assert "other keys" in message


def test_the_printed_role_is_one_for_all_and_the_remedy_says_where_to_assign_it(vault, name, key):
    group = ["/subscriptions/SUBSCRIPTION/resourceGroups/GROUP"]
    place = split(f"azurekeyvault://{vault.name}/secrets/{name}")
    assert json.loads(azure_secret.policy(place, "rotator"))["AssignableScopes"] == group
    sealing = split(f"azurekeyvault://{vault.name}/keys/{key}")
    assert json.loads(azure_key.policy(sealing, "reader"))["AssignableScopes"] == group
    found = examined(vault, name, grant(vault, "azurekeyvault", name, "reader"), "rotator")
    (missing,) = [finding for finding in found if finding.check == "permissions.missing"]
    scope = f"{group[0]}/providers/Microsoft.KeyVault/vaults/{vault.name}/secrets/{name}"
    assert f"--scope {scope} and {scope}-pending" in missing.remedy
