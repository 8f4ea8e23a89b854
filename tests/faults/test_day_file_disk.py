"""A disk that is full, read-only or closed to us: a clear error, and nothing is sent."""

import os
import shutil
import subprocess
import sys
import tempfile

import pytest

from cmzon_secrets.client import RateLimits
from cmzon_secrets.clock import SYSTEM_CLOCK
from cmzon_secrets.errors import ProviderUnavailable
from servers.small_disk import fill, small_disk
from unit.client.virtual_time import perform

SCRIPT = """
import os, resource, sys, time
from cmzon_secrets.client import RateLimits
from cmzon_secrets.clock import SYSTEM_CLOCK
from cmzon_secrets.errors import CMzonSecretsError
import cmzon_secrets.client.day_file

exec(sys.argv[2])
try:
    limits = RateLimits(state=sys.argv[1])
    now = time.monotonic()
    steps, outcome = limits.slot(SYSTEM_CLOCK, ends=now + 10, since=now), None
    while True:
        outcome = steps.send(outcome).function()
except StopIteration:
    print("it was sent")
except CMzonSecretsError as error:
    print(type(error).__name__, error.message.partition(" — ")[2], "|", error.hint)
"""


def send(state, setup=""):
    """In another process; what it said."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, state, setup],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def disk(tmp_path):
    with small_disk(tmp_path / "small", "256k") as folder:
        yield folder


def take(limits, messages=1):
    for _ in range(messages):
        now = SYSTEM_CLOCK.monotonic()
        perform(limits.slot(SYSTEM_CLOCK, ends=now + 10, since=now))


def counted(state):
    with RateLimits(state=state) as limits:
        take(limits)
        return limits.usage(SYSTEM_CLOCK.now()).sent_today - 1


def test_a_full_disk(disk):
    state = disk / "limits.db"
    assert send(state) == "it was sent"
    fill(disk / "ballast")
    said = send(state)
    assert said.startswith("ProviderUnavailable")
    assert "disk" in said
    (disk / "ballast").unlink()
    assert counted(state) == 1


def test_a_disk_that_fills_up_while_messages_are_sent(disk):
    state = disk / "limits.db"
    with RateLimits(None, state=state) as limits:
        take(limits)
        fill(disk / "ballast")
        with pytest.raises(ProviderUnavailable, match="disk"):
            take(limits, 1000)
        sent = limits.usage(SYSTEM_CLOCK.now()).sent_today
        assert sent > 1
        (disk / "ballast").unlink()
    assert counted(state) == sent


def test_a_disk_mounted_read_only(disk):
    state = disk / "limits.db"
    send(state)
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    assert send(state).startswith("AccessDenied it cannot be opened | check the owner and mode")
    assert send(disk / "new.db").startswith("AccessDenied read-only file system")


def test_a_file_size_limit(tmp_path):
    limit = "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))"
    assert send(tmp_path / "limits.db", limit).startswith("ProviderUnavailable")


def test_a_folder_or_file_without_the_right_to_write():
    folder = tempfile.mkdtemp()
    state = os.path.join(folder, "limits.db")
    setup = ""
    try:
        send(state)
        if os.geteuid() == 0:  # root may write anywhere: become somebody else
            os.chown(folder, 65534, 65534)
            setup = "os.setgroups([]); os.setgid(65534); os.setuid(65534)"
            said = send(state, setup)
            assert said.startswith("AccessDenied it cannot be opened | check the owner and mode")
            os.chown(state, 65534, 65534)
        os.chmod(folder, 0o500)
        said = send(state, setup)
        assert said.startswith("AccessDenied it cannot be written | check the owner and mode")
        assert send(folder + "/new.db", setup).startswith("AccessDenied permission denied")
        assert os.listdir(folder) == ["limits.db"]
    finally:
        os.chmod(folder, 0o700)
        shutil.rmtree(folder)
