"""What is particular to ``azurekeyvault:``; what every store must do is in tests/conformance."""

import json
import logging
import time
from datetime import UTC, datetime, timedelta

import pytest

from cmzon_secrets import Token, open_store
from cmzon_secrets.clouds.azure import Vault
from cmzon_secrets.clouds.azure_credentials import Login
from cmzon_secrets.errors import (
    AccessDenied,
    ConflictError,
    InvalidToken,
    InvalidURI,
    ProviderUnavailable,
    TokenNotFound,
)
from cmzon_secrets.permissions import policy
from cmzon_secrets.providers.azure_key_vault import AzureKeyVault
from cmzon_secrets.providers.azure_stages import Place
from cmzon_secrets.uri import split
from servers.key_vault import Fault, SwiftClock
from servers.key_vault_secrets import disable, paste, secrets_of

FIRST, SECOND, THIRD = (Token(f"cmz_value{n}", id=f"tok_{n}") for n in (1, 2, 3))
SPEED = 100
OBJECTS = {
    "reader": ["secrets/token"],
    "rotator": ["secrets/token", "secrets/token-pending"],
}
"""Where each role is assigned."""


def role_of(role):
    return policy("azurekeyvault", role, {"resource_group_id": "/"})


@pytest.fixture
def vault(key_vault):
    return key_vault.vault(speed=SPEED)


@pytest.fixture
def opened(vault):
    def make(principal="owner", *, name="token", timeout=10.0):
        login = Login(credential="managed", client_id=principal)
        place = Vault(vault.host, login)
        return AzureKeyVault(place, name, clock=SwiftClock(SPEED), timeout=timeout)

    return make


@pytest.fixture
def store(opened):
    """An empty place."""
    store = opened()
    store.create()
    return store


@pytest.fixture
def rotated(store):
    """CURRENT is SECOND, PREVIOUS is FIRST."""
    store.stage(FIRST)
    store.promote(FIRST.id, replacing=None)
    store.stage(SECOND)
    store.promote(SECOND.id, replacing=FIRST.id)
    return store


def versions_of(vault, name="token"):
    return secrets_of(vault).by_name[name].versions


def asked(vault, verb):
    """The requests that a verb makes."""
    vault.traffic.clear()
    verb()
    return [(e.method, e.path) for e in vault.traffic]


class TestItsURI:
    @pytest.mark.parametrize(
        ("uri", "shown"),
        [
            ("azurekeyvault://contoso/secrets/token", "azurekeyvault://contoso/secrets/token"),
            (
                "azurekeyvault://Contoso.vault.azure.net/secrets/Token",
                "azurekeyvault://contoso/secrets/Token",
            ),
            (
                "azurekeyvault://contoso.vault.azure.cn/secrets/token?credential=managed&client_id=me",
                "azurekeyvault://contoso.vault.azure.cn/secrets/token?credential=managed&client_id=me",
            ),
            (
                "azurekeyvault://contoso/secrets/" + "n" * 119,
                "azurekeyvault://contoso/secrets/" + "n" * 119,
            ),
        ],
    )
    def test_it_is_shown_and_opens_again(self, uri, shown):
        assert open_store(uri).uri == shown == open_store(shown).uri

    @pytest.mark.parametrize(
        ("uri", "word"),
        [
            ("azurekeyvault://contoso/keys/token", "secrets/NAME"),
            ("azurekeyvault://contoso/secrets/token/abcdef", "secrets/NAME"),
            ("azurekeyvault:contoso/secrets/token", "secrets/NAME"),
            ("azurekeyvault://contoso/secrets/a_b", "letters, digits and hyphens"),
            ("azurekeyvault://contoso/secrets/" + "n" * 120, "at most 119"),
            ("azurekeyvault://contoso/secrets/token-Pending", "end in -pending"),
            ("azurekeyvault://contoso.example.com/secrets/token", "host is not below"),
            ("azurekeyvault://hsm.managedhsm.azure.net/secrets/token", "host is not below"),
            ("azurekeyvault://x/secrets/token", "3 to 24"),
            ("azurekeyvault://contoso/secrets/token?color=red", "color"),
        ],
    )
    def test_what_cannot_be_is_refused_before_any_call(self, uri, word):
        with pytest.raises(InvalidURI) as caught:
            open_store(uri)
        assert word in caught.value.message

    def test_opening_needs_no_sdk_and_no_call(self, vault):
        AzureKeyVault.from_location(split(f"azurekeyvault://{vault.host}/secrets/token"))
        assert vault.traffic == []

    def test_names_mean_the_same_in_any_case(self, rotated, opened):
        upper = opened(name="TOKEN")
        assert upper.identity == rotated.identity == rotated.identity.lower()
        assert upper.get() == SECOND


