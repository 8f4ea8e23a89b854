"""A Ctrl-C that falls where Python drops exceptions still ends the command."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

PROGRAM = """
import signal, sys, time
from cmzon_secrets.cli.interrupts import interrupt_on, repeat_lost_interrupt

sys.unraisablehook = repeat_lost_interrupt
interrupt_on(signal.SIGTERM, signal.SIGHUP)
number = signal.Signals(int(sys.argv[1]))

class Finalized:
    def __del__(self):
        signal.raise_signal(number)

try:
    Finalized()
    print("lost")
    time.sleep(30)  # as in a call whose answer does not come
    print("never raised")
except KeyboardInterrupt as interrupt:
    print("raised again", *interrupt.args)
"""


@pytest.mark.parametrize(
    ("number", "told"),
    [(signal.SIGINT, ""), (signal.SIGTERM, " 15"), (signal.SIGHUP, " 1")],
)
def test_an_interrupt_lost_in_a_finalizer_is_raised_again_at_once_and_as_what_it_was(number, told):
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(int(number))],
        check=False,
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.stderr) == (f"lost\nraised again{told}\n", "")
    assert time.monotonic() - began < 20
