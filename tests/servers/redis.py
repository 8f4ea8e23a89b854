"""A real Redis, in memory only, on a free port, with a password that must not show anywhere."""

import secrets
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from servers.child_process import free_port

PATIENCE = 30.0  # seconds


class Redis:
    """``url(n)`` is that of database n; each test module takes one of its own."""

    def __init__(self, folder: Path, *settings: str):
        self.port = free_port()
        self.password = secrets.token_urlsafe(24)
        self.socket = folder / "redis.sock"
        self._folder = folder
        (folder / "redis.conf").write_text(
            f'bind 127.0.0.1\nport {self.port}\nunixsocket {self.socket}\nsave ""\n'
            f"requirepass {self.password}\n" + "\n".join(settings)
        )

    def url(self, database=0):
        return f"redis://:{self.password}@127.0.0.1:{self.port}/{database}"

    def start(self):
        program = shutil.which("redis-server")
        if program is None:
            pytest.skip("not run: redis (no redis-server)")
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [program, "redis.conf"], cwd=self._folder, stdout=log, stderr=log
            )
        self._wait()

    def kill(self):
        """As ``kill -9``, or a power cut: it remembers nothing."""
        self._process.kill()
        self._process.wait()

    def hang(self):
        """It takes connections and questions, and answers none until it may ``go_on``."""
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self):
        self._process.send_signal(signal.SIGCONT)

    def _wait(self):
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end and self._process.poll() is None:
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
                    connection.sendall(f"AUTH {self.password}\r\nPING\r\n".encode())
                    if connection.recv(64).startswith(b"+OK"):
                        return
            except OSError:
                pass
            time.sleep(0.05)
        pytest.fail(f"redis-server did not start:\n{(self._folder / 'log').read_text()}")


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory):
    """One server for the whole run."""
    yield from _running(Redis(tmp_path_factory.mktemp("redis")))


@pytest.fixture
def own_redis(tmp_path):
    """A server of the test's own, to be killed, started again, or made to hang."""
    yield from _running(Redis(tmp_path))


def _running(server):
    server.start()
    try:
        yield server
    finally:
        server.kill()
