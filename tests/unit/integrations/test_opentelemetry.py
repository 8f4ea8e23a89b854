"""Spans of a client, as a tracing backend gets them: named by the conventions, and silent of secrets."""

import asyncio

import pytest

from cmzon_secrets import AsyncClient, Client, RateLimits
from cmzon_secrets.errors import PermissionDenied, RequestRejected

sdk = pytest.importorskip(
    "opentelemetry.sdk.trace", reason="not run: OpenTelemetry (not installed)"
)
from opentelemetry.sdk.trace.export import SimpleSpanProcessor  # noqa: E402
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter  # noqa: E402
from opentelemetry.trace import SpanKind, StatusCode  # noqa: E402

from cmzon_secrets.integrations.opentelemetry import Spans  # noqa: E402

TO, TEXT = "+4915112345678", "a private word"


@pytest.fixture
def spans():
    """What was exported, in the order of ending; ``.tracing`` goes into a client."""
    exporter = InMemorySpanExporter()
    provider = sdk.TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    exporter.tracing = Spans(provider)
    yield exporter
    provider.shutdown()


@pytest.fixture(params=["Client", "AsyncClient"])
def send(request, cmzon_emulator, spans, monkeypatch):
    """Send one message with either client."""
    monkeypatch.setenv("CMZON_API_TOKEN", cmzon_emulator.admin_token)
    options = {
        "base_url": cmzon_emulator.base_url,
        "tracing": spans.tracing,
        "limits": RateLimits.unlimited(),
    }

    def blocking(to=TO):
        with Client("env:CMZON_API_TOKEN", **options) as client:
            return client.send_message(to, TEXT)

    async def awaited(to):
        async with AsyncClient("env:CMZON_API_TOKEN", **options) as client:
            return await client.send_message(to, TEXT)

    return blocking if request.param == "Client" else lambda to=TO: asyncio.run(awaited(to))


def test_a_message_is_a_span_around_its_requests(send, spans, cmzon_emulator):
    result = send()
    request, message = spans.get_finished_spans()
    assert (message.name, message.kind) == ("send messages", SpanKind.PRODUCER)
    assert message.attributes["messaging.system"] == "cmzon"
    assert message.attributes["messaging.message.id"] == result.id
    assert (request.name, request.kind) == ("POST /v1/messages", SpanKind.CLIENT)
    assert request.parent.span_id == message.context.span_id
    assert request.attributes["http.response.status_code"] == 200
    assert request.attributes["server.port"] == int(cmzon_emulator.base_url.rpartition(":")[2])
    assert "http.request.resend_count" not in request.attributes
    assert message.status.status_code is request.status.status_code is StatusCode.UNSET


def test_each_attempt_is_a_span_of_its_own(send, spans, fault):
    fault(status=503, count=2)
    send()
    first, second, third, message = spans.get_finished_spans()
    assert [s.attributes.get("http.request.resend_count") for s in (first, second, third)] == [
        None,
        1,
        2,
    ]
    assert (first.attributes["error.type"], first.status.status_code) == ("503", StatusCode.ERROR)
    assert message.status.status_code is StatusCode.UNSET


def test_a_message_that_failed_says_why(send, spans, fault):
    fault(status=403)
    with pytest.raises(PermissionDenied):
        send()
    *_, message = spans.get_finished_spans()
    assert (message.attributes["error.type"], message.status.status_code) == (
        "403",
        StatusCode.ERROR,
    )


def test_what_never_left_is_a_span_without_requests(send, spans):
    with pytest.raises(RequestRejected):
        send(to="nobody")
    (message,) = spans.get_finished_spans()
    assert message.attributes["error.type"] == "RequestRejected"


def test_no_span_holds_a_number_a_text_or_the_token(send, spans, fault, cmzon_emulator):
    fault(status=403)
    with pytest.raises(PermissionDenied):
        send()
    finished = spans.get_finished_spans()
    assert not any(span.events for span in finished)  # a recorded exception would be one
    told = "".join(span.to_json() for span in finished)
    assert told
    for secret in (TO, TEXT, cmzon_emulator.admin_token):
        assert secret not in told


@pytest.mark.parametrize(
    ("method", "path", "name"),
    [("GET", "/v1/x", "GET"), ("POST", "/v1/messages", "POST /v1/messages")],
)
def test_the_query_of_a_call_is_in_no_span(method, path, name, spans, cmzon_emulator, monkeypatch):
    monkeypatch.setenv("CMZON_API_TOKEN", cmzon_emulator.admin_token)
    with (
        Client(
            "env:CMZON_API_TOKEN", base_url=cmzon_emulator.base_url, tracing=spans.tracing
        ) as client,
        pytest.raises(RequestRejected),
    ):
        client.request(method, f"{path}?to={TO}", json={})
    request = spans.get_finished_spans()[0]
    assert request.name == name
    assert request.attributes["url.full"] == f"{cmzon_emulator.base_url}{path}"
    assert TO not in request.to_json()


@pytest.fixture
def fault(cmzon_emulator):
    """Set a fault on sending."""
    import httpx2

    def put(**facts):
        with httpx2.Client(trust_env=False) as http:
            body = {"route": "POST /v1/messages", **facts}
            http.post(f"{cmzon_emulator.base_url}/_emulator/faults", json=body).raise_for_status()

    return put
