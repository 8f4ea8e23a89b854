"""What a store must keep exactly, and what it must not choke on."""

from __future__ import annotations

import string
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from cmzon_secrets.errors import CMzonSecretsError, InvalidToken, TokenNotFound
from cmzon_secrets.provider import TokenStore
from cmzon_secrets.testing.conformance.leaks import failure_of, must_hide, shown
from cmzon_secrets.testing.conformance.store_hooks import (
    Open,
    StoreHooks,
    bootstrap,
    facts,
    new_token,
    rotate_to,
    seen,
)
from cmzon_secrets.tokens import MAX_TOKEN_BYTES, Token, Versions

__all__ = ["Values"]

EVERY_CHARACTER = string.ascii_letters + string.digits + "-._~+/"
ODD_VALUES = {
    "the longest": "a" * MAX_TOKEN_BYTES,
    "one character": "x",
    "every character": EVERY_CHARACTER,
    "padding": "abc==",
    "only punctuation": "-._~+/",
    "a path": "../../etc/passwd",
    "a number": "12345678901234567890",
    "a word of JSON": "null",
}
ODD_IDS = {
    "a path": "/../..//etc/passwd",
    "percent signs": "%2F%00%zz%",
    "quotes": "\"'`\\",
    "markup": "<b>&amp;</b>",
    "URL parts": "a?b=c&d#e@f:g",
    "brackets": "{[(|)]}*$;",
    "like a fingerprint": "sha256:0123456789abcdef",
    "one character": "~",
    "the longest": "i" * 256,
    "only digits": "0",
}


class Values(StoreHooks):
    """Round trips. Pasting needs the hook ``paste``."""

    @pytest.mark.parametrize("value", ODD_VALUES.values(), ids=ODD_VALUES)
    def test_a_value_comes_back_from_every_stage_as_it_was(
        self, value: str, store: TokenStore, again: Open
    ) -> None:
        self.lives(Token(value, id="tok_odd"), store, again)

    @pytest.mark.parametrize("id", ODD_IDS.values(), ids=ODD_IDS)
    def test_an_id_comes_back_from_every_stage_as_it_was(
        self, id: str, store: TokenStore, again: Open
    ) -> None:
        self.lives(new_token(id=id), store, again)

    def test_a_token_without_an_id_keeps_its_fingerprint_as_id(
        self, store: TokenStore, again: Open
    ) -> None:
        self.lives(Token(new_token().reveal()), store, again)

    def test_metadata_comes_back_exactly(self, store: TokenStore, again: Open) -> None:
        issued = datetime(2026, 11, 24, 21, 0, 0, 123456, tzinfo=UTC)
        elsewhere = timezone(timedelta(hours=5, minutes=30))
        token = new_token(
            scopes=("messages:send", "audit:read", "a scope with spaces"),
            issued_at=issued,
            expires_at=(issued + timedelta(days=90)).astimezone(elsewhere),
            allowed_ips=("127.0.0.1", "10.0.0.0/8", "2001:db8::/32"),
        )
        bootstrap(store, token)
        kept = again().get()
        assert kept == token
        assert (kept.id, kept.scopes, kept.allowed_ips) == (
            token.id,
            token.scopes,
            token.allowed_ips,
        )
        for ours, theirs in (
            (token.issued_at, kept.issued_at),
            (token.expires_at, kept.expires_at),
        ):
            assert ours is not None
            assert theirs is not None
            assert theirs.tzinfo is UTC
            assert timedelta(0) <= ours - theirs < self.precision or ours == theirs

    def test_absent_metadata_stays_absent(self, store: TokenStore, again: Open) -> None:
        bare = Token(new_token().reveal(), id="tok_bare")
        bootstrap(store, bare)
        assert facts(again().get()) == facts(bare)

    def test_metadata_too_large_is_kept_whole_or_refused_whole(
        self, store: TokenStore, again: Open
    ) -> None:
        current = bootstrap(store)
        huge = new_token(scopes=[f"scope:{n:04}:{'x' * 50}" for n in range(2000)])
        refusal: CMzonSecretsError | None = None
        try:
            store.stage(huge)
        except CMzonSecretsError as error:
            refusal = error
        kept = None if refusal else huge
        assert seen(again().versions()) == seen(Versions(current, kept))
        if refusal is not None:
            must_hide(shown(refusal), huge)

    def test_a_token_pasted_by_hand_is_a_current(
        self, place: Any, store: TokenStore, again: Open
    ) -> None:
        pasted = Token(new_token().reveal())
        self.ask(self.paste, place, pasted.reveal())
        assert facts(store.get()) == facts(pasted)
        assert seen(again().versions()) == seen(Versions(current=pasted))
        at = store.versions().promoted_at
        assert at is None or at.tzinfo is UTC

    def test_a_token_pasted_by_hand_can_be_rotated_away_and_forgotten(
        self, place: Any, store: TokenStore, again: Open
    ) -> None:
        pasted = Token(new_token().reveal())
        self.ask(self.paste, place, pasted.reveal())
        following = rotate_to(store, new_token(), replacing=pasted)
        assert seen(again().versions()) == seen(Versions(current=following, previous=pasted))
        store.discard(pasted.id)
        assert seen(again().versions()) == seen(Versions(current=following))

    def test_a_token_pasted_over_ours_is_the_current_and_can_be_rotated_away(
        self, place: Any, store: TokenStore, again: Open
    ) -> None:
        bootstrap(store)
        pasted = Token(new_token().reveal())
        self.ask(self.paste, place, pasted.reveal())
        view = again().versions()
        assert facts(store.get()) == facts(view.current) == facts(pasted)
        if view.previous is not None:  # some services keep the replaced value themselves
            store.discard(view.previous.id)
        following = rotate_to(store, new_token(), replacing=pasted)
        assert facts(again().get()) == facts(following)

    @pytest.mark.parametrize(
        "tail", ["\n", "\r\nX-Injected: 1", " and a space", "ключ", "\x00", '{"token": 1}']
    )
    def test_pasted_text_that_is_no_token_is_refused_unseen(
        self, tail: str, place: Any, store: TokenStore
    ) -> None:
        secret = new_token()
        self.ask(self.paste, place, secret.reveal() + tail)
        for read in (store.get, store.versions):
            error = failure_of(read)
            assert isinstance(error, InvalidToken | TokenNotFound), type(error)
            must_hide(shown(error), secret)

    def lives(self, token: Token, store: TokenStore, again: Open) -> None:
        """PENDING, CURRENT, PREVIOUS, back again: the same token at every step."""
        first = bootstrap(store)
        store.stage(token)
        assert seen(again().versions()) == seen(Versions(first, token))
        store.stage(token)
        store.promote(token.id, replacing=first.id)
        assert seen(again().versions()) == seen(Versions(current=token, previous=first))
        store.discard(first.id)
        following = rotate_to(store, new_token(), replacing=token)
        assert seen(again().versions()) == seen(Versions(current=following, previous=token))
        store.stage(token)
        store.promote(token.id, replacing=following.id)
        assert facts(again().get()) == facts(token)
        store.discard(following.id)
        assert seen(again().versions()) == seen(Versions(current=token))

    def test_two_places_do_not_see_each_other(
        self, new_place: Callable[[], Any], opened: Callable[..., TokenStore]
    ) -> None:
        here, there = opened(new_place()), opened(new_place())
        token = bootstrap(here)
        assert there.versions() == Versions()
        other = bootstrap(there)
        assert facts(here.get()) == facts(token)
        assert replace(there.versions(), promoted_at=None) == Versions(current=other)
