"""A Celery task whose arguments nobody shows: they are a phone number and a text.

They have to be in the message that the broker holds. Celery would also repeat them in events, in
``inspect``, in results (``result_extended``), and in the worker's log at DEBUG.
"""

from __future__ import annotations

import logging
from typing import Any

from celery import Task
from celery.worker.request import Request

__all__ = ["HIDDEN", "PrivateTask"]

HIDDEN = "(not shown)"


class _PrivateRequest(Request):  # type: ignore[misc]  # Celery has no types
    """What a worker makes of a message, whoever sent it."""

    def __init__(self, message: Any, **options: Any) -> None:
        super().__init__(message, **options)
        self._argsrepr = self._kwargsrepr = HIDDEN
        self._request_dict.update(argsrepr=HIDDEN, kwargsrepr=HIDDEN)

    def info(self, safe: bool = False) -> dict[str, Any]:  # noqa: ARG002  # always
        shown: dict[str, Any] = super().info(safe=True)
        return shown


class PrivateTask(Task):  # type: ignore[misc]  # Celery has no types
    """Base of such tasks."""

    Request = _PrivateRequest

    def apply_async(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        """As of any task."""
        return super().apply_async(args, kwargs, **options, argsrepr=HIDDEN, kwargsrepr=HIDDEN)

    def before_start(self, *_: Any) -> None:
        """The result that is stored later takes its arguments from here."""
        self.request.update(args=HIDDEN, kwargs=HIDDEN)


def _without_arguments(record: logging.LogRecord) -> bool:
    """The pool logs what it applies: a whole message, of whatever task."""
    if record.msg.startswith("TaskPool: Apply") and isinstance(record.args, tuple):
        record.args = (record.args[0], HIDDEN, HIDDEN)
    return True


def _unless_put_back(record: logging.LogRecord) -> bool:
    """A task that puts its message back has said why; Celery would add a warning with a traceback."""
    told = record.args if isinstance(record.args, dict) else {}
    return (told.get("args"), told.get("description")) != (HIDDEN, "rejected")


logging.getLogger("celery.pool").addFilter(_without_arguments)
logging.getLogger("celery.app.trace").addFilter(_unless_put_back)
