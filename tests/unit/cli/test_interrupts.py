"""A Ctrl-C that falls where Python drops exceptions still ends the command."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import signal, sys, time
from cmzon_secrets.cli.interrupts import repeat_lost_interrupt

sys.unraisablehook = repeat_lost_interrupt

class Finalized:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)

try:
    Finalized()
    print("lost")
    time.sleep(20)
    print("never raised")
except KeyboardInterrupt:
    print("raised again")
"""


def test_an_interrupt_lost_in_a_finalizer_is_raised_again():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], check=False, capture_output=True, text=True
    )
    assert (done.stdout.split("\n")[:2], done.stderr) == (["lost", "raised again"], "")
