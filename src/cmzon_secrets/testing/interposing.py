"""Watch or break a backend between its low-level calls, without the backend knowing.

    with interposed(step, os, "open", "write", "fsync", "replace"):
        store.promote(...)

calls ``step`` before and after each of these calls; a ``step`` that raises is a crash there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any

__all__ = ["interposed"]


@contextmanager
def interposed(step: Callable[[], None], owner: object, *names: str) -> Iterator[None]:
    """While entered, ``owner``'s functions or methods ``names`` call ``step`` before and after."""
    with ExitStack() as undo:
        for name in names:
            if name in vars(owner):
                undo.callback(setattr, owner, name, vars(owner)[name])
            else:  # inherited: taking ours away uncovers it again
                undo.callback(delattr, owner, name)
            setattr(owner, name, _stepping(step, getattr(owner, name)))
        yield


def _stepping(step: Callable[[], None], original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        step()
        answer = original(*args, **kwargs)
        step()
        return answer

    return call
