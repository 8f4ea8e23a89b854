"""The seam for tracing: a span for each call of a client, and one for each request that it makes.

A client calls whatever follows ``Tracing``; ``cmzon_secrets.integrations.opentelemetry`` is one.
Nothing here knows a tracing library.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Protocol

from cmzon_secrets.answers import Answer
from cmzon_secrets.client.effects import Request
from cmzon_secrets.client.exchange import Response, SendResult
from cmzon_secrets.errors import CMzonSecretsError

__all__ = ["CallSpan", "RequestSpan", "Tracing"]


class CallSpan(Protocol):
    """One call, retries and waits included."""

    def returned(self, result: SendResult | Response) -> None:
        """It succeeded."""


class RequestSpan(Protocol):
    """One request on its way."""

    headers: Mapping[str, str]
    """To be sent with it, so that the other side can go on with the trace."""

    def came(self, outcome: Answer | CMzonSecretsError) -> None:
        """What came of it."""


class Tracing(Protocol):
    """Makes spans. An exception that leaves a span's block has ended it."""

    def call(self, method: str, *, is_message: bool) -> AbstractContextManager[CallSpan]:
        """Around a whole call."""

    def request(self, request: Request, base_url: str) -> AbstractContextManager[RequestSpan]:
        """Around one request. ``request`` holds the token: nothing of it but method and path is shown."""
