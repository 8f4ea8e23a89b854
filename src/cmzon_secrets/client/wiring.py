"""What both clients are made of: everything but the waiting."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Literal

from cmzon_secrets.cache import TokenCache
from cmzon_secrets.client.effects import Request, Steps
from cmzon_secrets.client.exchange import Call, Response, SendResult, Surroundings
from cmzon_secrets.client.limits import RateLimits
from cmzon_secrets.client.messages import message_request
from cmzon_secrets.client.retry import RetryBudget, Terms
from cmzon_secrets.client.usage import Usage
from cmzon_secrets.clock import SYSTEM_CLOCK, Clock, seconds
from cmzon_secrets.errors import CMzonSecretsError, ConfigurationError
from cmzon_secrets.events import Emitter, Subscriber
from cmzon_secrets.provider import TokenProvider

__all__ = ["Idempotency", "Wiring"]

Idempotency = Literal["send", "trust", "off"]
_IDEMPOTENCY = ("send", "trust", "off")


class Wiring:
    """Sends with the current token of ``provider``, read at every attempt.

    ``provider``: a TokenCache, any other provider (it gets a TokenCache of the client's own), or a
    URI. What a URI opened is closed with the client; a provider object stays open.

    ``base_url``: default ``$CMZON_BASE_URL``, else the vendor's; https, or http to this machine.
    ``limits``: one object given to several clients is shared by them; default: the vendor's.
    ``timeout``: to wait for each read or write; ``deadline``: for a whole call, with its waits and
    retries; each a timedelta or seconds. ``max_attempts``: requests that one call may make.
    ``ca``: path of a PEM file to trust instead of the system's store. ``proxy``:
    ``http://host:port`` to tunnel through, default ``$CMZON_PROXY``.

    ``idempotency``: "send" puts an Idempotency-Key on every message; "trust" also relies on the API
    to honour it, so that a message whose outcome is unknown is sent again; "off" sends none.

    Events: ``message_sent``, ``message_retried``, ``message_failed``, ``request_retried``,
    ``token_rejected``; ids only, no number, no text.

    Raises ConfigurationError or InvalidURI for arguments that cannot work.
    """

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
    ) -> None:
        if idempotency not in _IDEMPOTENCY:
            raise ConfigurationError('idempotency — unknown value; valid: "send", "trust", "off"')
        if isinstance(max_attempts, bool) or not isinstance(max_attempts, int) or max_attempts < 1:
            raise ConfigurationError("max_attempts — a whole number, 1 or more, is needed")
        self._idempotency = idempotency
        self._max_attempts = max_attempts
        self._deadline = _above_zero("deadline", deadline)
        self._connect(base_url, ca=ca, timeout=_above_zero("timeout", timeout), proxy=proxy)
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
        )

    def _connect(
        self, base_url: str | None, *, ca: str | None, timeout: float, proxy: str | None
    ) -> None:
        raise NotImplementedError

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
        emit = self._shared.emit
        try:
            request = message_request(to, message, key=self._key(key))
            result = yield from self._call(request, priority, departing).message(to)
        except CMzonSecretsError as error:
            emit(
                "message_failed",
                error=type(error).__name__,
                status=getattr(error, "status", None),
                request_id=getattr(error, "request_id", None),
            )
            raise
        emit(
            "message_sent",
            message_id=result.id,
            request_id=result.request_id,
            attempts=result.attempts,
        )
        return result

    def _any(
        self, method: str, path: str, json: object, headers: Mapping[str, str] | None
    ) -> Steps[Response]:
        return self._call(Request(method, path, json, dict(headers or {}))).response()

    def _call(
        self,
        request: Request,
        priority: int = 0,
        departing: Callable[[], None] | None = None,
    ) -> Call:
        keyed = any(name.lower() == "idempotency-key" for name in request.headers)
        terms = Terms.of(
            str(request.method),
            max_attempts=self._max_attempts,
            deadline=self._deadline,
            trusted_key=keyed and self._idempotency == "trust",
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


def _above_zero(name: str, duration: timedelta | float) -> float:
    value = seconds(name, duration)
    if not value:
        raise ConfigurationError(f"{name} — more than no time is needed")
    return value


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
