"""A server of somebody else's as a child process, on a free port of this machine."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def script(name):
    """The command that a package of the development extra installs; skips where it is missing."""
    path = Path(sys.executable).with_name(name)
    if not path.exists():
        pytest.skip(f"not run: {name} (not installed)")
    return str(path)


@contextmanager
def running(command, *, port, folder, healthy, **environment):
    """Run it until the block ends, from when ``healthy`` (a path) answers; its URL.

    It sees nothing of our environment but PATH, and its home and files are in ``folder``.
    """
    url = f"http://127.0.0.1:{port}"
    home = {"PATH": os.environ["PATH"], "HOME": str(folder), "TMPDIR": str(folder)}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, cwd=folder, env={**home, **environment}
        )
        try:
            _wait(process, url + healthy, folder / "log")
            yield url
        finally:
            process.kill()
            process.wait()


def _wait(process, url, log, patience=60):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for _ in range(patience * 10):
        try:
            with opener.open(url, timeout=5):
                return
        except OSError:
            time.sleep(0.1)
        if process.poll() is not None:
            break
    pytest.fail(f"the server did not start:\n{log.read_text()}")
