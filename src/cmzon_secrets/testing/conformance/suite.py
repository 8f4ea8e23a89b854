"""What all suites share: hooks that cannot be forgotten."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, TypeVar

import pytest

__all__ = ["Suite"]

_T = TypeVar("_T")


class Suite:
    """``cannot`` excuses hooks: name of the hook → why there is no such thing here."""

    cannot: ClassVar[Mapping[str, str]] = MappingProxyType({})

    def ask(self, hook: Callable[..., _T], *args: Any) -> _T:
        """The hook's answer. Skips where it is excused, fails where it is missing."""
        name = hook.__name__
        if name in self.cannot:
            pytest.skip(f"{type(self).__name__} has no {name}: {self.cannot[name]}")
        try:
            return hook(*args)
        except NotImplementedError:
            pytest.fail(
                f"{type(self).__name__} does not say {name}: define the method, "
                f"or write cannot = {{{name!r}: 'why not'}}"
            )
