"""From a host's name to the addresses that are tried, and how long each may take."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from typing import Any

__all__ = ["numeric", "shares"]

LEAST_SHARE = 1.0
"""Seconds that an address gets at least, where so many are left: more than a round trip takes."""


def numeric(host: str, port: int) -> list[Any]:
    """What ``getaddrinfo`` says of an address, without asking anybody; nothing for a name."""
    try:
        flags = socket.AI_NUMERICHOST
        return list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags))
    except socket.gaierror:
        return []


def shares(addresses: list[Any], ends: float) -> Iterator[tuple[Any, float]]:
    """Each address with the seconds it may take, so that a dead one leaves time for the next.

    ``ends``: when all must be over, in seconds of ``time.monotonic``.
    """
    for number, address in enumerate(addresses):
        left = ends - time.monotonic()
        if left <= 0:
            return
        yield address, min(left, max(left / (len(addresses) - number), LEAST_SHARE))
