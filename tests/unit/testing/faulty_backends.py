"""Backends with one fault each, and the one test of the suite that must find it.

Run by ``test_suites_find_faults.py``; the name keeps pytest from collecting it otherwise.
"""

import itertools
import logging
import time
import uuid
from dataclasses import replace
from datetime import timedelta

import pytest

from cmzon_secrets import Token, TokenInfo, Versions, stages
from cmzon_secrets.errors import ConflictError, SealBroken, TokenNotFound
from cmzon_secrets.sealing import SealingKey
from cmzon_secrets.testing import (
    IssuerSuite,
    KeySuite,
    MemoryIssuer,
    MemoryStore,
    StoreSuite,
    interposed,
)

FINDS: dict[str, str] = {}
"""Class of a faulty backend → the test that must fail on it."""


def must_fail(test):
    def note(cls):
        FINDS[cls.__name__] = test
        return cls

    return note


class Store(MemoryStore):
    """MemoryStore whose handles are of the faulty class too."""

    def __init__(self, *, memory=None, **options):
        super().__init__(**options)
        if memory is not None:
            self._memory = memory

    def reopen(self, *, clock=None):
        return type(self)(memory=self._memory, clock=clock or self._clock)


class OnStore(StoreSuite):
    Backend = Store
    race_rounds = 20
    cannot = dict.fromkeys(("opener", "denied", "unreachable", "aliases"), "-")

    @pytest.fixture
    def new_place(self):
        return self.Backend

    def open(self, place, clock):
        return place.reopen(clock=clock)

    def paste(self, place, text):
        place.paste(text)

    def steps(self, place, step):
        return interposed(step, place._memory, "load", "save")


@must_fail("test_an_empty_store_yields_token_not_found")
class TestNothingIsAKeyError(OnStore):
    class Backend(Store):
        def get(self):
            return {"current": self.versions().current}["missing"]


@must_fail("test_an_empty_store_yields_token_not_found")
class TestErrorWithoutItsPlace(OnStore):
    class Backend(Store):
        def get(self):
            raise TokenNotFound("nothing here")


@must_fail("test_get_is_the_current_of_versions")
class TestGetPrefersPending(OnStore):
    class Backend(Store):
        def get(self):
            held = self.versions()
            return held.previous or held.current


@must_fail("test_every_write_is_seen_at_once_on_this_and_on_other_handles")
class TestHandleThatCaches(OnStore):
    class Backend(Store):
        seen = None

        def versions(self):
            self.seen = self.seen or super().versions()
            return self.seen


@must_fail("test_staging_beside_another_pending_is_a_conflict")
class TestStageOverwrites(OnStore):
    class Backend(Store):
        def stage(self, token):
            self._change(lambda held: replace(held, pending=token))


@must_fail("test_staging_a_previous_id_with_another_value_is_a_conflict")
class TestStageLooksAtCurrentAndPendingOnly(OnStore):
    class Backend(Store):
        def stage(self, token):
            self._change(
                lambda held: replace(
                    stages.staged(replace(held, previous=None), token), previous=held.previous
                )
            )


@must_fail("test_promoting_over_another_current_than_expected_is_a_conflict")
class TestPromoteWithoutCompare(OnStore):
    class Backend(Store):
        def promote(self, token_id, *, replacing):
            current = self.versions().current
            super().promote(token_id, replacing=current.id if current else None)


@must_fail("test_promoting_while_another_previous_is_held_is_a_conflict")
class TestPromoteDropsPrevious(OnStore):
    class Backend(Store):
        def promote(self, token_id, *, replacing):
            self._change(
                lambda held: stages.promoted(
                    replace(held, previous=None),
                    token_id,
                    replacing=replacing,
                    now=self._clock.now(),
                )
            )


@must_fail("test_promoted_at_moves_with_the_next_promote_only")
class TestPromoteStampsAgain(OnStore):
    class Backend(Store):
        def promote(self, token_id, *, replacing):
            super().promote(token_id, replacing=replacing)
            self._change(lambda held: replace(held, promoted_at=self._clock.now()))


@must_fail("test_promoted_at_is_the_time_of_the_promote")
class TestPromotedAtTooEarly(OnStore):
    class Backend(Store):
        def promote(self, token_id, *, replacing):
            super().promote(token_id, replacing=replacing)
            early = self._clock.now() - timedelta(seconds=1)
            self._change(lambda held: replace(held, promoted_at=early))


