"""A Celery task that sends a message: a queue beyond one machine, and nothing sent twice.

Standalone, configured by the environment (docs/celery-messages.md)::

    celery -A cmzon_secrets.runtimes.celery_messages worker -Q cmzon-messages-urgent,cmzon-messages

or in an app that exists: ``Celery(…, include=["cmzon_secrets.runtimes.celery_messages"])``. Then::

    send_message.delay("+1234567890", "Hello from CMzon!", key="order-4711")

A broker may deliver a message twice and a worker may die at any instant. What was handed over to the
API stands in a ledger (``message_ledger``), entered just before the first byte leaves; before that
nothing is lost, for a message is acknowledged when its task has ended.

Whatever holds messages back (the day is over, a token is refused, a store is away) holds all of
them: the process waits a little where it is, and puts the message back. Celery's own retry would be
no better: a task with a countdown is held in memory by whichever worker fetched it, Redis delivers it
again after the visibility timeout, and one that cannot be published is lost.
"""

from __future__ import annotations

import json
import logging
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from typing import Any

from cmzon_secrets.client.messages import check_key, check_message, check_priority
from cmzon_secrets.clock import SYSTEM_CLOCK
from cmzon_secrets.errors import APIError, CMzonSecretsError, missing_extra, shielded
from cmzon_secrets.events import Event
from cmzon_secrets.forks import renew_in_child
from cmzon_secrets.runtimes.event_log import event_line, told
from cmzon_secrets.runtimes.message_ledger import Entry, MessageLedger
from cmzon_secrets.runtimes.message_sender import Delivered, Later, MessageSender, Settings

try:
    from celery import Celery, current_app, shared_task
    from celery.exceptions import Reject
    from celery.signals import worker_process_shutdown, worker_shutdown
    from celery.utils.log import get_task_logger

    from cmzon_secrets.runtimes.celery_private import PrivateTask
except ImportError as error:
    raise missing_extra("celery", "Celery tasks") from error

__all__ = ["app", "forget", "receipts", "send_message", "unsettled"]

TIME_LIMIT = 240
"""Seconds after which a task that hangs is killed: longer than any send and its wait."""

VISIBILITY_TIMEOUT = 300
"""Seconds after which Redis takes the worker of a message for dead."""

LONGEST = 15.0
"""Seconds for which a process waits before it puts a message back."""

_QUEUE, _URGENT = "cmzon-messages", "cmzon-messages-urgent"
_LOG: logging.Logger = get_task_logger(__name__)
_TOLD_ELSEWHERE = frozenset(["message_sent", "message_failed"])
"""Celery's own lines tell of them, and ours of what failed."""


