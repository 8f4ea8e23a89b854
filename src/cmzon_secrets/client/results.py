"""What a call gives back where the API took it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Response", "SendResult"]


@dataclass(frozen=True, slots=True)
class SendResult:
    """An accepted message.

    The vendor does not publish the body of a success: ``id`` and ``status`` are None where the
    answer does not have them, and ``to`` is then the number it was sent to. ``attempts`` counts
    the requests it took; ``headers`` are the last answer's, names in lower case.

    No text here is longer than 256 characters, unprintable, or repeats the token, and none but
    ``to`` the number; ``headers`` are as long as they came.
    """

    id: str | None
    status: str | None
    to: str = field(repr=False)
    request_id: str | None
    attempts: int
    headers: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Response:
    """A successful answer; ``json`` is None where it has no body."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    json: Any = field(repr=False)
