"""``awskms:`` passes what every key and every read-only provider must pass.

On the strict double and on moto; on ministack, whose ciphertexts are not authenticated, as far as
that goes.
"""

import base64
import os
import secrets
from functools import partial

import pytest
from moto.kms.exceptions import InvalidCiphertextException

from cmzon_secrets import Token, open_provider, open_store
from cmzon_secrets.errors import AccessDenied
from cmzon_secrets.permissions import policy
from cmzon_secrets.providers.aws_kms import AWSKMSCiphertext
from cmzon_secrets.registry import open_key
from cmzon_secrets.sealing_keys.aws_kms import AWSKMSKey
from cmzon_secrets.testing import KeySuite, ProviderSuite
from servers.aws_environment import client

CLOSED_PORT = "http://127.0.0.1:9"
NO_POLICIES = {"denied": "moto asks no key policy before it encrypts and decrypts"}


@pytest.fixture
def moto_kms(moto, monkeypatch):
    """KMS in this process."""
    # What the service calls IncorrectKeyException, moto calls a denial.
    for module in ("models", "utils"):
        monkeypatch.setattr(f"moto.kms.{module}.AccessDeniedException", incorrect_key)
    return client("kms", None)


def incorrect_key(*_):
    return InvalidCiphertextException()


class KeyTests:
    """A place is the ARN of a key."""

    def open(self, place):
        return open_key(f"awskms://{place}?context.service=billing")

    def secrets_of(self, place):
        """The key's material never leaves KMS; what opens it here are the credentials."""
        return [os.environ["AWS_SECRET_ACCESS_KEY"]]

    def unreachable(self, place):
        return open_key(f"awskms://{place}?context.service=billing&endpoint_url={CLOSED_PORT}")


class CiphertextTests:
    """A place is the ARN of a key and the name of the variable that holds the ciphertext."""

    def variable(self, monkeypatch):
        name = f"CMZON_TEST_{secrets.token_hex(4).upper()}"
        self.setenv = monkeypatch.setenv
        return name

    def sdk(self):
        return client("kms", os.environ.get("AWS_ENDPOINT_URL"))

    def put(self, place, text):
        arn, variable = place
        kms = self.sdk()
        context = {"service": "billing"}
        answer = kms.encrypt(KeyId=arn, Plaintext=text.encode(), EncryptionContext=context)
        self.setenv(variable, base64.b64encode(answer["CiphertextBlob"]).decode())

    def open(self, place, more=""):
        arn, variable = place
        uri = f"awskms://{arn}?ciphertext=env:{variable}&context.service=billing{more}"
        return open_provider(uri)

    def unreachable(self, place):
        return self.open(place, f"&endpoint_url={CLOSED_PORT}")


class TestKeyOnTheDouble(KeyTests, KeySuite):
    def test_its_class(self, key):
        assert type(key) is AWSKMSKey

    @pytest.fixture
    def new_place(self, strict_kms):
        self.kms = strict_kms
        return strict_kms.new_key

    def denied(self, place):
        self.kms.deny(place)
        return self.open(place)


class TestCiphertextOnTheDouble(CiphertextTests, ProviderSuite):
    def test_its_class(self, provider):
        assert type(provider) is AWSKMSCiphertext

    @pytest.fixture
    def new_place(self, strict_kms, monkeypatch):
        self.kms = strict_kms
        return lambda: (strict_kms.new_key(), self.variable(monkeypatch))

    def denied(self, place):
        self.kms.deny(place[0])
        return self.open(place)


class TestKeyOnMoto(KeyTests, KeySuite):
    cannot = NO_POLICIES

    @pytest.fixture
    def new_place(self, moto_kms):
        return lambda: moto_kms.create_key()["KeyMetadata"]["Arn"]


class TestCiphertextOnMoto(CiphertextTests, ProviderSuite):
    cannot = NO_POLICIES

    @pytest.fixture
    def new_place(self, moto_kms, monkeypatch):
        return lambda: (moto_kms.create_key()["KeyMetadata"]["Arn"], self.variable(monkeypatch))


