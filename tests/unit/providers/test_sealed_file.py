"""``file:``: what stands beside the contract that every store keeps (tests/conformance)."""

import json
import os
import re
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cmzon_secrets import Token, open_store
from cmzon_secrets.errors import (
    AccessDenied,
    ConfigurationError,
    InvalidToken,
    InvalidURI,
    ProviderUnavailable,
    SealBroken,
    TokenNotFound,
)
from cmzon_secrets.private_files import exclusive_lock
from cmzon_secrets.providers.sealed_file import SealedFile
from cmzon_secrets.sealing import new_id, read_header, seal, unseal
from cmzon_secrets.sealing_keys.key_file import KeyFile, generate_key_file
from cmzon_secrets.sealing_keys.passphrase import CHEAPEST, VARIABLE, PassphraseKey
from cmzon_secrets.testing import ManualClock
from cmzon_secrets.testing.conformance.leaks import failure_of, must_hide, shown

VALUE = "cmz_live_0123456789abcdefghijklmnop"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    generate_key_file("the.key")
    return tmp_path


@pytest.fixture
def key(folder):
    return KeyFile(folder / "the.key")


@pytest.fixture
def path(folder):
    return folder / "token.sealed"


@pytest.fixture
def store(path, key):
    return SealedFile(path, key)


def put(store, value=VALUE, id="tok_1", replacing=None):
    store.stage(Token(value, id=id))
    store.promote(id, replacing=replacing)


def document(path, key):
    return json.loads(unseal(path.read_bytes(), key, binding=os.fsencode(path)))


# what lies on the disk


def test_a_file_is_made_at_the_first_write_for_our_eyes_only(store, path):
    assert not path.exists()
    put(store)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.with_name("token.sealed.lock").stat().st_mode) == 0o600
    assert sorted(p.name for p in path.parent.iterdir()) == [
        "the.key",
        "token.sealed",
        "token.sealed.lock",
    ]


def test_the_document_is_json_that_anybody_with_the_key_understands(path, key):
    clock = ManualClock()
    store = SealedFile(path, key, clock=clock)
    expires = datetime(2027, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
    put(store, id="tok_1")
    store.stage(Token("next", id="tok_2", scopes=("messages:send",), expires_at=expires))
    held = document(path, key)
    assert held["current"] == {"token": VALUE, "id": "tok_1"}
    assert held["pending"] == {
        "token": "next",
        "id": "tok_2",
        "scopes": ["messages:send"],
        "expires_at": "2027-01-02T03:04:05.678901Z",
    }
    assert held["previous"] is None
    assert datetime.fromisoformat(held["promoted_at"]) == clock.now()


def test_the_reader_in_the_documentation_opens_it(store, path):
    put(store)
    page = Path(__file__).parents[3] / "docs" / "sealed-file-format.md"
    names = {}
    exec(re.search(r"```python\n(.*?)```", page.read_text(), re.DOTALL).group(1), names)
    assert names["current_token"](path, "the.key") == VALUE


def test_neither_value_nor_metadata_is_readable(store, path):
    put(store, id="tok_very_recognisable")
    assert VALUE.encode() not in path.read_bytes()
    assert b"recognisable" not in path.read_bytes()


def test_a_verb_that_changes_nothing_writes_nothing(store, path):
    put(store)
    store.stage(Token("next", id="tok_2"))
    before = path.stat()
    store.stage(Token("next", id="tok_2"))
    store.promote("tok_1", replacing=None)
    store.discard("tok_unknown")
    _ = store.identity
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_reading_makes_nothing(store, path):
    with pytest.raises(TokenNotFound):
        store.get()
    store.versions()
    store.discard("tok_unknown")
    assert [p.name for p in path.parent.iterdir()] == ["the.key"]


def test_reading_needs_no_lock(store, path):
    put(store)
    with exclusive_lock(f"{path}.lock", uri="test"):
        assert store.get().reveal() == VALUE


# who may open it


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660, 0o666])
def test_a_file_open_to_others_is_refused_with_the_remedy(mode, store, path):
    put(store)
    path.chmod(mode)
    for verb in (store.get, lambda: store.stage(Token("x", id="tok_x"))):
        with pytest.raises(AccessDenied, match=f"mode {mode:04o}") as caught:
            verb()
        assert caught.value.hint == f"chmod 600 {path}"
    path.chmod(0o600)
    assert store.get().reveal() == VALUE


