"""A real command line: a process of its own, on pipes or on a real terminal."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from cmzon_secrets.emulator import Emulator

COMMAND = [sys.executable, "-m", "cmzon_secrets.cli"]
TAKE_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0);"
    "os.execv(sys.argv[1], sys.argv[1:])"
)
PATIENCE = 60.0  # seconds; for a loaded machine
TOKEN = "cmz_" + "Kanarienvogel" * 3
"""A token whose value may appear nowhere but where it is asked for."""


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    code: int
    out: str
    err: str


class Terminal:
    """A command on a terminal of its own: what it shows, what is typed, how it ends."""

    def __init__(self, words: list[str], folder: Path, environment: Mapping[str, str]) -> None:
        self._ours, theirs = os.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-c", TAKE_TERMINAL, *COMMAND, *words],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=folder,
            env=dict(environment),
            start_new_session=True,
        )
        os.close(theirs)
        self.shown = ""

    def expect(self, text: str) -> None:
        """Wait until ``text`` has been shown."""
        end = time.monotonic() + PATIENCE
        while text not in self.shown:
            assert time.monotonic() < end, f"{text!r} was not shown, but: {self.shown!r}"
            if not self._read(1.0):
                assert text in self.shown, f"{text!r} was not shown, but: {self.shown!r}"

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def end(self) -> int:
        """Wait for the command to end; its exit code."""
        end = time.monotonic() + PATIENCE
        while self._read(0.2) and time.monotonic() < end:
            pass
        code = self.process.wait(PATIENCE)
        while self._read(0):
            pass
        return code

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._ours)

    def _read(self, wait: float) -> bool:
        """Take in what is shown; False once the other end is gone."""
        ready, _, _ = select.select([self._ours], [], [], wait)
        if not ready:
            return self.process.poll() is None
        try:
            data = os.read(self._ours, 65536)
        except OSError:  # EIO: nobody holds the terminal any more
            return False
        self.shown += data.decode().replace("\r\n", "\n")
        return bool(data)


class CommandLine:
    """Runs ``cmzon-secrets`` in a folder, with an environment that is known."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        source = str(Path(__file__).parents[2] / "src")
        ours = {k: v for k, v in os.environ.items() if not k.startswith(("CMZON_", "NO_COLOR"))}
        self.environment = {**ours, "PYTHONPATH": source, "TERM": "xterm"}
        self.environment["XDG_STATE_HOME"] = str(folder / ".state")
        self._open: list[Terminal] = []

    def words(self, *words: str) -> list[str]:
        """A whole command line, for those who start it themselves."""
        return [*COMMAND, *words]

    def __call__(self, *words: str, stdin: str | bytes = "", **variables: str) -> Done:
        done = subprocess.run(
            [*COMMAND, *words],
            check=False,
            input=stdin.encode() if isinstance(stdin, str) else stdin,
            capture_output=True,
            cwd=self.folder,
            env={**self.environment, **variables},
            timeout=PATIENCE,
        )
        return Done(done.returncode, done.stdout.decode(), done.stderr.decode())

    def start(
        self,
        *words: str,
        stdin: int = subprocess.DEVNULL,
        nohup: bool = False,
        **variables: str,
    ) -> subprocess.Popen[str]:
        """A command that goes on; the caller ends it."""
        return subprocess.Popen(
            [*(["nohup"] if nohup else []), *COMMAND, *words],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder,
            env={**self.environment, **variables},
        )

    def on_terminal(self, *words: str, **variables: str) -> Terminal:
        terminal = Terminal(list(words), self.folder, {**self.environment, **variables})
        self._open.append(terminal)
        return terminal

    def close(self) -> None:
        for terminal in self._open:
            terminal.close()


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[CommandLine]:
    command_line = CommandLine(tmp_path)
    yield command_line
    command_line.close()


@pytest.fixture
def sealed(cli: CommandLine) -> str:
    """The URI of a sealed file that is not there yet; its key is."""
    assert cli("keygen", "token.key").code == 0
    return "file:token.sealed?key=keyfile:token.key"


@pytest.fixture
def put(cli: CommandLine, sealed: str) -> Callable[..., str]:
    """Stores a token and returns where."""

    def put(token: str = TOKEN, *options: str) -> str:
        done = cli("put", sealed, *options, stdin=f"{token}\n")
        assert done.code == 0, done.err
        return sealed

    return put


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    with Emulator(strict=True) as emulator:
        yield emulator


@pytest.fixture
def api(cli: CommandLine, emulator: Emulator) -> Emulator:
    """The emulator, known to the command line as the API, with its admin token."""
    cli.environment |= {
        "CMZON_BASE_URL": emulator.base_url,
        "CMZON_ADMIN_URI": "env:ADMIN_TOKEN",
        "ADMIN_TOKEN": emulator.admin_token,
    }
    return emulator


@pytest.fixture
def interrupt() -> Callable[[subprocess.Popen[str]], Done]:
    """Ctrl-C for a command on pipes; how it ended."""

    def interrupt(process: subprocess.Popen[str]) -> Done:
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE)
        return Done(process.returncode, out, err)

    return interrupt
