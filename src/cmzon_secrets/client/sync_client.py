"""The blocking client: performs what ``exchange`` asks for, one thread per call."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import timedelta
from types import TracebackType
from typing import Literal, Self, TypeVar

from cmzon_secrets.answers import Answer
from cmzon_secrets.cache import TokenCache
from cmzon_secrets.client import exchange
from cmzon_secrets.client.exchange import Effect, Request, Response, SendResult, Steps
from cmzon_secrets.client.limits import RateLimits
from cmzon_secrets.clock import SYSTEM_CLOCK, Clock, seconds
from cmzon_secrets.errors import CMzonSecretsError, ConfigurationError, TransportError
from cmzon_secrets.events import Emitter, Subscriber
from cmzon_secrets.http import Session
from cmzon_secrets.provider import TokenProvider
from cmzon_secrets.tokens import Token

__all__ = ["Client"]

_R = TypeVar("_R")


class Client:
    """Sends with the current token of ``provider``, read at every attempt. Thread-safe, fork-safe.

    ``provider``: a TokenCache, any other provider (it gets a TokenCache of the client's own), or a
    URI. What a URI opened is closed with the client; a provider object stays open.

    ``base_url``: default ``$CMZON_BASE_URL``, else the vendor's; https, or http to this machine.
    ``limits``: one object given to several clients is shared by them; default: the vendor's.
    ``timeout``: to wait for each read or write, as a timedelta or seconds. ``ca``: path of a PEM
    file to trust instead of the system's store. ``idempotency``: "send" puts an Idempotency-Key on
    every message, "off" on none.

    Events: ``message_sent``, ``message_failed``, ``token_rejected``; ids only, no number, no text.

    Raises ConfigurationError or InvalidURI for arguments that cannot work.
    """

    def __init__(
        self,
        provider: TokenProvider | str,
        *,
        base_url: str | None = None,
        limits: RateLimits | None = None,
        timeout: timedelta | float = 10.0,
        idempotency: Literal["send", "off"] = "send",
        ca: str | None = None,
        clock: Clock | None = None,
        subscriber: Subscriber | None = None,
    ) -> None:
        if idempotency not in ("send", "off"):
            raise ConfigurationError('idempotency — unknown value; valid: "send", "off"')
        self._idempotency = idempotency
        self._limits = limits if limits is not None else RateLimits()
        self._session = Session(base_url, ca=ca, timeout=seconds("timeout", timeout))
        self._opened = _open(provider) if isinstance(provider, str) else None
        source = self._opened if self._opened is not None else provider
        self._owns_cache = not isinstance(source, TokenCache)
        self._clock = clock or SYSTEM_CLOCK
        self._cache = _cache(source, self._clock, subscriber)
        self._emit = Emitter(subscriber, uri=self._cache.uri, clock=self._clock)

    def send_message(
        self, to: str, message: str, *, idempotency_key: str | None = None
    ) -> SendResult:
        """Send a text message to a phone number in E.164.

        ``idempotency_key``: yours, so that sending again with it cannot become a second message
        where the API honours keys; default: a new one for this call.

        Raises RequestRejected without a status for a number, text or key that cannot be sent; the
        APIError of the API's answer; TransportError where there was none that could be used
        (``may_have_been_sent``); DailyLimitReached; and what the provider raises.
        """
        try:
            request = exchange.message_request(to, message, key=self._key(idempotency_key))
            result = self._perform(exchange.send_message(to, request))
        except CMzonSecretsError as error:
            self._emit(
                "message_failed",
                error=type(error).__name__,
                status=getattr(error, "status", None),
                request_id=getattr(error, "request_id", None),
            )
            raise
        self._emit(
            "message_sent",
            message_id=result.id,
            request_id=result.request_id,
            attempts=result.attempts,
        )
        return result

    def request(
        self,
        method: str,
        path: str,
        *,
        json: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """Any other call of the API, with the token and the rules of ``send_message``.

        ``path`` begins with ``/v1``; ``headers`` are sent besides ours, of which none can be
        replaced. Raises like ``send_message``, and ConfigurationError for a path or header that
        must not be sent.
        """
        return self._perform(exchange.send(Request(method, path, json, dict(headers or {}))))

    def close(self) -> None:
        """Close the connections, and what a URI opened."""
        self._session.close()
        if self._owns_cache:
            self._cache.close()
        if self._opened is not None:
            self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Client {self._session.base_url} {self._cache.uri}>"

    def _key(self, given: str | None) -> str | None:
        if self._idempotency == "send":
            return given if given is not None else str(uuid.uuid4())
        if given is not None:
            raise ConfigurationError(
                'idempotency key — this client sends none (idempotency="off")',
                hint='use Client(…, idempotency="send")',
            )
        return None

    def _perform(self, steps: Steps[_R]) -> _R:
        outcome: object = None
        try:
            while True:
                outcome = self._one(steps.send(outcome))
        except StopIteration as end:
            result: _R = end.value
            return result

    def _one(self, effect: Effect) -> Token | Answer | TransportError | None:
        match effect:
            case exchange.Pace():
                self._session.open()  # the first message would be late for its slot
                clock = self._clock
                clock.sleep(self._limits.reserve(clock.monotonic(), clock.now()))
            case exchange.NeedToken():
                return self._cache.get()
            case Request():
                return self._send_counted(effect) if effect.is_message else self._send(effect)
            case exchange.Reject(token, request_id):
                self._cache.invalidate(token)
                self._emit("token_rejected", token.id, request_id=request_id)
        return None

    def _send_counted(self, request: Request) -> Answer | TransportError:
        clock, limits = self._clock, self._limits
        while isinstance(departure := limits.depart(clock.monotonic(), clock.now()), float):
            clock.sleep(departure)
        try:
            outcome = self._send(request)
        except CMzonSecretsError:  # a header or body that must not be sent, and was not
            departure.answered(None, refused=True)
            raise
        departure.answered(clock.monotonic(), refused=exchange.is_refusal(outcome))
        return outcome

    def _send(self, request: Request) -> Answer | TransportError:
        try:
            return self._session.send(
                request.method,
                request.path,
                token=request.token,
                json=request.json,
                headers=request.headers,
            )
        except TransportError as error:
            return error


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
