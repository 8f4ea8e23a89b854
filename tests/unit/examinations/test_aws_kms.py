"""What is found at KMS, on a server that enforces policies and on the strict double."""

import base64
import json
import time

import pytest

from cmzon_secrets import open_provider
from cmzon_secrets.examinations import aws_kms
from cmzon_secrets.registry import open_key
from cmzon_secrets.uri import split
from servers.aws_environment import REGION


def grave(found):
    return [
        (finding.check, finding.message)
        for finding in found
        if finding.severity in ("warning", "problem")
    ]


@pytest.fixture
def arn(ministack):
    return ministack.admin("kms").create_key()["KeyMetadata"]["Arn"]


@pytest.fixture
def key(arn):
    key = open_key(f"awskms://{arn}")
    yield key
    key.close()


def examined(subject, role):
    return list(aws_kms.examine(subject, role))


@pytest.mark.parametrize("role", ["reader", "rotator"])
def test_the_printed_policy_is_just_enough(ministack, monkeypatch, key, role):
    ministack.as_user(monkeypatch, ministack.user(policy=aws_kms.policy(split(key.uri), role)))
    found = {finding.check: finding for finding in examined(key, role)}
    assert grave(found.values()) == []
    assert found["permissions.seal"].severity == "ok"
    assert ":user/user-" in found["credentials.source"].message
    assert f"account 000000000000, region {REGION}" in found["credentials.source"].evidence
    assert found["credentials.kind"].severity == "note"
    assert found["clock.backend"].severity == "ok"


def test_a_reader_that_may_seal(ministack, monkeypatch, key):
    ministack.as_user(monkeypatch, ministack.user(policy=aws_kms.policy(split(key.uri), "rotator")))
    assert grave(examined(key, "reader")) == [
        ("permissions.excess", "this reader may also seal with the key")
    ]


def test_a_sealer_that_may_not_seal(ministack, monkeypatch, key):
    ministack.as_user(monkeypatch, ministack.user(policy=aws_kms.policy(split(key.uri), "reader")))
    ((check, message),) = grave(examined(key, "rotator"))
    assert check == "permissions.missing"
    assert "cannot seal" in message


def test_a_disabled_key_is_told_as_such(strict_kms):
    arn = strict_kms.new_key()
    strict_kms.set_state(arn, "Disabled")
    ((check, message), *_) = grave(examined(open_key(f"awskms://{arn}"), "rotator"))
    assert check == "permissions.missing"
    assert "disabled" in message


def test_a_clock_that_is_wrong(strict_kms):
    strict_kms.clock = lambda: time.time() + 600
    found = examined(open_key(f"awskms://{strict_kms.new_key()}"), "rotator")
    (clock,) = [finding for finding in found if finding.check == "clock.backend"]
    assert clock.severity == "problem"
    assert "behind that of AWS" in clock.message


def test_a_ciphertext_and_who_may_replace_it(ministack, monkeypatch, arn):
    kms = ministack.admin("kms")
    blob = kms.encrypt(KeyId=arn, Plaintext=b"cmz_secret_value")["CiphertextBlob"]
    monkeypatch.setenv("THE_CIPHERTEXT", base64.b64encode(blob).decode())
    with open_provider(f"awskms://{arn}?ciphertext=env:THE_CIPHERTEXT") as provider:
        assert "permissions.excess" in {f.check for f in examined(provider, "reader")}
        policy = aws_kms.policy(split(provider.uri), "reader")
        ministack.as_user(monkeypatch, ministack.user(policy=policy))
        found = examined(provider, "reader")
    assert "permissions.least" in {f.check for f in found}
    assert grave(found) == []
    assert "cmz_secret_value" not in repr(found)


@pytest.mark.parametrize(
    ("name", "arn"),
    [
        (
            "arn:aws:kms:eu-central-1:111122223333:key/0d1f",
            "arn:aws:kms:eu-central-1:111122223333:key/0d1f",
        ),
        (
            "11112222-aaaa-bbbb-cccc-111122223333?region=eu-west-1",
            "arn:aws:kms:eu-west-1:ACCOUNT:key/11112222-aaaa-bbbb-cccc-111122223333",
        ),
        ("alias/acme", "arn:aws:kms:REGION:ACCOUNT:key/KEY_ID"),
    ],
)
def test_what_the_uri_does_not_say_is_left_to_be_filled_in(monkeypatch, name, arn):
    monkeypatch.delenv("AWS_REGION", raising=False)
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    policy = json.loads(aws_kms.policy(split(f"awskms://{name}"), "reader"))
    assert policy["Statement"][0]["Resource"] == arn
