"""``cmzon-secrets revoke``: a token dies now, or every token of an account."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Collection, Iterator
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

import click

from cmzon_secrets.cli.asking import agreed
from cmzon_secrets.cli.failures import TYPED, UsageFailure, repeatable
from cmzon_secrets.cli.options import (
    account_option,
    events_option,
    issuer_options,
    json_option,
    policy_options,
    uri_argument,
)
from cmzon_secrets.cli.output import masked, note, paint
from cmzon_secrets.cli.reports import finish
from cmzon_secrets.cli.targets import find_target
from cmzon_secrets.errors import CMzonSecretsError, InvalidToken, TokenNotFound, shielded
from cmzon_secrets.issuer import TokenIssuer
from cmzon_secrets.provider import TokenStore
from cmzon_secrets.tokens import Token, Versions

if TYPE_CHECKING:
    from cmzon_secrets.rotation import RotationPolicy, RotationReport

__all__ = ["command"]

LONGEST_ID = 64  # characters; what is longer and held by nobody is rather a token


@click.command()
@uri_argument
@click.option(
    "--stage",
    type=click.Choice(["current", "pending", "previous"]),
    help="Which token; default current.",
)
@click.option("--id", "token_id", metavar="ID", help="This token, in whatever stage it is.")
@click.option(
    "--all", "everything", is_flag=True, help="Every token issued under the account's name."
)
@click.option("--no-replace", is_flag=True, help="Do not issue a new token first.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@events_option
@issuer_options
@account_option
@policy_options
@json_option
def command(
    *,
    uri: str | None,
    stage: str | None,
    token_id: str | None,
    everything: bool,
    no_replace: bool,
    yes: bool,
    account: str | None,
    as_json: bool,
    **options: Any,
) -> int:
    """Emergency: kill a token now, replacing it first.

    Where CURRENT is meant, a new token is issued, verified and promoted, then the leaked one is
    revoked without grace, and with it whatever is PREVIOUS. Success only when death is proved;
    else exit code 1 and the words STILL ALIVE. To repeat a run that died, give --id: the new CURRENT
    must not be taken for the leaked one. With --all everything that was issued under the account's
    name dies, but for the new token; repeated, that one as well.
    """
    from cmzon_secrets.cli.event_lines import event_lines
    from cmzon_secrets.rotation import Rotator

    if sum((stage is not None, token_id is not None, everything)) > 1:
        raise UsageFailure("only one of --stage, --id and --all can be meant")
    if token_id == "":
        raise UsageFailure("--id is empty")  # not CURRENT in its stead
    target = find_target(uri, account)
    policy = target.policy(options)
    with (
        target.open_store() as store,
        closing(target.open_issuer(options)) as issuer,
        event_lines(options["events"]) as subscriber,
    ):
        rotator = Rotator(store, issuer, policy, subscriber=subscriber)
        if everything:
            doomed = _everything(store, issuer, policy)
            _announce(doomed.values(), store, choice="--all", yes=yes)
            report = rotator.revoke_all(replace=not no_replace)
        else:
            leaked, known_as = (
                _named(store, token_id) if token_id else _held(store, stage or "current")
            )
            doomed = {leaked: known_as}
            _announce([known_as], store, choice=f"--id {leaked}", yes=yes)
            # By the id that was confirmed: a rotation may have moved the stages since.
            report = rotator.revoke(token_id=leaked, replace=not no_replace)
        for alive in _alive(report, doomed):
            _warn(alive)
        _make_typable(report)
        return finish(report, store.uri, account=target.account, as_json=as_json)


def _announce(doomed: Collection[str], store: TokenStore, *, choice: str, yes: bool) -> None:
    """Say what will die, before anything does; where wanted, ask. Raises UsageFailure for a no."""
    if not yes:
        what = next(iter(doomed)) if len(doomed) == 1 else f"these {len(doomed)} tokens"
        if len(doomed) != 1:
            note("\n".join(doomed))
        agreed(f"Revoke {what} of {store.uri} now, without grace?")
    note("\n".join(f"revoking {known_as}" for known_as in doomed))
    note(repeatable(f"to repeat this if it fails: {_typed_again(choice)}"))


def _make_typable(report: RotationReport) -> None:
    """The engine's remedy names the command alone; what it was about stands on this command line."""
    if report.error is not None and report.error.hint is not None:
        report.error.hint = re.sub(
            r"cmzon-secrets revoke (--all|--id \S+|--stage \w+)",
            lambda found: _typed_again(found[1]),
            report.error.hint,
        )


