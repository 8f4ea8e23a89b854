"""A sealed file, its folder, its neighbours and its key."""

import os
from pathlib import Path

import pytest

from cmzon_secrets import Token
from cmzon_secrets.examinations import sealed_file
from cmzon_secrets.providers.sealed_file import SealedFile
from cmzon_secrets.sealing_keys.environment import EnvironmentKey
from cmzon_secrets.sealing_keys.key_file import KeyFile, generate_key_file
from cmzon_secrets.sealing_keys.passphrase import CHEAPEST, PassphraseKey

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="not run: another owner (needs root)")


@pytest.fixture
def key(tmp_path):
    folder = tmp_path / "keys"
    folder.mkdir(mode=0o700)
    generate_key_file(folder / "token.key")
    return KeyFile(folder / "token.key")


@pytest.fixture
def path(tmp_path):
    folder = tmp_path / "tokens"
    folder.mkdir(mode=0o700)
    return folder / "token.sealed"


@pytest.fixture
def store(path, key):
    store = SealedFile(path, key)
    store.stage(Token("cmz_secret_value"))
    return store


def examined(store, role="rotator"):
    found = list(sealed_file.examine(store, role))
    assert "cmz_secret_value" not in repr(found)
    assert len({finding.check for finding in found}) == len(found)
    return {finding.check: finding for finding in found}


def graver_than_note(found):
    return {check for check, f in found.items() if f.severity in ("warning", "problem")}


def test_a_file_as_it_should_be(store):
    found = examined(store)
    assert {finding.severity for finding in found.values()} == {"ok"}
    assert set(found) == {
        "permissions.file",
        "permissions.folder",
        "permissions.write",
        "key.opens",
        "key.file",
        "key.place",
    }


def test_nothing_is_changed(store, path):
    before = {p: p.stat() for p in path.parent.iterdir()}
    content = path.read_bytes()
    examined(store)
    assert {p: p.stat() for p in path.parent.iterdir()} == before
    assert path.read_bytes() == content


def test_a_file_that_is_not_there_is_not_made(path, key):
    found = examined(SealedFile(path, key))
    assert "permissions.file" not in found
    assert list(path.parent.iterdir()) == []


def test_a_folder_that_is_not_there_is_left_to_reading(tmp_path, key):
    assert set(examined(SealedFile(tmp_path / "no" / "file", key))) == {"key.file", "key.place"}


def test_a_file_open_to_others(store, path):
    path.chmod(0o640)
    finding = examined(store)["permissions.file"]
    assert finding.severity == "problem"
    assert "mode 0640" in finding.evidence
    assert finding.remedy == f"chmod 600 {path}"
    assert "key.opens" not in examined(store)


@as_root
def test_a_file_of_another_user(store, path):
    os.chown(path, 12345, -1)
    finding = examined(store)["permissions.file"]
    assert finding.severity == "problem"
    assert "owner uid 12345" in finding.evidence


def test_a_key_that_does_not_open_it_is_left_to_reading(store, path, tmp_path):
    generate_key_file(tmp_path / "other.key")
    assert "key.opens" not in examined(SealedFile(path, KeyFile(tmp_path / "other.key")))


@pytest.mark.parametrize(
    ("mode", "severity"),
    [(0o755, "ok"), (0o770, "warning"), (0o777, "problem"), (0o1777, "ok")],
)
def test_who_may_replace_what_is_in_the_folder(store, path, mode, severity):
    path.parent.chmod(mode)
    finding = examined(store)["permissions.folder"]
    assert finding.severity == severity
    assert (finding.remedy == f"chmod go-w {path.parent}") == (severity != "ok")


@as_root
def test_a_folder_of_another_user(store, path):
    os.chown(path.parent, 12345, -1)
    finding = examined(store)["permissions.folder"]
    assert (finding.severity, finding.remedy) == ("warning", f"chown 0 {path.parent}")


def test_a_reader_who_may_write_is_told(store):
    finding = examined(store, "reader")["permissions.excess"]
    assert finding.severity == "note"


@pytest.mark.skipif(os.geteuid() == 0, reason="not run: a folder that refuses (root may all)")
def test_a_rotator_who_may_not_write(store, path):
    path.parent.chmod(0o500)
    try:
        assert examined(store)["permissions.write"].severity == "problem"
        assert examined(store, "reader")["permissions.write"].severity == "ok"
    finally:
        path.parent.chmod(0o700)


def test_a_symbolic_link_is_named_with_where_it_leads(store, path, key, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(path)
    finding = examined(SealedFile(link, key))["permissions.link"]
    assert (finding.severity, finding.evidence) == ("note", f"{link} → {path}")


def test_a_write_that_was_killed(store, path):
    path.with_name(f".{path.name}.0123456789abcdef.cmzon-tmp").write_bytes(b"")
    assert examined(store)["permissions.leftover"].severity == "note"


def test_a_copy_that_others_may_read(store, path):
    copy = path.with_name("token.sealed.bak")
    copy.write_bytes(path.read_bytes())
    copy.chmod(0o644)
    finding = examined(store)["permissions.backup"]
    assert (finding.severity, finding.remedy) == ("warning", f"chmod 600 {copy}")
    copy.chmod(0o600)
    assert "permissions.backup" not in examined(store)


def test_another_file_that_others_may_read_is_none_of_ours(store, path):
    path.with_name("token.sealed.txt").write_text("notes")
    path.with_name("unrelated").write_bytes(path.read_bytes())
    assert graver_than_note(examined(store)) == set()


def test_the_key_beside_what_it_opens(path):
    generate_key_file(path.with_name("token.key"))
    store = SealedFile(path, KeyFile(path.with_name("token.key")))
    finding = examined(store)["key.place"]
    assert finding.severity == "warning"
    assert "rekey" in finding.remedy


def test_a_key_file_open_to_others(store, key):
    Path(key.path).chmod(0o644)
    finding = examined(store)["key.file"]
    assert (finding.severity, finding.remedy) == ("problem", f"chmod 600 {key.path}")


def test_a_key_file_that_is_missing_is_left_to_reading(store, key):
    Path(key.path).unlink()
    assert not {"key.file", "key.place", "key.opens"} & set(examined(store))


def test_a_key_in_the_environment_is_seen_by_others(path, monkeypatch):
    monkeypatch.setenv("THE_KEY", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=")
    finding = examined(SealedFile(path, EnvironmentKey("THE_KEY")))["key.visible"]
    assert finding.severity == "note"
    assert "env:THE_KEY" in finding.message


def test_a_passphrase_in_the_environment_is_seen_by_others(path, monkeypatch):
    store = SealedFile(path, PassphraseKey(profile=CHEAPEST))
    monkeypatch.delenv("CMZON_SECRETS_PASSPHRASE", raising=False)
    assert "key.visible" not in examined(store)
    monkeypatch.setenv("CMZON_SECRETS_PASSPHRASE", "correct horse")
    found = examined(store)
    assert found["key.visible"].severity == "note"
    assert "correct horse" not in repr(found)


@as_root
def test_the_lock_of_another_user_is_no_matter_for_root(store, path):
    os.chown(path.with_name("token.sealed.lock"), 12345, -1)
    assert "permissions.lock" not in examined(store)
