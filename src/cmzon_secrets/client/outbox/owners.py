"""Who holds a message: one run of one process, named so that others can see whether it still lives.

A wrong guess costs nothing but time: no message leaves without its owner's lease, and one given up
as unknown takes its owner's word when it comes after all.
"""

from __future__ import annotations

import os
import secrets
import socket
from contextlib import suppress

__all__ = ["is_gone", "new_owner"]


def new_owner() -> str:
    """A name for a run of this process."""
    return f"{_place()}/{os.getpid()}/{secrets.token_hex(8)}"


def is_gone(owner: str) -> bool:
    """Whether its process has ended for certain. False where that cannot be seen from here."""
    place, pid, _ = owner.rsplit("/", 2)
    if place != _place():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except OSError:  # another user's
        return False
    return False


def _place() -> str:
    """Where process ids mean the same: a container has its own."""
    with suppress(OSError):
        return os.readlink("/proc/self/ns/pid")  # noqa: PTH115  # no path comes of it
    return socket.gethostname()
