"""A fleet on sealed files and the emulator: how fast, how much memory, and whether both stay in proportion.

Whole processes, `cmzon-secrets rotate --all`, as a schedule starts them: one in which every account
gets its first token, one with nothing due, one in which every token is replaced. The emulator is a
process of its own on the same machine, and takes about as much of it as the fleet.

    python benchmarks/fleet.py [ACCOUNTS…]      default: 1000 10000
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

MOST_MEMORY = 300.0  # MiB
MOST_SKEW = 0.15
"""How much slower each account may be in the largest fleet than in the smallest."""

COMMAND = [sys.executable, "-m", "cmzon_secrets.cli"]
RUNS = {"first tokens": [], "nothing due": [], "all replaced": ["--force"]}


class Figures(NamedTuple):
    """One run: accounts a second, processor time for each (ms), and the largest memory it ever had (MiB)."""

    rate: float
    effort: float
    memory: float


@contextmanager
def emulator(folder: Path) -> Iterator[dict[str, str]]:
    """The environment in which commands find it."""
    process = subprocess.Popen(
        [*COMMAND, "emulator", "--port", "0", "--json", "--state", str(folder / "api")],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        ready = json.loads(process.stdout.readline())  # type: ignore[union-attr]  # it is a pipe
        token = Path(ready["admin_token_file"]).read_text().strip()
        yield {**os.environ, "CMZON_BASE_URL": ready["base_url"], "ADMIN_TOKEN": token}
    finally:
        process.terminate()
        process.wait()


def prepare(folder: Path, accounts: int) -> None:
    """The key, and the configuration file of so many accounts."""
    subprocess.run([*COMMAND, "keygen", "token.key"], cwd=folder, check=True, capture_output=True)
    (folder / "tokens").mkdir()
    tables = (
        f'[accounts.acme-{n:05}]\ntoken = "file:tokens/acme-{n:05}.sealed?key=keyfile:token.key"\n'
        for n in range(accounts)
    )
    (folder / "cmzon-secrets.toml").write_text('admin = "env:ADMIN_TOKEN"\n' + "".join(tables))


def rotate(folder: Path, environment: dict[str, str], accounts: int, words: list[str]) -> Figures:
    """One process, watched by the operating system."""
    began = time.perf_counter()
    process = subprocess.Popen(
        [*COMMAND, "rotate", "--all", *words],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        told = process.stdout.read()  # type: ignore[union-attr]  # it is a pipe
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    took = time.perf_counter() - began
    if process.returncode != 0 or not told.startswith(f"{accounts:,} done"):
        raise SystemExit(f"the run failed: {told[-500:]}")
    effort = (usage.ru_utime + usage.ru_stime) * 1000 / accounts
    return Figures(accounts / took, effort, _mebibytes(usage.ru_maxrss))


def _mebibytes(rss: int) -> float:
    return rss / (2**20 if sys.platform == "darwin" else 2**10)


def measure(accounts: int) -> dict[str, Figures]:
    """The three runs over one fleet, and a look at it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder, accounts)
        with emulator(folder) as environment:
            return {run: rotate(folder, environment, accounts, w) for run, w in RUNS.items()}


def main(sizes: list[int]) -> None:
    """Print the figures, and hold them to the bounds."""
    measured = {accounts: measure(accounts) for accounts in sizes}
    for accounts, runs in measured.items():
        for run, figures in runs.items():
            print(
                f"{accounts:>6,} accounts, {run:<12}  {figures.rate:7.1f} a second"
                f"  {accounts / figures.rate:7.1f} s  {figures.effort:5.1f} ms of processor time each"
                f"  {figures.memory:5.1f} MiB"
            )
    least, most = min(sizes), max(sizes)
    for run in RUNS:
        few, many = measured[least][run], measured[most][run]
        # Judged by processor time: other work on the machine disturbs that least.
        skew = many.effort / few.effort - 1
        within = "within" if skew <= MOST_SKEW else "BEYOND"
        print(
            f"{run:<12}  among {most:,} an account costs {skew:+.0%} of processor time"
            f" ({within} {MOST_SKEW:.0%}) and {few.rate / many.rate - 1:+.0%} of time"
            f" against {least:,}"
        )
    memory = max(f.memory for runs in measured.values() for f in runs.values())
    within = "within" if memory <= MOST_MEMORY else "BEYOND"
    print(f"memory at most {memory:.0f} MiB ({within} {MOST_MEMORY:.0f} MiB)")


if __name__ == "__main__":
    main([int(word) for word in sys.argv[1:]] or [1000, 10000])