def new_key(ministack):
    return ministack.admin("kms").create_key()["KeyMetadata"]["Arn"]


def nobody(ministack, monkeypatch):
    """From now on the SDK is somebody who may do nothing."""
    ministack.as_user(monkeypatch, ministack.user(ALLOWED_NOTHING))


ALLOWED_NOTHING = {"Effect": "Deny", "Action": "*", "Resource": "*"}


class TestKeyOnMinistack(KeyTests, KeySuite):
    authenticated = False

    @pytest.fixture
    def new_place(self, ministack, monkeypatch):
        self.become_nobody = partial(nobody, ministack, monkeypatch)
        return partial(new_key, ministack)

    def denied(self, place):
        self.become_nobody()
        return self.open(place)


class TestCiphertextOnMinistack(CiphertextTests, ProviderSuite):
    @pytest.fixture
    def new_place(self, ministack, monkeypatch):
        self.become_nobody = partial(nobody, ministack, monkeypatch)
        self.sdk = partial(ministack.admin, "kms")
        return lambda: (new_key(ministack), self.variable(monkeypatch))

    def denied(self, place):
        self.become_nobody()
        return self.open(place)


# what only a server with IAM and key states shows


@pytest.fixture
def arn(ministack):
    return new_key(ministack)


@pytest.fixture
def become(ministack, monkeypatch):
    """``become(scheme, role, arn)``: the SDK is somebody with exactly that policy of ours."""

    def become(scheme, role, arn):
        keys = ministack.user(policy=policy(scheme, role, {"kms_key_arn": arn}))
        ministack.as_user(monkeypatch, keys)
        return client("kms", ministack.url, *keys)

    return become


def test_a_reader_may_unwrap_and_nothing_else(arn, become, ministack):
    key, other = open_key(f"awskms://{arn}"), open_key(f"awskms://{new_key(ministack)}")
    stanza, others = key.wrap(bytes(32)), other.wrap(bytes(32))
    sdk = become("awskms-key", "reader", arn)
    assert key.unwrap(stanza) == bytes(32)
    with pytest.raises(AccessDenied, match="kms:Encrypt"):
        key.wrap(bytes(32))
    with pytest.raises(AccessDenied):
        other.unwrap(others)
    assert denied_calls(sdk, arn) == CALLS.keys() | {"encrypt"}


def test_a_rotator_may_wrap_and_unwrap_and_nothing_else(arn, become, ministack):
    key, other = open_key(f"awskms://{arn}"), open_key(f"awskms://{new_key(ministack)}")
    sdk = become("awskms-key", "rotator", arn)
    assert key.unwrap(key.wrap(bytes(32))) == bytes(32)
    with pytest.raises(AccessDenied):
        other.wrap(bytes(32))
    assert denied_calls(sdk, arn) == CALLS.keys()


def test_a_ciphertexts_reader_may_decrypt_and_nothing_else(arn, become, ministack, monkeypatch):
    blob = ministack.admin("kms").encrypt(KeyId=arn, Plaintext=b"cmz_a_token")["CiphertextBlob"]
    monkeypatch.setenv("CIPHERTEXT", base64.b64encode(blob).decode())
    sdk = become("awskms", "reader", arn)
    assert open_provider(f"awskms://{arn}?ciphertext=env:CIPHERTEXT").get() == Token("cmz_a_token")
    assert denied_calls(sdk, arn) == CALLS.keys() | {"encrypt"}


def test_who_makes_ciphertexts_may_encrypt_and_decrypt_and_nothing_else(arn, become):
    sdk = become("awskms", "rotator", arn)
    assert denied_calls(sdk, arn) == CALLS.keys()


