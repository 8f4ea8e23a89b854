"""What a call of the API needs from the outside, as records: the code that decides does no I/O.

It is written once, as generators that yield an effect and receive what came of it. A driver of a
page, blocking (``sync_client``) or not (``async_client``), performs the effects:

=============  ==================================================  =============================
yielded        the driver                                          sends back
=============  ==================================================  =============================
``NeedToken``  asks the token cache                                the Token
``Request``    sends it, once                                      the Answer
``Sleep``      waits so long                                       None
``Park``       waits for a turn, at most so long                   None
``Work``       calls a function that may wait for a disk, a        what it returned
               server or a lock
=============  ==================================================  =============================

What any of it raises is thrown in where it was asked for: errors, Ctrl-C and cancellation alike.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from cmzon_secrets.tokens import Token

__all__ = [
    "MESSAGES",
    "Effect",
    "NeedToken",
    "Park",
    "Request",
    "Sleep",
    "Steps",
    "Wakeable",
    "Work",
]

MESSAGES = "/v1/messages"


@dataclass(frozen=True, slots=True)
class NeedToken:
    """Ask the cache for the token."""


@dataclass(frozen=True, slots=True)
class Request:
    """What to send. Filled in anew for every attempt: ``token``, ``within`` (the seconds it may take),
    ``attempt``, which counts from 1, and ``leaving``, called when it leaves on an open connection."""

    method: str
    path: str
    json: object = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    token: Token | None = None
    within: float = 60.0
    attempt: int = 1
    leaving: Callable[[], None] | None = field(default=None, repr=False, compare=False)

    @property
    def is_message(self) -> bool:
        """Whether the vendor's limits, which are limits on messages, apply."""
        return self.method.upper() == "POST" and self.place.rstrip("/") == MESSAGES

    @property
    def place(self) -> str:
        """The path without its query, which may hold a number: for errors and spans."""
        return self.path.partition("?")[0]


@dataclass(frozen=True, slots=True)
class Sleep:
    """Wait for so many seconds."""

    seconds: float


class Wakeable(Protocol):
    """Something that another thread or task ends the wait for."""

    def on_call(self, wake: Callable[[], None]) -> None:
        """Call ``wake``, in whatever thread, once the wait is over; at once where it is."""


@dataclass(frozen=True, slots=True)
class Park:
    """Wait until ``ticket`` is called, at most so many seconds."""

    ticket: Wakeable
    seconds: float


@dataclass(frozen=True, slots=True)
class Work:
    """Call this function, where it may wait without holding anybody else up."""

    function: Callable[[], Any]


Effect = NeedToken | Request | Sleep | Park | Work
_R = TypeVar("_R")
Steps = Generator[Effect, Any, _R]
"""A call in progress: effects out, their outcomes in, and a result of type ``_R`` in the end."""
