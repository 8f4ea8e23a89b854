"""The envelope: what opens it, and that nothing else does."""

import base64
import json
import os

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import aes_key_unwrap

from cmzon_secrets.errors import AccessDenied, ConfigurationError, SealBroken
from cmzon_secrets.sealing import (
    MAX_ENVELOPE,
    MAX_HEADER,
    SealingKey,
    new_id,
    read_header,
    seal,
    unseal,
)
from cmzon_secrets.sealing_keys.environment import EnvironmentKey
from cmzon_secrets.testing.conformance.leaks import failure_of, must_hide, shown

DOCUMENT = b'{"token":"the-document-itself-that-nobody-may-see"}'
BINDING = b"/srv/app/token.sealed"
KEK = bytes(range(32))


@pytest.fixture
def key(monkeypatch):
    monkeypatch.setenv("CMZON_TEST_KEY", base64.b64encode(KEK).decode())
    return EnvironmentKey("CMZON_TEST_KEY")


@pytest.fixture
def other_key(monkeypatch):
    monkeypatch.setenv("CMZON_TEST_OTHER_KEY", base64.b64encode(bytes(32)).decode())
    return EnvironmentKey("CMZON_TEST_OTHER_KEY")


@pytest.fixture
def envelope(key):
    return seal(DOCUMENT, key, id=new_id(), binding=BINDING)


def header_bytes(members):
    return json.dumps(members, sort_keys=True, separators=(",", ":")).encode()


def with_header(envelope, header):
    length = int.from_bytes(envelope[23:27], "big")
    return envelope[:23] + len(header).to_bytes(4, "big") + header + envelope[27 + length :]


# opening


def test_what_was_sealed_comes_back(envelope, key):
    assert unseal(envelope, key, binding=BINDING) == DOCUMENT


@pytest.mark.parametrize("document", [b"", b"\0", b"x" * 100_000])
def test_documents_of_any_size_come_back(document, key):
    envelope = seal(document, key, id=new_id(), binding=BINDING)
    assert unseal(envelope, key, binding=BINDING) == document


def test_the_header_names_the_key_and_keeps_the_id(key):
    identity = new_id()
    header = read_header(seal(DOCUMENT, key, id=identity, binding=BINDING))
    assert (header.id, header.key_uri) == (identity, "env:CMZON_TEST_KEY")


def test_a_reader_written_from_the_byte_table_alone_opens_it(envelope):
    magic, rest = envelope.split(b"\n", 1)
    assert magic == b"cmzon-secrets sealed 1"
    length = int.from_bytes(rest[:4], "big")
    header = json.loads(rest[4 : 4 + length])
    nonce, ciphertext = rest[4 + length : 16 + length], rest[16 + length :]
    data_key = aes_key_unwrap(KEK, base64.b64decode(header["stanza"]["wrapped"]))
    before = envelope[: len(envelope) - len(ciphertext)]
    assert AESGCM(data_key).decrypt(nonce, ciphertext, before + BINDING) == DOCUMENT


VECTOR = base64.b64decode(
    "Y216b24tc2VjcmV0cyBzZWFsZWQgMQoAAAC+eyJhbGdvcml0aG0iOiJBRVMtMjU2LUdDTSIsImlkIjoiMDAxMTIy"
    "MzM0NDU1NjY3Nzg4OTlhYWJiY2NkZGVlZmYiLCJrZXkiOiJlbnY6Q01aT05fVEVTVF9LRVkiLCJzdGFuemEiOnsi"
    "d3JhcCI6IkEyNTZLVyIsIndyYXBwZWQiOiJFb210RlVBWGRLcndWSzhuY1pFbi9PTi9aZWJZUDJFNEltYXltWm1v"
    "MU1VdDRpU2o1MERYR2c9PSJ9fa0w1usITFX3n9SdjeBZyqs25nE5prwGQGFpnLbszczaiaZ2xVCgFn1LzSGpcbaS"
    "apA/YRJ6ont5O7pd1PFEhx+1HgMhTnpI7Dvj/c4LOBQ="
)


def test_a_file_of_the_first_release_opens_forever(key):
    assert unseal(VECTOR, key, binding=BINDING) == DOCUMENT


def test_every_seal_draws_a_new_data_key_and_nonce(key):
    sealed = [seal(DOCUMENT, key, id="0" * 32, binding=BINDING) for _ in range(50)]
    starts = [27 + int.from_bytes(e[23:27], "big") for e in sealed]
    assert len({e[s : s + 12] for e, s in zip(sealed, starts, strict=True)}) == 50
    assert len({read_header(e).stanza["wrapped"] for e in sealed}) == 50


