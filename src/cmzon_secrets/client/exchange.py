"""One call of the API: which request, with which token, and what then. No I/O: see ``effects``.

What comes after an answer is decided in ``retry``, but for one thing, decided here:

- 401: the token is rejected, and the request goes out once more with a token that differs. No
  token is ever sent again after the API refused it. The second try carries the same
  idempotency key.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from cmzon_secrets.answers import (
    CHECK_FIRST,
    LONGEST_ID,
    Answer,
    api_error,
    masked_headers,
    masking_token,
    printable,
    request_id,
)
from cmzon_secrets.cache import TokenCache
from cmzon_secrets.client.effects import NeedToken, Request, Sleep, Steps, Work
from cmzon_secrets.client.limits import RateLimits
from cmzon_secrets.client.messages import message_masks, without_message
from cmzon_secrets.client.passage import Passage
from cmzon_secrets.client.results import Response, SendResult
from cmzon_secrets.client.retry import (
    IDEMPOTENT,
    Attempt,
    RetryBudget,
    Terms,
    decide,
    is_unknown,
)
from cmzon_secrets.client.telling import ended_apart, told_apart
from cmzon_secrets.client.tracing import UNTRACED, Tracing
from cmzon_secrets.clock import Clock
from cmzon_secrets.errors import (
    APIError,
    CMzonSecretsError,
    ProviderUnavailable,
    TransportError,
)
from cmzon_secrets.events import Emitter
from cmzon_secrets.tokens import Token

__all__ = ["Call", "Surroundings"]


@dataclass(slots=True)
class Surroundings:
    """What all calls of one client share."""

    cache: TokenCache
    limits: RateLimits
    budget: RetryBudget
    clock: Clock
    emit: Emitter
    base_url: str = ""
    tracing: Tracing = UNTRACED
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
        self._token: Token | None = None
        self._refused: tuple[Token, Answer] | None = None
        self._on_its_way = False
        self._in_doubt: Answer | TransportError | None = None
        self.attempts = 0

    @property
    def token_id(self) -> str | None:
        """Of the token that the last request carried."""
        return self._token.id if self._token is not None else None

    @property
    def may_have_been_sent(self) -> bool:
        """Whether a request is on its way, or nobody knows what came of one."""
        return self._on_its_way or self._in_doubt is not None

    @property
    def seconds(self) -> float:
        """How long it has taken so far."""
        return self._shared.clock.monotonic() - self._began

    @property
    def _left(self) -> float:
        return self._terms.deadline - self.seconds

    def message(self, to: str) -> Steps[SendResult]:
        """Send a message made by ``message_request``. Raises APIError, and what the provider raises.

        A success whose body is not a JSON object is a TransportError with ``status`` set: the
        message may have been accepted.
        """
        answer = yield from self._succeed()
        body = self._json(answer)
        if not isinstance(body, dict):
            raise self._unreadable(answer)
        assert self._token is not None  # noqa: S101  # what was answered carried one
        token = masking_token(self._token.reveal())
        secrets = [token, *message_masks(self._request, success=True)]
        return SendResult(
            id=_word(body.get("id"), *secrets),
            status=_word(body.get("status"), *secrets),
            to=_word(body.get("to"), token) or to,
            request_id=_word(answer.headers.get("x-request-id"), *secrets),
            attempts=self.attempts,
            headers=masked_headers(answer.headers, *secrets),
        )

    def response(self) -> Steps[Response]:
        """Send any request. Raises like ``message``; TransportError for a success that is not JSON."""
        answer = yield from self._succeed()
        body = self._json(answer) if answer.body.strip() else None
        return Response(answer.status, answer.headers, body)

    def _succeed(self) -> Steps[Answer]:
        """Attempts until one succeeds. Raises the error of the last, or what kept the next one back."""
        try:
            while True:
                outcome = yield from self._attempt()
                if isinstance(outcome, Answer) and 200 <= outcome.status < 300:
                    self._shared.budget.earn()
                    return outcome
                if not self._may_try_another_token(outcome):
                    yield from self._before_the_next(outcome)
        except APIError as error:
            self._in_full(error)
            raise
        except Exception as error:
            if self._in_doubt is None:
                raise
            # What kept the next attempt back must not hide that an earlier one may have succeeded.
            raise self._in_full(self._failure(self._in_doubt)) from error

    def _attempt(self) -> Steps[Answer | TransportError]:
        shared = self._shared
        passage = None
        if self._request.is_message:
            passage = Passage(shared.limits, shared.clock, self._began + self._terms.deadline)
        try:
            request = yield from self._ready(passage)
            outcome = yield from self._sent(request)
        except BaseException:
            if self._on_its_way:
                self.attempts += 1  # one whose answer nobody will know
            if passage is not None:
                passage.ended()
                if not self._on_its_way:
                    passage.give_back()
            raise
        self.attempts += 1
        if passage is not None:
            passage.answered(outcome)
        self._learn(outcome)
        return outcome

    def _ready(self, passage: Passage | None) -> Steps[Request]:
        """The request, with a token, once it may leave."""
        if self._refused is not None:
            yield from self._current_token()  # where there is no other, no slot is needed
        if passage is not None:  # before the token is asked for: waiting would make it older
            yield from passage.slot(since=self._began, priority=self._priority)
        self._token = yield from self._current_token()
        if self._departing is not None and self.attempts == 0:
            yield Work(self._departing)
        if passage is not None:
            yield from passage.departure()
        return replace(
            self._request,
            token=self._token,
            within=self._left,
            attempt=self.attempts + 1,
            leaving=passage.leaving if passage is not None else None,
        )

    def _sent(self, request: Request) -> Steps[Answer | TransportError]:
        shared = self._shared
        outcome: Answer | TransportError
        try:
            with ended_apart(shared.tracing.request(request, shared.base_url)) as span:
                request = replace(request, headers={**span.headers, **request.headers})
                self._on_its_way = True
                outcome = answer = yield request
                told_apart(span.came, answer)
        except TransportError as error:
            outcome = error.with_traceback(None)  # its frames hold it: a circle
        except CMzonSecretsError:  # a header or body that must not be sent, and was not
            self._on_its_way = False
            raise
        self._on_its_way = False
        return outcome

    def _learn(self, outcome: Answer | TransportError) -> None:
        """What an outcome says beyond the attempt: of the call, and of the token."""
        if is_unknown(outcome, keyed=self._terms.keyed):
            self._in_doubt = outcome
        if isinstance(outcome, TransportError):
            return
        masks = message_masks(self._request, success=outcome.status < 300)
        shared, name = self._shared, _word(outcome.headers.get("x-request-id"), *masks)
        shared.last_request_id = name or shared.last_request_id
        if outcome.status == 401 and self._token is not None:
            shared.cache.invalidate(self._token)
            told_apart(shared.emit, "token_rejected", self._token.id, request_id=name)

    def _may_try_another_token(self, outcome: Answer | TransportError) -> bool:
        """Remember the token that was refused first; whether this was it, so that another may do."""
        if not isinstance(outcome, Answer) or outcome.status != 401 or self._token is None:
            return False
        if self._refused is not None or self.attempts >= self._terms.max_attempts:
            return False
        self._refused = self._token, outcome
        return True

    def _current_token(self) -> Steps[Token]:
        token: Token = yield NeedToken()
        if self._refused is not None and token == self._refused[0]:
            raise self._failure(self._refused[1])
        if self._left <= 0:
            uri = self._shared.cache.uri
            raise ProviderUnavailable(
                f"{uri} — the token came after this call's deadline, and nothing was sent with it",
                uri=uri,
                hint="allow a longer deadline",
            )
        return token

    def _before_the_next(self, outcome: Answer | TransportError) -> Steps[None]:
        """Wait for the next attempt, or raise the error of this one."""
        chance = random.random()  # noqa: S311  # it spreads load and guards nothing
        attempt = Attempt(self.attempts, outcome, self.seconds)
        wait = decide(attempt, self._terms, chance=chance)
        if wait is None or not self._shared.budget.spend(wait):
            raise self._failure(outcome)
        told_apart(
            self._shared.emit,
            "message_retried" if self._request.is_message else "request_retried",
            self.token_id,
            attempt=self.attempts,
            wait=round(wait.seconds, 3),
            status=outcome.status,
        )
        yield Sleep(wait.seconds)

    def _failure(self, outcome: Answer | TransportError) -> APIError:
        if isinstance(outcome, TransportError):
            return outcome
        what = f"{self._request.method} {self._request.place}"
        return api_error(without_message(outcome, self._request), what=what)

    def _in_full(self, error: APIError) -> APIError:
        """``error`` with what the call knows and an answer does not."""
        error.attempts = self.attempts
        error.may_have_been_sent = self._in_doubt is not None
        if error.may_have_been_sent and self._request.method.upper() not in IDEMPOTENT:
            error.hint = CHECK_FIRST
        return error

    def _json(self, answer: Answer) -> Any:
        try:
            return answer.json()
        except ValueError:
            raise self._unreadable(answer) from None

    def _unreadable(self, answer: Answer) -> TransportError:
        clean = without_message(answer, self._request)
        error = TransportError(
            f"{self._request.method} {self._request.place} — {answer.status}, but its body is not the "
            "JSON expected: the request may have taken effect",
            status=answer.status,
            request_id=request_id(clean),
            headers=clean.headers,
            hint=CHECK_FIRST,
        )
        error.attempts = self.attempts
        return error


def _word(said: object, *masks: Callable[[str], str]) -> str | None:
    """What a server said in one word, masked, and fit for one line; None where it said none."""
    if not isinstance(said, str):
        return None
    for mask in masks:
        said = mask(said)
    return printable(said, LONGEST_ID)