def _typed_again(choice: str) -> str:
    """This command line with ``choice`` for what is to die, quoted as a shell wants it."""
    typed = _but_choice(TYPED.get([])[1:])
    return shlex.join(["cmzon-secrets", "revoke", *choice.split(), *typed])


def _but_choice(typed: list[str]) -> Iterator[str]:
    words = iter(typed)
    for word in words:
        if word in ("--stage", "--id"):
            next(words, None)
        elif word != "--all" and not word.startswith(("--stage=", "--id=")):
            yield word


def _everything(store: TokenStore, issuer: TokenIssuer, policy: RotationPolicy) -> dict[str, str]:
    """Id → how people see it, of what is held and of what the issuer has under our name."""
    from cmzon_secrets.rotation.run import account_at

    try:
        held = store.versions()
    except CMzonSecretsError:
        _warn("every token of this account; where ids are known: --id ID --no-replace")
        raise
    doomed = {t.id: _known_as(t) for t in (held.current, held.previous, held.pending) if t}
    try:
        listed = list(issuer.list(account_at(store, policy))) if issuer.lists else []
    except CMzonSecretsError as error:
        note(f"warning: {repeatable(str(error))}; only what the store holds is named here")
        listed = []
    alive = [info.id for info in listed if info.revoked_at is None]
    return {**doomed, **{i: f"{i}, held by no store" for i in alive if i not in doomed}}


def _alive(report: RotationReport, doomed: Collection[str]) -> list[str]:
    """The ids that may live on: what was meant, and what was to be revoked with it."""
    revocations = {a.token_id: a.outcome for a in report.actions if a.kind == "revoke"}
    failed = [token_id for token_id, outcome in revocations.items() if outcome != "ok"]
    # Of many, those whose revocation went well are proved dead; of one, only success is a proof.
    unproved = [i for i in doomed if len(doomed) == 1 or revocations.get(i) != "ok"]
    return list(dict.fromkeys([*unproved, *failed] if report.state == "failed" else failed))


def _warn(what: str) -> None:
    note(paint(f"STILL ALIVE: {what}", sys.stderr, fg="red", bold=True))


def _named(store: TokenStore, token_id: str) -> tuple[str, str]:
    """The id that was typed, twice. Raises UsageFailure for what is a token's value, or may be."""
    held = Versions()
    with suppress(CMzonSecretsError):  # out of reach: the issuer alone may be enough
        held = store.versions()
    if _may_be_value(token_id, held):
        raise UsageFailure(
            "--id — that is the token, not its id", hint="`cmzon-secrets status` shows the ids"
        )
    return token_id, token_id


@shielded
def _may_be_value(typed: str, held: Versions) -> bool:
    """Whether ``typed`` is, or may be, the value of a token. An id that is held is none."""
    if held.find(typed) is not None:
        return False
    try:
        is_held = Token(typed) in held
    except InvalidToken:
        is_held = False
    return is_held or len(typed) > LONGEST_ID or typed.lower().startswith("cmz_")


def _held(store: TokenStore, stage: str) -> tuple[str, str]:
    """The id in ``stage``, bare and as people see it. Raises TokenNotFound where it is empty."""
    try:
        token = getattr(store.versions(), stage)
    except CMzonSecretsError:
        _warn(
            f"{stage.upper()}; where the store cannot be read, --id ID --no-replace needs only the issuer"
        )
        raise
    if token is None:
        raise TokenNotFound(
            f"{store.uri} — nothing is held as {stage.upper()}, so nothing was revoked",
            uri=store.uri,
            hint="name the token: --id ID",
        )
    return token.id, _known_as(token)


def _known_as(token: Token) -> str:
    return f"{token.id} ({masked(token)})" if token.has_issuer_id else masked(token)
