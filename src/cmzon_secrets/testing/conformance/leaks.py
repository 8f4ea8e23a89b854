"""Where a secret could be seen, gathered as text and searched."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Iterable
from types import TracebackType

from cmzon_secrets.tokens import MASK, Token

__all__ = ["everything_logged", "failure_of", "must_hide", "shown"]


def failure_of(call: Callable[[], object]) -> Exception:
    """The error ``call`` raises."""
    try:
        call()
    except Exception as error:  # noqa: BLE001  # whatever it is: the caller judges
        # Without this very frame: a partial shows its arguments, which are the test's own.
        below = error.__traceback__.tb_next if error.__traceback__ else None
        return error.with_traceback(below)
    raise AssertionError("nothing was raised")


def shown(error: BaseException) -> str:
    """All that a reporter can print of an error: message, causes, frames with their locals."""
    formatted = traceback.TracebackException(
        type(error), error, _below_the_suite(error.__traceback__), capture_locals=True
    )
    attributes = "\n".join(f"{k}={v!r}" for k, v in vars(error).items())
    return "\n".join([str(error), repr(error), attributes, *formatted.format(chain=True)])


def _below_the_suite(frames: TracebackType | None) -> TracebackType | None:
    """Without the test's own frames, whose locals may hold what it looks for."""
    while frames is not None and _is_ours(frames.tb_frame.f_globals):
        frames = frames.tb_next
    return frames


def _is_ours(module: dict[str, object]) -> bool:
    return str(module.get("__name__", "")).startswith(__package__ or "")


def everything_logged(records: Iterable[logging.LogRecord]) -> str:
    """Each record's message and all its attributes, arguments included."""
    return "\n".join(f"{r.getMessage()} {vars(r)!r}" for r in records)


def must_hide(text: str, *secrets: Token | str) -> None:
    """Fail where one of the values, or its better part, stands in ``text``; without showing it."""
    __tracebackhide__ = True
    for value in (s.reveal() if isinstance(s, Token) else s for s in secrets):
        found = text.find(value[:24])
        if found >= 0:
            around = text[max(0, found - 120) : found]
            raise AssertionError(f"a secret is shown: {around!r} {MASK}")