@pytest.mark.skipif(os.geteuid() != 0, reason="not run: another owner (needs root)")
def test_a_file_of_another_user_is_refused_before_a_lock_is_left_in_their_folder(store, path):
    put(store)
    path.with_name("token.sealed.lock").unlink()
    os.chown(path, 12345, -1)
    with pytest.raises(AccessDenied, match="uid 12345"):
        store.stage(Token("x", id="tok_x"))
    assert not path.with_name("token.sealed.lock").exists()


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["fifo", "folder"])
def test_what_is_no_regular_file_is_refused_without_waiting(make, store, path):
    make(path, 0o600)
    for verb in (store.get, lambda: store.stage(Token("x", id="tok_x"))):
        with pytest.raises(AccessDenied, match="not a regular file"):
            verb()


# the seal


def test_a_file_moved_or_copied_to_another_path_is_seal_broken(store, path, key):
    put(store)
    for elsewhere in (path.with_name("copy.sealed"), path.parent / "sub" / path.name):
        elsewhere.parent.mkdir(exist_ok=True)
        elsewhere.write_bytes(path.read_bytes())
        elsewhere.chmod(0o600)
        with pytest.raises(SealBroken) as caught:
            SealedFile(elsewhere, key).get()
        assert "cmzon-secrets copy" in caught.value.hint


def test_two_files_of_one_folder_and_key_cannot_be_swapped(store, path, key):
    other = SealedFile(path.with_name("other.sealed"), key)
    put(store, "one")
    put(other, "two")
    path.rename("aside")
    path.with_name("other.sealed").rename(path)
    path.with_name("aside").rename("other.sealed")
    for swapped in (store, other):
        with pytest.raises(SealBroken):
            swapped.get()
        with pytest.raises(SealBroken):
            swapped.stage(Token("x", id="tok_x"))


def test_moved_back_it_opens_again(store, path):
    put(store)
    path.rename("aside")
    path.with_name("aside").rename(path)
    assert store.get().reveal() == VALUE


def test_another_key_is_seal_broken_and_names_the_option(store, path):
    put(store)
    generate_key_file("other.key")
    with pytest.raises(SealBroken, match=r"key=keyfile:other\.key") as caught:
        SealedFile(path, KeyFile("other.key")).get()
    assert "the.key" in caught.value.message
    assert "move the file away" in caught.value.hint


def test_a_broken_file_is_never_written_over(store, path):
    path.write_bytes(b"precious, though not ours")
    path.chmod(0o600)
    for verb in (lambda: store.stage(Token("x", id="tok_x")), lambda: store.identity):
        with pytest.raises(SealBroken):
            verb()
    assert path.read_bytes() == b"precious, though not ours"


@pytest.mark.parametrize("content", [b"", b"cmzon-secrets sealed 1\n"])
def test_what_cannot_be_opened_has_to_be_moved_away_first(content, store, path):
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(SealBroken) as caught:
        store.get()
    assert "move the file away" in caught.value.hint


@pytest.mark.parametrize(
    "record",
    [
        {"token": f"{VALUE} with spaces"},
        {"token": VALUE, "expires_at": "tomorrow"},
        {"token": VALUE, "scopes": 7},
        {"token": VALUE, "id": VALUE},
        {"token": None},
    ],
)
def test_a_document_with_an_impossible_token_is_invalid_and_not_shown(record, store, path, key):
    content = json.dumps({"current": record}).encode()
    path.write_bytes(seal(content, key, id=new_id(), binding=os.fsencode(path)))
    path.chmod(0o600)
    for verb in (store.get, lambda: store.stage(Token("x", id="tok_x"))):
        error = failure_of(verb)
        assert isinstance(error, InvalidToken)
        assert error.message.startswith(store.uri)
        must_hide(shown(error), VALUE)


def test_no_failure_shows_what_is_stored(store, path, key):
    put(store)
    errors = [
        failure_of(lambda: store.stage(Token("other", id="tok_1"))),
        failure_of(lambda: store.promote("tok_9", replacing=None)),
        failure_of(lambda: store.discard("tok_1")),
    ]
    altered = bytearray(path.read_bytes())
    altered[-1] ^= 1
    path.write_bytes(altered)
    errors += [failure_of(store.get), failure_of(lambda: store.identity)]
    for error in errors:
        must_hide(shown(error), VALUE, (path.parent / "the.key").read_text().strip())


def test_a_handle_holds_no_value(store):
    put(store)
    store.get()
    must_hide(repr(vars(store)) + repr(store) + store.uri, VALUE)


def test_too_much_metadata_is_refused_and_the_old_file_stays(store, path):
    put(store)
    before = path.read_bytes()
    scopes = [f"scope:{n}" for n in range(100_000)]
    with pytest.raises(ConfigurationError, match="larger"):
        store.stage(Token("x", id="tok_x", scopes=scopes))
    assert path.read_bytes() == before


# rekey


