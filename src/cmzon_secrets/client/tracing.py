"""The seam for tracing: a span for each call of a client, and one for each request that it makes.

A client calls whatever follows ``Tracing``; ``cmzon_secrets.integrations.opentelemetry`` is one.
Nothing here knows a tracing library.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from cmzon_secrets.answers import Answer
    from cmzon_secrets.client.effects import Request
    from cmzon_secrets.client.results import Response, SendResult

__all__ = ["UNTRACED", "CallSpan", "RequestSpan", "Tracing"]


class CallSpan(Protocol):
    """One call, retries and waits included."""

    def returned(self, result: SendResult | Response, /) -> None:
        """It succeeded."""


class RequestSpan(Protocol):
    """One request on its way."""

    @property
    def headers(self) -> Mapping[str, str]:
        """To be sent with it, so that the other side can go on with the trace."""

    def came(self, answer: Answer, /) -> None:
        """What the server said."""


class Tracing(Protocol):
    """Makes spans. An exception that leaves a span's block ends it: no answer, Ctrl-C, cancellation.

    What beginning a span raises stops the call; what anything later raises changes nothing.
    """

    def call(self, *, is_message: bool) -> AbstractContextManager[CallSpan]:
        """Around a whole call."""

    def request(self, request: Request, base_url: str, /) -> AbstractContextManager[RequestSpan]:
        """Around one request. ``request`` holds the token: nothing of it but method and path is shown."""


class _NoSpan:
    headers: Mapping[str, str] = {}

    def returned(self, result: SendResult | Response, /) -> None:
        """Nobody wants to know."""

    def came(self, answer: Answer, /) -> None:
        """Nobody wants to know."""


class _Untraced:
    def call(self, *, is_message: bool) -> AbstractContextManager[CallSpan]:  # noqa: ARG002  # the protocol's
        return _NOTHING

    def request(self, request: Request, base_url: str, /) -> AbstractContextManager[RequestSpan]:  # noqa: ARG002
        return _NOTHING


_NOTHING = nullcontext(_NoSpan())
UNTRACED: Tracing = _Untraced()
"""Makes none."""
