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


def checkov(home: Path = CHECKOV) -> bool:
    """Whether checkov finds nothing; a waiver is written beside what it is for, with its reason."""
    if not _installed(home):
        return _not_run(f"checkov (pip could not install version {CHECKOV_VERSION})")
    done = _run(
        *(str(home / "bin" / "checkov"), "--quiet", "--compact", "--skip-download"),
        *("--framework", *FRAMEWORKS),
        *(word for folder in FOLDERS for word in ("--directory", folder)),
        LOG_LEVEL="ERROR",
        stdout=subprocess.PIPE,
    )
    print(done.stdout, end="")
    unread = "Parsing errors:" in done.stdout
    if unread:  # which checkov takes for a file without findings
        print(
            "error: checkov — could not read a file; by itself, with `--output json`, it says which"
        )
    return not done.returncode and not unread


def _installed(home: Path) -> bool:
    """Whether our version is there, after an attempt to have it."""
    stamp = home / CHECKOV_VERSION
    if stamp.exists():
        return True
    venv.create(home, clear=True)
    done = _run(
        *(sys.executable, "-m", "pip", "--python", str(home / "bin" / "python")),
        *("install", "--quiet", "--retries=1"),
        *("--disable-pip-version-check", f"checkov=={CHECKOV_VERSION}"),
        PIP_ROOT_USER_ACTION="ignore",
    )
    if done.returncode == 0:
        stamp.touch()
    return stamp.exists()


def _not_run(what: str) -> bool:
    print(f"not run: {what}")
    return True


def _run(
    *command: str, stdout: int | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    sys.stdout.flush()  # what is run writes to the same place
    settings = {**os.environ, **environment}
    return subprocess.run(command, cwd=ROOT, check=False, env=settings, stdout=stdout, text=True)


if __name__ == "__main__":
    main()
