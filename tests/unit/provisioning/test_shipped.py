"""What `init` copies is in the wheel, and is found there as in a checkout."""

import json
import os
import shutil
import subprocess
import sys
import tomllib

import pytest

from cmzon_secrets.provisioning.scaffold import scaffold
from servers.terraform import ROOT
from unit.provisioning.choices import CHOICES, options, wanting

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
TARGETS = PROJECT["tool"]["hatch"]["build"]["targets"]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The package as the wheel has it, laid out as pyproject.toml says."""
    site = tmp_path_factory.mktemp("site")
    for folder in TARGETS["wheel"]["include"]:
        old, new = next(
            (source, target)
            for source, target in TARGETS["wheel"]["sources"].items()
            if f"{folder}/".startswith(f"/{source}/")
        )
        place = site / f"{folder}/".replace(f"/{old}/", f"{new}/", 1)
        shutil.copytree(ROOT / folder[1:], place, ignore=shutil.ignore_patterns("__pycache__"))
    for pattern in TARGETS["wheel"]["exclude"]:
        for folder in site.glob(f"cmzon_secrets/provisioning/shipped{pattern}"):
            shutil.rmtree(folder)
    return site


def test_an_installed_program_writes_the_same_files_as_a_checkout(installed, tmp_path):
    every = {"-".join(choice): wanting(*choice) for choice in CHOICES}
    lines = [[*options(wanted), "--directory", name] for name, wanted in every.items()]
    program = "import json, sys; from cmzon_secrets.cli import main\n"
    program += "for words in json.loads(sys.argv[1]): assert main(['init', *words]) == 0"
    done = subprocess.run(
        [sys.executable, "-c", program, json.dumps(lines)],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for name, wanted in every.items():
        files = [path for path in (tmp_path / name).rglob("*") if path.is_file()]
        written = {path.relative_to(tmp_path / name).as_posix(): path.read_text() for path in files}
        assert written == dict(scaffold(wanted, str(tmp_path / name)).files)


def test_a_wheel_can_be_built_of_the_source_distribution():
    """Whatever the one takes in, the other has."""
    included = TARGETS["sdist"]["include"]
    for folder in TARGETS["wheel"]["include"]:
        assert any(f"{folder}/".startswith(f"{path}/") for path in included)


def test_an_installation_without_them_says_so(installed, tmp_path):
    shutil.copytree(installed, tmp_path / "site")
    shutil.rmtree(tmp_path / "site/cmzon_secrets/provisioning/shipped")
    done = subprocess.run(
        [sys.executable, "-m", "cmzon_secrets.cli", "init", *options(wanting("file", "vm"))],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "lacks the Terraform modules and examples" in done.stderr
    assert not (tmp_path / "cmzon-secrets.toml").exists()
