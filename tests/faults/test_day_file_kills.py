"""``kill -9`` among processes that share the day's count: nothing that was sent is forgotten."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from datetime import UTC, datetime

import pytest

from cmzon_secrets.client.day_file import LARGEST_BLOCK

PER_DAY = 1500
TOMORROW_IS_FAR = datetime.now(UTC).hour * 60 + datetime.now(UTC).minute < 23 * 60 + 55

SENDERS = """
import os, random, signal, sys, time
from cmzon_secrets.client import RateLimits
from cmzon_secrets.client.effects import Sleep
from cmzon_secrets.clock import SYSTEM_CLOCK
from cmzon_secrets.errors import DailyLimitReached
import cmzon_secrets.client.day_file

state, log, per_day, processes, kills = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])

def send():
    '''One line in the log for each message, written when it may leave.'''
    log_file = os.open(log, os.O_WRONLY | os.O_APPEND)
    limits = RateLimits(None, per_day, state=state)
    while True:
        now, outcome = time.monotonic(), None
        steps = limits.slot(SYSTEM_CLOCK, ends=now + 30, since=now)
        try:
            while True:
                outcome = steps.send(outcome).function()
        except StopIteration:
            os.write(log_file, b"sent\\n")
        except DailyLimitReached:
            break
        if kills:
            time.sleep(random.uniform(0, 0.002))

def start():
    child = os.fork()
    if child == 0:
        try:
            send()
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", flush=True)
            os._exit(1)
        sys.exit()  # where what was not used is given back
    return child

children = [start() for _ in range(processes)]
for _ in range(kills):
    time.sleep(random.uniform(0, 0.06))
    victim = random.choice(children)
    os.kill(victim, signal.SIGKILL)
    os.waitpid(victim, 0)
    children[children.index(victim)] = start()
codes = {os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children}
print(codes)
"""


def run(folder, *, processes, kills):
    """What the senders printed, what was sent, and what the file says."""
    if not TOMORROW_IS_FAR:
        pytest.skip("not run: a count of one day (this one is about to end)")
    state, log = folder / "limits.db", folder / "log"
    log.touch()
    done = subprocess.run(
        [sys.executable, "-c", SENDERS, state, log, *map(str, (PER_DAY, processes, kills))],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    with closing(sqlite3.connect(state)) as connection:
        (counted,) = connection.execute("SELECT sent FROM day").fetchone()
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    return done.stdout, len(log.read_bytes().splitlines()), counted


def test_processes_that_share_a_file_send_exactly_the_days_messages(tmp_path):
    said, sent, counted = run(tmp_path, processes=6, kills=0)
    assert said == "{0}\n"
    assert (sent, counted) == (PER_DAY, PER_DAY)


@pytest.mark.slow
def test_a_kill_loses_at_most_a_block_and_forgets_no_message(tmp_path):
    kills = 25
    said, sent, counted = run(tmp_path, processes=4, kills=kills)
    assert said == "{0}\n"
    assert counted == PER_DAY
    assert PER_DAY - kills * LARGEST_BLOCK <= sent <= PER_DAY


def test_a_process_that_is_killed_right_after_a_message_has_counted_it(tmp_path):
    state = tmp_path / "limits.db"
    script = SENDERS.partition("children =")[0] + "send()"
    for started in range(3):
        log = tmp_path / f"log{started}"
        log.touch()
        sender = subprocess.Popen([sys.executable, "-c", script, state, log, "10000", "1", "1"])
        while log.stat().st_size < 100:
            time.sleep(random.uniform(0, 0.01))
        os.kill(sender.pid, signal.SIGKILL)
        sender.wait()
    sent = sum(len((tmp_path / f"log{n}").read_bytes().splitlines()) for n in range(3))
    with closing(sqlite3.connect(state)) as connection:
        (counted,) = connection.execute("SELECT sent FROM day").fetchone()
    assert sent <= counted <= sent + 3 * LARGEST_BLOCK
