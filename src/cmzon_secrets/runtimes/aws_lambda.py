"""AWS Lambda: ``cmzon_secrets.runtimes.aws_lambda.handler``.

Events: a step of Secrets Manager's own rotation, ``{}`` or what a schedule sends, and orders of ours,
``{"account": …, "force": …, "dry_run": …}`` and ``{"account": …, "revoke": TOKEN_ID or true}``, by hand or by an
alarm. Configured by ``CMZON_SECRETS_CONFIG``, or by ``CMZON_TOKEN_URI``, ``CMZON_ADMIN_URI``, ``CMZON_BASE_URL``
and ``CMZON_ROTATION_*``; for the steps alone not even ``CMZON_TOKEN_URI`` is needed.

It answers ``{"schema": 1, "items": […]}`` like ``cmzon-secrets rotate --json``, and logs each event and item as
a line of JSON. A run that failed is raised after that, for AWS counts, repeats and alarms by exceptions only.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from importlib.util import find_spec
from traceback import extract_tb
from typing import Any, cast

from cmzon_secrets.accounts import open_account
from cmzon_secrets.config import Account
from cmzon_secrets.errors import (
    CMzonSecretsError,
    ConfigurationError,
    InvalidURI,
    RotationError,
    retold,
)
from cmzon_secrets.provider import TokenStore
from cmzon_secrets.runtimes.aws_events import Order, Step, parse
from cmzon_secrets.runtimes.event_log import log_event, log_item, told
from cmzon_secrets.runtimes.rotation_steps import NativeStore, Rotation
from cmzon_secrets.runtimes.scheduled import (
    configured,
    failure,
    report_item,
    revoke_configured,
    rotate_configured,
)
from cmzon_secrets.runtimes.warm import warm_issuers
from cmzon_secrets.typed import shown
from cmzon_secrets.uri import Location, split

__all__ = ["handler"]

MARGIN = 30.0
"""Seconds before the function is killed at which no account is begun any more."""


def handler(event: object, context: Any = None) -> dict[str, Any]:
    """Do what ``event`` asks. Raises CMzonSecretsError where anything failed."""
    items, problem = _outcome(event, context)
    del event  # it may hold a RotationToken, and a traceback keeps what is here
    if problem is not None:
        raise problem
    return {"schema": 1, "items": items}


def _outcome(event: object, context: Any) -> tuple[list[dict[str, Any]], CMzonSecretsError | None]:
    """The items, logged; and what is to be raised."""
    try:
        asked = parse(event)
        _require_packed()
        items = _perform(asked, context)
    except CMzonSecretsError as error:
        return [], _with_hint(error)
    except Exception as error:  # noqa: BLE001  # its text is not logged: nobody knows what it quotes
        return [], RotationError(f"internal — an unexpected {type(error).__name__}{_origin(error)}")
    for item in items:
        log_item(item)
    failed = failure(items)
    return items, _with_hint(failed) if failed is not None else None


def _require_packed() -> None:
    """Raise ConfigurationError for a sealed file where the zip was built without what opens it."""
    if find_spec("cryptography") is not None:
        return
    for account in configured().accounts.values():
        if any(uri.startswith("file:") for uri in (account.place, account.admin or "")):
            raise ConfigurationError(
                f"account {account.name} — a sealed file needs a package that is not in this zip",
                hint="build it with: python -m cmzon_secrets.provisioning.lambda_zip --with cryptography",
            )


def _perform(asked: Step | Order, context: Any) -> list[dict[str, Any]]:
    if isinstance(asked, Step):
        return [_rotate_natively(asked)]
    if asked.revoke:
        token_id = asked.revoke if isinstance(asked.revoke, str) else None
        return [
            revoke_configured(
                account=asked.account,
                token_id=token_id,
                replace=asked.replace,
                subscriber=log_event,
            )
        ]
    return rotate_configured(
        account=asked.account,
        force=asked.force,
        dry_run=asked.dry_run,
        time_limit=_time_left(context),
        subscriber=log_event,
    )


def _time_left(context: Any) -> float | None:
    """Seconds in which accounts may be begun; None where nobody says when it ends."""
    if not hasattr(context, "get_remaining_time_in_millis"):
        return None
    left = float(context.get_remaining_time_in_millis()) / 1000
    return max(0.0, left - min(MARGIN, left / 2))


def _rotate_natively(step: Step) -> dict[str, Any]:
    account = _account_of(step.secret_id)
    with warm_issuers() as issuers, open_account(account, issuers) as (store, issuer, policy):
        _require_same(store, step.secret_id)
        rotation = Rotation(
            store=store,
            native=cast("NativeStore", store),  # of what sends steps, every URI leads to this class
            issuer=issuer,
            policy=policy,
            version_id=step.version_id,
            pass_on=step.pass_on,
            subscriber=log_event,
        )
        return report_item(account.name, store.uri, rotation.perform(step.name))


def _account_of(secret_id: str) -> Account:
    """The account whose token is in this secret. Raises ConfigurationError."""
    found = configured()
    for account in found.accounts.values():
        if account.token == "" and found.config is None:
            return replace(account, token=f"awssecretsmanager://{secret_id}")
        if _names_of(secret_id) & _names_in(account):
            return account
    raise ConfigurationError(
        f"event — the secret {shown(secret_id)} is that of no account of this function",
        hint="name it as token URI: CMZON_TOKEN_URI, or an account in CMZON_SECRETS_CONFIG",
    )


def _require_same(store: TokenStore, secret_id: str) -> None:
    """Raise ConfigurationError where our account's place has the secret's name, and is elsewhere."""
    _, account, region, name = store.identity.split(":", 3)
    arn = f":{region}:{account}:secret:{name}"
    if secret_id.startswith("arn:") and not secret_id.partition(":secretsmanager")[2].startswith(
        arn
    ):
        raise ConfigurationError(
            f"event — its secret {shown(secret_id)} is not that of {store.uri}",
            hint="look at region and account of both",
        )


def _names_in(account: Account) -> set[str]:
    uris: Iterable[str] = (account.token,) if isinstance(account.token, str) else ()
    places: list[Location] = []
    for uri in uris:
        try:
            places.append(split(uri))
        except InvalidURI:
            continue
    return {name for p in places if p.scheme == "awssecretsmanager" for name in _names_of(p.path)}


def _names_of(secret_id: str) -> set[str]:
    """How a secret may be called: by its ARN, the ARN's end, or that without the six characters AWS adds."""
    *_, name = secret_id.split(":secret:")
    if name == secret_id:
        return {name}
    return {secret_id, name, name[:-7]} if name[-7:-6] == "-" else {secret_id, name}


def _origin(error: Exception) -> str:
    frames = extract_tb(error.__traceback__)
    return f" in {frames[-1].name}, line {frames[-1].lineno}" if frames else ""


def _with_hint(error: CMzonSecretsError) -> CMzonSecretsError:
    """As one line with its remedy: of an exception, AWS shows the text alone."""
    return retold(error, told(f"{error}; {error.hint}" if error.hint else str(error)))
