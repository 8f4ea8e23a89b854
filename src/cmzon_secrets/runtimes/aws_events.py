"""What an event asks of the Lambda function: a rotation step, an order of ours, or a schedule's turn.

An event is never repeated in an error: it may carry a ``RotationToken``, or a secret in the wrong
place.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from cmzon_secrets.errors import ConfigurationError
from cmzon_secrets.typed import quoted

__all__ = ["Order", "Step", "parse"]

LONGEST_ID = 64  # characters; what is longer is rather a token


@dataclass(frozen=True, slots=True)
class Step:
    """One of the four calls by which Secrets Manager rotates by itself."""

    name: str
    secret_id: str
    version_id: str
    pass_on: Callable[[], str | None]
    """The ``RotationToken``; a closure, so that no repr shows it."""


@dataclass(frozen=True, slots=True)
class Order:
    """Rotate (``account`` None: all of them), or revoke: a token's id, or True for CURRENT."""

    account: str | None = None
    force: bool = False
    dry_run: bool = False
    revoke: str | bool = False
    replace: bool = True


def parse(event: object) -> Step | Order:
    """What an event means. Raises ConfigurationError for one that is none of those we know."""
    if not isinstance(event, dict):
        _refuse("it is no JSON object")
    if "Step" in event:
        return _step(event)
    if "Records" in event:
        return _order(_message(event["Records"]))
    if "source" in event and "detail" in event:
        return _schedule(event)
    return _order(event)


def _step(event: Mapping[str, Any]) -> Step:
    for name in ("SecretId", "ClientRequestToken", "Step"):
        if not isinstance(event.get(name), str) or not event[name]:
            _refuse(f"a rotation step without a {name}")
    token = event.get("RotationToken")
    if not isinstance(token, str | None):
        _refuse("its RotationToken is no text")
    return Step(event["Step"], event["SecretId"], event["ClientRequestToken"], lambda: token)


def _schedule(event: Mapping[str, Any]) -> Order:
    if event["source"] not in ("aws.scheduler", "aws.events") or event["detail"]:
        _refuse(
            "it comes from EventBridge, but from no schedule: give the rule an input of its own"
        )
    return Order()


def _message(records: object) -> dict[str, Any]:
    """The JSON in the one message that SNS delivers at a time."""
    match records:
        case [{"Sns": {"Message": str(text)}}]:
            pass
        case _:
            _refuse("its Records are not one message of SNS")
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        message = None
    if not isinstance(message, dict):
        _refuse("the message of SNS is no JSON object")
    return message


def _order(event: Mapping[str, Any]) -> Order:
    for name in event:
        if name not in _CHECKS:
            _refuse(f"unknown key {quoted(str(name))}")
        if not _CHECKS[name](event[name]):
            _refuse(f"{name} is not what it must be")
    order = Order(**{name: value for name, value in event.items() if value is not None})
    if order.revoke and (order.force or order.dry_run):
        _refuse("revoke goes with neither force nor dry_run")
    if not order.replace and not order.revoke:
        _refuse("replace goes with revoke only")
    return order


def _may_be_id(value: object) -> bool:
    if not isinstance(value, str):
        return value is True or value is None
    printable = value.isascii() and value.isprintable() and " " not in value
    return printable and 0 < len(value) <= LONGEST_ID and not value.lower().startswith("cmz_")


_CHECKS: Mapping[str, Callable[[Any], bool]] = {
    "account": lambda value: value is None or (isinstance(value, str) and value != ""),
    "force": lambda value: isinstance(value, bool),
    "dry_run": lambda value: isinstance(value, bool),
    "revoke": _may_be_id,
    "replace": lambda value: isinstance(value, bool),
}


def _refuse(why: str) -> NoReturn:
    raise ConfigurationError(
        f"event — {why} (it is not repeated here: it may hold a secret)",
        hint="valid: a rotation step of Secrets Manager; {} or what a schedule sends; "
        '{"account": NAME, "force": true, "dry_run": true}; '
        '{"account": NAME, "revoke": TOKEN_ID or true, "replace": false}; '
        "each but the step also as the message of SNS",
    )