class TestAnAbsentPlace:
    def test_reading_makes_nothing_and_says_how_to_make_it(self, opened, vault):
        store = opened()
        assert list(store.versions()) == []
        assert store.identity == f"azure:{vault.host}/token"
        assert not store.exists()
        store.discard(FIRST.id)
        with pytest.raises(ConflictError):
            store.promote(FIRST.id, replacing=None)
        with pytest.raises(TokenNotFound) as caught:
            store.get()
        assert "cmzon-secrets put --create" in caught.value.hint
        assert secrets_of(vault).by_name == {}

    def test_staging_makes_it(self, opened, vault):
        store = opened()
        store.stage(FIRST)
        assert store.exists()
        assert store.versions().pending == FIRST
        assert list(secrets_of(vault).by_name) == ["token-pending"]

    def test_create_makes_it_once_and_puts_nothing_where_applications_read(self, opened, vault):
        store = opened()
        store.create()
        store.create()
        assert list(secrets_of(vault).by_name) == ["token-pending"]
        assert len(versions_of(vault, "token-pending")) == 1
        assert store.identity == f"azure:{vault.host}/token"

    def test_create_leaves_what_somebody_pasted(self, opened, vault):
        paste(vault, "token", "cmz_pasted")
        opened().create()
        assert list(secrets_of(vault).by_name) == ["token"]

    @pytest.mark.parametrize("verb", ["get", "create", "stage"])
    def test_a_deleted_secret_is_told_with_the_command_that_recovers_it(self, verb, rotated, vault):
        secrets_of(vault).by_name["token"].state = "deleted"
        secrets_of(vault).by_name["token-pending"].state = "deleted"
        with pytest.raises(TokenNotFound) as caught:
            getattr(rotated, verb)(*([THIRD] if verb == "stage" else []))
        assert "deleted" in caught.value.message
        assert (
            caught.value.hint
            == f"az keyvault secret recover --vault-name {vault.name} --name token"
        )

    def test_a_deleted_pending_secret_is_told_too(self, rotated, vault):
        secrets_of(vault).by_name["token-pending"].state = "deleted"
        with pytest.raises(TokenNotFound) as caught:
            rotated.stage(THIRD)
        assert "az keyvault secret recover" in caught.value.hint

    def test_one_that_comes_back_while_we_write_is_a_conflict_and_then_as_before(
        self, rotated, vault
    ):
        pending = secrets_of(vault).by_name["token-pending"]
        pending.state, pending.until = "recovering", vault.now() + 20
        with pytest.raises(ConflictError):
            rotated.stage(THIRD)
        rotated.stage(THIRD)
        assert rotated.versions().pending == THIRD


