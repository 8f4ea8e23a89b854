"""Many files at once: all of them or none, and nothing that is there is lost."""

import os
import stat
from pathlib import Path

import pytest

from cmzon_secrets.errors import AccessDenied, ConfigurationError, ProviderUnavailable
from cmzon_secrets.provisioning import writing
from cmzon_secrets.provisioning.writing import write_all
from servers.small_disk import small_disk

FILES = {"a.toml": "a\n", "terraform/main.tf": "b\n", "keys/.gitignore": "*\n"}


def tree(folder):
    return {
        p.relative_to(folder).as_posix(): p.read_text() for p in folder.rglob("*") if p.is_file()
    }


def everything(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*"))


def test_all_files_are_written_and_their_folders_made(tmp_path):
    folder = tmp_path / "new" / "one"
    assert write_all(folder, FILES, replace=False, private=("keys",)) == sorted(FILES)
    assert tree(folder) == FILES
    assert stat.S_IMODE((folder / "keys").stat().st_mode) == 0o700
    assert everything(folder) == [
        "a.toml",
        "keys",
        "keys/.gitignore",
        "terraform",
        "terraform/main.tf",
    ]


@pytest.mark.parametrize("mode", [0o755, 0o710, 0o777])
def test_a_private_folder_that_others_may_enter_is_refused_before_anything_is_written(
    tmp_path, mode
):
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys").chmod(mode)
    with pytest.raises(ConfigurationError, match=r"keys — .*others may enter it") as refused:
        write_all(tmp_path, FILES, replace=True, private=("keys",))
    assert everything(tmp_path) == ["keys"]
    assert refused.value.hint.endswith(f"chmod 700 {tmp_path / 'keys'}")
    (tmp_path / "keys").chmod(0o700)
    assert write_all(tmp_path, FILES, replace=False, private=("keys",)) == sorted(FILES)


def test_nor_is_one_taken_that_is_somebody_elses(tmp_path, monkeypatch):
    (tmp_path / "keys").mkdir(0o700)
    monkeypatch.setattr(writing.os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(ConfigurationError, match="somebody else's"):
        write_all(tmp_path, FILES, replace=True, private=("keys",))
    assert everything(tmp_path) == ["keys"]


def test_the_same_again_writes_nothing(tmp_path):
    write_all(tmp_path, FILES, replace=False)
    before = {path: (tmp_path / path).stat().st_mtime_ns for path in FILES}
    assert write_all(tmp_path, FILES, replace=False) == []
    assert before == {path: (tmp_path / path).stat().st_mtime_ns for path in FILES}


def test_what_is_missing_is_added_and_the_rest_left_alone(tmp_path):
    write_all(tmp_path, FILES, replace=False)
    (tmp_path / "a.toml").unlink()
    assert write_all(tmp_path, FILES, replace=False) == ["a.toml"]


def test_a_file_that_differs_is_named_and_nothing_is_written(tmp_path):
    (tmp_path / "a.toml").write_text("mine")
    with pytest.raises(ConfigurationError, match=r"a\.toml — there already") as refused:
        write_all(tmp_path, FILES, replace=False)
    assert "--force" in refused.value.hint
    assert tree(tmp_path) == {"a.toml": "mine"}


def test_many_that_differ_are_counted(tmp_path):
    files = {f"{number}.tf": "new" for number in range(9)}
    for name in files:
        (tmp_path / name).write_text("mine")
    with pytest.raises(ConfigurationError, match="and 4 more — there already"):
        write_all(tmp_path, files, replace=False)


def test_with_replace_it_becomes_ours_and_keeps_its_mode(tmp_path):
    (tmp_path / "a.toml").write_text("mine")
    (tmp_path / "a.toml").chmod(0o640)
    write_all(tmp_path, FILES, replace=True)
    assert tree(tmp_path) == FILES
    assert stat.S_IMODE((tmp_path / "a.toml").stat().st_mode) == 0o640


@pytest.mark.parametrize("replace", [False, True])
@pytest.mark.parametrize("make", [Path.mkdir, lambda path: path.symlink_to(path.with_name("mine"))])
def test_a_folder_or_a_link_in_the_way_of_a_file_stays(tmp_path, make, replace):
    (tmp_path / "mine").write_text("precious")
    make(tmp_path / "a.toml")
    with pytest.raises(ConfigurationError, match="not a regular file"):
        write_all(tmp_path, FILES, replace=replace)
    assert everything(tmp_path) == ["a.toml", "mine"]
    assert (tmp_path / "mine").read_text() == "precious"


@pytest.mark.parametrize("replace", [False, True])
def test_a_file_or_a_link_in_the_way_of_a_folder_stays(tmp_path, replace):
    top = tmp_path / "top"
    top.mkdir()
    (top / "terraform").write_text("mine")
    with pytest.raises(ConfigurationError, match="not a folder"):
        write_all(top, FILES, replace=replace)
    (top / "terraform").unlink()
    (tmp_path / "elsewhere").mkdir()
    (top / "terraform").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigurationError, match="not a folder"):
        write_all(top, FILES, replace=replace)
    assert tree(tmp_path) == {}


def test_a_folder_that_may_not_be_written_to_is_told_and_left(tmp_path, monkeypatch):
    folder = tmp_path / "new"
    monkeypatch.setattr(writing.tempfile, "TemporaryDirectory", _refusing)
    with pytest.raises(AccessDenied):
        write_all(folder, FILES, replace=False)
    assert everything(tmp_path) == []


def _refusing(**_):
    raise PermissionError(13, "Permission denied")


def test_a_full_disk_leaves_what_was_there(tmp_path):
    with small_disk(tmp_path / "disk", "1m") as disk:
        (disk / "a.toml").write_text("mine")
        files = {**FILES, "large": "x" * 4 * 1024 * 1024}
        with pytest.raises(ProviderUnavailable, match="no space left"):
            write_all(disk, files, replace=True)
        assert tree(disk) == {"a.toml": "mine"}
        assert everything(disk) == ["a.toml"]


@pytest.mark.parametrize("number", [1, 2, 3])
def test_what_breaks_while_files_are_put_in_place_is_undone(tmp_path, monkeypatch, number):
    (tmp_path / "a.toml").write_text("mine")
    done = []

    def breaking(self, target):
        done.append(target)
        if len(done) == number:
            raise KeyboardInterrupt
        os.replace(self, target)

    monkeypatch.setattr(writing.Path, "replace", breaking)
    with pytest.raises(KeyboardInterrupt):
        write_all(tmp_path, FILES, replace=True)
    assert len(done) >= number
    assert everything(tmp_path) == ["a.toml"]
    assert tree(tmp_path) == {"a.toml": "mine"}
