"""Azure Functions: what a timer calls. ``examples/azure-function/`` is the function around it.

Configured by the app's settings: ``CMZON_SECRETS_CONFIG``, or ``CMZON_TOKEN_URI``, ``CMZON_ADMIN_URI``,
``CMZON_BASE_URL`` and ``CMZON_ROTATION_*``. Each event and each account's item is a line of JSON in the log
``cmzon_secrets.rotation``, which Application Insights takes. A run that failed is raised after that, so
that the invocation counts as failed.
"""

from __future__ import annotations

import logging
from typing import Any

from cmzon_secrets.events import Event
from cmzon_secrets.runtimes.event_log import event_line, item_line
from cmzon_secrets.runtimes.scheduled import failure, rotate_configured

__all__ = ["TIME_LIMIT", "run_schedule"]

TIME_LIMIT = 240.0
"""Seconds in which accounts are begun: a minute less than the shortest plan gives by default."""

_LOG = logging.getLogger("cmzon_secrets.rotation")
_LEVELS = {"failed": logging.ERROR, "attention": logging.WARNING}


def run_schedule(*, time_limit: float = TIME_LIMIT) -> list[dict[str, Any]]:
    """Rotate every account that is due; an item for each, as ``cmzon-secrets rotate --json`` has them.

    ``time_limit``: seconds after which none is begun any more; the next run goes on. Raises
    RotationError where an account failed, ConfigurationError where nothing can be run at all.
    """
    items = rotate_configured(time_limit=time_limit, subscriber=_log_event)
    for item in items:
        level = _LEVELS.get(item["state"], logging.INFO)
        _LOG.log(level, "%s", item_line(item))
    failed = failure(items)
    if failed is not None:
        raise failed
    return items


def _log_event(event: Event) -> None:
    _LOG.info("%s", event_line(event))
