"""Debug logs of the HTTP engine, without the token: it logs the headers of every answer as they came.

A server that repeats the Authorization header would put the token into the log of whoever turned
DEBUG on. The filter costs nothing while DEBUG is off.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from cmzon_secrets.answers import masking_token
from cmzon_secrets.tokens import Token

__all__ = ["guard_logs", "hidden"]

_TOKEN: ContextVar[Token | None] = ContextVar("token on its way", default=None)
_LOGGERS = ("connection", "http11")


@contextmanager
def hidden(token: Token | None) -> Iterator[None]:
    """While this runs, no record of the engine that is made here shows ``token``."""
    before = _TOKEN.set(token)
    try:
        yield
    finally:
        _TOKEN.reset(before)


def guard_logs() -> None:
    """Put the filter on the engine's loggers; again changes nothing."""
    for name in _LOGGERS:
        logging.getLogger(f"httpcore2.{name}").addFilter(_without_token)


def _without_token(record: logging.LogRecord) -> bool:
    token = _TOKEN.get()
    if token is not None:
        message = record.getMessage()
        masked = masking_token(token.reveal())(message)
        if masked != message:
            record.msg, record.args = masked, ()
    return True
