"""Plays the transcripts: what is typed, what is shown, and the exit code, line by line.

``$`` begins a command (run by sh), a bare line is standard output, ``!`` standard error, ``?`` an
exit code other than 0; ``…`` stands for anything within a line, ``#`` is a remark. Each transcript
has a folder of its own. ``$URI`` is a sealed file there, and ``$CMZON_BASE_URL`` an emulator.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from servers.programs import programs

TRANSCRIPTS = Path(__file__).parent / "transcripts"


@dataclass
class Step:
    command: str
    out: list[str] = field(default_factory=list)
    err: list[str] = field(default_factory=list)
    code: int = 0


def steps(text: str) -> list[Step]:
    found: list[Step] = []
    for line in text.splitlines():
        if line.startswith("$ "):
            found.append(Step(line[2:]))
        elif line.startswith("! "):
            found[-1].err.append(line[2:])
        elif line.startswith("? "):
            found[-1].code = int(line[2:])
        elif line and not line.startswith("#"):
            found[-1].out.append(line)
    return found


def matches(written: list[str], shown: str) -> bool:
    lines = [line for line in shown.splitlines() if line]
    patterns = [re.escape(line).replace("…", ".*") for line in written]
    return len(lines) == len(patterns) and all(map(re.fullmatch, patterns, lines))


@pytest.mark.parametrize("path", sorted(TRANSCRIPTS.glob("*.txt")), ids=lambda path: path.stem)
def test_what_is_typed_shows_what_is_written(path, cli, api, tmp_path):
    environment = {
        **cli.environment,
        "PATH": f"{programs(tmp_path / '.bin')}:{cli.environment['PATH']}",
        "URI": "file:token.sealed?key=keyfile:token.key",
    }
    played = steps(path.read_text())
    assert played
    for step in played:
        done = subprocess.run(
            ["sh", "-c", step.command],
            check=False,
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=environment,
            stdin=subprocess.DEVNULL,
            timeout=60,
        )
        seen = f"$ {step.command}\n{done.stdout}! {done.stderr}? {done.returncode}"
        assert matches(step.out, done.stdout), seen
        assert matches(step.err, done.stderr), seen
        assert done.returncode == step.code, seen
