"""Celery tasks: each account of the fleet is a task of its own, for any number of workers and machines.

Standalone, with ``CMZON_SECRETS_CONFIG`` and Celery's own ``CELERY_BROKER_URL`` in the environment::

    celery -A cmzon_secrets.runtimes.celery worker
    celery -A cmzon_secrets.runtimes.celery beat

or as shared tasks of an app that exists: ``Celery(…, include=["cmzon_secrets.runtimes.celery"])``.

A broker may deliver a message twice and a worker may die at any instant. Neither needs a lock here:
two workers on one account are harmless, because every change of a stage is a compare-and-set. So a
message is acknowledged when its task has ended, and a task is never retried: what failed is found in
its store by the next fan-out. Arguments, results and log lines hold names and ids, never a token.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta
from secrets import SystemRandom
from typing import Any

from cmzon_secrets.clock import seconds
from cmzon_secrets.errors import CMzonSecretsError, ConfigurationError, missing_extra
from cmzon_secrets.events import Event
from cmzon_secrets.runtimes.event_log import event_line, item_line
from cmzon_secrets.runtimes.scheduled import (
    configured,
    failure,
    revoke_configured,
    rotate_configured,
)

try:
    from celery import Celery, current_app, shared_task
    from celery.utils.log import get_task_logger
except ImportError as error:
    raise missing_extra("celery", "Celery tasks") from error

__all__ = ["app", "revoke", "rotate_account", "rotate_fleet"]

EVERY = timedelta(hours=1)
"""How often ``beat`` of the standalone app looks at every account: well within any grace."""

JITTER = 300.0
"""Seconds within which the accounts of one fan-out begin."""

STALE = timedelta(hours=1)
"""An account's task that nobody began for so long after its turn is dropped: a later one is queued."""

VISIBILITY_TIMEOUT = 3600
"""Seconds after which Redis takes the worker of a message for dead (docs/running.md).

A fan-out that lasts longer is delivered twice in part: wasteful, not wrong.
"""

_QUEUE, _EMERGENCIES = "cmzon-secrets", "cmzon-secrets-emergency"
_LOG: logging.Logger = get_task_logger(__name__)
_LEVELS = {"failed": logging.ERROR, "attention": logging.WARNING}
_CHANCE = SystemRandom()


def _task(function: Callable[..., Any]) -> Any:
    """A task of every app, ours or another's, that survives the death of its worker."""
    return shared_task(
        function,
        name=f"cmzon_secrets.{function.__name__}",
        acks_late=True,
        reject_on_worker_lost=True,
        # Their message says it all; Celery would log a traceback with it.
        throws=(CMzonSecretsError,),
    )


@_task
def rotate_account(name: str, force: bool = False) -> dict[str, Any]:
    """Rotate this account where due (``force``: now); its item, as of ``rotate --json``.

    Fails with RotationError where the rotation failed, with ConfigurationError for an unknown name.
    """
    (item,) = rotate_configured(account=name, force=force, subscriber=_log_event)
    return _told(item)


@_task
def rotate_fleet(force: bool = False, jitter: float = JITTER) -> dict[str, str]:
    """Queue ``rotate_account`` for every account, to begin within ``jitter`` seconds; name → task id."""
    names = list(configured().accounts)
    _CHANCE.shuffle(names)
    longest = seconds("jitter", jitter)
    with current_app.producer_or_acquire() as producer:
        return {name: _queue(name, force, longest, producer) for name in names}


@_task
def revoke(account: str, token_id: str) -> dict[str, Any]:
    """Emergency, for alerts: kill the token of this id, replaced first where it is CURRENT; the item.

    By id, so that a message delivered twice cannot kill the good new token. Fails with
    RotationError until the death is proved: send it again.
    """
    if not isinstance(token_id, str) or not token_id:
        raise ConfigurationError(
            "token_id — it is missing; the id of the leaked token is needed",
            hint="`cmzon-secrets status` shows the ids",
        )
    return _told(revoke_configured(account=account, token_id=token_id, subscriber=_log_event))


def _queue(name: str, force: bool, jitter: float, producer: Any) -> str:
    sent = rotate_account.apply_async(
        (name,),
        {"force": force},
        countdown=_CHANCE.uniform(0, jitter) if jitter else None,
        expires=jitter + STALE.total_seconds(),
        producer=producer,
    )
    return str(sent.id)


def _told(item: dict[str, Any]) -> dict[str, Any]:
    """The item, logged; raised where it says ``failed``, so that Celery counts it as such."""
    _LOG.log(_LEVELS.get(item["state"], logging.INFO), item_line(item))
    error = failure([item])
    if error is not None:
        raise error
    return item


def _log_event(event: Event) -> None:
    _LOG.info(event_line(event))


def _standalone() -> Any:
    app = Celery("cmzon-secrets", set_as_current=False)
    app.conf.update(
        beat_schedule={
            "rotate the fleet": {
                "task": rotate_fleet.name,
                "schedule": EVERY,
                "options": {"expires": EVERY.total_seconds()},
            }
        },
        broker_connection_retry_on_startup=True,
        broker_transport_options={"visibility_timeout": VISIBILITY_TIMEOUT},
        task_default_queue=_QUEUE,
        # Workers take from both in turn, so that an emergency does not wait behind a fleet.
        task_queues={_QUEUE: {}, _EMERGENCIES: {}},
        task_routes={revoke.name: {"queue": _EMERGENCIES}},
        worker_prefetch_multiplier=1,  # what one worker holds back no other can do
    )
    return app


app = _standalone()
"""What ``celery -A cmzon_secrets.runtimes.celery`` runs."""
