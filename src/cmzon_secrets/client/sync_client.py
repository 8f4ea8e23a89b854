"""The blocking client: performs what ``exchange`` asks for, one thread per call."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from cmzon_secrets.answers import Answer
from cmzon_secrets.client.effects import Effect, NeedToken, Park, Request, Sleep, Steps
from cmzon_secrets.client.results import Response, SendResult
from cmzon_secrets.client.wiring import Wiring
from cmzon_secrets.errors import shielded
from cmzon_secrets.http import Session

if TYPE_CHECKING:
    from cmzon_secrets.client.outbox.model import Leased
    from cmzon_secrets.client.outbox.outbox import Outbox

__all__ = ["Client"]

_R = TypeVar("_R")


class Client(Wiring):
    __doc__ = f"""The client for threads. Thread-safe, fork-safe. {Wiring.__doc__}"""

    @shielded
    def send_message(
        self, to: str, message: str, *, idempotency_key: str | None = None, priority: int = 0
    ) -> SendResult:
        """Send a text message to a phone number in E.164.

        ``idempotency_key``: yours, so that sending again with it cannot become a second message
        where the API honours keys; default: a new one for this call. ``priority``: the higher goes
        first where messages wait for their turn.

        Raises RequestRejected without a status for a number, text or key that cannot be sent; the
        APIError of the API's answer; TransportError where there was none that could be used;
        RateLimited without a status where no turn came in time; DailyLimitReached; and what the
        provider raises. ``may_have_been_sent`` of an APIError: nobody knows whether it was.
        """
        return self._perform(self._message(to, message, idempotency_key, priority))

    @shielded
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
        return self._perform(self._any(method, path, json, headers))

    def outbox(
        self, path: str | Path, *, keep: timedelta | float | None = timedelta(days=7)
    ) -> Outbox:
        """A file in which messages wait to be sent by this client; see ``Outbox``."""
        from cmzon_secrets.client.outbox.outbox import Outbox  # not everybody has sqlite3

        return Outbox(path, keep=keep, clock=self._shared.clock, client=self)

    def send_queued(self, message: Leased, departing: Callable[[], None], /) -> SendResult:
        """For whoever drains a queue, ``Outbox.run`` above all: send a message that it holds.

        ``departing`` is called once, with the turn and the token at hand and nothing sent yet, to
        note on a disk that it leaves; what it raises stops the call. Raises like ``send_message``.
        """
        return self._perform(self._queued(message, departing))

    def close(self) -> None:
        """Close the connections, and what a URI opened."""
        self._session.close()
        self._close_provider()

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
        return f"<Client {self._session.base_url} {self._shared.cache.uri}>"

    def _connect(
        self, base_url: str | None, *, ca: str | None, timeout: float, proxy: str | None
    ) -> str:
        self._session = Session(base_url, ca=ca, timeout=timeout, proxy=proxy)
        return self._session.base_url

    def _perform(self, steps: Steps[_R]) -> _R:
        self._session.open()  # the first message would be late for its slot
        resume = partial(steps.send, None)
        try:
            while True:
                effect = resume()
                try:
                    resume = partial(steps.send, self._one(effect))
                except BaseException as error:  # noqa: BLE001  # it is raised where the steps stand
                    resume = partial(steps.throw, error)
        except StopIteration as end:
            result: _R = end.value
            return result
        finally:
            steps.close()

    def _one(self, effect: Effect) -> Any:
        match effect:
            case NeedToken():
                return self._shared.cache.get()
            case Request():
                return self._send(effect)
            case Sleep(seconds):
                return self._shared.clock.sleep(seconds)
            case Park(ticket, seconds):
                called = threading.Event()
                ticket.on_call(called.set)
                return called.wait(seconds)
            case _:
                return effect.function()

    def _send(self, request: Request) -> Answer:
        return self._session.send(
            request.method,
            request.path,
            token=request.token,
            json=request.json,
            headers=request.headers,
            within=request.within,
            leaving=request.leaving,
        )
