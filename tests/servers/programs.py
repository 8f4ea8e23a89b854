"""Programs that a test's shell finds: ours, as where the package is installed, and stand-ins."""

import shlex
import sys

OURS = f'exec {shlex.quote(sys.executable)} -m cmzon_secrets.cli "$@"'


def programs(folder, **lines):
    """``folder`` with ``cmzon-secrets`` in it, and a program of each other name that does its line of ``sh``."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, line in {"cmzon-secrets": OURS, **lines}.items():
        (folder / name).write_text(f"#!/bin/sh\n{line}\n")
        (folder / name).chmod(0o755)
    return folder
