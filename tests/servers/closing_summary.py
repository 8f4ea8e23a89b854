"""What every run says at its end: what it went without."""

from collections import Counter

PREFIX = "not run:"


def pytest_terminal_summary(terminalreporter):
    reasons = Counter(filter(None, map(_reason, terminalreporter.stats.get("skipped", []))))
    if reasons:
        terminalreporter.section("what was not run")
        for reason, tests in sorted(reasons.items()):
            terminalreporter.write_line(f"{reason} [{tests}]")


def _reason(report):
    """Why a test was skipped, where a missing backend is why."""
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
    reason = reason.removeprefix("Skipped: ")
    return reason if reason.startswith(PREFIX) else None
