"""The same done to many things, a few at a time, told in their own order."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextvars import copy_context
from typing import TypeVar

__all__ = ["side_by_side"]

T = TypeVar("T")
R = TypeVar("R")

AT_A_TIME = 16


def side_by_side(work: Callable[[T], R], things: Sequence[T]) -> Iterator[R]:
    """``work`` on each, up to 16 at a time; the results in order, each as soon as all before it are there.

    What ``work`` raises is raised here, in its turn. Ctrl-C waits for nobody.
    """
    if len(things) < 2:
        yield from map(work, things)  # nothing is beside it
        return
    results: dict[int, Future[R]] = {number: Future() for number in range(len(things))}
    numbers = iter(range(len(things)))

    def labour() -> None:
        for number in numbers:
            result = results[number]
            try:
                result.set_result(work(things[number]))
            except BaseException as error:  # noqa: BLE001  # it is raised where the result is awaited
                result.set_exception(error)

    for _ in range(min(AT_A_TIME, len(things))):
        threading.Thread(target=copy_context().run, args=(labour,), daemon=True).start()
    for number in range(len(things)):
        # What is told already is not kept: a result may hold tokens.
        yield results[number].result()
        del results[number]
