"""What a Vault secret of ours holds: fields in, tokens out, and back. Pure.

Fields are strings, because servers round large numbers. An external reader needs ``token`` alone:

    token      the value of CURRENT
    pending    the value of PENDING         } only where such a token is held; with ``layout=split``
    previous   the value of PREVIOUS        } in a second secret, PATH.rotation
    replaced   in PATH.rotation, while CURRENT is being replaced: the value that is replaced
    rotation   JSON without a value: ``layout``, ``write_id`` (random, tells our own write from a rival's),
               ``promoted_at``, and for each token its record (``records.py``) with its ``fingerprint``;
               in PATH.rotation also ``moving``: the version of PATH that a promotion is about to replace

All other fields are somebody else's and are kept. ``token`` may be changed by hand: what ``rotation`` does not
know by its fingerprint is a CURRENT without metadata. A ``pending`` or ``previous`` it does not know is refused.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal

from cmzon_secrets.errors import ConfigurationError, InvalidToken, retold, shielded
from cmzon_secrets.records import format_time, from_record, parse_time, to_record
from cmzon_secrets.tokens import Token, Versions

__all__ = ["LAYOUTS", "MAIN", "SINGLE", "STATE", "Document", "Layout", "current_of", "settled"]

Layout = Literal["single", "split"]
LAYOUTS: tuple[Layout, Layout] = ("single", "split")

SINGLE = ("token", "pending", "previous")
"""The fields that hold values in the one secret of ``layout=single``."""
MAIN = ("token",)
"""… in the secret that readers see of ``layout=split``."""
STATE = ("pending", "previous", "replaced")
"""… in its second secret."""

MAX_BYTES = 512 * 1024
"""The smallest of the servers' own limits: that of Consul as storage."""


@dataclass(frozen=True, slots=True)
class Document:
    """One secret, understood: ``tokens`` by field, and the fields of others, kept as they are."""

    tokens: Mapping[str, Token] = field(default_factory=dict)
    others: Mapping[str, Any] = field(default_factory=dict, repr=False)
    promoted_at: datetime | None = None
    moving: int | None = None

    @classmethod
    @shielded
    def read(
        cls,
        data: Mapping[str, Any],
        fields: tuple[str, ...],
        layout: Layout,
        *,
        written_at: datetime | None = None,
    ) -> Document:
        """The document in ``data``; ``written_at`` is when that version was written.

        Raises InvalidToken for what is not ours or no token, ConfigurationError for another layout.
        """
        notes = _notes(data, layout)
        if fields != STATE and "token" not in data and data and notes is None:
            raise _foreign()
        notes = notes or {}
        tokens = {name: _token(name, data[name], notes) for name in fields if name in data}
        current = tokens.get("token")
        by_us = current is not None and _knows(notes, "token", current)
        try:
            promoted_at = parse_time(notes.get("promoted_at")) if by_us else written_at
        except InvalidToken as error:
            raise _of("rotation", error) from None
        moving = notes.get("moving")
        return cls(
            tokens,
            {k: v for k, v in data.items() if k not in (*fields, "rotation")},
            promoted_at if current is not None else None,
            moving if isinstance(moving, int) else None,
        )

    @shielded
    def write(self, layout: Layout) -> dict[str, Any]:
        """What is to be stored, with a new ``write_id``. Raises ConfigurationError: too large."""
        notes: dict[str, Any] = {"layout": layout, "write_id": secrets.token_hex(16)}
        for name, token in self.tokens.items():
            notes[name] = {**to_record(token), "fingerprint": token.fingerprint}
            del notes[name]["token"]
        if self.promoted_at is not None:
            notes["promoted_at"] = format_time(self.promoted_at)
        if self.moving is not None:
            notes["moving"] = self.moving
        values = {name: token.reveal() for name, token in self.tokens.items()}
        data = {**self.others, **values, "rotation": json.dumps(notes, separators=(",", ":"))}
        if len(json.dumps(data)) > MAX_BYTES:
            raise ConfigurationError(
                f"the secret would be larger than {MAX_BYTES} bytes",
                hint="store fewer scopes and addresses with the token",
            )
        return data

    def holding(
        self,
        tokens: Mapping[str, Token | None],
        *,
        promoted_at: datetime | None = None,
        moving: int | None = None,
    ) -> Document:
        """The same with these tokens, by field, and nothing else of ours."""
        held = {name: token for name, token in tokens.items() if token is not None}
        return replace(self, tokens=held, promoted_at=promoted_at, moving=moving)


