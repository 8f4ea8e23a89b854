"""Builds the zip for AWS Lambda: this package, what it imports there, and nothing else.

    python -m cmzon_secrets.provisioning.lambda_zip
        [--output dist/cmzon-secrets-lambda.zip] [--add FILE]… [--with PACKAGE]…
        [--arch x86_64|arm64] [--python 3.11]

As it is, all in it is pure Python: one zip for every Python from 3.11 on and for both processors.
``--with cryptography`` (sealed files) or ``--with hvac`` (Vault) adds a package; compiled ones are for the
``--arch`` and ``--python`` given. ``--add`` puts a file at the top, for example ``cmzon-secrets.toml`` or a CA.

Packages have the versions installed where this runs, which are those that were tested. The same
input gives the same bytes: entries sorted, times fixed, no bytecode.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from importlib.metadata import distributions, requires
from importlib.util import find_spec
from pathlib import Path

__all__ = ["main"]

OURS = "cmzon-secrets"
OUTPUT = Path("dist") / "cmzon-secrets-lambda.zip"

SERVICES = ("kms", "secretsmanager", "sts")
"""Of AWS, those whose description is kept: what providers call, and STS to assume a role."""

SHARED_DATA = ("_retry.json", "endpoints.json", "partitions.json", "sdk-default-configuration.json")
"""What botocore reads for every service."""

LEFT_OUT = ("cli", "emulator", "examinations", "permissions", "provisioning", "testing")
"""Parts of this package for people and for tests."""

PLATFORMS = {"x86_64": "manylinux2014_x86_64", "arm64": "manylinux2014_aarch64"}
METADATA = ("METADATA", "entry_points.txt")
"""Of a ``.dist-info``, besides its licences: what ``importlib.metadata`` is asked for."""

EPOCH = (1980, 1, 1, 0, 0, 0)
MOST_BYTES = 20 * 1024 * 1024


def main() -> None:
    """Build, and print where it is and how large."""
    options = _options().parse_args()
    for file in options.add:
        if not file.is_file():
            sys.exit(f"error: --add — there is no file {file}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        install(folder, options.packages, arch=options.arch, python=options.python)
        prune(folder)
        copy_ours(folder)
        for file in options.add:
            shutil.copyfile(file, folder / file.name)
        pack(folder, options.output)
    size = options.output.stat().st_size
    if size > MOST_BYTES:
        sys.exit(f"error: {options.output} — {size} bytes; {MOST_BYTES} are the most")
    sys.stdout.write(f"{options.output}  {size / 1e6:.1f} MB\n")


def requirements() -> list[str]:
    """What the function needs of our requirements: the blocking half of the HTTP library, and botocore
    at boto3's version."""
    ours = [requirement.partition(";")[0].strip() for requirement in requires(OURS) or ()]
    http = next(r for r in ours if r.startswith("httpcore2"))
    boto3 = next(r for r in ours if r.startswith("boto3"))
    return [http.replace("[asyncio]", ""), boto3.replace("boto3", "botocore")]


def install(folder: Path, packages: list[str], *, arch: str, python: str) -> None:
    """Everything others wrote, unpacked; nothing is run of it."""
    if find_spec("pip") is None:
        hint = f"hint: {sys.executable} -m ensurepip"
        sys.exit(
            f"error: pip — it is not installed beside this Python, and fetches packages\n{hint}"
        )
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as constraints:
        constraints.writelines(f"{line}\n" for line in installed_versions())
        constraints.flush()
        command = [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
            *("--no-compile", "--only-binary=:all:", "--implementation=cp"),
            *(f"--platform={PLATFORMS[arch]}", f"--python-version={python}"),
            *("--target", str(folder), "--constraint", constraints.name),
            *requirements(),
            *packages,
        ]
        if subprocess.run(command, check=False).returncode != 0:  # noqa: S603  # our own words
            sys.exit(
                "error: pip — it could not fetch what belongs into the zip; what it said is above"
            )


def installed_versions() -> Iterator[str]:
    """``NAME==VERSION`` of what is installed here; it holds for what is installed there."""
    for distribution in distributions():
        if distribution.name != OURS:
            yield f"{distribution.name}=={distribution.version}"


def prune(folder: Path) -> None:
    """Leave what is imported, and of botocore's 20 MB what is asked of it."""
    data = folder / "botocore" / "data"
    for entry in data.iterdir():
        if entry.name not in (*SERVICES, *SHARED_DATA):
            _remove(entry)
    for pattern in ("bin", "**/__pycache__", "**/tests", "**/*.pyi", "**/examples-1.json*"):
        for entry in list(folder.glob(pattern)):
            _remove(entry)
    for plugin in list(folder.glob("**/pytest_plugin.py")):
        _remove(plugin)
    for entry in list(folder.glob("*.dist-info/*")):
        if entry.name not in METADATA and not re.match(r"licen[cs]e", entry.name, re.IGNORECASE):
            _remove(entry)


def copy_ours(folder: Path) -> None:
    """This package, without the parts that are left out and without what editors and people leave behind."""
    source = Path(__file__).resolve().parents[1]

    def ignored(parent: str, names: list[str]) -> set[str]:
        left_out = LEFT_OUT if Path(parent) == source else ()
        private = (name for name in names if name.startswith(".") or name.endswith("~"))
        return {"__pycache__", *left_out, *private}

    shutil.copytree(source, folder / source.name, ignore=ignored)


def pack(folder: Path, output: Path) -> None:
    """The folder as a zip that depends on nothing but what is in it."""
    output.parent.mkdir(parents=True, exist_ok=True)
    files = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
    with zipfile.ZipFile(output, "w") as archive:
        for name, path in sorted(files.items()):
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.external_attr = 0o100644 << 16
            entry.create_system = 3  # Unix, whatever this runs on
            archive.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED, 9)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m cmzon_secrets.provisioning.lambda_zip",
        description=(__doc__ or "").partition("\n")[0],
    )
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--add", type=Path, action="append", default=[], metavar="FILE")
    parser.add_argument("--with", dest="packages", action="append", default=[], metavar="PACKAGE")
    parser.add_argument("--arch", choices=PLATFORMS, default="x86_64")
    parser.add_argument("--python", default="3.11", metavar="3.11")
    return parser


if __name__ == "__main__":
    main()