def test_the_document_is_not_readable_in_the_envelope(envelope):
    assert b"document" not in envelope
    assert base64.b64encode(DOCUMENT)[:20] not in envelope


# refusing


def test_every_single_flipped_bit_is_seal_broken(envelope, key):
    opened = []
    for place in range(len(envelope)):
        for bit in range(8):
            altered = bytearray(envelope)
            altered[place] ^= 1 << bit
            if not is_broken(bytes(altered), key):
                opened.append((place, bit))
    assert opened == []


def test_every_truncation_is_seal_broken(envelope, key):
    assert [n for n in range(len(envelope)) if not is_broken(envelope[:n], key)] == []


@pytest.mark.parametrize("more", [b"\0", b"\n", b"x" * 1000])
def test_every_extension_is_seal_broken(more, envelope, key):
    assert is_broken(envelope + more, key)
    assert is_broken(more + envelope, key)


@pytest.mark.parametrize(
    "binding", [b"", b"/srv/app/token.seale", BINDING + b"x", b"/srv/app/other.sealed"]
)
def test_another_binding_is_seal_broken(binding, envelope, key):
    error = failure_of(lambda: unseal(envelope, key, binding=binding))
    assert isinstance(error, SealBroken)
    assert "cmzon-secrets copy" in error.hint


def test_bytes_moved_between_ciphertext_end_and_binding_are_seal_broken(key):
    envelope = seal(DOCUMENT, key, id=new_id(), binding=b"ab")
    with pytest.raises(SealBroken):
        unseal(envelope + b"a", key, binding=b"b")


def test_another_key_is_seal_broken_and_both_are_named(envelope, other_key):
    error = failure_of(lambda: unseal(envelope, other_key, binding=BINDING, uri="file:t"))
    assert isinstance(error, SealBroken)
    assert error.uri == "file:t"
    assert "key=env:CMZON_TEST_OTHER_KEY" in error.message
    assert "env:CMZON_TEST_KEY" in error.message


@pytest.mark.parametrize("name", ["\x1b[2J", "env:\n\nerror: all is well", "ключ", "\x7f"])
def test_a_hostile_key_name_in_the_header_is_not_shown(name, envelope, other_key):
    members = {
        "algorithm": "AES-256-GCM",
        "id": "0" * 32,
        "key": name,
        "stanza": dict(read_header(envelope).stanza),
    }
    altered = with_header(envelope, header_bytes(members))
    error = failure_of(lambda: unseal(altered, other_key, binding=BINDING))
    assert isinstance(error, SealBroken)
    assert name not in error.message
    assert error.message.isprintable()


GOOD = {"algorithm": "AES-256-GCM", "id": "0" * 32, "key": "env:X", "stanza": {"wrapped": "AA=="}}
HOSTILE_HEADERS = {
    "empty": b"",
    "no object": b"[]",
    "null": b"null",
    "deeply nested": b"[" * MAX_HEADER,
    "endless number": b'{"id":' + b"9" * 10_000 + b"}",
    "not JSON": b"{",
    "not ASCII": header_bytes(GOOD).replace(b"env:X", "env:é".encode()),
    "spaced": json.dumps(GOOD, sort_keys=True).encode(),
    "unsorted": json.dumps(dict(reversed(GOOD.items())), separators=(",", ":")).encode(),
    "a member twice": header_bytes(GOOD)[:-1] + b',"id":"' + b"1" * 32 + b'"}',
    "a member more": header_bytes({**GOOD, "more": 1}),
    "another algorithm": header_bytes({**GOOD, "algorithm": "none"}),
    "an id of another form": header_bytes({**GOOD, "id": "../../etc"}),
    "an id that is a number": header_bytes({**GOOD, "id": 1}),
    "a key that is a list": header_bytes({**GOOD, "key": []}),
    "no stanza": header_bytes({**GOOD, "stanza": None}),
    "a nested stanza": header_bytes({**GOOD, "stanza": {"a": {"b": 1}}}),
    "a true in the stanza": header_bytes({**GOOD, "stanza": {"n": True}}),
    "a fraction in the stanza": header_bytes({**GOOD, "stanza": {"n": 1.5}}),
    "not a number": header_bytes(GOOD).replace(b'"AA=="', b"NaN"),
}


