"""What every run begins with, and what it says at its end: which real backends it went without."""

import signal
from collections import Counter

PREFIX = "not run:"


def pytest_configure():
    # A shell that starts a run in the background ignores Ctrl-C for it and for all it starts.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_terminal_summary(terminalreporter):
    reasons = Counter(filter(None, map(_reason, terminalreporter.stats.get("skipped", []))))
    if reasons:
        terminalreporter.section("real backends that were not run")
        for reason, tests in sorted(reasons.items()):
            terminalreporter.write_line(f"{reason} [{tests}]")


def _reason(report):
    """Why a test was skipped, where a missing backend is why."""
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
    reason = reason.removeprefix("Skipped: ")
    return reason if reason.startswith(PREFIX) else None
