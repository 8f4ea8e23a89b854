"""AES Key Wrap as the keys of this machine share it."""

import base64

import pytest

from cmzon_secrets.errors import ConfigurationError
from cmzon_secrets.key_wrapping import (
    LocalKey,
    decode_bytes,
    decode_key,
    encode_bytes,
    unwrap_data_key,
    wrap_data_key,
)
from cmzon_secrets.testing.conformance.leaks import failure_of, must_hide, shown

KEK = bytes(range(32))
DATA_KEY = bytes.fromhex("00112233445566778899AABBCCDDEEFF000102030405060708090A0B0C0D0E0F")


def test_it_is_rfc_3394_to_the_letter():
    """The RFC's own example: 256 bits of key data with a 256-bit key (section 4.6)."""
    wrapped = base64.b64decode(wrap_data_key(KEK, DATA_KEY)).hex().upper()
    assert wrapped == (
        "28C9F404C4B810F4CBCCB35CFB87F8263F5786E2D80ED326CBC7F0E71A99F43BFB988B9B7A02DD21"
    )


def test_another_key_unwraps_nothing():
    assert unwrap_data_key(bytes(32), wrap_data_key(KEK, DATA_KEY)) is None


@pytest.mark.parametrize("wrapped", [None, 7, "", "AAAA", "!" * 56, encode_bytes(bytes(48))])
def test_what_nobody_wrapped_unwraps_to_nothing(wrapped):
    assert unwrap_data_key(KEK, wrapped) is None


@pytest.mark.parametrize("size", [0, 16, 24, 31, 33, 64])
def test_only_a_data_key_of_32_bytes_is_wrapped(size):
    with pytest.raises(ConfigurationError, match="32 bytes"):
        wrap_data_key(KEK, bytes(size))


@pytest.mark.parametrize("text", ["AA=", "AA", "AB==", "A A=", "AA==\n", "_-==", "é", None, 1])
def test_bytes_have_one_spelling(text):
    assert decode_bytes(text) is None
    assert decode_bytes("AA==") == b"\0"


class Known(LocalKey):
    uri = "known:"

    def read_key(self):
        return KEK


@pytest.mark.parametrize("verb", ["aes_key_wrap", "aes_key_unwrap"])
def test_whatever_goes_wrong_inside_shows_no_key(verb, monkeypatch):
    key, stanza = Known(), Known().wrap(DATA_KEY)

    def failing(*arguments):
        raise ArithmeticError("anything at all")

    monkeypatch.setattr(f"cryptography.hazmat.primitives.keywrap.{verb}", failing)
    call = (lambda: key.wrap(bytes(32))) if verb == "aes_key_wrap" else lambda: key.unwrap(stanza)
    must_hide(shown(failure_of(call)), repr(KEK)[2:-1], repr(DATA_KEY)[2:-1])


def test_a_text_that_is_no_key_is_not_shown():
    nearly = {"text": encode_bytes(KEK)[:-1]}
    error = failure_of(lambda: decode_key(nearly.pop("text"), name="here", hint="there"))
    assert isinstance(error, ConfigurationError)
    must_hide(shown(error), encode_bytes(KEK)[:-1])
