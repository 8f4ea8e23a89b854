"""``cmzon-secrets status``: where each token stands, as its store tells it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import click

from cmzon_secrets.chain import Chain
from cmzon_secrets.cli.failures import error_record, exit_code, explain
from cmzon_secrets.cli.options import account_option, json_option, policy_options
from cmzon_secrets.cli.output import (
    describe_moment,
    describe_span,
    masked,
    print_items,
    say,
    token_facts,
)
from cmzon_secrets.cli.reports import heading, item, summary, verdict
from cmzon_secrets.cli.side_by_side import side_by_side
from cmzon_secrets.cli.targets import Target, answering, find_targets
from cmzon_secrets.clock import SYSTEM_CLOCK
from cmzon_secrets.errors import CMzonSecretsError
from cmzon_secrets.events import Event, Fact
from cmzon_secrets.provider import TokenProvider, TokenStore
from cmzon_secrets.rotation import RotationReport, outlook
from cmzon_secrets.tokens import Token, Versions
from cmzon_secrets.typed import shown

__all__ = ["command"]


@dataclass(frozen=True, slots=True)
class _Link:
    """What a place of a chain had to say."""

    uri: str
    state: str


@dataclass(frozen=True, slots=True)
class _Standing:
    """One token's state; ``versions`` is None where it could not be read. ``word``: see ``WORDS``.

    ``answered``: the place that the token shown comes from. ``links``: all places of a chain.
    """

    account: str | None
    uri: str
    versions: Versions | None
    report: RotationReport
    word: str
    answered: str | None = None
    links: tuple[_Link, ...] = ()


WORDS = ("fine", "due", "overdue", "stuck", "failed")
"""In one word: as ``Outlook.standing``, or ``failed``: it could not be read."""


@click.command()
@click.argument("uris", metavar="[URI]...", nargs=-1)
@account_option
@click.option("--not-done", is_flag=True, help="Leave out those that need nothing now.")
@policy_options
@json_option
def command(
    uris: tuple[str, ...], account: str | None, not_done: bool, as_json: bool, **options: Any
) -> int:
    """Show stages, ages, expiry, and when rotation is due.

    Asks the stores only, not the API. Without URI, CMZON_TOKEN_URI and --account: all accounts of
    cmzon-secrets.toml. Give the policy options that rotation gets, where no account has them.
    Exit code 3 where rotation is overdue or stuck, 1 where a store cannot be read.
    """
    now = SYSTEM_CLOCK.now()
    targets = find_targets(uris, account)
    counts, states, records = Counter[str](), set[str](), []
    for standing in side_by_side(lambda target: _look(target, options, now), targets):
        counts[standing.word] += 1
        states.add(standing.report.state)
        if not_done and standing.report.state == "done":
            continue
        if as_json:
            records.append(_record(standing))
        else:
            _show(standing, now)
    if as_json:
        print_items(records)
    elif len(targets) > 1:
        say(f"{len(targets):,} accounts: {summary(counts, WORDS)}")
    return exit_code(states)


def _look(target: Target, options: Mapping[str, Any], now: datetime) -> _Standing:
    links: tuple[_Link, ...] = ()
    try:
        policy = target.policy(options)
        falls = _Falls()
        with target.open_provider(subscriber=falls) as provider:
            try:
                versions = _versions(provider)
            finally:
                links = _links(provider, falls)
            place = answering(provider)
            view = outlook(versions, policy, now)
            reason = view.reason
            if not isinstance(place, TokenStore) or links:
                reason = reason or "read-only: whoever fills it rotates it"
            report = RotationReport(view.state, reason=reason, next_due=view.next_due)
            answered = place.uri if versions.current is not None else None
            return _Standing(
                target.account, provider.uri, versions, report, view.standing, answered, links
            )
    except CMzonSecretsError as error:
        report = RotationReport("failed", reason=str(error), error=error)
        return _Standing(target.account, shown(target.place), None, report, "failed", links=links)


class _Falls:
    """Remembers which places a chain passed over, and why."""

    def __init__(self) -> None:
        self.seen: dict[Fact, str] = {}

    def __call__(self, event: Event) -> None:
        down = event.facts["error"] == "ProviderUnavailable"
        self.seen[event.facts["place"]] = "down" if down else "no token"


def _links(provider: TokenProvider, falls: _Falls) -> tuple[_Link, ...]:
    """Each place of a chain and what became of asking it; the one after the last fall decided."""
    if not isinstance(provider, Chain):
        return ()
    decided = "answered" if provider.answered is not None else "failed"
    states = [*falls.seen.values(), decided, *["not asked"] * len(provider.links)]
    return tuple(
        _Link(link.uri, state) for link, state in zip(provider.links, states, strict=False)
    )


def _versions(provider: TokenProvider) -> Versions:
    if isinstance(provider, TokenStore):
        return provider.versions()
    return Versions(current=provider.get())


def _record(standing: _Standing) -> dict[str, Any]:
    versions = standing.versions
    stages = None
    if versions is not None:
        held = {name: token and token_facts(token) for name, token in _named(versions)}
        stages = {**held, "promoted_at": versions.promoted_at}
    return {
        **item(standing.report, standing.uri, account=standing.account),
        "stages": stages,
        "answered": standing.answered,
        "links": [{"uri": link.uri, "state": link.state} for link in standing.links],
    }


def _named(versions: Versions) -> tuple[tuple[str, Token | None], ...]:
    return (
        ("current", versions.current),
        ("pending", versions.pending),
        ("previous", versions.previous),
    )


def _show(standing: _Standing, now: datetime) -> None:
    heading(standing.uri, account=standing.account)
    for link in standing.links:
        say(f"  {link.state:<9} {link.uri}")
    versions = standing.versions or Versions()
    for stage, token in _named(versions):
        if token is not None:
            known = f"  {token.id}" if token.has_issuer_id else ""
            say(f"  {stage.upper():<9} {masked(token)}{known}")
            say(f"            {_life(token, versions, now)}")
    error = standing.report.error
    if error is None:
        verdict(standing.report, now)
    else:
        say("  failed")
        explain(error_record(error))


def _life(token: Token, versions: Versions, now: datetime) -> str:
    age = "age unknown"
    if token.issued_at is not None:
        age = f"age {describe_span(now - token.issued_at)}"
    elif versions.promoted_at is not None and token is versions.current:
        age = f"stored {describe_span(now - versions.promoted_at)} ago"
    expiry = (
        f"expires {describe_moment(token.expires_at, now)}" if token.expires_at else "no expiry"
    )
    return f"{age}, {expiry}"
