"""From a host's name to the addresses that are tried, and how long each may take."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from copy import copy
from typing import Any

__all__ = ["LookUp", "found", "look_up", "numeric", "shares"]

LookUp = Future[list[Any] | BaseException]
"""A name's addresses, or the error instead of them."""

LEAST_SHARE = 1.0
"""Seconds that an address gets at least, where so many are left: more than a round trip takes."""


def numeric(host: str, port: int) -> list[Any]:
    """What ``getaddrinfo`` says of an address, without asking anybody; nothing for a name."""
    try:
        flags = socket.AI_NUMERICHOST
        return list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags))
    except socket.gaierror:
        return []


def look_up(host: str, port: int) -> LookUp:
    """Look a name up in a thread of its own: a resolver knows no timeout.

    Who asks while it is looked up shares what is found. So a resolver that is silent takes one
    thread for each name, however many ask and give up. Its outcome: see ``found``.
    """
    with _STARTING:
        under_way = _UNDER_WAY.get((host, port))
        if under_way is None:
            under_way = Future()
            under_way.set_running_or_notify_cancel()  # from now on it can only be left alone
            ask = threading.Thread(target=_ask, args=(host, port, under_way), daemon=True)
            ask.start()
            _UNDER_WAY[host, port] = under_way
        return under_way


def found(outcome: list[Any] | BaseException) -> list[Any]:
    """The addresses. Raises the resolver's error: each who shared it gets one of his own, for a
    traceback holds what he was sending."""
    if isinstance(outcome, BaseException):
        raise copy(outcome)
    return outcome


def _ask(host: str, port: int, told: LookUp) -> None:
    outcome: list[Any] | BaseException
    try:
        outcome = list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    except BaseException as error:  # noqa: BLE001  # it is raised where it is waited for
        outcome = error
    with _STARTING:
        del _UNDER_WAY[host, port]  # who comes later asks anew
    told.set_result(outcome)


_STARTING = threading.Lock()
_UNDER_WAY: dict[tuple[str, int], LookUp] = {}


def _after_fork() -> None:
    """A child has none of our threads."""
    global _STARTING  # noqa: PLW0603
    _STARTING = threading.Lock()
    _UNDER_WAY.clear()


os.register_at_fork(after_in_child=_after_fork)


def shares(addresses: list[Any], ends: float) -> Iterator[tuple[Any, float]]:
    """Each address with the seconds it may take, so that a dead one leaves time for the next.

    ``ends``: when all must be over, in seconds of ``time.monotonic``.
    """
    for number, address in enumerate(addresses):
        left = ends - time.monotonic()
        if left <= 0:
            return
        yield address, min(left, max(left / (len(addresses) - number), LEAST_SHARE))
