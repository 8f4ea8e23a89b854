"""Telling of a message without changing what comes of it.

Subscribers and tracing are other people's code, and code fails. Before a message leaves, that may
stop it. Afterwards it must not: who is told that a message failed sends it again, though it was
accepted. What they raise then goes to ``sys.unraisablehook``, which Python has for errors that
nobody can receive; by default it prints them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import ParamSpec, TypeVar

from cmzon_secrets.errors import without_frames

__all__ = ["ended_apart", "told_apart"]

_P = ParamSpec("_P")
_T = TypeVar("_T")


def told_apart(tell: Callable[_P, object], /, *args: _P.args, **kwargs: _P.kwargs) -> None:
    """Call ``tell``. An Exception that it raises is not raised here, but told."""
    try:
        tell(*args, **kwargs)
    except Exception as error:  # noqa: BLE001  # it is told
        for link in (error.__cause__, error.__context__):
            if link is not None:
                without_frames(link)  # it may be what was told of, and those hold the message
        _Unraisable(error)


@contextmanager
def ended_apart(span: AbstractContextManager[_T]) -> Iterator[_T]:
    """``span`` around a block: raises what its beginning raises, and its end changes nothing."""
    begun = span.__enter__()
    try:
        yield begun
    except BaseException as error:
        told_apart(span.__exit__, type(error), error, error.__traceback__)
        raise
    told_apart(span.__exit__, None, None, None)


class _Unraisable:
    """Raises ``error`` where the interpreter itself hands it to the hook: there is no function for that."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __del__(self) -> None:
        raise self.__dict__.pop("_error")
