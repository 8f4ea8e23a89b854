"""A Ctrl-C that Python would lose."""

from __future__ import annotations

import _thread
import os
import sys
import time
from typing import Any

__all__ = ["repeat_lost_interrupt"]

SHORTLY = 0.02  # seconds; by then the callback that swallowed the first one has returned


def repeat_lost_interrupt(lost: Any) -> None:
    """An ``unraisablehook``: an interrupt that fell into a finalizer is raised again, outside.

    Python drops what is raised in a finalizer or a weak reference's callback, Ctrl-C included.
    Other exceptions there are of no use to whoever typed a command: told only while debugging.
    """
    if issubclass(lost.exc_type, KeyboardInterrupt):
        _thread.start_new_thread(_interrupt_shortly, ())
    elif os.environ.get("CMZON_SECRETS_DEBUG"):
        sys.__unraisablehook__(lost)


def _interrupt_shortly() -> None:
    time.sleep(SHORTLY)
    _thread.interrupt_main()
