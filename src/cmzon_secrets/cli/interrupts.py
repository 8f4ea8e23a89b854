"""Signals that end a command in good order, and the Ctrl-C that Python would lose."""

from __future__ import annotations

import _thread
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from types import FrameType
from typing import Any, NoReturn

__all__ = ["BY_SIGNAL", "interrupt_on", "leave_threads_behind", "repeat_lost_interrupt"]

BY_SIGNAL = 128
"""Plus the signal's number, as in POSIX shells: 130 is Ctrl-C."""
SHORTLY = 0.02  # seconds; by then the callback that swallowed the first one has returned


def interrupt_on(*signals: signal.Signals) -> None:
    """Let these end the command as Ctrl-C does. Those ignored, as nohup does, stay so."""
    for number in signals:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001  # signal's own signature
    signal.signal(number, signal.SIG_IGN)  # a second one must not break off the tidying up
    raise KeyboardInterrupt(number)


def repeat_lost_interrupt(lost: Any) -> None:
    """An ``unraisablehook``: an interrupt that fell into a finalizer is raised again, outside.

    Python drops what is raised in a finalizer or a weak reference's callback, Ctrl-C included.
    Other exceptions there are of no use to whoever typed a command: told only while debugging.
    """
    if issubclass(lost.exc_type, KeyboardInterrupt):
        number = signal.Signals(next(iter(lost.exc_value.args), signal.SIGINT))
        if signal.getsignal(number) is signal.SIG_IGN:  # `_interrupt` took it for done
            signal.signal(number, _interrupt)
        _thread.start_new_thread(_interrupt_shortly, (number,))
    elif os.environ.get("CMZON_SECRETS_DEBUG"):
        sys.__unraisablehook__(lost)


def _interrupt_shortly(number: signal.Signals) -> None:
    time.sleep(SHORTLY)
    # A signal of the system's, unlike `interrupt_main`, also wakes who waits for an answer.
    signal.pthread_kill(threading.main_thread().ident or 0, number)


def leave_threads_behind(code: int) -> None:
    """After an interruption, end the process with ``code`` where other threads are in the midst of a call.

    Python's own way out tears down what they use, and sometimes crashes over it.
    """
    if code > BY_SIGNAL and threading.active_count() > 1:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError):
                stream.flush()
        os._exit(code)
