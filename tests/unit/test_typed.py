"""What of a typed text may be repeated: names, paths and addresses, not what may be a token."""

from __future__ import annotations

import base64
import random
import time

import pytest

from cmzon_secrets.typed import NOT_SHOWN, quoted, shown, without_secrets

TOKEN = "cmz_" + "Kanarienvogel" * 3


@pytest.mark.parametrize(
    "text",
    [
        "acme",
        "production-eu-west-1-messaging",
        "whatsapp_business_management",
        "CMZON_SECRETS_PASSPHRASE",
        "/home/me/MyCompanyMessagingService/token.sealed",
        "file:token.sealed?key=keyfile:token.key",
        "https://api.example.com:8443",
        "awskms://3f2b8c9e-1b2c-4abc-9def-0123456789ab?region=eu-central-1",
        "hashivault://secret/84f3008e-eb7a-4abc-9def-0123456789ab/token",
        "no such sentence holds a secret, however long it may become",
    ],
)
def test_what_is_made_of_words_is_shown(text):
    assert shown(text) == text


@pytest.mark.parametrize(
    "secret",
    [
        TOKEN,
        "cmz_short",
        "SECRETSECRETSECRETSECRET",
        "3f2b8c9e-1b2c-4abc-9def-0123456789ab",
        "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.e30.c2lnbmF0dXJl",
        "0123456789abcdef0123456789abcdef",
    ],
)
def test_what_may_be_a_token_is_not(secret):
    assert shown(secret) == quoted(secret) == NOT_SHOWN
    assert shown(f"env:{secret}") == f"env:{NOT_SHOWN}"
    assert (
        shown(f"hashivault://secret/app?role={secret}")
        == f"hashivault://secret/app?role={NOT_SHOWN}"
    )
    assert shown(f"file:a/{secret}?key=env:K") == f"file:a/{NOT_SHOWN}?key=env:K"


def test_random_bytes_in_base64_or_hex_are_never_taken_for_words():
    made = random.Random(7)
    for _ in range(2000):
        data = made.randbytes(24)
        assert shown(data.hex()) == NOT_SHOWN
        assert data.hex() not in shown(f"env:{data.hex()}")
        encoded = base64.urlsafe_b64encode(data).decode()
        assert shown(encoded) == NOT_SHOWN


def test_what_was_typed_is_taken_out_of_a_message_even_where_it_was_cut_short():
    message = f"issuer '{TOKEN[:30]}' — there is none like {TOKEN}"
    assert without_secrets(message, ["rotate", f"--issuer={TOKEN}"]) == (
        f"issuer '{NOT_SHOWN}' — there is none like {NOT_SHOWN}"
    )
    assert without_secrets("tok_0123456789abcdef01234567 is dead", ["revoke"]) == (
        "tok_0123456789abcdef01234567 is dead"
    )


@pytest.mark.parametrize("name", ["", "a" * 41, "two\nlines", "bell\a"])
def test_a_name_that_is_none_is_not_shown(name):
    assert quoted(name) == (NOT_SHOWN if name else "''")


@pytest.mark.parametrize("text", ["aA1" * 30000, "a_" * 40000 + "!", "1" * 90000, "Abc" * 30000])
def test_long_texts_are_judged_quickly(text):
    began = time.monotonic()
    shown(text)
    assert time.monotonic() - began < 5