class _MessageTask(PrivateTask):
    def apply_async(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        """Queue it. Raises RequestRejected for what could not be sent, before it is queued."""
        _check(*(args or ()), **(kwargs or {}))
        return super().apply_async(args, kwargs, **options)


def _task(function: Callable[..., Any]) -> Any:
    """A task of every app, ours or another's, that survives the death of its worker."""
    return shared_task(
        shielded(function),
        bind=True,
        base=_MessageTask,
        name=f"cmzon_secrets.{function.__name__}",
        acks_late=True,
        reject_on_worker_lost=True,
        # An app's own, if shorter, would end it in the middle, and Celery would take it for done.
        time_limit=TIME_LIMIT,
        soft_time_limit=TIME_LIMIT - 10,
        # Their message says it all; Celery would log a traceback with it.
        throws=(CMzonSecretsError,),
    )


@_task
def send_message(
    self: Any, to: str, message: str, key: str | None = None, priority: int = 0
) -> dict[str, Any]:
    """Send a text message, once per ``key`` (default: the task's id); the key and the API's ids.

    ``priority``: among the threads of one process; for more, see the queues. Fails with
    RequestRejected for what the API refuses, and with TransportError for what it may have taken and
    nobody knows: a person has to look.
    """
    key = key if key is not None else self.request.id or str(uuid.uuid4())
    outcome = _deliver(key, to, message, priority)
    if isinstance(outcome, Later):
        _LOG.warning(_line(key, "pending", outcome.reason))
        SYSTEM_CLOCK.sleep(min(outcome.seconds, LONGEST))
        raise Reject(outcome.reason, requeue=True)
    return asdict(outcome)


def receipts(*keys: str) -> dict[str, Entry | None]:
    """What became of these messages; None: no worker began with it, or it is too long ago.

    Where a broker may have lost one, queueing it again with its key is harmless. Raises as below.
    """
    with _ledger() as ledger:
        return dict(zip(keys, ledger.entries(*keys), strict=True))


def unsettled() -> list[Entry]:
    """The messages that were tried and are not sent, the longest unchanged first.

    Raises ConfigurationError, and ProviderUnavailable where Redis does not answer.
    """
    with _ledger() as ledger:
        return ledger.unsettled()


def forget(*keys: str) -> int:
    """Forget these where they are unknown or dead, so that they may be queued again; how many."""
    with _ledger() as ledger:
        return ledger.forget(*keys)


class _Kept:
    """The sender of this process: made for its first message, and anew in a forked child."""

    def __init__(self) -> None:
        self.sender: MessageSender | None = None
        self._making = threading.Lock()
        renew_in_child(self)

    def get(self) -> MessageSender:
        with self._making:
            if self.sender is None:
                self.sender = MessageSender(_settings(), subscriber=_log_event)
            return self.sender

    def close(self, **_: Any) -> None:
        with self._making:
            if self.sender is not None:
                self.sender.close()
            self.sender = None

    def after_fork(self) -> None:
        self.sender = None
        self._making = threading.Lock()


_KEPT = _Kept()
worker_process_shutdown.connect(_KEPT.close)
worker_shutdown.connect(_KEPT.close)  # of pools that do not fork


def _deliver(key: str, to: str, message: str, priority: int) -> Delivered | Later:
    try:
        sender = _KEPT.get()
    except CMzonSecretsError as error:  # not the message's fault: somebody has to mend it
        return Later(LONGEST, str(error))
    try:
        return sender.deliver(key, to, message, priority)
    except APIError as error:
        unknown = error.may_have_been_sent
        _LOG.error(_line(key, "unknown" if unknown else "dead", str(error)))
        raise


def _check(to: str, message: str, key: str | None = None, priority: int = 0) -> None:
    check_message(to, message)
    check_priority(priority)
    if key is not None:
        check_key(key)


def _line(key: str, state: str, reason: str) -> str:
    message = {"key": key, "state": state, "reason": reason}
    return told(json.dumps({"message": message}, ensure_ascii=False))


def _log_event(event: Event) -> None:
    if event.name not in _TOLD_ELSEWHERE:
        _LOG.info(event_line(event))


def _settings() -> Settings:
    return Settings.found(redis_url=_redis_of(current_app.conf.broker_url))


def _redis_of(broker: Any) -> str:
    """The broker's URL where it is one Redis, without Celery's options; nothing otherwise."""
    one = isinstance(broker, str) and ";" not in broker
    is_redis = one and broker.startswith(("redis://", "rediss://"))
    return str(broker).partition("?")[0] if is_redis else ""


@contextmanager
def _ledger() -> Iterator[MessageLedger]:
    with closing(_settings().ledger()) as ledger:
        yield ledger


def _standalone() -> Any:
    app = Celery("cmzon-messages", set_as_current=False)
    app.conf.update(
        broker_connection_retry_on_startup=True,
        broker_transport_options={
            "queue_order_strategy": "priority",  # in the order of -Q
            "visibility_timeout": VISIBILITY_TIMEOUT,
        },
        task_default_queue=_QUEUE,
        task_queues={_URGENT: {}, _QUEUE: {}},
        worker_prefetch_multiplier=1,  # what one worker holds back no other can do
    )
    return app


app = _standalone()
"""What ``celery -A cmzon_secrets.runtimes.celery_messages`` runs."""
