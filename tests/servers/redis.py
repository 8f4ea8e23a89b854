"""A real Redis, in memory only, on a free port, with a password that must not show anywhere."""

import secrets
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass

import pytest

from servers.child_process import free_port

PATIENCE = 30.0  # seconds


@dataclass(frozen=True)
class Redis:
    """``url(n)`` is that of database n; each test module takes one of its own."""

    port: int
    password: str

    def url(self, database=0):
        return f"redis://:{self.password}@127.0.0.1:{self.port}/{database}"


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory):
    """One server for the whole run."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("not run: redis (no redis-server)")
    server = Redis(free_port(), secrets.token_urlsafe(24))
    folder = tmp_path_factory.mktemp("redis")
    settings = f'bind 127.0.0.1\nport {server.port}\nsave ""\nrequirepass {server.password}\n'
    (folder / "redis.conf").write_text(settings)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, "redis.conf"], cwd=folder, stdout=log, stderr=log)
        try:
            _wait(process, server, folder / "log")
            yield server
        finally:
            process.kill()
            process.wait()


def _wait(process, server, log):
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and process.poll() is None:
        try:
            with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
                connection.sendall(f"AUTH {server.password}\r\nPING\r\n".encode())
                if connection.recv(64).startswith(b"+OK"):
                    return
        except OSError:
            pass
        time.sleep(0.05)
    pytest.fail(f"redis-server did not start:\n{log.read_text()}")
