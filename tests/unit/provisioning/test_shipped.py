"""What `init` copies is in the wheel, and is found there as in a checkout."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile

import pytest

from cmzon_secrets.provisioning.scaffold import scaffold
from servers.terraform import ROOT
from unit.provisioning.choices import CHOICES, options, wanting

INCLUDED = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"][
    "targets"
]["sdist"]["include"]
LEFT_BY_WORK = (
    "terraform/modules/aws/.terraform/providers/plugin",
    "terraform/modules/aws/terraform.tfstate",
    "terraform/modules/vault/acme.auto.tfvars",
    "examples/azure-function/local.settings.json",
    "examples/systemd/token.sealed",
    "examples/systemd/token.key",
)
"""What working in a checkout leaves there, and nobody may publish."""


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A source distribution made of a checkout that was worked in, and a wheel made of it."""
    folder = tmp_path_factory.mktemp("built")
    copy_checkout(folder / "checkout")
    for left in LEFT_BY_WORK:
        path = folder / "checkout" / left
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
    build("sdist", folder / "checkout", folder)
    [sdist] = folder.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    build("wheel", folder / sdist.name.removesuffix(".tar.gz"), folder)
    return folder


def copy_checkout(to):
    for path in (*INCLUDED, "/pyproject.toml", "/.gitignore"):
        source, target = ROOT / path[1:], to / path[1:]
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)


def build(target, project, to):
    words = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(to)]
    subprocess.run(words, cwd=project, check=True, capture_output=True, timeout=60)


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory):
    """The package as pip unpacks it."""
    site = tmp_path_factory.mktemp("site")
    [wheel] = built.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(site)
    return site


def test_what_work_leaves_in_a_checkout_is_not_published(built):
    [sdist], [wheel] = built.glob("*.tar.gz"), built.glob("*.whl")
    with tarfile.open(sdist) as archive:
        published = archive.getnames() + zipfile.ZipFile(wheel).namelist()
    for left in LEFT_BY_WORK:
        assert not [name for name in published if name.endswith(left)]
    assert [name for name in published if name.endswith("terraform/modules/aws/main.tf")]


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
