"""A disk that is full, read-only or broken: a clear error, the old file intact, nothing left behind."""

import errno
import os
import shutil
import subprocess
import sys
import tempfile

import pytest

from cmzon_secrets import Token
from cmzon_secrets.errors import ProviderUnavailable
from cmzon_secrets.providers.sealed_file import SealedFile
from cmzon_secrets.sealing_keys.key_file import KeyFile, generate_key_file
from servers.small_disk import fill, small_disk

SCRIPT = """
import os, resource, sys
# Now: whoever the setup makes of us may not be allowed to read the installed packages.
import cryptography.hazmat.primitives.ciphers.aead, cryptography.hazmat.primitives.keywrap
from cmzon_secrets import Token
from cmzon_secrets.errors import CMzonSecretsError
from cmzon_secrets.providers.sealed_file import SealedFile
from cmzon_secrets.sealing_keys.key_file import KeyFile

store = SealedFile(sys.argv[1] + "/token.sealed", KeyFile(sys.argv[2]))
exec(sys.argv[3])
for verb in (lambda: store.stage(Token("new", id="tok_new")), lambda: store.rekey(KeyFile(sys.argv[2]))):
    try:
        verb()
        print("it was written")
    except CMzonSecretsError as error:
        print(type(error).__name__, error.message.rpartition(" — ")[2])
print(store.get().id)
"""


def stored_in(folder, key):
    generate_key_file(key)
    store = SealedFile(f"{folder}/token.sealed", KeyFile(key))
    store.stage(Token("old", id="tok_old"))
    store.promote("tok_old", replacing=None)
    return store


def run(folder, key, setup=""):
    """Two writes and a read in another process; what each said."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, folder, key, setup],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def files_in(folder):
    return sorted(os.listdir(folder))


def test_a_file_size_limit(tmp_path):
    folder, key = tmp_path / "folder", tmp_path / "the.key"
    folder.mkdir()
    store = stored_in(folder, key)
    before = (folder / "token.sealed").read_bytes()
    limit = "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))"
    said = run(folder, key, limit)
    assert said == ["ProviderUnavailable file too large"] * 2 + ["tok_old"]
    assert files_in(folder) == ["token.sealed", "token.sealed.lock"]
    assert (folder / "token.sealed").read_bytes() == before
    store.stage(Token("new", id="tok_new"))


@pytest.fixture
def disk(tmp_path):
    with small_disk(tmp_path / "small", "64k") as folder:
        yield folder


def test_a_full_disk(disk, tmp_path):
    store = stored_in(disk, tmp_path / "the.key")
    before = (disk / "token.sealed").read_bytes()
    fill(disk / "ballast")
    said = run(disk, tmp_path / "the.key")
    assert said == ["ProviderUnavailable no space left on device"] * 2 + ["tok_old"]
    assert files_in(disk) == ["ballast", "token.sealed", "token.sealed.lock"]
    assert (disk / "token.sealed").read_bytes() == before
    (disk / "ballast").unlink()
    store.stage(Token("new", id="tok_new"))


def test_a_disk_mounted_read_only(disk, tmp_path):
    stored_in(disk, tmp_path / "the.key")
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    said = run(disk, tmp_path / "the.key")
    assert said == ["AccessDenied read-only file system"] * 2 + ["tok_old"]


def test_a_folder_without_the_right_to_write(tmp_path):
    folder = tempfile.mkdtemp() if os.geteuid() == 0 else str(tmp_path)
    key = f"{folder}/the.key"
    try:
        stored_in(folder, key)
        os.unlink(f"{folder}/token.sealed.lock")
        setup = ""
        if os.geteuid() == 0:  # root may write anywhere: become somebody else
            for name in ("", "/the.key", "/token.sealed"):
                os.chown(folder + name, 65534, 65534)
            setup = "os.setgroups([]); os.setgid(65534); os.setuid(65534)"
        os.chmod(folder, 0o500)
        said = run(folder, key, setup)
        assert said == ["AccessDenied permission denied"] * 2 + ["tok_old"]
        assert files_in(folder) == ["the.key", "token.sealed"]
    finally:
        os.chmod(folder, 0o700)
        if os.geteuid() == 0:
            shutil.rmtree(folder)


@pytest.mark.parametrize("call", ["write", "fsync", "replace", "fchmod"])
@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_any_failing_call_leaves_the_old_file_and_nothing_else(call, code, tmp_path, monkeypatch):
    store = stored_in(tmp_path, tmp_path / "the.key")
    before = (tmp_path / "token.sealed").read_bytes()

    def failing(*arguments, **options):
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, failing)
        with pytest.raises(ProviderUnavailable) as caught:
            store.stage(Token("new", id="tok_new"))
    assert os.strerror(code).lower() in caught.value.message
    assert (tmp_path / "token.sealed").read_bytes() == before
    assert files_in(tmp_path) == ["the.key", "token.sealed", "token.sealed.lock"]
    store.stage(Token("new", id="tok_new"))


def test_a_write_of_one_byte_at_a_time_writes_all(tmp_path, monkeypatch):
    write = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:1]))
        store = stored_in(tmp_path, tmp_path / "the.key")
    assert store.get().id == "tok_old"


def test_a_read_of_one_byte_at_a_time_reads_all(tmp_path, monkeypatch):
    store = stored_in(tmp_path, tmp_path / "the.key")
    read = os.read
    monkeypatch.setattr(os, "read", lambda descriptor, count: read(descriptor, 1))
    assert store.get().id == "tok_old"


def test_the_data_is_on_the_disk_before_its_name_is_and_the_name_before_we_return(
    tmp_path, monkeypatch
):
    store = stored_in(tmp_path, tmp_path / "the.key")
    calls = []

    def noting(name):
        real = getattr(os, name)

        def call(*arguments, **options):
            calls.append(name)
            return real(*arguments, **options)

        monkeypatch.setattr(os, name, call)

    for name in ("write", "fsync", "replace"):
        noting(name)
    store.stage(Token("new", id="tok_new"))
    assert calls == ["write", "fsync", "replace", "fsync"]


def test_a_folder_of_thousands_is_not_searched_at_each_write(tmp_path, monkeypatch):
    searched = []
    listdir = os.listdir
    monkeypatch.setattr(os, "listdir", lambda *path: searched.append(path) or listdir(*path))
    store = stored_in(tmp_path, tmp_path / "the.key")
    assert searched, "a small folder is searched"
    for number in range(4000):
        (tmp_path / f"account-with-a-long-name-{number:05}.sealed").touch()
    if tmp_path.stat().st_size < 2**16:
        pytest.skip("not run: a folder that grows (this file system's do not)")
    searched.clear()
    store.stage(Token("new", id="tok_new"))
    assert not searched


def test_leftovers_of_killed_writers_are_removed_and_nothing_else(tmp_path):
    store = stored_in(tmp_path, tmp_path / "the.key")
    ours = tmp_path / f".token.sealed.{'0a' * 8}.cmzon-tmp"
    others = [
        tmp_path / f".other.sealed.{'0a' * 8}.cmzon-tmp",
        tmp_path / ".token.sealed.notes.cmzon-tmp",
        tmp_path / "token.sealed.bak",
    ]
    for path in (ours, *others):
        path.touch()
    store.stage(Token("new", id="tok_new"))
    assert not ours.exists()
    assert all(path.exists() for path in others)