def settled(main: Document, state: Document) -> Versions:
    """The stages in both documents; ``state`` may be ``main`` itself (``layout=single``).

    A promotion saves what it replaces, then replaces it, then tidies up: whether it happened is
    seen by what CURRENT is. A stage whose value was made CURRENT by hand has become CURRENT.
    """
    current, pending = main.tokens.get("token"), state.tokens.get("pending")
    previous, replaced = state.tokens.get("previous"), state.tokens.get("replaced")
    if state.moving is not None and current != replaced:
        previous = replaced
    return Versions(
        current,
        None if pending == current else pending,
        None if previous == current else previous,
        main.promoted_at,
    )


@shielded
def current_of(data: Mapping[str, Any]) -> Token | None:
    """CURRENT, read for an application: a ``rotation`` that is not ours does not matter to it.

    Raises InvalidToken where ``token`` is no token, or there is none among the fields of others.
    """
    try:
        notes = _notes(data, None)
    except InvalidToken:
        notes = {}
    if "token" in data:
        return _token("token", data["token"], notes or {})
    if data and notes is None:
        raise _foreign()
    return None


def _notes(data: Mapping[str, Any], layout: Layout | None) -> dict[str, Any] | None:
    """What ``rotation`` says; None where there is none."""
    if "rotation" not in data:
        return None
    try:
        notes = json.loads(data["rotation"])
    except (TypeError, ValueError, RecursionError):
        notes = None
    if not isinstance(notes, dict) or notes.get("layout") not in LAYOUTS:
        raise InvalidToken(
            "its field rotation was not written by cmzon-secrets",
            hint="rename or remove that field, or store the token at a path of its own",
        )
    if layout is not None and notes["layout"] != layout:
        raise ConfigurationError(
            f"it was written with layout={notes['layout']}, and is opened with layout={layout}",
            hint=f"write layout={notes['layout']} into the URI, or copy the token to another path",
        )
    return notes


def _token(name: str, value: object, notes: Mapping[str, Any]) -> Token:
    """The token in a field, with the metadata that ``rotation`` has of it."""
    if not isinstance(value, str):
        raise InvalidToken(f"its field {name} is not a string but {_kind(value)}")
    try:
        token = Token(value)
        if _knows(notes, name, token):
            return from_record({**notes[name], "token": value})
    except InvalidToken as error:
        raise _of(name, error) from None
    if name == "token":
        return token
    raise InvalidToken(
        f"its field {name} was not written by cmzon-secrets",
        hint="rename or remove that field, or store the token at a path of its own; "
        "only `token` may be changed by hand",
    )


def _knows(notes: Mapping[str, Any], name: str, token: Token) -> bool:
    record = notes.get(name)
    return isinstance(record, dict) and record.get("fingerprint") == token.fingerprint


def _of(name: str, error: InvalidToken) -> InvalidToken:
    why = error.message.partition(" — ")[2]
    return retold(error, f"its field {name}: {why or error.message}")


def _foreign() -> InvalidToken:
    return InvalidToken(
        "it has fields, and none of them is token (names not repeated)",
        hint="store the token in a field named token, or at a path of its own",
    )


def _kind(value: object) -> str:
    return {dict: "an object", list: "a list", bool: "a truth value", type(None): "null"}.get(
        type(value), "a number"
    )
