"""OpenTelemetry spans of a client: one for each message, one for each request that it takes.

    from cmzon_secrets import Client
    from cmzon_secrets.integrations.opentelemetry import Spans

    client = Client("file:token.sealed", tracing=Spans())

Names and attributes are OpenTelemetry's semantic conventions for messaging and for HTTP clients. No
number, text or token is in a span, and none of a recorded exception's frames; the trace goes on at
the API by ``traceparent``. Metrics are made of the spans by the collector, or of the client's events.

Needs the extra ``otel``. Source: opentelemetry.io/docs/specs/semconv, "HTTP spans", "Messaging spans".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from cmzon_secrets.answers import Answer
from cmzon_secrets.client import Response, SendResult
from cmzon_secrets.client.effects import Request
from cmzon_secrets.errors import APIError, missing_extra
from cmzon_secrets.http.addresses import PORTS

if TYPE_CHECKING:
    from opentelemetry.trace import Span, TracerProvider

__all__ = ["Spans"]


class Spans:
    """Makes the spans of any number of clients. ``provider``: default the global TracerProvider.

    Raises ConfigurationError where the extra is not installed.
    """

    def __init__(self, provider: TracerProvider | None = None) -> None:
        try:
            from opentelemetry import trace
        except ImportError as error:
            raise missing_extra("otel", "OpenTelemetry spans") from error
        from cmzon_secrets import __version__

        self._kinds = trace.SpanKind
        self._tracer: Any = trace.get_tracer(
            "cmzon_secrets",
            __version__,
            tracer_provider=provider,
            schema_url="https://opentelemetry.io/schemas/1.27.0",
        )

    @contextmanager
    def call(self, *, is_message: bool) -> Iterator[_CallSpan]:
        """``send messages`` around a message with its waits and retries; of other calls the requests tell."""
        if not is_message:
            yield _CallSpan(None)
            return
        facts = {
            "messaging.system": "cmzon",
            "messaging.operation.name": "send",
            "messaging.operation.type": "send",
            "messaging.destination.name": "messages",
        }
        with self._span("send messages", self._kinds.PRODUCER, facts) as span:
            yield _CallSpan(span)

    @contextmanager
    def request(self, request: Request, base_url: str) -> Iterator[_RequestSpan]:
        """``POST /v1/messages`` around one request."""
        url = urlsplit(base_url)
        # Other paths hold ids, and a span's name must not.
        name = f"{request.method} {request.place}" if request.is_message else request.method
        facts: dict[str, str | int] = {
            "http.request.method": request.method,
            "url.full": base_url + request.place,
            "server.address": url.hostname or "",
            "server.port": url.port or PORTS.get(url.scheme, 443),
        }
        if request.attempt > 1:
            facts["http.request.resend_count"] = request.attempt - 1
        with self._span(name, self._kinds.CLIENT, facts) as span:
            yield _RequestSpan(span)

    @contextmanager
    def _span(self, name: str, kind: Any, facts: Mapping[str, str | int]) -> Iterator[Span]:
        # What is raised is told by its type only: a recorded traceback would hold the caller's data.
        with self._tracer.start_as_current_span(
            name, kind=kind, attributes=facts, record_exception=False, set_status_on_exception=False
        ) as span:
            try:
                yield span
            except BaseException as error:
                _mark(span, _kind_of(error))
                raise


class _CallSpan:
    def __init__(self, span: Span | None) -> None:
        self._span = span

    def returned(self, result: SendResult | Response) -> None:
        if self._span is not None and isinstance(result, SendResult) and result.id:
            self._span.set_attribute("messaging.message.id", result.id)


class _RequestSpan:
    def __init__(self, span: Span) -> None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._span = span
        self.headers: dict[str, str] = {}
        TraceContextTextMapPropagator().inject(self.headers)

    def came(self, answer: Answer) -> None:
        self._span.set_attribute("http.response.status_code", answer.status)
        if answer.status >= 400:
            _mark(self._span, str(answer.status))


def _kind_of(error: BaseException) -> str:
    """By the conventions: the status where there is one, else the class."""
    status = error.status if isinstance(error, APIError) else None
    return str(status) if status else type(error).__name__


def _mark(span: Span, kind: str) -> None:
    from opentelemetry.trace import Status, StatusCode

    span.set_attribute("error.type", kind)
    span.set_status(Status(StatusCode.ERROR))
