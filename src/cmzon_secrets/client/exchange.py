"""One call of the API: which request, with which token, and what then. No I/O: see ``effects``.

What comes after an answer is decided in ``retry``, but for one thing, decided here:

- 401: the token is rejected, and the request goes out once more with a token that differs. No
  token is ever sent again after the API refused it. The second try carries the same
  idempotency key.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from cmzon_secrets.answers import Answer, api_error, retry_after
from cmzon_secrets.cache import TokenCache
from cmzon_secrets.client.arrivals import Departure
from cmzon_secrets.client.effects import NeedToken, Request, Sleep, Steps
from cmzon_secrets.client.limits import RateLimits
from cmzon_secrets.client.retry import (
    Attempt,
    RetryBudget,
    Stop,
    Terms,
    Wait,
    decide,
    is_refusal,
    is_unknown,
)
from cmzon_secrets.client.usage import quota_in
from cmzon_secrets.clock import Clock
from cmzon_secrets.errors import APIError, CMzonSecretsError, TransportError
from cmzon_secrets.events import Emitter
from cmzon_secrets.tokens import Token

__all__ = ["Call", "Response", "SendResult", "Surroundings"]


@dataclass(frozen=True, slots=True)
class SendResult:
    """An accepted message.

    The vendor does not publish the body of a success: ``id`` and ``status`` are None where the
    answer does not have them, and ``to`` is then the number it was sent to. ``attempts`` counts
    the requests it took; ``headers`` are the last answer's, names in lower case.
    """

    id: str | None
    status: str | None
    to: str
    request_id: str | None
    attempts: int
    headers: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Response:
    """A successful answer; ``json`` is None where it has no body."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    json: Any = field(repr=False)


@dataclass(slots=True)
class Surroundings:
    """What all calls of one client share."""

    cache: TokenCache
    limits: RateLimits
    budget: RetryBudget
    clock: Clock
    emit: Emitter
    last_request_id: str | None = None