class TestWhatIsStored:
    def test_applications_find_the_bare_token_as_plain_text_with_its_expiry(self, store, vault):
        expiry = datetime(2027, 1, 2, 3, 4, 5, 678900, tzinfo=UTC)
        token = Token("cmz_value", id="tok_1", scopes=("messages:send",), expires_at=expiry)
        store.stage(token)
        assert "exp" not in versions_of(vault, "token-pending")[-1].attributes, "it raises no alarm"
        store.promote(token.id, replacing=None)
        (current,) = versions_of(vault)
        assert (current.value, current.content_type) == ("cmz_value", "text/plain")
        assert current.attributes["exp"] == int(expiry.timestamp())
        assert current.tags["cmzon-id"] == "tok_1"
        assert store.get().expires_at == expiry

    def test_a_rotation_is_two_versions_and_never_touches_the_one_applications_read(
        self, rotated, vault
    ):
        before = len(versions_of(vault))
        rotated.discard(FIRST.id)
        rotated.stage(THIRD)
        assert len(versions_of(vault)) == before
        assert rotated.get() == SECOND
        rotated.promote(THIRD.id, replacing=SECOND.id)
        assert len(versions_of(vault)) == before + 1
        assert rotated.get() == THIRD

    def test_metadata_that_does_not_fit_is_refused_before_any_call(self, store, vault):
        wide = Token("cmz_value", id="tok_1", scopes=[f"scope:{n}" for n in range(300)])
        vault.traffic.clear()
        with pytest.raises(InvalidToken, match="tags"):
            store.stage(wide)
        assert vault.traffic == []

    def test_a_discarded_previous_is_disabled_and_no_latest_version_ever_is(self, rotated, vault):
        rotated.discard(FIRST.id)
        rotated.stage(THIRD)
        rotated.discard(THIRD.id)
        assert [v.attributes["enabled"] for v in versions_of(vault)] == [False, True]
        assert all(v.attributes["enabled"] for v in versions_of(vault, "token-pending"))
        assert rotated.versions().previous is None

    def test_promoted_at_is_when_the_server_wrote_it_and_never_earlier(self, rotated, vault):
        written = versions_of(vault)[-1].created
        at = rotated.versions().promoted_at
        assert at == datetime.fromtimestamp(written, UTC) + timedelta(seconds=1)

    def test_nothing_is_ever_deleted(self, rotated, vault):
        rotated.discard(FIRST.id)
        assert {e.method for e in vault.traffic} <= {"GET", "PUT", "PATCH"}


class TestWhatOthersDo:
    def test_a_disabled_current_version_is_not_an_older_one(self, rotated, vault):
        disable(vault, "token")
        for read in (rotated.get, rotated.versions):
            with pytest.raises(AccessDenied, match="disabled"):
                read()

    def test_a_disabled_pending_version_is_no_pending(self, rotated, vault):
        rotated.discard(FIRST.id)
        rotated.stage(THIRD)
        disable(vault, "token-pending")
        assert rotated.versions().pending is None
        rotated.stage(FIRST)
        assert rotated.versions().pending == FIRST

    def test_a_value_pasted_over_ours_with_our_tags_is_a_token_of_its_own(self, rotated, vault):
        paste(vault, "token", "cmz_pasted", tags=dict(versions_of(vault)[-1].tags))
        view = rotated.versions()
        assert view.current == rotated.get() == Token("cmz_pasted")
        assert view.current.id.startswith("sha256:")
        assert view.previous is None
        rotated.stage(THIRD)
        rotated.promote(THIRD.id, replacing=view.current.id)
        assert rotated.versions().previous == Token("cmz_pasted")

    def test_pasting_over_current_keeps_what_is_pending(self, rotated, vault):
        rotated.discard(FIRST.id)
        rotated.stage(THIRD)
        paste(vault, "token", "cmz_pasted")
        assert rotated.versions().pending == THIRD

    def test_tags_of_others_survive(self, rotated, vault):
        paste(vault, "token", "cmz_pasted", tags={"team": "payments"})
        rotated.stage(THIRD)
        rotated.promote(THIRD.id, replacing=Token("cmz_pasted").id)
        assert versions_of(vault)[-2].tags == {"team": "payments"}

    def test_hundreds_of_versions_are_read_page_by_page(self, rotated, vault):
        for number in range(60):
            paste(vault, "token", f"cmz_old{number}")
        rotated.stage(THIRD)
        rotated.promote(THIRD.id, replacing=Token("cmz_old59").id)
        view = rotated.versions()
        assert (view.current, view.previous) == (THIRD, Token("cmz_old59"))


