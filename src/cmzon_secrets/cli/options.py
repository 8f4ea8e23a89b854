"""Arguments and options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from cmzon_secrets.cli.failures import UsageFailure, typed_here
from cmzon_secrets.durations import parse_duration
from cmzon_secrets.errors import ConfigurationError

__all__ = [
    "account_option",
    "api_options",
    "create_option",
    "events_option",
    "fleet_options",
    "issuer_options",
    "json_option",
    "metrics_option",
    "policy_options",
    "uri_argument",
]

_Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


class Duration(click.ParamType[timedelta]):
    """``30d``, ``24h``, ``15m``, ``90s``, or seconds."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        try:
            return parse_duration(value)
        except ValueError as error:
            self.fail(f"it must be {error}", param, ctx)


def _together(*decorators: _Decorator) -> _Decorator:
    def apply(function: Callable[..., Any]) -> Callable[..., Any]:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return apply


def _given_once(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> str | None:
    if len(values) > 1:
        raise UsageFailure(f"{param.opts[0]} is given {len(values)} times", ctx=ctx)
    return values[0] if values else None


def _usable_base_url(
    ctx: click.Context,  # noqa: ARG001  # click calls it so
    param: click.Parameter,  # noqa: ARG001  # click calls it so
    url: str | None,
) -> str | None:
    from cmzon_secrets.http import checked_base_url

    with typed_here(ConfigurationError):
        return url and checked_base_url(url)


def _existing_ca(ctx: click.Context, param: click.Parameter, path: str | None) -> str | None:
    if path is not None and not Path(path).is_file():
        raise UsageFailure(
            f"{param.opts[0]} names no file",
            hint="give the PEM file of the CA that signed the API's certificate",
            ctx=ctx,
        )
    return path


def _in_a_folder(ctx: click.Context, param: click.Parameter, path: str | None) -> str | None:
    """The end of a run over ten thousand accounts is too late to find out."""
    if path is not None and (not Path(path).absolute().parent.is_dir() or Path(path).is_dir()):
        raise UsageFailure(
            f"{param.opts[0]} names no file in a folder that exists",
            hint="make the folder first, and give a file in it",
            ctx=ctx,
        )
    return path


uri_argument = click.argument("uri", metavar="[URI]", required=False)


def _accounts(ctx: object, param: object, begun: str) -> list[str]:  # noqa: ARG001  # click calls it so
    """The names to complete by Tab; where there is no file that can be used, none."""
    from cmzon_secrets.config import find_config, load_config

    with suppress(ConfigurationError):
        path = find_config()
        return (
            [name for name in load_config(path).accounts if name.startswith(begun)] if path else []
        )
    return []


account_option = click.option(
    "--account",
    metavar="NAME",
    multiple=True,
    callback=_given_once,
    shell_complete=_accounts,
    help="Take the token from this account of cmzon-secrets.toml.",
)

create_option = click.option(
    "--create",
    is_flag=True,
    help="Make a secret that is missing in a cloud; a sealed file is made in any case.",
)

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document, errors included."
)

events_option = click.option(
    "--events",
    metavar="FILE",
    help="Append each event as one JSON line, ids only; - is standard error.",
)

metrics_option = click.option(
    "--metrics",
    metavar="FILE",
    callback=_in_a_folder,
    help="Write what the run came to for Prometheus' textfile collector.",
)

api_options = _together(
    click.option(
        "--base-url",
        metavar="URL",
        callback=_usable_base_url,
        help="Where the API is; default $CMZON_BASE_URL, else https://api.cmzon.com.",
    ),
    click.option(
        "--ca",
        metavar="FILE",
        callback=_existing_ca,
        help="Trust this CA (PEM) instead of the system's, for the API.",
    ),
)

issuer_options = _together(
    click.option(
        "--issuer",
        metavar="NAME",
        shell_complete=lambda ctx, param, begun: [  # noqa: ARG005  # click calls it so
            name for name in ("cmzon", "manual") if name.startswith(begun)
        ],
        help="Who makes tokens: cmzon (the API; default) or manual (you, in the dashboard).",
    ),
    click.option(
        "--admin",
        metavar="URI",
        help="Where the token with tokens:manage is; default $CMZON_ADMIN_URI.",
    ),
    api_options,
)

fleet_options = _together(
    click.option(
        "--concurrency",
        type=click.IntRange(min=1),
        metavar="N",
        help="With --all: accounts under way at a time (16).",
    ),
    click.option(
        "--per-service",
        type=click.IntRange(min=1),
        metavar="N",
        help="With --all: of these at one service, for example one vault (8).",
    ),
    click.option(
        "--jitter",
        type=Duration(),
        metavar="TIME",
        help="With --all: spread the accounts over so long.",
    ),
    click.option(
        "--time-limit",
        type=Duration(),
        metavar="TIME",
        help="With --all: begin none after so long; the next run goes on.",
    ),
)

_DURATIONS = {
    "--rotate-every": "Age at which the token is replaced (30d).",
    "--grace": "How long the replaced token stays valid (24h).",
    "--expires-in": "Life of new tokens (no expiry).",
    "--renew-before": "Replace this long before expiry (a quarter of its life).",
    "--reader-ttl": "Longest time a reader keeps a token (300s).",
    "--request-deadline": "Longest time a request takes (60s).",
    "--revoke-limit": "Revoke a replaced token still in use after this (7d).",
    "--orphan-age": "Revoke our tokens that no store holds after this (1h).",
}

policy_options = _together(
    click.option("--name", metavar="NAME", help="Name of the tokens at CMzon."),
    click.option(
        "--scope", "scopes", multiple=True, metavar="SCOPE", help="Scope of new tokens; repeatable."
    ),
    click.option(
        "--allowed-ip",
        "allowed_ips",
        multiple=True,
        metavar="IP",
        help="Address or network that may use new tokens; repeatable.",
    ),
    *(
        click.option(option, type=Duration(), metavar="TIME", help=text)
        for option, text in _DURATIONS.items()
    ),
    click.option(
        "--allow-gap", is_flag=True, help="Accept an issuer whose new token kills the old one."
    ),
)
