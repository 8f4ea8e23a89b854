"""What is found at a real OpenBao server, for tokens with just the right policy and with others."""

import os

import pytest

from cmzon_secrets import open_provider
from cmzon_secrets.examinations import vault_kv, vault_transit
from cmzon_secrets.registry import open_key
from cmzon_secrets.uri import split
from servers.openbao import unused

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def server(openbao, vault_environment):
    vault_environment(openbao.environment(openbao.root_token))
    return openbao


@pytest.fixture
def path(openbao):
    path = unused("doctor/app")
    openbao.admin("POST", f"secret/data/{path}", {"data": {"token": "cmz_secret_value"}})
    return path


@pytest.fixture
def examined(openbao, monkeypatch):
    """Findings about a place, as the holder of a token with this policy; several of one check in order."""

    def examined(uri, role, text, **fields):
        token = openbao.token(openbao.policy(text), **fields) if text else openbao.root_token
        monkeypatch.setenv("VAULT_TOKEN", token)
        return found_at(uri, role)

    return examined


def found_at(uri, role):
    if uri.startswith("hashivault:"):
        with open_provider(uri) as store:
            found = list(vault_kv.examine(store, role))
    else:
        key = open_key(uri)
        found = list(vault_transit.examine(key, role))
    assert "cmz_secret_value" not in repr(found)
    assert os.environ.get("VAULT_TOKEN", "no token") not in repr(found)
    return found


def policy(uri, role):
    if uri.startswith("hashivault:"):
        return vault_kv.policy(split(uri), role)
    return vault_transit.policy(split(uri), role)


def grave(found):
    return [
        (finding.check, finding.message, finding.evidence)
        for finding in found
        if finding.severity in ("warning", "problem")
    ]


def kinds(found):
    return {finding.check for finding in found}


@pytest.mark.parametrize("role", ["reader", "rotator"])
@pytest.mark.parametrize("query", ["", "?layout=split"])
def test_the_printed_policy_is_just_enough(examined, path, role, query):
    uri = f"hashivault://secret/{path}{query}"
    found = examined(uri, role, policy(uri, role))
    assert grave(found) == []
    assert kinds(found) == {
        "reachability.server",
        "tls.backend",
        "clock.backend",
        "credentials.source",
        "credentials.token",
        "permissions.least",
    }


def test_where_address_and_credentials_come_from_is_told(examined, path):
    uri = f"hashivault://secret/{path}"
    found = {f.check: f for f in examined(uri, "reader", policy(uri, "reader"))}
    assert "VAULT_TOKEN" in found["credentials.source"].message
    assert "address from VAULT_ADDR" in found["credentials.source"].evidence
    assert "policies default, policy-" in found["credentials.token"].evidence


def test_a_rotator_with_the_rights_of_a_reader_lacks_one_by_name(examined, path):
    uri = f"hashivault://secret/{path}"
    found = examined(uri, "rotator", policy(uri, "reader"))
    assert grave(found) == [
        (
            "permissions.missing",
            f"as a rotator it lacks: update on secret/data/{path}",
            "asked of sys/capabilities-self",
        )
    ]
    (remedy,) = {f.remedy for f in found if f.check == "permissions.missing"}
    assert remedy == f"cmzon-secrets doctor --policy rotator {uri} | bao policy write NAME -"


def test_a_reader_that_may_write_has_too_much(examined, path):
    uri = f"hashivault://secret/{path}"
    (found,) = grave(examined(uri, "reader", policy(uri, "rotator")))
    assert found == (
        "permissions.excess",
        "this reader may write the token",
        f"update on secret/data/{path}",
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('path "secret/data/*" { capabilities = ["read"] }', "secrets that are not its own"),
        ('path "secret/metadata/*" { capabilities = ["delete"] }', "remove the secret for good"),
        ('path "secret/destroy/*" { capabilities = ["update"] }', "destroy versions"),
        ('path "secret/data/{path}.rotation" { capabilities = ["read"] }', "PENDING and PREVIOUS"),
    ],
)
def test_dangerous_excess_is_named(examined, path, text, message):
    uri = f"hashivault://secret/{path}?layout=split"
    found = grave(examined(uri, "reader", policy(uri, "reader") + text.replace("{path}", path)))
    assert found
    assert {check for check, _, _ in found} == {"permissions.excess"}
    assert any(message in told for _, told, _ in found)


def test_a_root_token_is_a_problem_by_itself(examined, path):
    found = grave(examined(f"hashivault://secret/{path}", "rotator", None))
    assert [check for check, _, _ in found] == ["permissions.root"]


def test_a_token_that_ends_while_nobody_looks(examined, path):
    uri = f"hashivault://secret/{path}"
    (found,) = grave(examined(uri, "reader", policy(uri, "reader"), ttl="1h", renewable=False))
    assert found[0] == "credentials.token"
    assert "cannot be renewed" in found[1]


def test_a_token_that_may_not_look_at_itself_is_not_judged(examined, path):
    uri = f"hashivault://secret/{path}"
    found = examined(uri, "reader", policy(uri, "reader"), no_default_policy=True)
    assert grave(found) == []
    assert {f.check for f in found if f.severity == "note"} == {
        "credentials.token",
        "permissions.unknown",
    }


def test_nothing_is_written(examined, openbao, path):
    uri = f"hashivault://secret/{path}"
    before = len(openbao.audited())
    for role in ("reader", "rotator"):
        examined(uri, role, policy(uri, "rotator"))
    asked = {
        (request["operation"], request["path"])
        for request in openbao.audited()[before:]
        if not request["path"].startswith(("sys/policies", "auth/token/create"))
    }
    assert asked <= {
        ("read", "sys/health"),
        ("read", "auth/token/lookup-self"),
        ("update", "sys/capabilities-self"),
    }


# the key of a sealed file


@pytest.fixture
def key(openbao):
    name = unused("doctor-key")
    openbao.admin("POST", f"transit/keys/{name}", {})
    return f"hashivault-transit://transit/{name}"


@pytest.mark.parametrize("role", ["reader", "rotator"])
def test_the_printed_policy_of_a_key_is_just_enough(examined, key, role):
    found = examined(key, role, policy(key, role))
    assert grave(found) == []
    assert "permissions.least" in kinds(found)


def test_a_reader_of_a_key_that_may_seal(examined, key):
    ((check, message, _),) = grave(examined(key, "reader", policy(key, "rotator")))
    assert (check, message) == ("permissions.excess", "this reader may also seal")


def test_a_policy_with_a_wildcard_over_keys(examined, key):
    text = 'path "transit/*" { capabilities = ["create", "update"] }'
    messages = [message for _, message, _ in grave(examined(key, "rotator", text))]
    assert any("another key" in message for message in messages)
    assert any("wildcard" in message for message in messages)
    assert any("delete the key" in message for message in messages)


def test_a_sealer_without_the_right_to_seal(examined, key):
    ((check, message, _),) = grave(examined(key, "rotator", policy(key, "reader")))
    assert check == "permissions.missing"
    assert "update on transit/encrypt/" in message