def test_rekey_changes_the_key_and_nothing_else(store, path):
    put(store)
    before, identity = store.versions(), store.identity
    generate_key_file("new.key")
    store.rekey(KeyFile("new.key"))
    assert store.uri.endswith("key=keyfile:new.key")
    fresh = SealedFile(path, KeyFile("new.key"))
    assert store.versions() == fresh.versions() == before
    assert store.identity == fresh.identity == identity
    with pytest.raises(SealBroken):
        SealedFile(path, KeyFile("the.key")).get()


def test_rekey_with_a_key_that_cannot_be_used_leaves_the_old_one(store, path):
    put(store)
    before = path.read_bytes()
    with pytest.raises(ConfigurationError, match=r"key= of file:.*missing\.key"):
        store.rekey(KeyFile("missing.key"))
    assert path.read_bytes() == before
    assert store.get().reveal() == VALUE


def test_rekey_of_a_missing_file_is_token_not_found(store, key, path):
    with pytest.raises(TokenNotFound):
        store.rekey(key)
    assert not path.exists()


def test_from_a_passphrase_to_a_key_file_and_back(path, key, monkeypatch):
    monkeypatch.setenv(VARIABLE, "correct horse")
    passphrase = PassphraseKey(profile=CHEAPEST)
    store = SealedFile(path, passphrase)
    put(store)
    store.rekey(key)
    store.rekey(PassphraseKey(profile=CHEAPEST))
    assert SealedFile(path, PassphraseKey()).get().reveal() == VALUE


# names


def test_a_symbolic_link_is_kept_and_its_target_replaced(store, path, key):
    put(store)
    link = path.with_name("link.sealed")
    link.symlink_to(path.name)
    through_link = SealedFile(link, key)
    put(through_link, "second", id="tok_2", replacing="tok_1")
    assert link.is_symlink()
    assert store.get().reveal() == "second"
    assert not link.with_name("link.sealed.lock").exists()


def test_a_relative_path_stays_where_it_was_when_the_folder_changes(folder, key, monkeypatch):
    store = SealedFile("token.sealed", key)
    put(store)
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder / "elsewhere")
    assert store.get().reveal() == VALUE


def test_its_uri_opens_it_again(folder):
    store = open_store("file:odd%20n%3Fame+%25.sealed?key=keyfile:the.key")
    put(store)
    assert (folder / "odd n?ame+%.sealed").exists()
    assert open_store(store.uri).get().reveal() == VALUE


def test_three_slashes_are_an_absolute_path_and_a_host_is_refused(path, store):
    put(store)
    assert open_store(f"file://{path}?key=keyfile:the.key").get().reveal() == VALUE
    with pytest.raises(InvalidURI, match="host"):
        open_store("file://host/token.sealed?key=keyfile:the.key")


def test_a_missing_file_names_the_command_that_makes_one(store):
    with pytest.raises(TokenNotFound) as caught:
        store.get()
    assert caught.value.hint == f"store one with: cmzon-secrets put '{store.uri}'"


def test_a_missing_folder_is_told_before_anything_is_asked(folder):
    class NeverAsked(KeyFile):
        def read_key(self):
            raise AssertionError("the key was used")

    store = SealedFile(folder / "no" / "token.sealed", NeverAsked("the.key"))
    with pytest.raises(TokenNotFound, match="its folder is missing") as missing:
        store.get()
    assert f"mkdir -p {folder}/no &&" in missing.value.hint
    with pytest.raises(ConfigurationError) as caught:
        put(store)
    assert "mkdir" in caught.value.hint


def test_the_identity_is_the_id_in_the_header_and_made_where_there_is_none(store, path):
    identity = store.identity
    assert identity == f"file:{read_header(path.read_bytes()).id}"
    assert len(identity) == len("file:") + 32
    put(store)
    assert store.identity == identity


# the lock


def test_a_lock_that_is_never_let_go_is_told_after_the_deadline(path, key):
    impatient = SealedFile(path, key, lock_timeout=0.05)
    with (
        exclusive_lock(f"{path}.lock", uri="another"),
        pytest.raises(ProviderUnavailable, match=r"token\.sealed\.lock") as caught,
    ):
        put(impatient)
    assert caught.value.retryable
    put(impatient)


def test_a_lock_file_that_was_removed_is_made_again(store, path):
    put(store)
    path.with_name("token.sealed.lock").unlink()
    store.stage(Token("x", id="tok_x"))
    assert store.versions().pending.id == "tok_x"


def test_a_lock_file_that_is_a_link_is_refused(store, path, folder):
    path.with_name("token.sealed.lock").symlink_to(folder / "elsewhere")
    with pytest.raises(AccessDenied):
        put(store)
    assert not (folder / "elsewhere").exists()
