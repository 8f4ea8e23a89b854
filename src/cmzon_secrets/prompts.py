"""Asking a person for a secret: without echo, or not at all."""

from __future__ import annotations

import threading
from typing import TextIO

from cmzon_secrets.errors import ConfigurationError

__all__ = ["ask_unseen"]

_one_at_a_time = threading.Lock()
"""Two that ask at once would each restore the terminal that the other left, echo and all."""


def ask_unseen(prompt: str, *, what: str, stream: TextIO | None = None, hint: str) -> str:
    """What is typed at the terminal, unseen; empty at its end of input.

    Raises ConfigurationError, about ``what`` and with ``hint``, where the terminal cannot hide
    what is typed: the secret would stay on the screen.
    """
    import getpass
    import warnings

    with _one_at_a_time, warnings.catch_warnings():
        warnings.simplefilter("error", getpass.GetPassWarning)
        try:
            return getpass.getpass(prompt, stream)
        except EOFError:
            return ""
        except getpass.GetPassWarning:
            raise ConfigurationError(f"{what} — this terminal cannot hide it", hint=hint) from None
