"""What both clients are made of: everything but the waiting."""

from __future__ import annotations

import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Literal

from cmzon_secrets.cache import TokenCache
from cmzon_secrets.client.effects import Request, Steps
from cmzon_secrets.client.exchange import Call, Surroundings
from cmzon_secrets.client.limits import RateLimits
from cmzon_secrets.client.messages import check_priority, message_request
from cmzon_secrets.client.results import Response, SendResult
from cmzon_secrets.client.retry import RetryBudget, Terms
from cmzon_secrets.client.telling import ended_apart, told_apart
from cmzon_secrets.client.tracing import UNTRACED, Tracing
from cmzon_secrets.client.usage import Usage
from cmzon_secrets.clock import SYSTEM_CLOCK, Clock, seconds
from cmzon_secrets.errors import CMzonSecretsError, ConfigurationError, shielded
from cmzon_secrets.events import Emitter, Subscriber
from cmzon_secrets.provider import TokenProvider

if TYPE_CHECKING:
    from cmzon_secrets.client.outbox.model import Leased

__all__ = ["Idempotency", "Wiring"]

Idempotency = Literal["send", "trust", "off"]
_IDEMPOTENCY = ("send", "trust", "off")


class Wiring(ABC):
    """Sends with the current token of ``provider``, read at every attempt.

    ``provider``: a TokenCache, any other provider (it gets a TokenCache of the client's own), or a
    URI. What a URI opened is closed with the client; a provider object stays open.

    ``base_url``: default ``$CMZON_BASE_URL``, else the vendor's; https, or http to this machine.
    ``limits``: one object given to several clients is shared by them; default: the vendor's.
    ``timeout``: to wait for each read or write; ``deadline``: for a whole call, with its waits and
    retries (a provider's read keeps its own); each a timedelta or seconds. ``max_attempts``:
    requests that one call may make.
    ``ca``: path of a PEM file to trust instead of the system's store. ``proxy``:
    ``http://host:port`` to tunnel through, default ``$CMZON_PROXY``.

    ``idempotency``: "send" puts an Idempotency-Key on every message; "trust" also relies on the API
    to honour it, so that a message whose outcome is unknown is sent again; "off" sends none.

    ``tracing``: makes spans, see ``cmzon_secrets.integrations.opentelemetry``.

    Events: ``message_sent``, ``message_retried``, ``message_failed``, ``request_retried``,
    ``token_rejected``; ids only, no number, no text. What a subscriber raises of these, and tracing
    once a request has left, changes nothing and goes to ``sys.unraisablehook``.

    Raises ConfigurationError or InvalidURI for arguments that cannot work.
    """

    @shielded  # a proxy's URL may hold a password
    def __init__(
        self,
        provider: TokenProvider | str,
        *,
        base_url: str | None = None,
        limits: RateLimits | None = None,
        timeout: timedelta | float = 10.0,
        deadline: timedelta | float = 60.0,
        max_attempts: int = 5,
        idempotency: Idempotency = "send",
        ca: str | None = None,
        proxy: str | None = None,
        clock: Clock | None = None,
        subscriber: Subscriber | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        if idempotency not in _IDEMPOTENCY:
            raise ConfigurationError('idempotency — unknown value; valid: "send", "trust", "off"')
        if not isinstance(limits, RateLimits | None):
            raise ConfigurationError(
                f"limits — RateLimits are needed, got {type(limits).__name__}",
                hint="RateLimits() are the vendor's, RateLimits.unlimited() none",
            )
        if isinstance(max_attempts, bool) or not isinstance(max_attempts, int) or max_attempts < 1:
            raise ConfigurationError("max_attempts — a whole number, 1 or more, is needed")
        self._idempotency = idempotency
        self._max_attempts = max_attempts
        self._deadline = seconds("deadline", deadline, above_zero=True)
        patience = seconds("timeout", timeout, above_zero=True)
        base_url = self._connect(base_url, ca=ca, timeout=patience, proxy=proxy)
        self._opened = _open(provider) if isinstance(provider, str) else None
        source = self._opened if self._opened is not None else provider
        self._owns_cache = not isinstance(source, TokenCache)
        clock = clock or SYSTEM_CLOCK
        cache = _cache(source, clock, subscriber)
        self._shared = Surroundings(
            cache=cache,
            limits=limits if limits is not None else RateLimits(),
            budget=RetryBudget(),
            clock=clock,
            emit=Emitter(subscriber, uri=cache.uri, clock=clock),
            base_url=base_url,
            tracing=tracing or UNTRACED,
        )

    @abstractmethod
    def _connect(
        self, base_url: str | None, *, ca: str | None, timeout: float, proxy: str | None
    ) -> str:
        """Make what requests are sent with; the base URL."""

    @property
    def trusts_keys(self) -> bool:
        """Whether the API is relied on to honour idempotency keys."""
        return self._idempotency == "trust"

    @property
    def usage(self) -> Usage:
        """The day's messages, as the API's last answer said and as they were counted here."""
        shared = self._shared
        return shared.limits.usage(shared.clock.now(), shared.last_request_id)

    def _message(
        self,
        to: str,
        message: str,
        key: str | None,
        priority: int,
        departing: Callable[[], None] | None = None,
    ) -> Steps[SendResult]:
        with ended_apart(self._shared.tracing.call(is_message=True)) as span:
            result = yield from self._told(to, message, key, priority, departing)
            told_apart(span.returned, result)
            return result

    def _told(
        self,
        to: str,
        message: str,
        key: str | None,
        priority: int,
        departing: Callable[[], None] | None,
    ) -> Steps[SendResult]:
        """Send a message, and tell what came of it."""
        call = None
        try:
            request = message_request(to, message, key=self._key(key))
            check_priority(priority)
            call = self._call(request, priority, departing)
            result = yield from call.message(to)
        except BaseException as error:
            self._tell_failure(error, call)
            raise
        told_apart(
            self._shared.emit,
            "message_sent",
            call.token_id,
            message_id=result.id,
            request_id=result.request_id,
            attempts=result.attempts,
            seconds=round(call.seconds, 3),
        )
        return result

    def _tell_failure(self, error: BaseException, call: Call | None) -> None:
        """Ctrl-C and cancellation count: what was on its way may arrive."""
        in_doubt = call is not None and call.may_have_been_sent
        if not isinstance(error, CMzonSecretsError):  # for whoever queues messages
            vars(error)["may_have_been_sent"] = in_doubt
        told_apart(
            self._shared.emit,
            "message_failed",
            call.token_id if call is not None else None,
            error=type(error).__name__,
            status=getattr(error, "status", None),
            request_id=getattr(error, "request_id", None),
            attempts=call.attempts if call is not None else 0,
            seconds=round(call.seconds, 3) if call is not None else 0.0,
            may_have_been_sent=getattr(error, "may_have_been_sent", in_doubt),
        )

    def _queued(self, message: Leased, departing: Callable[[], None]) -> Steps[SendResult]:
        key = None if self._idempotency == "off" else message.key
        return self._message(message.to, message.text, key, message.priority, departing)

    def _any(
        self, method: str, path: str, json: object, headers: Mapping[str, str] | None
    ) -> Steps[Response]:
        for name, text in (("method", method), ("path", path)):
            if not isinstance(text, str):
                raise ConfigurationError(f"request {name} — a text is needed")
        request = self._keyed(Request(method, path, json, _fields(headers)))
        with ended_apart(self._shared.tracing.call(is_message=request.is_message)) as span:
            response = yield from self._call(request).response()
            told_apart(span.returned, response)
            return response

    def _keyed(self, request: Request) -> Request:
        """Every message carries a key, however it is sent."""
        key = None if _has_key(request) or not request.is_message else self._key(None)
        if key is None:
            return request
        return replace(request, headers={**request.headers, "Idempotency-Key": key})

    def _call(
        self,
        request: Request,
        priority: int = 0,
        departing: Callable[[], None] | None = None,
    ) -> Call:
        terms = Terms.of(
            request.method,
            max_attempts=self._max_attempts,
            deadline=self._deadline,
            keyed=_has_key(request),
            trusted=self._idempotency == "trust",
        )
        return Call(request, terms, self._shared, priority=priority, departing=departing)

    def _key(self, given: str | None) -> str | None:
        if self._idempotency != "off":
            return given if given is not None else str(uuid.uuid4())
        if given is not None:
            raise ConfigurationError(
                'idempotency key — this client sends none (idempotency="off")',
                hint='use idempotency="send"',
            )
        return None

    def _close_provider(self) -> None:
        if self._owns_cache:
            self._shared.cache.close()
        if self._opened is not None:
            self._opened.close()


def _has_key(request: Request) -> bool:
    return any(name.lower() == "idempotency-key" for name in request.headers)


def _fields(headers: Mapping[str, str] | None) -> dict[str, str]:
    fields = {} if headers is None else headers
    if not isinstance(fields, Mapping) or not all(
        isinstance(part, str) for field in fields.items() for part in field
    ):
        raise ConfigurationError("request headers — a mapping of texts to texts is needed")
    return dict(fields)


def _open(uri: str) -> TokenProvider:
    from cmzon_secrets.registry import open_provider

    return open_provider(uri)


def _cache(source: object, clock: Clock, subscriber: Subscriber | None) -> TokenCache:
    if isinstance(source, TokenCache):
        return source
    if isinstance(source, TokenProvider):
        return TokenCache(source, clock=clock, subscriber=subscriber)
    raise ConfigurationError(
        f"provider — a TokenProvider or a URI is needed, got {type(source).__name__}",
        hint="for a token in an environment variable: Client('env:CMZON_API_TOKEN')",
    )