@must_fail("test_discarding_the_current_is_a_conflict")
class TestDiscardsCurrent(OnStore):
    class Backend(Store):
        def discard(self, token_id):
            self._change(lambda held: Versions() if held.find(token_id) == held.current else held)


@must_fail("test_discard_forgets_a_token_that_is_pending_and_previous")
class TestDiscardForgetsOneOfTwo(OnStore):
    class Backend(Store):
        def discard(self, token_id):
            self._change(
                lambda held: (
                    replace(held, pending=None)
                    if held.pending and held.pending.id == token_id
                    else stages.discarded(held, token_id)
                )
            )


@must_fail("test_metadata_comes_back_exactly")
class TestLosesAddresses(OnStore):
    class Backend(Store):
        def get(self):
            token = super().get()
            return Token(
                token.reveal(),
                id=token.id,
                scopes=token.scopes,
                issued_at=token.issued_at,
                expires_at=token.expires_at,
            )


@must_fail("test_two_places_do_not_see_each_other")
class TestOnePlaceForAll(OnStore):
    shared = Store()

    class Backend(Store):
        def __init__(self, *, memory=None, **options):
            super().__init__(memory=TestOnePlaceForAll.shared._memory, **options)


@must_fail("test_identity_is_the_same_on_every_handle_and_for_good")
class TestIdentityPerHandle(OnStore):
    class Backend(Store):
        @property
        def identity(self):
            return f"{self.uri}#{id(self)}"


@must_fail("test_errors_say_where_and_show_no_value")
class TestConflictShowsTheValue(OnStore):
    class Backend(Store):
        def stage(self, token):
            try:
                super().stage(token)
            except ConflictError as error:
                raise ConflictError(f"cannot stage {token.reveal()}", uri=error.uri) from None


@must_fail("test_errors_say_where_and_show_no_value")
class TestConflictShowsTheValueInLocals(OnStore):
    class Backend(Store):
        def stage(self, token):
            document = {"token": token.reveal()}
            super().stage(token)
            document.clear()


@must_fail("test_nothing_of_a_whole_life_shows_a_value")
class TestLogsTheValue(OnStore):
    class Backend(Store):
        def stage(self, token):
            logging.getLogger(__name__).debug("staging %s", token.reveal())
            super().stage(token)


@must_fail("test_nothing_of_a_whole_life_shows_a_value")
class TestPrintsTheValue(OnStore):
    class Backend(Store):
        def stage(self, token):
            print(token.reveal())
            super().stage(token)


@must_fail("test_a_crash_at_any_step_loses_nothing_and_repeating_completes")
class TestPromoteInTwoWrites(OnStore):
    class Backend(Store):
        def promote(self, token_id, *, replacing):
            held = self.versions()
            after = stages.promoted(
                held, token_id, replacing=replacing, now=self._clock.now(), uri=self.uri
            )
            if after is not held:
                self._memory.save(replace(held, pending=None))
                self._memory.save(after)


@must_fail("test_after_a_crash_at_any_step_somebody_else_can_do_something_else")
class TestDeadPromoteBlocksOthers(OnStore):
    class Backend(Store):
        def promote(self, token_id, *, replacing):
            self._memory.busy = True
            super().promote(token_id, replacing=replacing)
            self._memory.busy = False

        def stage(self, token):
            if getattr(self._memory, "busy", False):
                raise ConflictError("a promote is under way", uri=self.uri)
            super().stage(token)


@must_fail("test_of_threads_that_stage_different_tokens_one_wins")
class TestLooksThenWrites(OnStore):
    class Backend(Store):
        def stage(self, token):
            after = stages.staged(self.versions(), token, uri=self.uri)
            time.sleep(0.005)
            self._memory.save(after)


@must_fail("test_of_two_rotators_that_disagree_one_wins_and_the_other_is_told")
class TestPromotesWithoutALock(OnStore):
    class Backend(Store):
        def promote(self, token_id, *, replacing):
            after = stages.promoted(
                self.versions(), token_id, replacing=replacing, now=self._clock.now()
            )
            time.sleep(0.02)
            self._memory.save(after)


