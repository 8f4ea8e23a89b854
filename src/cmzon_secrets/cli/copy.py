"""``cmzon-secrets copy``: the current token of one place becomes that of another."""

from __future__ import annotations

import shlex

import click

from cmzon_secrets.cli.asking import agreed
from cmzon_secrets.cli.options import create_option, json_option
from cmzon_secrets.cli.output import masked, note
from cmzon_secrets.cli.placing import place
from cmzon_secrets.cli.reports import placement
from cmzon_secrets.cli.targets import Target
from cmzon_secrets.errors import AccessDenied, ConflictError, ProviderUnavailable
from cmzon_secrets.provider import TokenProvider, TokenStore
from cmzon_secrets.rotation.places import require_place
from cmzon_secrets.tokens import Token

__all__ = ["command"]


@click.command()
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
@create_option
@click.option(
    "--discard-previous",
    is_flag=True,
    help="Forget a PENDING or PREVIOUS in the way at TO; neither is revoked.",
)
@click.option("--yes", is_flag=True, help="Replace another CURRENT at TO without asking.")
@json_option
def command(
    *, source: str, target: str, create: bool, discard_previous: bool, yes: bool, as_json: bool
) -> None:
    """Copy the current token from one place to another.

    Only CURRENT, with its metadata; the copy is read back and compared. FROM is left as it is, so
    a PREVIOUS in its grace is revoked from there. Where TO holds another CURRENT, it asks first
    (--yes where nobody sits); that one becomes PREVIOUS there. FROM's next rotation revokes the
    token for both: after a move, end it there and rotate TO.
    """
    with (
        Target(source, typed=True).open_provider() as giver,
        Target(target, typed=True).open_store() as store,
    ):
        token = giver.get()
        _agree_to_replace(store, token, yes=yes)
        require_place(store, create=create)
        placed = place(store, token, discard=discard_previous)
        if store.get() != token:
            raise ConflictError(
                f"{store.uri} — another writer replaced the copy at once", uri=store.uri
            )
        placement(placed, store.uri, account=None, as_json=as_json)
        _tell_what_stays(giver, store)


def _agree_to_replace(store: TokenStore, token: Token, *, yes: bool) -> None:
    current = store.versions().current
    if current is None or current == token or yes:
        return
    agreed(f"{store.uri} holds another token, {masked(current)}. Replace it?")


def _tell_what_stays(giver: TokenProvider, store: TokenStore) -> None:
    """Said after the copy is done, so that a giver who tells less of itself is no failure."""
    if not isinstance(giver, TokenStore):
        return
    try:
        if giver.identity == store.identity:
            return
        held = giver.versions()
    except (AccessDenied, ProviderUnavailable):
        note(
            f"not told whether PENDING or PREVIOUS stay in {giver.uri}: go on rotating there if so"
        )
    else:
        for stage, token in (("PENDING", held.pending), ("PREVIOUS", held.previous)):
            if token is not None:
                note(
                    f"not copied: {stage} {token.id} stays in {giver.uri}; go on rotating there until it is gone"
                )
    note(
        f"both hold this token now, and the next rotation of {giver.uri} revokes it. To move: end that"
        f" rotation once no PREVIOUS is left there, and run cmzon-secrets rotate --force"
        f" {shlex.quote(store.uri)}. To have it in both: copy again after each rotation"
    )
