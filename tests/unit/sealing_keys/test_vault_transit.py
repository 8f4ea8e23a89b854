"""``hashivault-transit:``: the key's own rotation, rights, unfit keys and hostile stanzas. On a real server."""

import base64
import json
import re
import secrets

import pytest

from cmzon_secrets import open_store, permissions
from cmzon_secrets.errors import AccessDenied, ConfigurationError, InvalidURI, SealBroken
from cmzon_secrets.registry import open_key
from cmzon_secrets.sealing import read_header
from cmzon_secrets.testing.conformance.store_hooks import bootstrap, new_token
from servers.openbao import unused
from servers.relay import relay

DATA_KEY = secrets.token_bytes(32)

REFUSED = {
    "hashivault-transit:transit/kek": "two slashes",
    "hashivault-transit://kek": "no second part",
    "hashivault-transit://transit/../sys": "'..'",
    "hashivault-transit://transit/kek*": "mean something else in a policy",
    "hashivault-transit://transit/kek?layout=split": "unknown option",
}


@pytest.mark.parametrize(("uri", "why"), REFUSED.items(), ids=REFUSED)
def test_a_name_that_could_mean_another_key_is_refused(uri, why, vault_environment):
    vault_environment({"VAULT_ADDR": "https://127.0.0.1:1"})
    with pytest.raises(InvalidURI, match=re.escape(why)):
        open_key(uri)


@pytest.fixture
def make(openbao, vault_environment):
    """A new transit key; its URI."""

    def new(mount="transit", **options):
        vault_environment(openbao.environment(openbao.root_token))
        name = unused("kek")
        openbao.admin("POST", f"{mount}/keys/{name}", options)
        return f"hashivault-transit://{mount}/{name}"

    return new


@pytest.fixture
def configure(openbao):
    def change(uri, what="config", **options):
        path = uri.removeprefix("hashivault-transit://").replace("/", "/keys/")
        openbao.admin("POST", f"{path}/{what}", options)

    return change


def version(stanza):
    return stanza["wrapped"].split(":")[1]


# the key's own rotation


def test_what_an_older_version_sealed_opens_and_the_next_wrap_has_the_newest(make, configure):
    key = open_key(uri := make())
    old = key.wrap(DATA_KEY)
    configure(uri, "rotate")
    new = key.wrap(DATA_KEY)
    assert (version(old), version(new)) == ("v1", "v2")
    assert key.unwrap(old) == key.unwrap(new) == DATA_KEY


def test_a_sealed_file_is_sealed_anew_at_its_next_write_and_lets_the_old_version_be_disabled(
    make, configure, tmp_path
):
    uri, path = make(), tmp_path / "token.sealed"
    store = open_store(f"file:{path}", key=uri)
    token = bootstrap(store)
    configure(uri, "rotate")
    assert store.get() == token
    assert version(read_header(path.read_bytes()).stanza) == "v1"
    store.stage(new_token())
    assert version(read_header(path.read_bytes()).stanza) == "v2"
    configure(uri, min_decryption_version=2)
    assert store.get() == token


def test_rekeying_with_the_same_key_seals_a_file_that_nobody_writes_with_the_newest_version(
    make, configure, tmp_path
):
    uri, path = make(), tmp_path / "token.sealed"
    store = open_store(f"file:{path}", key=uri)
    token = bootstrap(store)
    configure(uri, "rotate")
    store.rekey(open_key(uri))
    assert version(read_header(path.read_bytes()).stanza) == "v2"
    assert store.get() == token


def test_what_a_disabled_version_sealed_says_so_and_how_to_get_at_it(make, configure):
    key = open_key(uri := make())
    stanza = key.wrap(DATA_KEY)
    configure(uri, "rotate")
    configure(uri, min_decryption_version=2)
    with pytest.raises(AccessDenied, match="disabled") as caught:
        key.unwrap(stanza)
    assert "min_decryption_version=1" in caught.value.hint
    configure(uri, min_decryption_version=1)
    assert key.unwrap(stanza) == DATA_KEY


# least privilege


def holder_of(openbao, setenv, role, uri):
    mount, name = uri.removeprefix("hashivault-transit://").split("/")
    policy = permissions.policy("hashivault-transit", role, {"mount": mount, "key": name})
    token = openbao.token(openbao.policy(policy))
    setenv({"VAULT_TOKEN": token})
    return token, open_key(uri)


FORBIDDEN = [
    ("GET", "transit/keys/{key}"),
    ("POST", "transit/keys/{key}/rotate"),
    ("POST", "transit/keys/{key}/config"),
    ("DELETE", "transit/keys/{key}"),
    ("GET", "transit/export/encryption-key/{key}"),
    ("POST", "transit/rewrap/{key}"),
    ("POST", "transit/datakey/plaintext/{key}"),
    ("POST", "transit/encrypt/{key}-neighbour"),
    ("POST", "transit/decrypt/{key}-neighbour"),
    ("LIST", "transit/keys"),
]