@must_fail("test_any_sequence_of_verbs_gives_what_the_pure_rules_give")
class TestRollbackIsRefused(OnStore):
    class Backend(Store):
        def stage(self, token):
            previous = self.versions().previous
            if previous is not None and previous == token:
                raise ConflictError("no way back", uri=self.uri)
            super().stage(token)


@must_fail("test_a_refusal_is_access_denied")
class TestForgottenHook(OnStore):
    cannot = {}


class PlainKey(SealingKey):
    """Does everything wrong that a key can do: the stanza is the data key, in hex."""

    uri = "plain:key"

    def wrap(self, data_key):
        return {"wrapped": data_key.hex()}

    def unwrap(self, stanza):
        return bytes.fromhex(stanza["wrapped"])


class OnKey(KeySuite):
    Backend = PlainKey
    cannot = dict.fromkeys(("denied", "unreachable", "secrets_of"), "-")

    @pytest.fixture
    def new_place(self):
        return lambda: uuid.uuid4().hex

    def open(self, place):
        return self.Backend()


@must_fail("test_a_stanza_does_not_contain_the_data_key")
class TestPlainKeyInTheStanza(OnKey):
    pass


@must_fail("test_any_altered_member_is_seal_broken")
class TestAlteredStanzaIsData(OnKey):
    pass


@must_fail("test_another_key_says_seal_broken")
class TestEveryKeyOpensEverything(OnKey):
    pass


@must_fail("test_a_stanza_of_no_key_is_seal_broken")
class TestStrangeStanzaIsAKeyError(OnKey):
    pass


@must_fail("test_a_data_key_of_another_size_is_refused_or_comes_back")
class TestCutsOtherSizes(OnKey):
    class Backend(PlainKey):
        def wrap(self, data_key):
            return super().wrap(data_key[:32].ljust(32, b"\0"))


@must_fail("test_nothing_of_a_whole_life_shows_the_key_or_a_data_key")
class TestLogsTheDataKey(OnKey):
    cannot = dict.fromkeys(("denied", "unreachable"), "-")

    class Backend(PlainKey):
        def wrap(self, data_key):
            logging.getLogger(__name__).debug("wrapping %s", data_key.hex())
            return {"wrapped": "A" * 32}

        def unwrap(self, stanza):
            if not stanza:
                raise SealBroken("broken", uri=self.uri)
            return b""

    def secrets_of(self, place):
        return ["nothing-of-the-kind"]


class OnIssuer(IssuerSuite):
    Backend = MemoryIssuer
    cannot = dict.fromkeys(("unreachable", "dead_admin", "secrets_of"), "-")

    @pytest.fixture
    def place(self):
        return self.Backend()

    def open(self, place):
        return place


@must_fail("test_the_same_key_gives_the_same_token")
class TestIgnoresTheIdempotencyKey(OnIssuer):
    class Backend(MemoryIssuer):
        count = itertools.count()

        def issue(self, request, *, idempotency_key):
            return super().issue(request, idempotency_key=str(next(self.count)))


@must_fail("test_a_revoked_token_is_dead")
class TestRevokeDoesNothing(OnIssuer):
    class Backend(MemoryIssuer):
        def revoke(self, token):
            return None


@must_fail("test_revoking_again_is_no_error")
class TestRevokeTwiceIsAnError(OnIssuer):
    class Backend(MemoryIssuer):
        def revoke(self, token):
            if isinstance(token, Token):
                self.verify(token)
            super().revoke(token)


@must_fail("test_list_does_not_tell_of_other_names")
class TestListsEverything(OnIssuer):
    class Backend(MemoryIssuer):
        def list(self, name):
            return iter(self._infos.values())


@must_fail("test_list_goes_on_past_the_first_page")
class TestListsOnePage(OnIssuer):
    class Backend(MemoryIssuer):
        def list(self, name):
            return itertools.islice(super().list(name), 50)


@must_fail("test_list_tells_of_every_token_of_the_name")
class TestListTellsNoTimes(OnIssuer):
    class Backend(MemoryIssuer):
        def list(self, name):
            return (TokenInfo(info.id, info.name) for info in super().list(name))


@must_fail("test_verifying_is_not_using")
class TestVerifyingCountsAsUse(OnIssuer):
    class Backend(MemoryIssuer):
        def verify(self, token):
            self.use(token)
            return super().verify(token)
