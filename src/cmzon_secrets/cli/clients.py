"""What ``send`` sends with: a client as its options say, the file of the day's count, an outbox."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmzon_secrets.errors import ConfigurationError

if TYPE_CHECKING:
    from cmzon_secrets.cli.targets import Target
    from cmzon_secrets.client import Client, RateLimits
    from cmzon_secrets.events import Event

__all__ = ["existing_outbox", "opened_client", "usual_limits_state"]


@contextmanager
def opened_client(
    target: Target, options: Mapping[str, Any], *, limits_state: str | None
) -> Iterator[Client]:
    """A client for the token meant; closed at the end, its limits and its provider too."""
    from cmzon_secrets.client import Client

    with (
        closing(_limits(target, options, limits_state)) as limits,
        target.open_provider() as provider,
        Client(
            provider,
            base_url=options["base_url"] or target.base_url,
            ca=options["ca"],
            limits=limits,
            idempotency=options["idempotency"],
        ) as client,
    ):
        yield client


def existing_outbox(path: str) -> str:
    """``path``. Raises ConfigurationError where nothing is there."""
    if not Path(path).exists():
        raise ConfigurationError(
            f"{path} — there is no outbox", hint="`send --from-file FILE` makes FILE.outbox"
        )
    return path


def _limits(target: Target, options: Mapping[str, Any], state: str | None) -> RateLimits:
    from cmzon_secrets.client.limits import MESSAGES_PER_DAY_NEW_ACCOUNT, RateLimits

    per_day = MESSAGES_PER_DAY_NEW_ACCOUNT if options["new_account"] else options["per_day"]
    given = {"per_second": options["per_second"], "per_day": per_day}
    figures = {name: n for name, n in given.items() if n is not None}
    url = os.environ.get("CMZON_LIMITS_URL")  # not an option: it may hold a password
    if url and options["limits_state"] is None:
        return RateLimits.shared(
            url,
            account=_account(target),
            ca=os.environ.get("CMZON_LIMITS_CA") or None,
            subscriber=_warn_where_degraded,
            **figures,
        )
    return RateLimits(**figures, state=state)


def _warn_where_degraded(event: Event) -> None:
    from cmzon_secrets.cli.output import note
    from cmzon_secrets.client.limits import PROCESSES

    if event.name == "limits_degraded":
        why = f"{event.uri} ({event.facts['reason']})"
        note(f"warning: limits — {why}: keeping to 1/{PROCESSES} of them")


def _account(target: Target) -> str:
    """Whose limits are shared: what all who share them call it."""
    name = os.environ.get("CMZON_ACCOUNT") or target.account
    if not name:
        raise ConfigurationError(
            "CMZON_ACCOUNT — it is not set, and CMZON_LIMITS_URL is",
            hint="name the account whose limits are shared, as all its senders do",
        )
    return name


def usual_limits_state(target: Target, options: Mapping[str, Any]) -> str:
    """The file in which the messages of the day are counted for this account, or place of a token.

    Its folder, for programs' state as the XDG base directories have it, is made. Raises
    ConfigurationError where it cannot be.
    """
    base = os.environ.get("XDG_STATE_HOME", "")  # a relative one is to be ignored, XDG says
    folder = (
        Path(base) if base.startswith("/") else _home() / ".local" / "state"
    ) / "cmzon-secrets"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"{folder} — {(error.strerror or 'it cannot be made').lower()}",
            hint="the day's messages are counted there: name a file with --limits-state",
        ) from error
    return str(folder / f"day-{_identity(target, options)}.db")


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError:
        raise ConfigurationError(
            "home folder — there is none for this user",
            hint="the day's messages are counted there: name a file with --limits-state",
        ) from None


def _identity(target: Target, options: Mapping[str, Any]) -> str:
    """What one count is for; relative paths in a URI mean something else in each folder."""
    config = str(target.config.path) if target.config is not None else str(Path.cwd())
    api = options["base_url"] or target.base_url or os.environ.get("CMZON_BASE_URL", "")
    parts = "\0".join((api, config, target.account or target.place))
    return blake2b(parts.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()
