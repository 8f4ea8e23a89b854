"""The errors every store must raise, its names, and what may be seen of it."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from cmzon_secrets.errors import (
    AccessDenied,
    ConflictError,
    ProviderError,
    ProviderUnavailable,
    TokenNotFound,
)
from cmzon_secrets.provider import TokenStore
from cmzon_secrets.testing.conformance.leaks import everything_logged, failure_of, must_hide, shown
from cmzon_secrets.testing.conformance.store_hooks import (
    Open,
    StoreHooks,
    bootstrap,
    facts,
    new_token,
    rotate_to,
)
from cmzon_secrets.tokens import Token

__all__ = ["Errors"]

VERBS: dict[str, Callable[[TokenStore], object]] = {
    "get": lambda s: s.get(),
    "versions": lambda s: s.versions(),
    "stage": lambda s: s.stage(new_token()),
    "promote": lambda s: s.promote("tok_any", replacing=None),
    "discard": lambda s: s.discard("tok_any"),
}


class Errors(StoreHooks):
    """Needs the hooks ``denied``, ``unreachable`` and ``aliases``."""

    @pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS)
    def test_a_refusal_is_access_denied(
        self, verb: Callable[[TokenStore], object], place: Any, store: TokenStore
    ) -> None:
        token = bootstrap(store)
        with self.ask(self.denied, place) as denied:
            error = failure_of(lambda: verb(denied))
        self.is_ours(error, AccessDenied, denied, token)

    @pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS)
    def test_no_answer_is_provider_unavailable(
        self, verb: Callable[[TokenStore], object], place: Any, store: TokenStore
    ) -> None:
        token = bootstrap(store)
        with self.ask(self.unreachable, place) as unreachable:
            error = failure_of(lambda: verb(unreachable))
        self.is_ours(error, ProviderUnavailable, unreachable, token)

    def test_a_refused_or_unanswered_verb_changes_nothing(
        self, place: Any, store: TokenStore, again: Open
    ) -> None:
        bootstrap(store)
        before = store.versions()
        for hook in (self.denied, self.unreachable):
            if hook.__name__ in self.cannot:
                continue
            with self.ask(hook, place) as broken:
                for verb in VERBS.values():
                    failure_of(lambda verb=verb, broken=broken: verb(broken))  # type: ignore[misc]
        self.mend(place)
        assert again().versions() == before

    def mend(self, place: Any) -> None:
        """Undo what ``denied`` or ``unreachable`` did to the place itself, if anything."""

    def test_errors_say_where_and_show_no_value(self, store: TokenStore) -> None:
        self.is_ours(failure_of(store.get), TokenNotFound, store)
        current, pending = bootstrap(store), new_token()
        store.stage(pending)
        other = new_token(id=pending.id)
        for verb in (
            lambda: store.stage(other),
            lambda: store.stage(new_token()),
            lambda: store.promote(pending.id, replacing="tok_another"),
            lambda: store.discard(current.id),
        ):
            self.is_ours(failure_of(verb), ConflictError, store, current, pending, other)

    def is_ours(
        self, error: Exception, kind: type[ProviderError], store: TokenStore, *held: Token
    ) -> None:
        """Of this kind, with the place, in one line, and without a value anywhere."""
        assert isinstance(error, kind), f"{type(error).__name__} instead of {kind.__name__}"
        assert error.uri == store.uri
        assert error.retryable is (kind is ProviderUnavailable)
        assert error.message
        assert error.message.isprintable()
        must_hide(shown(error), *held)

    def test_identity_is_the_same_on_every_handle_and_for_good(
        self, store: TokenStore, again: Open
    ) -> None:
        identity = again().identity
        assert identity
        assert identity.isprintable()
        first = bootstrap(store)
        assert store.identity == again().identity == identity
        rotate_to(store, new_token(), replacing=first)
        assert store.identity == again().identity == identity

    def test_asking_for_the_identity_leaves_an_empty_store_empty(self, store: TokenStore) -> None:
        _ = store.identity
        assert list(store.versions()) == []
        assert isinstance(failure_of(store.get), TokenNotFound)

    def test_two_places_have_two_identities(
        self, new_place: Callable[[], Any], opened: Callable[..., TokenStore]
    ) -> None:
        assert opened(new_place()).identity != opened(new_place()).identity

    def test_identity_is_the_same_however_the_place_is_addressed(
        self, place: Any, store: TokenStore
    ) -> None:
        token = bootstrap(store)
        aliases = self.ask(self.aliases, place)
        assert aliases
        for alias in aliases:
            with alias:
                assert alias.identity == store.identity
                assert facts(alias.get()) == facts(token)

    def test_cas_says_how_strong_promote_is(self, store: TokenStore) -> None:
        assert store.cas in ("atomic", "detected")

    def test_nothing_of_a_whole_life_shows_a_value(
        self,
        store: TokenStore,
        again: Open,
        caplog: pytest.LogCaptureFixture,
        capfd: pytest.CaptureFixture[str],
    ) -> None:
        """URI, identity, repr, views, errors, logs at DEBUG, stdout and stderr."""
        caplog.set_level(logging.DEBUG)
        first, second, third = new_token(), new_token(), new_token()
        texts = [str(failure_of(store.get))]
        bootstrap(store, first)
        rotate_to(again(), second, replacing=first)
        store.stage(third)
        conflict = failure_of(lambda: again().promote(third.id, replacing=second.id))
        store.discard(first.id)
        store.discard(third.id)
        texts += [shown(conflict), store.uri, store.identity, repr(store), str(store)]
        texts += [repr(store.versions()), everything_logged(caplog.records), *capfd.readouterr()]
        for text in texts:
            must_hide(text, first, second, third)

    def test_a_handle_that_has_read_tokens_does_not_carry_them_into_a_pickle(
        self, store: TokenStore
    ) -> None:
        token = bootstrap(store)
        store.get()
        try:
            pickled = pickle.dumps(store)
        except Exception:  # noqa: BLE001  # most handles cannot be pickled, which is as good
            return
        must_hide(pickled.decode("latin-1"), token)

    def test_the_uri_fits_a_log_line(self, store: TokenStore) -> None:
        assert store.uri
        assert store.uri.isprintable()
        assert store.uri in repr(store)