CALLS = {
    "describe_key": {},
    "disable_key": {},
    "generate_data_key": {"KeySpec": "AES_256"},
    "get_key_policy": {"PolicyName": "default"},
    "list_grants": {},
    "put_key_policy": {"PolicyName": "default", "Policy": "{}"},
    "schedule_key_deletion": {"PendingWindowInDays": 7},
}
"""What nobody needs who reads or rotates tokens."""


def denied_calls(sdk, arn):
    """Which of these calls, and of ``encrypt``, are refused for want of a permission."""
    denied = set()
    for name, parameters in {**CALLS, "encrypt": {"Plaintext": b"x"}}.items():
        try:
            getattr(sdk, name)(KeyId=arn, **parameters)
        except sdk.exceptions.ClientError as error:
            if error.response["Error"]["Code"] == "AccessDeniedException":
                denied.add(name)
    return denied


def test_a_disabled_key_is_access_denied_until_it_is_enabled(arn, ministack):
    key, kms = open_key(f"awskms://{arn}"), ministack.admin("kms")
    stanza = key.wrap(bytes(32))
    kms.disable_key(KeyId=arn)
    for verb in (partial(key.wrap, bytes(32)), partial(key.unwrap, stanza)):
        with pytest.raises(AccessDenied, match="disabled") as caught:
            verb()
        assert "enable-key" in caught.value.hint
    kms.enable_key(KeyId=arn)
    assert key.unwrap(stanza) == bytes(32)


def test_a_key_that_waits_for_deletion_is_access_denied_with_the_way_back(arn, ministack):
    key = open_key(f"awskms://{arn}")
    stanza = key.wrap(bytes(32))
    ministack.admin("kms").schedule_key_deletion(KeyId=arn, PendingWindowInDays=7)
    with pytest.raises(AccessDenied, match="pending deletion") as caught:
        key.unwrap(stanza)
    assert "cancel-key-deletion" in caught.value.hint


def test_a_key_is_addressed_by_its_id_an_alias_or_an_arn(arn, ministack):
    alias = f"alias/tokens-{secrets.token_hex(4)}"
    ministack.admin("kms").create_alias(AliasName=alias, TargetKeyId=arn)
    stanza = open_key(f"awskms://{arn}").wrap(bytes(32))
    for name in (alias, arn.rpartition("/")[2], f"{arn.rpartition(':')[0]}:{alias}"):
        assert open_key(f"awskms://{name}").unwrap(stanza) == bytes(32)


def test_a_role_reads_what_its_caller_may_not(arn, ministack, monkeypatch):
    stanza = open_key(f"awskms://{arn}").wrap(bytes(32))
    role = ministack.role(policy=policy("awskms-key", "reader", {"kms_key_arn": arn}))
    may_assume = {"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": role}
    ministack.as_user(monkeypatch, ministack.user(may_assume))
    with pytest.raises(AccessDenied):
        open_key(f"awskms://{arn}").unwrap(stanza)
    assert open_key(f"awskms://{arn}?role_arn={role}").unwrap(stanza) == bytes(32)


def test_a_role_that_may_not_be_assumed_is_told_as_that(arn, ministack, monkeypatch):
    role = ministack.role(ALLOWED_NOTHING)
    nobody(ministack, monkeypatch)
    with pytest.raises(AccessDenied, match=f"{role} may not be assumed") as caught:
        open_key(f"awskms://{arn}?role_arn={role}").wrap(bytes(32))
    assert "trust policy" in caught.value.hint


def test_a_sealed_file_is_written_by_a_rotator_and_read_by_a_reader(arn, become, tmp_path):
    uri = f"file:{tmp_path}/token.sealed?key=awskms://{arn}%3Fcontext.account=acme"
    become("awskms-key", "rotator", arn)
    store = open_store(uri)
    store.stage(Token("cmz_a_token", id="tok_1"))
    store.promote("tok_1", replacing=None)
    become("awskms-key", "reader", arn)
    assert open_provider(uri).get().id == "tok_1"
    with pytest.raises(AccessDenied, match="kms:Encrypt"):
        store.stage(Token("cmz_another", id="tok_2"))