def test_the_reader_may_unwrap_and_nothing_else(make, openbao, vault_environment):
    stanza = open_key(uri := make()).wrap(DATA_KEY)
    token, reader = holder_of(openbao, vault_environment, "reader", uri)
    assert reader.unwrap(stanza) == DATA_KEY
    with pytest.raises(AccessDenied, match="no right to update transit/encrypt/"):
        reader.wrap(DATA_KEY)
    assert_denied(openbao, token, reader.name, [*FORBIDDEN, ("POST", "transit/encrypt/{key}")])


def test_the_rotator_may_wrap_and_unwrap_and_nothing_else(make, openbao, vault_environment):
    token, rotator = holder_of(openbao, vault_environment, "rotator", make())
    assert rotator.unwrap(rotator.wrap(DATA_KEY)) == DATA_KEY
    assert_denied(openbao, token, rotator.name, FORBIDDEN)


def assert_denied(openbao, token, key, attempts):
    body = {"plaintext": "", "ciphertext": "", "type": "aes256-gcm96"}
    allowed = [
        f"{method} {path}"
        for method, path in attempts
        if openbao.ask(method, path.format(key=key), body, token=token)[0] != 403
    ]
    assert allowed == []


def test_a_typo_makes_no_key(openbao, vault_environment, make):
    make()
    uri = f"hashivault-transit://transit/{unused('typo')}"
    _, rotator = holder_of(openbao, vault_environment, "rotator", uri)
    with pytest.raises(AccessDenied) as caught:
        rotator.wrap(DATA_KEY)
    assert "is there a key of that name?" in caught.value.hint
    with pytest.raises(ConfigurationError, match="there is no such key") as missing:
        rotator.unwrap({"wrap": "hashivault-transit", "wrapped": "vault:v1:" + "A" * 80})
    assert f"bao write -f transit/keys/{rotator.name}" in missing.value.hint
    status, _ = openbao.ask("GET", f"transit/keys/{rotator.name}", token=openbao.root_token)
    assert status == 404


# keys and mounts that will not do


@pytest.mark.parametrize(
    ("options", "why"),
    [({"type": "rsa-2048"}, "not of a type that authenticates"), ({"derived": True}, "derived")],
    ids=["rsa", "derived"],
)
def test_a_key_that_could_not_bind_what_it_wraps_is_refused(options, why, make):
    with pytest.raises(ConfigurationError, match=why):
        open_key(make(**options)).wrap(DATA_KEY)


def test_a_mount_that_is_no_transit_engine_is_refused(make):
    make()
    for mount, why in (("secret", "nothing|refuses"), ("nowhere", "nothing mounted")):
        with pytest.raises(ConfigurationError, match=why):
            open_key(f"hashivault-transit://{mount}/kek").wrap(DATA_KEY)


def test_a_mount_may_have_slashes(make, openbao):
    mount = f"{unused('team')}/transit"
    openbao.admin("POST", f"sys/mounts/{mount}", {"type": "transit"})
    key = open_key(make(mount))
    assert key.mount == mount
    assert key.unwrap(key.wrap(DATA_KEY)) == DATA_KEY


# stanzas


def test_what_the_same_key_encrypted_for_another_purpose_is_no_data_key(make, openbao):
    key = open_key(make())
    body = {"plaintext": base64.b64encode(DATA_KEY).decode()}
    answer = openbao.admin("POST", f"transit/encrypt/{key.name}", body)
    with pytest.raises(SealBroken):
        key.unwrap({"wrap": "hashivault-transit", "wrapped": answer["data"]["ciphertext"]})


@pytest.mark.parametrize(
    "wrapped",
    [
        "vault:v1:" + "A" * 513,
        "vault:v1:AAAA",
        "vault:v0:" + "A" * 80,
        "vault:v01:" + "A" * 80,
        "vault:v9999999999:" + "A" * 80,
        "vault:v1:" + "A" * 78 + "B=",
        "vault:v1:" + "A" * 80 + "\n",
        "vault:v1:../../sys/seal" + "A" * 40,
        7,
    ],
    ids=str,
)
def test_a_hostile_stanza_is_not_even_sent(wrapped, make, openbao):
    key = open_key(make())
    with pytest.raises(SealBroken):
        key.unwrap({"wrap": "hashivault-transit", "wrapped": wrapped})
    assert openbao.audited(f"transit/decrypt/{key.name}") == []


def test_a_version_that_the_key_never_had_is_seal_broken(make):
    key = open_key(make())
    stanza = dict(key.wrap(DATA_KEY))
    stanza["wrapped"] = stanza["wrapped"].replace(":v1:", ":v7:")
    with pytest.raises(SealBroken):
        key.unwrap(stanza)


def test_the_data_key_is_in_no_audit_trail_and_a_lost_answer_is_asked_for_again(make, openbao):
    with relay(openbao.port) as between:
        key = open_key(make(), address=f"https://127.0.0.1:{between.port}")
        stanza = key.wrap(DATA_KEY)
        between.lose_answers = 1
        assert key.unwrap(stanza) == DATA_KEY
    trail = json.dumps(openbao.audited(f"transit/encrypt/{key.name}"))
    assert base64.b64encode(DATA_KEY).decode() not in trail