class TestRivals:
    def late(self, vault, token, *, base):
        """A rival that looked long ago, put its version now, and died."""
        tags = {"cmzon-v": "1", "cmzon-id": token.id, "cmzon-sha256": token.fingerprint}
        paste(vault, "token", token.reveal(), tags={**tags, "cmzon-base": base, "cmzon-prev": base})

    def test_what_a_late_loser_left_is_mended_by_whoever_looks(self, rotated, vault):
        self.late(vault, THIRD, base=versions_of(vault)[0].id)
        assert rotated.get() == THIRD, "applications see it for a while"
        view = rotated.versions()
        assert (view.current, view.previous) == (SECOND, FIRST)
        assert rotated.get() == SECOND
        assert asked(vault, rotated.versions).count(("PUT", "/secrets/token")) == 0, (
            "once is enough"
        )

    def test_it_is_mended_although_the_winner_was_rotated_since(self, rotated, vault):
        rotated.discard(FIRST.id)
        rotated.stage(FIRST)
        rotated.promote(FIRST.id, replacing=SECOND.id)
        self.late(vault, THIRD, base=versions_of(vault)[0].id)
        view = rotated.versions()
        assert (view.current, view.previous) == (FIRST, SECOND)

    def test_who_may_not_write_sees_what_applications_see(self, rotated, vault, opened):
        rights = json.loads(role_of("rotator"))
        rights["DataActions"] = [a for a in rights["DataActions"] if "setSecret" not in a]
        vault.assign("watcher", json.dumps(rights), *OBJECTS["rotator"])
        self.late(vault, THIRD, base=versions_of(vault)[0].id)
        assert opened("watcher").versions().current == THIRD

    def test_a_write_whose_answer_was_lost_is_sent_again_and_counts_once(self, rotated, vault):
        rotated.discard(FIRST.id)
        rotated.stage(THIRD)
        vault.lose(only=lambda method, path: method == "PUT")
        rotated.promote(THIRD.id, replacing=SECOND.id)
        twice = versions_of(vault)[-2:]
        assert twice[0].tags["cmzon-op"] == twice[1].tags["cmzon-op"]
        view = rotated.versions()
        assert (view.current, view.pending, view.previous) == (THIRD, None, SECOND)

    def test_a_loser_is_told_who_won(self, rotated, vault, monkeypatch):
        rotated.discard(FIRST.id)
        rotated.stage(THIRD)
        base = versions_of(vault)[-1].id
        winner = Token("cmz_winner", id="tok_winner")
        write = Place.write

        def slow(place, held, after):
            self.late(vault, winner, base=base)
            time.sleep(2 / SPEED)
            return write(place, held, after)

        monkeypatch.setattr(Place, "write", slow)
        with pytest.raises(ConflictError) as caught:
            rotated.promote(THIRD.id, replacing=SECOND.id)
        assert "tok_winner" in caught.value.message
        assert rotated.get() == winner