class Call:
    """One call in progress. ``departing`` is called once, just before the first request leaves."""

    def __init__(
        self,
        request: Request,
        terms: Terms,
        shared: Surroundings,
        *,
        priority: int = 0,
        departing: Callable[[], None] | None = None,
    ) -> None:
        self._request = request
        self._terms = terms
        self._shared = shared
        self._priority = priority
        self._departing = departing
        self._began = shared.clock.monotonic()
        self._ends = self._began + terms.deadline
        self._counted = request.is_message
        self._left_at = self._began
        self._attempts = 0

    def message(self, to: str) -> Steps[SendResult]:
        """Send a message made by ``message_request``. Raises APIError.

        A success whose body is not a JSON object is a TransportError with ``status`` set: the
        message may have been accepted.
        """
        answer = yield from self._succeed()
        body = self._json(answer)
        if not isinstance(body, dict):
            raise self._unreadable(answer)
        return SendResult(
            id=_text(body.get("id")),
            status=_text(body.get("status")),
            to=_text(body.get("to")) or to,
            request_id=answer.headers.get("x-request-id"),
            attempts=self._attempts,
            headers=answer.headers,
        )

    def response(self) -> Steps[Response]:
        """Send any request. Raises APIError; TransportError for a success that is not JSON."""
        answer = yield from self._succeed()
        body = self._json(answer) if answer.body.strip() else None
        return Response(answer.status, answer.headers, body)

    def _succeed(self) -> Steps[Answer]:
        """Attempts until one succeeds. Raises the error of the last where none does."""
        refused: Token | None = None
        another: Token | None = None
        while True:
            outcome, token = yield from self._attempt(another)
            another = None
            if isinstance(outcome, Answer):
                if 200 <= outcome.status < 300:
                    self._shared.budget.earn()
                    return outcome
                if outcome.status == 401 and refused is None:
                    refused = token
                    another = yield NeedToken()
                    if another != refused and self._attempts < self._terms.max_attempts:
                        continue
            yield from self._before_the_next(outcome)

    def _attempt(self, another: Token | None) -> Steps[tuple[Answer | TransportError, Token]]:
        shared, limits = self._shared, self._shared.limits
        day, departure = None, None
        try:
            if self._counted:  # before the token is asked for: waiting would make it older
                day = yield from limits.slot(
                    shared.clock, ends=self._ends, since=self._began, priority=self._priority
                )
            token: Token = another if another is not None else (yield NeedToken())
            if self._counted:
                departure = yield from limits.departure(shared.clock, ends=self._ends)
            request = self._leaving(token)
        except BaseException:
            if day is not None:  # it never left
                limits.give_back(day)
            raise
        outcome: Answer | CMzonSecretsError = yield request
        if departure is not None:
            limits.answered(departure, shared.clock)
            if day is not None and is_refusal(outcome):
                limits.give_back(day)
        if not isinstance(outcome, Answer | TransportError):
            raise outcome  # a header or body that must not be sent, and was not
        self._attempts += 1
        self._learn(outcome, token, departure)
        return outcome, token

    def _leaving(self, token: Token) -> Request:
        if self._departing is not None and self._attempts == 0:
            self._departing()
        within = self._ends - self._shared.clock.monotonic()
        return replace(self._request, token=token, within=within)

    def _learn(
        self, outcome: Answer | TransportError, token: Token, departure: Departure | None
    ) -> None:
        """What an answer says beyond this call: of the token, of the quota."""
        if isinstance(outcome, TransportError):
            return
        shared = self._shared
        shared.last_request_id = outcome.headers.get("x-request-id") or shared.last_request_id
        if outcome.status == 401:
            shared.cache.invalidate(token)
            request_id = outcome.headers.get("x-request-id")
            shared.emit("token_rejected", token.id, request_id=request_id)
        if departure is not None:
            self._left_at = departure.at
            now = shared.clock.now()
            quota = quota_in(outcome.headers, now)
            if quota is not None:
                shared.limits.heed(quota, now)

    def _before_the_next(self, outcome: Answer | TransportError) -> Steps[None]:
        """Wait for the next attempt, or raise the error of this one."""
        shared = self._shared
        elapsed = shared.clock.monotonic() - self._began
        chance = random.random()  # noqa: S311  # it spreads load and guards nothing
        verdict = decide(Attempt(self._attempts, outcome, elapsed), self._terms, chance=chance)
        if isinstance(outcome, Answer) and outcome.status == 429 and self._counted:
            wait = verdict.seconds if isinstance(verdict, Wait) else retry_after(outcome)
            shared.limits.hold(wait or 1.0, shared.clock, left_at=self._left_at)
        if isinstance(verdict, Stop) or not shared.budget.spend(verdict):
            raise self._failure(outcome)
        shared.emit(
            "message_retried" if self._counted else "request_retried",
            attempt=self._attempts,
            wait=round(verdict.seconds, 3),
            status=outcome.status,
        )
        if not (verdict.everybody and self._counted):  # else the limits hold it back
            yield Sleep(verdict.seconds)

    def _failure(self, outcome: Answer | TransportError) -> APIError:
        if isinstance(outcome, TransportError):
            error: APIError = outcome
        else:
            error = api_error(outcome, what=f"{self._request.method} {self._request.path}")
            error.may_have_been_sent = is_unknown(outcome)
        error.attempts = self._attempts
        return error

    def _json(self, answer: Answer) -> Any:
        try:
            return answer.json()
        except ValueError:
            raise self._unreadable(answer) from None

    def _unreadable(self, answer: Answer) -> TransportError:
        error = TransportError(
            f"{self._request.method} {self._request.path} — {answer.status}, but its body is not the "
            "JSON expected: the request may have taken effect",
            status=answer.status,
            request_id=answer.headers.get("x-request-id"),
            headers=answer.headers,
            hint="check before sending it again",
        )
        error.attempts = self._attempts
        return error


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
