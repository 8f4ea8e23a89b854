"""A desk at which calls are driven by hand, without any I/O."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from cmzon_secrets.answers import Answer
from cmzon_secrets.cache import TokenCache
from cmzon_secrets.client.effects import NeedToken, Park, Request, Sleep, Steps, Work
from cmzon_secrets.client.exchange import Call, Surroundings
from cmzon_secrets.client.limits import RateLimits
from cmzon_secrets.client.messages import message_request
from cmzon_secrets.client.retry import RetryBudget, Terms
from cmzon_secrets.errors import TransportError
from cmzon_secrets.events import Emitter, Event
from cmzon_secrets.headers import Headers
from cmzon_secrets.testing import ManualClock, MemoryStore
from cmzon_secrets.tokens import Token

TO, TEXT = "+1234567890", "a private word"
OLD, NEW = Token("cmz_old", id="tok_old"), Token("cmz_new", id="tok_new")


def answer(status: int, body: object = b"", **headers: str) -> Answer:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, Headers({"X-Request-Id": f"req_{status}", **fields}), raw)


def refusal(status: int, **members: object) -> Answer:
    return answer(status, {"error": {"code": status, "message": "no", **members}})


ACCEPTED = answer(200, {"id": "msg_1", "status": "accepted"})


class Desk:
    """Drives calls: every wait passes at once, and tokens and answers come as the test lists them."""

    def __init__(self, *, per_day: int | None = None, trusted: bool = False, **terms: Any) -> None:
        self.clock = ManualClock()
        self.seen: list[Event] = []
        self.limits = RateLimits(per_day=per_day)
        self.shared = Surroundings(
            cache=TokenCache(MemoryStore(), clock=self.clock),
            limits=self.limits,
            budget=RetryBudget(),
            clock=self.clock,
            emit=Emitter(self.seen.append, clock=self.clock),
        )
        terms = {"max_attempts": 5, "deadline": 60.0, **terms}
        self.terms = Terms.of("POST", keyed=True, trusted=trusted, **terms)
        self.tokens: list[Token | Exception] = [OLD]
        self.token_takes = 0.0
        self.asked: list[object] = []

    @property
    def sent(self) -> list[Request]:
        return [effect for effect in self.asked if isinstance(effect, Request)]

    @property
    def slept(self) -> list[float]:
        return [effect.seconds for effect in self.asked if isinstance(effect, Sleep)]

    def call(self, departing: Callable[[], None] | None = None) -> Call:
        request = message_request(TO, TEXT, key="key-1")
        return Call(request, self.terms, self.shared, departing=departing)

    def send(self, *outcomes: Answer | BaseException, call: Call | None = None) -> Any:
        """The result or error where the requests come to these outcomes."""
        return self.run((call or self.call()).message(TO), *outcomes)

    def run(self, steps: Steps[Any], *outcomes: Answer | BaseException) -> Any:
        replies = list(outcomes)
        try:
            effect = next(steps)
            while True:
                self.asked.append(effect)
                reply = self._perform(effect, replies)
                if isinstance(reply, BaseException):
                    effect = steps.throw(reply)
                else:
                    effect = steps.send(reply)
        except StopIteration as end:
            return end.value
        except BaseException as error:
            return error

    def _perform(self, effect: object, replies: list[Answer | BaseException]) -> object:
        match effect:
            case NeedToken():
                self.clock.advance(self.token_takes)
                return self.tokens.pop(0) if len(self.tokens) > 1 else self.tokens[0]
            case Request():
                return replies.pop(0)
            case Sleep(seconds):
                self.clock.advance(seconds)
            case Work(function):
                return function()
            case Park():
                raise AssertionError("nobody else is here to wait for")
        return None


def never_left(why: str = "refused") -> TransportError:
    error = TransportError(why)
    error.may_have_been_sent = False
    return error
