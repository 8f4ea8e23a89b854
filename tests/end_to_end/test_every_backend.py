"""Every store and every key with every other, by the commands people type, against its server."""

import itertools
import json
import secrets
import time
from contextlib import closing

import pytest

from cmzon_secrets import Client, CMzonIssuer, RotationPolicy, Rotator, Token, open_store
from cmzon_secrets.cli.app import run
from cmzon_secrets.clock import Clock
from cmzon_secrets.errors import AuthenticationError
from cmzon_secrets.sealing_keys.key_file import generate_key_file
from cmzon_secrets.sealing_keys.passphrase import CHEAPEST, PassphraseKey
from cmzon_secrets.testing import MemoryStore
from servers.aws_environment import client
from servers.key_vault_keys import Keys
from servers.openbao import unused

pytestmark = pytest.mark.slow

STORES = ("file", "awssecretsmanager", "azurekeyvault", "hashivault", "hashivault split")
SPEED = 50
KEYS = ("keyfile", "env", "passphrase", "awskms", "azurekeyvault", "hashivault-transit")


@pytest.fixture(autouse=True)
def swift(monkeypatch):
    """Every pause is as much shorter as the clock of the Key Vault double is faster."""
    monkeypatch.setattr(Clock, "sleep", lambda _, seconds: time.sleep(max(0, seconds) / SPEED))


@pytest.fixture
def clouds(moto_server, key_vault_with_keys, openbao, vault_environment):
    """All servers, and an environment that leads to them."""
    vault_environment(openbao.environment(openbao.root_token))
    return moto_server, key_vault_with_keys.vault(speed=SPEED), openbao


@pytest.fixture
def new_uri(clouds, tmp_path):
    """A function: kind of store → the URI of a new place that does not exist yet."""
    _, vault, _ = clouds
    generate_key_file(tmp_path / "the.key")

    def new(kind):
        name = f"place-{secrets.token_hex(4)}"
        return {
            "file": f"file:{tmp_path / name}?key=keyfile:{tmp_path / 'the.key'}",
            "awssecretsmanager": f"awssecretsmanager://prod/{name}",
            "azurekeyvault": f"azurekeyvault://{vault.host}/secrets/{name}"
            "?credential=managed&client_id=owner",
            "hashivault": f"hashivault://secret/prod/{name}",
            "hashivault split": f"hashivault://secret/prod/{name}?layout=split",
        }[kind]

    return new


def test_put_get_status_and_get_reveal_work_on_every_store(new_uri, monkeypatch, capsys):
    for kind in STORES:
        uri, token = new_uri(kind), Token(f"cmz_{secrets.token_urlsafe(32)}")
        monkeypatch.setenv("NEW_TOKEN", token.reveal())
        assert run(["put", uri, "--create", "--from-env", "NEW_TOKEN"]) == 0, kind
        assert run(["status", uri, "--json"]) == 0, kind
        shown = capsys.readouterr()
        assert token.fingerprint in shown.out
        assert token.reveal() not in shown.out + shown.err
        assert run(["get", uri, "--reveal"]) == 0
        assert capsys.readouterr().out == f"{token.reveal()}\n", kind


@pytest.mark.parametrize("kind", STORES[1:])
def test_a_mistyped_uri_makes_no_second_secret(kind, new_uri, monkeypatch, capsys):
    uri = new_uri(kind)
    monkeypatch.setenv("NEW_TOKEN", "cmz_a_token")
    assert run(["put", uri, "--from-env", "NEW_TOKEN", "--json"]) == 1
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["type"] == "TokenNotFound"
    assert "put --create" in error["hint"]
    assert run(["get", uri]) == 1


@pytest.mark.parametrize("target", STORES)
def test_a_token_can_be_copied_between_any_two_stores(target, new_uri, capsys):
    for source in STORES:
        giver, taker = new_uri(source), new_uri(target)
        token = Token(
            f"cmz_{secrets.token_urlsafe(32)}", id="tok_1", scopes=("messages:send", "audit:read")
        )
        _fill(giver, token)
        assert run(["copy", giver, taker, "--create"]) == 0, f"{source} to {target}"
        with open_store(taker) as store:
            copied = store.get()
        assert copied == token
        assert (copied.id, copied.scopes) == (token.id, token.scopes)
    shown = capsys.readouterr()
    assert "cmz_" not in shown.out + shown.err