@pytest.mark.parametrize("header", HOSTILE_HEADERS.values(), ids=HOSTILE_HEADERS)
def test_a_hostile_header_is_seal_broken_before_any_key_sees_it(header, envelope):
    with pytest.raises(SealBroken, match="header"):
        unseal(with_header(envelope, header), NeverAsked(), binding=BINDING)


def test_a_header_over_its_bound_is_not_parsed(envelope):
    huge = with_header(envelope, header_bytes({**GOOD, "key": "x" * MAX_HEADER}))
    with pytest.raises(SealBroken, match="length of its header"):
        unseal(huge, NeverAsked(), binding=BINDING)


def test_an_envelope_over_its_bound_is_not_opened(envelope):
    with pytest.raises(SealBroken, match="larger"):
        unseal(envelope + bytes(MAX_ENVELOPE), NeverAsked(), binding=BINDING)


def test_a_later_format_version_is_not_guessed_at(envelope, key):
    with pytest.raises(SealBroken, match="format version 1"):
        unseal(envelope.replace(b"sealed 1\n", b"sealed 2\n", 1), key, binding=BINDING)


def test_a_key_that_answers_with_rubbish_is_seal_broken(envelope):
    with pytest.raises(SealBroken):
        unseal(envelope, Rubbish(), binding=BINDING)


def test_what_would_be_over_the_bounds_is_refused_before_it_is_sealed(key):
    with pytest.raises(ConfigurationError, match="larger"):
        seal(bytes(MAX_ENVELOPE), key, id=new_id(), binding=BINDING)
    with pytest.raises(ConfigurationError, match="header"):
        seal(DOCUMENT, Talkative(), id=new_id(), binding=BINDING)


# leaking


def test_no_failure_to_open_shows_a_key_in_a_traceback_with_locals(envelope, key, other_key):
    altered = envelope[:-1] + bytes([envelope[-1] ^ 1])
    texts = [
        shown(failure_of(lambda: unseal(altered, key, binding=BINDING))),
        shown(failure_of(lambda: unseal(envelope, other_key, binding=BINDING))),
        shown(failure_of(lambda: unseal(envelope, key, binding=b"elsewhere"))),
    ]
    data_key = aes_key_unwrap(KEK, base64.b64decode(read_header(envelope).stanza["wrapped"]))
    for text in texts:
        must_hide(text, *(repr(k)[2:-1] for k in (KEK, bytes(32), data_key)), KEK.hex())


@pytest.mark.parametrize("verb", ["encrypt", "decrypt"])
def test_whatever_goes_wrong_inside_shows_neither_document_nor_data_key(
    verb, envelope, key, monkeypatch
):
    drawn = []

    class Failing:
        def __init__(self, data_key):
            drawn.append(data_key)

        def __getattr__(self, name):
            raise ArithmeticError("anything at all")

    monkeypatch.setattr("cryptography.hazmat.primitives.ciphers.aead.AESGCM", Failing)
    calls = {
        "encrypt": lambda: seal(DOCUMENT, key, id=new_id(), binding=BINDING),
        "decrypt": lambda: unseal(envelope, key, binding=BINDING),
    }
    text = shown(failure_of(calls[verb]))
    must_hide(text, DOCUMENT.decode(), repr(drawn[0])[2:-1])


def test_a_failure_to_seal_does_not_show_the_document(key, monkeypatch):
    monkeypatch.delenv("CMZON_TEST_KEY")
    text = shown(failure_of(lambda: seal(DOCUMENT, key, id=new_id(), binding=BINDING)))
    must_hide(text, DOCUMENT.decode())


def test_what_a_key_cannot_do_is_told_as_it_is(envelope):
    class Denied(Rubbish):
        def unwrap(self, stanza):
            raise AccessDenied("the key says no")

    with pytest.raises(AccessDenied, match="the key says no"):
        unseal(envelope, Denied(), binding=BINDING)


class Rubbish(SealingKey):
    """A third party's key at its worst."""

    uri = "rubbish:"

    def wrap(self, data_key):
        return {}

    def unwrap(self, stanza):
        return os.urandom(7)


class NeverAsked(Rubbish):
    def unwrap(self, stanza):
        raise AssertionError("the key was asked")


class Talkative(Rubbish):
    def wrap(self, data_key):
        return {"much": "x" * MAX_HEADER}


def is_broken(envelope, key):
    try:
        unseal(envelope, key, binding=BINDING)
    except SealBroken as error:
        return error.message.isprintable()
    return False
