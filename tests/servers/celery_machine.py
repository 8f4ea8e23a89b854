"""One machine with a Celery worker on it: a session of processes that can lose its power."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

PATIENCE = 60.0  # seconds; for a loaded machine


class Machine:
    """``celery -A app worker`` with ``options``, and the processes it forks."""

    def __init__(self, name, folder, app, *options, env):
        self.name = f"{name}@localhost"
        self.log = folder / f"{name}.log"
        command = [sys.executable, "-m", "celery", "-A", app, "worker", "-n", self.name]
        with self.log.open("wb") as log:
            self.worker = subprocess.Popen(
                [*command, *options, "--without-gossip", "--without-mingle"],
                cwd=folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=env,
            )

    def wait_until_ready(self, patience=PATIENCE):
        def ready():
            return f"{self.name} ready" in self.log.read_text()

        wait_for(ready, "no worker", self.log, patience)

    def cut_power(self):
        """Kill the worker and all its processes at once."""
        with suppress(ProcessLookupError):
            os.killpg(self.worker.pid, signal.SIGKILL)
        self.worker.wait()


def wait_for(reached, otherwise, log=None, patience=PATIENCE):
    end = time.monotonic() + patience
    while not reached():
        told = log.read_text() if log else ""
        assert time.monotonic() < end, f"{otherwise}\n{told}"
        time.sleep(0.05)