def _fill(uri, token):
    with open_store(uri) as store:
        if hasattr(store, "create"):
            store.create()
        store.stage(token)
        store.promote(token.id, replacing=None)


@pytest.fixture
def key_uris(clouds, tmp_path, monkeypatch):
    """Kind of key → the URI of one."""
    url, vault, bao = clouds
    generate_key_file(tmp_path / "another.key")
    generate_key_file(tmp_path / "third.key")
    monkeypatch.setenv("A_KEY", (tmp_path / "third.key").read_text())
    monkeypatch.setenv("CMZON_SECRETS_PASSPHRASE", "correct horse battery staple")
    monkeypatch.setattr(PassphraseKey.__init__, "__kwdefaults__", {"profile": CHEAPEST})
    Keys.of(vault).create("kek")
    transit = unused("kek")
    bao.admin("POST", f"transit/keys/{transit}")
    return {
        "keyfile": f"keyfile:{tmp_path / 'another.key'}",
        "env": "env:A_KEY",
        "passphrase": "passphrase:",
        "awskms": f"awskms://{client('kms', url).create_key()['KeyMetadata']['KeyId']}",
        "azurekeyvault": f"azurekeyvault://{vault.host}/keys/kek"
        "?credential=managed%26client_id=owner",
        "hashivault-transit": f"hashivault-transit://transit/{transit}",
    }


def test_a_sealed_file_can_be_rekeyed_between_any_two_keys(key_uris, tmp_path, capsys):
    for before, after in itertools.permutations(KEYS, 2):
        path, token = tmp_path / f"{before}-{after}.sealed", Token("cmz_token", id="tok_1")
        _fill(_sealed(path, key_uris[before]), token)
        old = _sealed(path, key_uris[before])
        assert run(["rekey", old, "--key", _plain(key_uris[after])]) == 0, f"{before} to {after}"
        with open_store(_sealed(path, key_uris[after])) as store:
            assert store.get() == token
        assert run(["get", old]) == 1
    shown = capsys.readouterr()
    assert "cmz_token" not in shown.out + shown.err


def _sealed(path, key):
    return f"file:{path}?key={key}"


def _plain(key):
    """A key's URI by itself, not within another."""
    return key.replace("%26", "&")


@pytest.mark.parametrize("kind", STORES)
def test_a_whole_rotation_on_every_store_and_no_send_fails(kind, new_uri, cmzon_emulator):
    uri, base_url = new_uri(kind), cmzon_emulator.base_url
    policy = RotationPolicy("acme", grace=1.0, reader_ttl=0.5, request_deadline=0.5)
    issuer = CMzonIssuer(_admin(cmzon_emulator), base_url=base_url)
    with closing(issuer), open_store(uri) as store:
        if hasattr(store, "create"):
            store.create()
        rotator = Rotator(store, issuer, policy)
        assert rotator.run().state == "done"
        first = store.get()
        with Client(store, base_url=base_url) as sender:
            sender.send_message("+1234567890", "before")
            assert rotator.run(force=True).state == "done"
            second = store.get()
            assert second != first
            issuer.verify(first)
            sender.send_message("+1234567890", "after")
            report = rotator.revoke()
            assert report.state == "done"
            sender.send_message("+1234567890", "after an emergency")
        for dead in (first, second):
            with pytest.raises(AuthenticationError):
                issuer.verify(dead)
        issuer.verify(store.get())
        assert store.versions().previous is None


def _admin(emulator):
    store, token = MemoryStore(), Token(emulator.admin_token)
    store.stage(token)
    store.promote(token.id, replacing=None)
    return store


def test_doctor_calls_a_key_that_is_not_there_a_problem(clouds, tmp_path, capsys):
    key = "arn:aws:kms:eu-central-1:123456789012:key/3f2b8c9e-1b2c-4abc-9def-0123456789ab"
    uri = f"file:{tmp_path / 'a.sealed'}?key=awskms://{key}"
    assert run(["doctor", uri, "--offline", "--json"]) == 3
    items = json.loads(capsys.readouterr().out)["items"]
    assert ("key.usable", "problem") in {(item["check"], item["severity"]) for item in items}
