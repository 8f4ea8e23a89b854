"""``awskms:``: what its URIs accept, and what a ciphertext may look like."""

import base64
import json
import os

import pytest

from cmzon_secrets import Token, errors, open_provider
from cmzon_secrets.registry import open_key, open_store
from servers.aws_environment import client

TOKEN = Token("cmz_a_token", id="tok_1", scopes=("messages:send",))
KEY = "awskms://alias/tokens"


@pytest.fixture
def encrypt(strict_kms):
    """``encrypt(text, **context)`` with a key that is also ``alias/tokens``: the bytes as KMS gives them."""
    arn = strict_kms.new_key()
    strict_kms.aliases["alias/tokens"] = arn.rpartition("/")[2]

    def encrypt(text="cmz_a_token", **context):
        kms = client("kms", strict_kms.url)
        answer = kms.encrypt(KeyId=arn, Plaintext=text.encode(), EncryptionContext=context)
        return answer["CiphertextBlob"]

    return encrypt


# URIs


@pytest.mark.parametrize(
    ("uri", "fault"),
    [
        ("awskms://?ciphertext=env:X", "no KMS key"),
        ("awskms:alias/tokens?ciphertext=env:X", "no KMS key"),
        ("awskms://alias/?ciphertext=env:X", "no KMS key"),
        ("awskms://alias/to%20kens?ciphertext=env:X", "no KMS key"),
        ("awskms://../tokens?ciphertext=env:X", "no KMS key"),
        ("awskms://arn:aws:s3:::bucket/key?ciphertext=env:X", "no KMS key"),
        (KEY, "where the ciphertext is"),
        (f"{KEY}?ciphertext=https:example", "unknown scheme"),
        (f"{KEY}?ciphertext=env:X%3Fkey=y", "unknown option 'key'"),
        (f"{KEY}?ciphertext=env:X&context.=x", "pair without a name"),
        (f"{KEY}?ciphertext=env:X&context.a={'x' * 8192}", "more than 8192"),
        (f"{KEY}?ciphertext=env:X&contexts=x", "unknown option 'contexts'"),
    ],
)
def test_what_a_uri_cannot_mean_is_an_invalid_uri(uri, fault):
    with pytest.raises(errors.InvalidURI, match=fault):
        open_provider(uri)


def test_a_ciphertext_or_a_token_pasted_into_the_uri_is_refused_unseen():
    pasted = "AQICAHgcmz0token"
    for uri in (f"{KEY}?ciphertext={pasted}", f"{KEY}?ciphertext=env:{pasted}.x"):
        with pytest.raises(errors.InvalidURI) as caught:
            open_provider(uri)
        assert pasted not in str(caught.value)
    assert "notshown" not in open_provider(f"{KEY}?ciphertext=env:notshown").uri


def test_a_uri_opens_the_same_place_again(encrypt, tmp_path, monkeypatch):
    (tmp_path / "my token.kms").write_bytes(encrypt(service="a&b", owner="ü?"))
    monkeypatch.chdir(tmp_path)
    uri = f"{KEY}?ciphertext=file:my%2520token.kms&context.service=a%26b&context.owner=%C3%BC%3F"
    provider = open_provider(uri)
    monkeypatch.chdir("/")
    assert provider.get() == TOKEN
    assert open_provider(provider.uri).get() == TOKEN
    assert open_provider(provider.uri).uri == provider.uri


def test_nothing_can_be_staged_there():
    with pytest.raises(errors.ReadOnlyProvider):
        open_store(f"{KEY}?ciphertext=env:X")


def test_the_purpose_of_a_data_key_cannot_be_chosen():
    with pytest.raises(errors.InvalidURI, match="set by us"):
        open_key(f"{KEY}?context.cmzon-secrets:purpose=another")


# ciphertexts


def test_a_file_holds_the_bytes_or_base64_with_line_breaks(encrypt, tmp_path):
    blob, path = encrypt(), tmp_path / "token.kms"
    provider = open_provider(f"{KEY}?ciphertext=file:{path}")
    for content in (blob, base64.b64encode(blob), base64.encodebytes(blob)):
        path.write_bytes(content)
        assert provider.get() == TOKEN


@pytest.mark.parametrize("content", [b"", b" \n"], ids=["empty", "blank"])
def test_an_empty_file_is_token_not_found(content, encrypt, tmp_path):
    (tmp_path / "token.kms").write_bytes(content)
    with pytest.raises(errors.TokenNotFound, match="no ciphertext"):
        open_provider(f"{KEY}?ciphertext=file:{tmp_path}/token.kms").get()


def test_a_missing_file_is_token_not_found_and_a_folder_is_an_error(tmp_path):
    with pytest.raises(errors.TokenNotFound):
        open_provider(f"{KEY}?ciphertext=file:{tmp_path}/none").get()
    with pytest.raises(errors.CMzonSecretsError, match="directory"):
        open_provider(f"{KEY}?ciphertext=file:{tmp_path}").get()


def test_an_endless_file_is_not_read_to_its_end(strict_kms):
    with pytest.raises(errors.SealBroken):
        open_provider(f"{KEY}?ciphertext=file:/dev/zero").get()
    assert strict_kms.calls == []


def test_a_record_keeps_its_metadata(encrypt, monkeypatch):
    record = {"token": TOKEN.reveal(), "id": TOKEN.id, "scopes": list(TOKEN.scopes), "owner": "us"}
    monkeypatch.setenv("CIPHERTEXT", base64.b64encode(encrypt(json.dumps(record))).decode())
    token = open_provider(f"{KEY}?ciphertext=env:CIPHERTEXT").get()
    assert (token.id, token.scopes) == (TOKEN.id, TOKEN.scopes)


@pytest.mark.parametrize(
    "text", ["{", '{"token": 7}', '{"token": "a b"}', "[" * 1000, "{" * 1000, '["cmz_a_token"]']
)
def test_what_is_no_token_is_invalid_and_names_the_place(text, encrypt, monkeypatch):
    monkeypatch.setenv("CIPHERTEXT", base64.b64encode(encrypt(text)).decode())
    provider = open_provider(f"{KEY}?ciphertext=env:CIPHERTEXT")
    with pytest.raises(errors.InvalidToken) as caught:
        provider.get()
    assert str(caught.value).startswith(f"{provider.uri} — in its ciphertext: ")


def test_a_line_feed_that_was_encrypted_too_is_named(encrypt, monkeypatch):
    monkeypatch.setenv("CIPHERTEXT", base64.b64encode(encrypt("cmz_a_token\n")).decode())
    with pytest.raises(errors.InvalidToken) as caught:
        open_provider(f"{KEY}?ciphertext=env:CIPHERTEXT").get()
    assert "printf %s" in caught.value.hint


def test_one_get_is_one_request_that_names_the_key(encrypt, strict_kms, monkeypatch):
    monkeypatch.setenv("CIPHERTEXT", base64.b64encode(encrypt()).decode())
    provider = open_provider(f"{KEY}?ciphertext=env:CIPHERTEXT")
    strict_kms.calls.clear()
    provider.get()
    assert strict_kms.calls == [("Decrypt", os.environ["AWS_ACCESS_KEY_ID"])]
