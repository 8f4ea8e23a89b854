"""The contract of the four verbs, sentence by sentence."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cmzon_secrets.errors import ConflictError, TokenNotFound
from cmzon_secrets.provider import TokenStore
from cmzon_secrets.testing.clock import ManualClock
from cmzon_secrets.testing.conformance.store_hooks import (
    Open,
    StoreHooks,
    bootstrap,
    facts,
    new_token,
    rotate_to,
    seen,
)
from cmzon_secrets.tokens import Token, Versions

__all__ = ["Verbs"]

Opened = Callable[..., TokenStore]


class Verbs(StoreHooks):
    """One process, no faults."""

    # reading

    def test_an_empty_store_is_an_empty_view(self, store: TokenStore) -> None:
        assert store.versions() == Versions()

    def test_an_empty_store_yields_token_not_found(self, store: TokenStore) -> None:
        with pytest.raises(TokenNotFound) as caught:
            store.get()
        assert caught.value.uri == store.uri

    def test_a_pending_token_is_not_yet_what_applications_get(self, store: TokenStore) -> None:
        current = bootstrap(store)
        store.stage(new_token())
        assert facts(store.get()) == facts(current)

    def test_get_is_the_current_of_versions(self, store: TokenStore) -> None:
        first = bootstrap(store)
        assert facts(store.get()) == facts(store.versions().current) == facts(first)
        second = rotate_to(store, new_token(), replacing=first)
        assert facts(store.get()) == facts(store.versions().current) == facts(second)

    def test_every_write_is_seen_at_once_on_this_and_on_other_handles(
        self, store: TokenStore, again: Open
    ) -> None:
        other = again()
        first, second = bootstrap(store), new_token()
        steps: list[Callable[[], None]] = [
            lambda: store.stage(second),
            lambda: store.promote(second.id, replacing=first.id),
            lambda: store.discard(first.id),
        ]
        for step in steps:
            step()
            assert seen(store.versions()) == seen(other.versions()) == seen(again().versions())
            assert facts(other.get()) == facts(store.get())

    # stage

    def test_stage_into_an_empty_store_makes_a_pending(self, store: TokenStore) -> None:
        token = new_token()
        store.stage(token)
        held = Versions(current=token) if self.first_stage_is_current else Versions(pending=token)
        assert seen(store.versions()) == seen(held)

    def test_stage_beside_a_current_makes_a_pending(self, store: TokenStore) -> None:
        current, token = bootstrap(store), new_token()
        store.stage(token)
        assert seen(store.versions()) == seen(Versions(current, token))

    def test_staging_the_same_again_changes_nothing(self, store: TokenStore, again: Open) -> None:
        bootstrap(store)
        token = new_token()
        store.stage(token)
        once = store.versions()
        store.stage(token)
        again().stage(token)
        assert store.versions() == once

    def test_staging_beside_another_pending_is_a_conflict(self, store: TokenStore) -> None:
        bootstrap(store)
        store.stage(new_token())
        self.refuses(store, lambda: store.stage(new_token()))

    def test_staging_the_current_id_is_a_conflict(self, store: TokenStore) -> None:
        current = bootstrap(store)
        self.refuses(store, lambda: store.stage(current))
        self.refuses(store, lambda: store.stage(new_token(id=current.id)))

    def test_staging_the_current_value_under_another_id_is_a_conflict(
        self, store: TokenStore
    ) -> None:
        current = bootstrap(store)
        self.refuses(store, lambda: store.stage(new_token(current.reveal())))

    def test_staging_a_pending_id_with_another_value_is_a_conflict(self, store: TokenStore) -> None:
        bootstrap(store)
        token = new_token()
        store.stage(token)
        self.refuses(store, lambda: store.stage(new_token(id=token.id)))

    def test_staging_a_previous_id_with_another_value_is_a_conflict(
        self, store: TokenStore
    ) -> None:
        first = bootstrap(store)
        rotate_to(store, new_token(), replacing=first)
        self.refuses(store, lambda: store.stage(new_token(id=first.id)))

    # promote

    def test_the_first_promote_replaces_nothing(self, store: TokenStore) -> None:
        token = bootstrap(store)
        assert seen(store.versions()) == seen(Versions(current=token))

    def test_promote_moves_pending_to_current_and_current_to_previous(
        self, store: TokenStore
    ) -> None:
        first = bootstrap(store)
        second = rotate_to(store, new_token(), replacing=first)
        assert seen(store.versions()) == seen(Versions(current=second, previous=first))

    def test_promoting_again_changes_nothing(self, store: TokenStore, again: Open) -> None:
        first = bootstrap(store)
        second = rotate_to(store, new_token(), replacing=first)
        once = store.versions()
        store.promote(second.id, replacing=first.id)
        again().promote(second.id, replacing=first.id)
        assert store.versions() == once

    def test_promoting_the_current_says_done_while_another_is_pending(
        self, store: TokenStore
    ) -> None:
        current = bootstrap(store)
        store.stage(new_token())
        before = store.versions()
        store.promote(current.id, replacing=None)
        assert store.versions() == before

    def test_promoting_what_is_not_pending_is_a_conflict(self, store: TokenStore) -> None:
        current = bootstrap(store)
        self.refuses(store, lambda: store.promote("tok_unknown", replacing=current.id))
        store.stage(new_token())
        self.refuses(store, lambda: store.promote("tok_unknown", replacing=current.id))

    def test_promoting_over_another_current_than_expected_is_a_conflict(
        self, store: TokenStore
    ) -> None:
        bootstrap(store)
        token = new_token()
        store.stage(token)
        self.refuses(store, lambda: store.promote(token.id, replacing="tok_another"))
        self.refuses(store, lambda: store.promote(token.id, replacing=None))

    def test_promoting_over_a_current_that_is_not_there_is_a_conflict(
        self, store: TokenStore
    ) -> None:
        if self.first_stage_is_current:
            pytest.skip("the first token of this service is CURRENT as soon as it is staged")
        token = new_token()
        store.stage(token)
        self.refuses(store, lambda: store.promote(token.id, replacing="tok_another"))

    def test_promoting_while_another_previous_is_held_is_a_conflict(
        self, store: TokenStore
    ) -> None:
        first = bootstrap(store)
        second = rotate_to(store, new_token(), replacing=first)
        third = new_token()
        store.stage(third)
        self.refuses(store, lambda: store.promote(third.id, replacing=second.id))
        store.discard(first.id)
        store.promote(third.id, replacing=second.id)
        assert seen(store.versions()) == seen(Versions(current=third, previous=second))

    # discard

    def test_discard_forgets_a_pending(self, store: TokenStore) -> None:
        current, token = bootstrap(store), new_token()
        store.stage(token)
        store.discard(token.id)
        assert seen(store.versions()) == seen(Versions(current=current))

    def test_discard_forgets_a_previous(self, store: TokenStore) -> None:
        first = bootstrap(store)
        second = rotate_to(store, new_token(), replacing=first)
        store.discard(first.id)
        assert seen(store.versions()) == seen(Versions(current=second))

    def test_discarding_again_or_the_unknown_changes_nothing(
        self, store: TokenStore, again: Open
    ) -> None:
        first = bootstrap(store)
        rotate_to(store, new_token(), replacing=first)
        store.discard(first.id)
        once = store.versions()
        store.discard(first.id)
        again().discard(first.id)
        store.discard("tok_unknown")
        assert store.versions() == once

    def test_discarding_in_an_empty_store_changes_nothing(self, store: TokenStore) -> None:
        store.discard("tok_unknown")
        assert store.versions() == Versions()

    def test_discarding_the_current_is_a_conflict(self, store: TokenStore) -> None:
        current = bootstrap(store)
        self.refuses(store, lambda: store.discard(current.id))

    def test_a_discarded_token_can_be_staged_again(self, store: TokenStore) -> None:
        current, token = bootstrap(store), new_token()
        store.stage(token)
        store.discard(token.id)
        store.stage(token)
        assert seen(store.versions()) == seen(Versions(current, token))
        store.promote(token.id, replacing=current.id)
        assert seen(store.versions()) == seen(Versions(current=token, previous=current))

    # rollback

    def test_previous_can_be_staged_and_promoted_back(self, store: TokenStore) -> None:
        first = bootstrap(store)
        second = rotate_to(store, new_token(), replacing=first)
        store.stage(first)
        assert seen(store.versions()) == seen(Versions(second, first, first))
        store.promote(first.id, replacing=second.id)
        assert seen(store.versions()) == seen(Versions(current=first, previous=second))

    def test_a_rollback_can_be_rolled_back(self, store: TokenStore) -> None:
        first = bootstrap(store)
        second = rotate_to(store, new_token(), replacing=first)
        rotate_to(store, first, replacing=second)
        rotate_to(store, second, replacing=first)
        assert seen(store.versions()) == seen(Versions(current=second, previous=first))

    def test_discard_forgets_a_token_that_is_pending_and_previous(self, store: TokenStore) -> None:
        first = bootstrap(store)
        second = rotate_to(store, new_token(), replacing=first)
        store.stage(first)
        store.discard(first.id)
        assert seen(store.versions()) == seen(Versions(current=second))

    # promoted_at

    def test_promoted_at_is_the_time_of_the_promote(self, place: Any, opened: Opened) -> None:
        clock = ManualClock()
        store = opened(place, clock) if self.takes_clock else opened(place)
        earliest = clock.now()
        token = new_token()
        store.stage(token)
        if not self.first_stage_is_current:
            assert store.versions().promoted_at is None
        store.promote(token.id, replacing=None)
        self.was_promoted(store.versions(), not_before=earliest, clock=clock)

    def test_promoted_at_moves_with_the_next_promote_only(self, place: Any, opened: Opened) -> None:
        if not self.takes_clock:
            pytest.skip("this service stamps its own time")
        clock = ManualClock()
        store = opened(place, clock)
        first = bootstrap(store)
        at_first = store.versions().promoted_at
        clock.advance(3600)
        second = new_token()
        store.stage(second)
        store.promote(first.id, replacing=None)
        assert store.versions().promoted_at == at_first
        store.promote(second.id, replacing=first.id)
        at_second = store.versions().promoted_at
        self.was_promoted(store.versions(), not_before=clock.now(), clock=clock)
        clock.advance(3600)
        store.promote(second.id, replacing=first.id)
        store.discard(first.id)
        assert opened(place, clock).versions().promoted_at == at_second

    def was_promoted(self, view: Versions, *, not_before: datetime, clock: ManualClock) -> None:
        """``promoted_at`` may be later than the truth, never earlier."""
        at = view.promoted_at
        assert at is not None
        assert at.tzinfo is UTC
        latest = clock.now() if self.takes_clock else datetime.now(UTC) + self.clock_skew
        slack = self.precision if self.takes_clock else self.clock_skew
        assert not_before - slack < at <= latest + timedelta(microseconds=1)

    # life

    def test_closing_twice_is_harmless_and_a_with_block_closes(self, again: Open) -> None:
        with again() as store:
            token = bootstrap(store)
        store.close()
        assert facts(again().get()) == facts(token)

    def refuses(self, store: TokenStore, verb: Callable[[], None]) -> None:
        """The verb is a ConflictError that names the place, and leaves everything as it was."""
        before = store.versions()
        with pytest.raises(ConflictError) as caught:
            verb()
        assert caught.value.uri == store.uri
        assert store.versions() == before

    def test_a_conflict_is_seen_alike_from_every_handle(
        self, store: TokenStore, again: Open
    ) -> None:
        current, token = bootstrap(store), new_token()
        store.stage(token)
        other = again()
        self.refuses(other, lambda: other.stage(new_token()))
        self.refuses(other, lambda: other.promote(token.id, replacing="tok_another"))
        self.refuses(other, lambda: other.discard(current.id))

    def test_a_full_life_of_ten_tokens_loses_none(self, store: TokenStore, again: Open) -> None:
        current: Token = bootstrap(store)
        for _ in range(10):
            following = rotate_to(again(), new_token(), replacing=current)
            assert seen(store.versions()) == seen(Versions(current=following, previous=current))
            store.discard(current.id)
            current = following
