"""The command line ``cmzon-secrets``: parse, call, print.

One module per command; ``app.py`` holds the table of them, so that ``--help`` imports none.
Data goes to standard output, everything else to standard error.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line (default: this process's) and return its exit code; never raises.

    0 done or waiting, 1 failed, 2 usage, 3 needs attention, 130 interrupted.
    """
    try:
        import sys

        from cmzon_secrets.cli.app import run
        from cmzon_secrets.cli.interrupts import leave_threads_behind

        code = run(sys.argv[1:] if argv is None else list(argv))
        if argv is None:
            leave_threads_behind(code)
    except KeyboardInterrupt:
        return 130
    return code
