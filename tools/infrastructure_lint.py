"""Lints what others deploy: Terraform's own format, and checkov's rules for it and for the examples.

    python tools/infrastructure_lint.py

What cannot be had here is said on a line, ``not run: …``, and fails nothing. checkov lives in a virtual
environment of its own, made when needed: it pins versions that our own packages could not have.
It reads files only; no rule, and nothing about the files, comes or goes over the network.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = [name for name in ("terraform", "examples") if (ROOT / name).is_dir()]

CHECKOV_VERSION = "3.3.30"
CHECKOV = ROOT / ".venv-checkov"
FRAMEWORKS = ("terraform", "kubernetes", "cloudformation", "dockerfile")


def main() -> None:
    """Both, also where the first finds something."""
    sys.exit(not all([terraform_format(), checkov()]))


def terraform_format() -> bool:
    """Whether each file is as ``terraform fmt`` writes it."""
    if not shutil.which("terraform"):
        return _not_run("terraform fmt (terraform is not installed)")
    done = _run("terraform", "fmt", "-check", "-recursive", *FOLDERS)
    if done.returncode:
        print("error: terraform fmt — would write the files above anew; run `make format`")
    return not done.returncode


def checkov() -> bool:
    """Whether checkov finds nothing; a waiver is written beside what it is for, with its reason."""
    if not _installed():
        return _not_run(f"checkov (pip could not install version {CHECKOV_VERSION})")
    done = _run(
        *(str(CHECKOV / "bin" / "checkov"), "--quiet", "--compact", "--skip-download"),
        *("--framework", *FRAMEWORKS),
        *(word for folder in FOLDERS for word in ("--directory", folder)),
        LOG_LEVEL="ERROR",
    )
    return not done.returncode


def _installed() -> bool:
    """Whether our version is there, after an attempt to have it."""
    stamp = CHECKOV / CHECKOV_VERSION
    if stamp.exists():
        return True
    venv.create(CHECKOV, clear=True, with_pip=True)
    done = _run(
        *(str(CHECKOV / "bin" / "python"), "-m", "pip", "install", "--quiet", "--retries=1"),
        *("--disable-pip-version-check", f"checkov=={CHECKOV_VERSION}"),
        PIP_ROOT_USER_ACTION="ignore",
    )
    if done.returncode == 0:
        stamp.touch()
    return stamp.exists()


def _not_run(what: str) -> bool:
    print(f"not run: {what}")
    return True


def _run(*command: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    sys.stdout.flush()  # what is run writes to the same place
    return subprocess.run(command, cwd=ROOT, check=False, env={**os.environ, **environment})


if __name__ == "__main__":
    main()
