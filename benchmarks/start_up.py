"""What starting costs: ``import cmzon_secrets`` and ``cmzon-secrets --help``.

Programs are started in turn, so that whatever else the machine does falls on all of them alike;
the figures are medians.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from statistics import median

ROUNDS = 21
IMPORT_LIMIT = 1.5
"""Times the cost of importing dataclasses and datetime."""
HELP_LIMIT = 150.0
"""Milliseconds."""

BARE = [sys.executable, "-c", "import dataclasses, datetime"]
OURS = [sys.executable, "-c", "import cmzon_secrets"]
COMMAND = Path(sys.executable).with_name("cmzon-secrets")


def milliseconds(command: list[str]) -> float:
    begun = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return (time.perf_counter() - begun) * 1000


def medians(commands: list[list[str]]) -> list[float]:
    for command in commands:
        milliseconds(command)  # the first run writes the byte code
    rounds = [[milliseconds(command) for command in commands] for _ in range(ROUNDS)]
    return [median(column) for column in zip(*rounds, strict=True)]


def main() -> None:
    commands = [BARE, OURS]
    if COMMAND.exists():
        commands.append([str(COMMAND), "--help"])
    bare, ours, *helped = medians(commands)
    ratio = ours / bare
    print(f"import dataclasses, datetime   {bare:7.1f} ms")
    print(
        f"import cmzon_secrets           {ours:7.1f} ms   {ratio:.2f} times, at most {IMPORT_LIMIT}"
    )
    for cost in helped:
        print(f"cmzon-secrets --help           {cost:7.1f} ms   at most {HELP_LIMIT:.0f}")
    if not helped:
        print("cmzon-secrets --help           not run: the command is not installed beside Python")
    if ratio > IMPORT_LIMIT or any(cost > HELP_LIMIT for cost in helped):
        raise SystemExit("start-up: a figure is out of bounds")


if __name__ == "__main__":
    main()
