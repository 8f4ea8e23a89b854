"""A real sealed file with anything about it altered is SealBroken: never data, never another error."""

import pytest

from cmzon_secrets import Token
from cmzon_secrets.errors import SealBroken
from cmzon_secrets.providers.sealed_file import SealedFile
from cmzon_secrets.sealing_keys.key_file import KeyFile, generate_key_file


@pytest.fixture
def store(tmp_path):
    generate_key_file(tmp_path / "the.key")
    store = SealedFile(tmp_path / "token.sealed", KeyFile(tmp_path / "the.key"))
    store.stage(Token("value", id="tok_1"))
    store.promote("tok_1", replacing=None)
    return store


@pytest.fixture
def path(tmp_path):
    return tmp_path / "token.sealed"


def test_every_single_flipped_bit(store, path):
    whole = path.read_bytes()
    opened = []
    with path.open("r+b", buffering=0) as file:
        for place in range(len(whole)):
            for bit in range(8):
                write_at(file, place, whole[place] ^ (1 << bit))
                if not is_broken(store):
                    opened.append((place, bit))
            write_at(file, place, whole[place])
    assert opened == []
    assert store.get().id == "tok_1"


def test_every_truncation(store, path):
    whole = path.read_bytes()
    opened = []
    for length in reversed(range(len(whole))):
        with path.open("r+b") as file:
            file.truncate(length)
        if not is_broken(store):
            opened.append(length)
    assert opened == []


@pytest.mark.parametrize("more", [b"\0", b"\n", bytes(4096), bytes(2_000_000)])
def test_every_extension(more, store, path):
    with path.open("ab") as file:
        file.write(more)
    assert is_broken(store)


def test_a_block_of_zeros_anywhere_as_a_torn_disk_leaves_it(store, path):
    whole = path.read_bytes()
    for start in range(0, len(whole), 16):
        path.write_bytes(whole[:start] + bytes(16) + whole[start + 16 :])
        assert is_broken(store), start


def test_the_beginning_of_one_version_with_the_end_of_another(store, path):
    first = path.read_bytes()
    store.stage(Token("other", id="tok_2"))
    store.discard("tok_2")
    second = path.read_bytes()
    assert len(first) == len(second)
    for cut in range(1, len(first)):
        mixed = first[:cut] + second[cut:]
        if mixed not in (first, second):
            path.write_bytes(mixed)
            assert is_broken(store), cut


def write_at(file, place, byte):
    file.seek(place)
    file.write(bytes([byte]))


def is_broken(store):
    try:
        store.get()
    except SealBroken as error:
        return error.message.isprintable()
    return False
