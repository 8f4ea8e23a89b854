"""The example in docs/extending.md is installed and proved as its reader would."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[3] / "docs" / "extending.md"
BLOCK = re.compile(r"<!-- file: (\S+) -->\n```\w+\n(.*?)```\n", re.DOTALL)


@pytest.mark.slow
def test_the_example_store_passes_the_suite(tmp_path):
    files = dict(BLOCK.findall(PAGE.read_text()))
    assert set(files) == {"sqlite_store.py", "pyproject.toml", "test_sqlite_store.py"}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    install(tmp_path, tomllib.loads(files["pyproject.toml"])["project"])
    (tmp_path / "pyproject.toml").unlink()
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", "."],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert run.returncode == 0, run.stdout
    assert re.search(r"\d\d passed, 5 skipped", run.stdout), run.stdout


def test_of_the_files_in_one_folder_only_the_store_is_installed():
    """Two modules side by side are refused by setuptools unless one is named."""
    project = tomllib.loads(dict(BLOCK.findall(PAGE.read_text()))["pyproject.toml"])
    (target,) = project["project"]["entry-points"]["cmzon_secrets.providers"].values()
    assert project["tool"]["setuptools"]["py-modules"] == [target.partition(":")[0]]


def install(folder: Path, project: dict) -> None:
    """What pip makes of the project: its name and entry points."""
    info = folder / "cmzon_secrets_sqlite-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    groups = [
        f"[{group}]\n" + "\n".join(f"{name} = {target}" for name, target in rows.items())
        for group, rows in project["entry-points"].items()
    ]
    (info / "entry_points.txt").write_text("\n".join(groups) + "\n")


def test_every_file_the_page_points_to_exists():
    links = re.findall(r"\]\(([^)#]+)\)", PAGE.read_text())
    assert [link for link in links if not (PAGE.parent / link).exists()] == []