class TestRights:
    @pytest.fixture
    def role(self, vault, opened):
        def make(role):
            vault.assign(role, role_of(role), *OBJECTS[role])
            return opened(role)

        return make

    def test_a_reader_reads_current_and_may_do_nothing_else(self, rotated, role, vault):
        reader = role("reader")
        assert reader.get() == SECOND
        for verb in (
            reader.versions,
            lambda: reader.stage(THIRD),
            lambda: reader.promote(SECOND.id, replacing=FIRST.id),
            lambda: reader.discard(FIRST.id),
        ):
            with pytest.raises(AccessDenied, match="getSecret"):  # on the other secret
                verb()
        paste(vault, "neighbour", "cmz_neighbour")
        self.may_not(vault, "reader", read="neighbour")

    def test_a_rotator_can_do_all_verbs_from_nothing(self, role, vault):
        rotator = role("rotator")
        rotator.create()
        rotator.stage(FIRST)
        rotator.promote(FIRST.id, replacing=None)
        rotator.stage(SECOND)
        rotator.promote(SECOND.id, replacing=FIRST.id)
        rotator.discard(FIRST.id)
        rotator.stage(THIRD)
        rotator.discard(THIRD.id)
        assert rotator.get() == rotator.versions().current == SECOND

    def test_a_rotator_may_neither_delete_nor_touch_a_neighbour(self, rotated, role, vault):
        role("rotator")
        paste(vault, "neighbour", "cmz_neighbour")
        paste(vault, "token2", "cmz_neighbour")
        self.may_not(vault, "rotator", read="neighbour", write="token2", delete="token")

    def test_each_right_of_the_rotator_is_needed(self, rotated, vault, opened):
        whole = json.loads(role_of("rotator"))
        for action in whole["DataActions"]:
            fewer = {**whole, "DataActions": [a for a in whole["DataActions"] if a != action]}
            principal = f"without-{action.rsplit('/', 2)[1]}"
            vault.assign(principal, json.dumps(fewer), *OBJECTS["rotator"])
            with pytest.raises(AccessDenied):
                self.rotate(opened(principal))

    def rotate(self, store):
        store.stage(THIRD)
        store.discard(THIRD.id)
        store.discard(FIRST.id)

    def may_not(self, vault, principal, **names):
        actions = {
            "read": "secrets/getSecret/action",
            "write": "secrets/setSecret/action",
            "delete": "secrets/delete",
        }
        for what, name in names.items():
            with pytest.raises(Fault):
                vault.authorize(principal, actions[what], f"secrets/{name}")


class TestRequests:
    def test_reading_is_one_request(self, rotated, vault):
        assert asked(vault, rotated.get) == [("GET", "/secrets/token/")]

    def test_a_server_whose_clock_is_far_from_ours_changes_nothing(self, rotated, vault):
        vault.skew = 86_400
        rotated.discard(FIRST.id)
        rotated.stage(THIRD)
        rotated.promote(THIRD.id, replacing=SECOND.id)
        assert rotated.versions().current == THIRD

    def test_throttling_is_waited_out_as_the_service_asks(self, rotated, vault):
        vault.throttle(times=2, retry_after=1)
        began = vault.now()
        assert rotated.get() == SECOND
        assert vault.now() - began >= 2

    def test_throttling_without_an_end_is_unavailable_in_time(self, rotated, vault, opened):
        vault.throttle(times=10_000, retry_after=None)
        began = time.monotonic()
        with pytest.raises(ProviderUnavailable):
            opened(timeout=0.5).get()
        assert time.monotonic() - began < 5

    def test_no_sdk_logs_a_value(self, rotated, caplog):
        caplog.set_level(logging.DEBUG)
        rotated.get()
        rotated.discard(FIRST.id)
        rotated.stage(THIRD)
        logged = "\n".join(f"{r.getMessage()} {vars(r)!r}" for r in caplog.records)
        assert "/secrets/token" in logged, "the SDK does log"
        for token in (FIRST, SECOND, THIRD):
            assert token.reveal() not in logged
        assert "bearer-" not in logged


@pytest.mark.slow
class TestAtTrueSpeed:
    """The same with the double's clock and ours at one second a second."""

    @pytest.fixture
    def vault(self, key_vault):
        return key_vault.vault()

    @pytest.fixture
    def opened(self, vault):
        login = Login(credential="managed", client_id="owner")
        return lambda: AzureKeyVault(Vault(vault.host, login), "token")

    def test_a_rotation_settles_within_the_deadline_and_its_time_is_true(self, opened, vault):
        paste(vault, "token", FIRST.reveal())
        store = opened()
        store.stage(SECOND)
        before = datetime.now(UTC)
        store.promote(SECOND.id, replacing=Token(FIRST.reveal()).id)
        after = datetime.now(UTC)
        view = store.versions()
        assert view.current == SECOND
        assert before <= view.promoted_at <= after + timedelta(seconds=1)
        assert after - before >= timedelta(seconds=1), "it waited for rivals"
