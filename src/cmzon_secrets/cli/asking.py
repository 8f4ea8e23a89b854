"""Questions before something that cannot be taken back."""

from __future__ import annotations

import sys

from cmzon_secrets.cli.failures import UsageFailure

__all__ = ["agreed"]


def agreed(question: str) -> None:
    """Ask a person, who must say yes. Raises UsageFailure where nobody sits or they decline."""
    if not sys.stdin.isatty():
        raise UsageFailure("there is no terminal to ask for confirmation", hint="give --yes")
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise UsageFailure("not confirmed, nothing was changed", hint="answer y, or give --yes")
