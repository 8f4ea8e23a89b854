"""What a rotation in Key Vault costs, in requests, and what a handle remembers to keep it so."""

import gc
import pickle
from datetime import timedelta
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest

from cmzon_secrets import RotationPolicy, Rotator, Token
from cmzon_secrets.clouds.azure import Vault
from cmzon_secrets.clouds.azure_credentials import Login
from cmzon_secrets.errors import ConflictError
from cmzon_secrets.providers.azure_key_vault import AzureKeyVault
from cmzon_secrets.testing.memory_issuer import MemoryIssuer
from servers.key_vault import SwiftClock
from servers.key_vault_secrets import paste, secrets_of

SPEED = 100
MOST = 20
FIRST, SECOND, THIRD = (Token(f"cmz_value{n}", id=f"tok_{n}") for n in (1, 2, 3))


class Counted(AzureKeyVault):
    """A store that notes what each of its verbs costs."""

    def __init__(self, *args, wire, **more):
        super().__init__(*args, **more)
        self.wire, self.costs = wire, []

    def versions(self):
        return self.noting("versions", super().versions)

    def stage(self, token):
        self.noting("stage", lambda: super(Counted, self).stage(token))

    def promote(self, token_id, *, replacing):
        self.noting("promote", lambda: super(Counted, self).promote(token_id, replacing=replacing))

    def discard(self, token_id):
        self.noting("discard", lambda: super(Counted, self).discard(token_id))

    def noting(self, verb, act):
        before = len(self.wire)
        try:
            return act()
        finally:
            self.costs.append((verb, len(self.wire) - before))


class Clock(SwiftClock):
    """That of a machine whose vault may be days ahead of ours."""

    def __init__(self, vault):
        super().__init__(SPEED)
        self.vault = vault

    def now(self):
        return super().now() + timedelta(seconds=self.vault.skew)


@pytest.fixture
def vault(key_vault):
    return key_vault.vault(speed=SPEED)


@pytest.fixture
def wire(key_vault, monkeypatch):
    """All requests, refused ones and logins among them: their method, path and whether logged in."""
    asked, answer = [], key_vault.answer

    def noting(vault, method, target, headers, body):
        asked.append((method, urlsplit(target).path, bool(headers.get("Authorization"))))
        return answer(vault, method, target, headers, body)

    monkeypatch.setattr(key_vault, "answer", noting)
    return asked


@pytest.fixture
def opened(vault, wire):
    def make():
        place = Vault(vault.host, Login(credential="managed", client_id="owner"))
        return Counted(place, "token", clock=Clock(vault), wire=wire)

    return make


@pytest.fixture
def account(vault, opened):
    """An account that was rotated before; each ``run`` is that of another process, as in a cron job."""
    issuer, policy = MemoryIssuer(clock=Clock(vault)), RotationPolicy("acme")

    def run(*, later):
        vault.skew += later.total_seconds()
        store = opened()
        report = Rotator(store, issuer, policy, clock=Clock(vault)).run()
        return SimpleNamespace(
            did=[a.kind for a in report.actions],
            costs=store.costs,
            total=sum(cost for _, cost in store.costs),
        )

    opened().create()
    for later in (0, 31, 2):
        run(later=timedelta(days=later))
    return run


DUE, GRACE_OVER = timedelta(days=31), timedelta(days=2)


class TestARotation:
    def test_it_costs_at_most_twenty_requests_and_these(self, account, wire):
        wire.clear()
        first, second = account(later=DUE), account(later=GRACE_OVER)
        assert first.did == ["issue", "stage", "promote"]
        assert first.costs == [
            ("versions", 2),
            ("stage", 3),
            ("versions", 2),
            ("promote", 3),
            ("versions", 2),
        ]
        assert second.did == ["revoke", "discard"]
        assert second.costs == [("versions", 3), ("discard", 2), ("versions", 2)]
        assert len(wire) == first.total + second.total <= MOST

    def test_a_run_with_nothing_due_costs_two(self, account):
        assert account(later=timedelta(hours=2)).costs == [("versions", 2)]

    def test_a_process_logs_in_once(self, account, wire):
        wire.clear()
        account(later=DUE)
        assert all(logged_in for _, _, logged_in in wire)

    def test_after_years_it_costs_more_only_where_only_a_listing_can_tell(self, account, vault):
        many = 60  # three pages
        for name in ("token", "token-pending"):
            kept = secrets_of(vault).by_name[name].versions
            for _ in range(many - len(kept)):
                paste(vault, name, "cmz_old")
                kept.insert(0, kept.pop())
                kept[0].created = 0
        first, second = account(later=DUE), account(later=GRACE_OVER)
        assert first.did == ["issue", "stage", "promote"]
        assert [cost for _, cost in first.costs] == [2 + 2, 3 + 2, 2, 3 + 2, 3]
        assert [cost for _, cost in second.costs] == [3 + 2, 2, 2]


@pytest.fixture
def rotated(opened):
    """CURRENT is SECOND, PREVIOUS is FIRST."""
    store = opened()
    store.create()
    for token, replacing in ((FIRST, None), (SECOND, FIRST.id)):
        store.stage(token)
        store.promote(token.id, replacing=replacing)
    return store


def cost(store, verb):
    before = len(store.wire)
    verb()
    return len(store.wire) - before


class TestWhatAHandleRemembers:
    def test_it_is_gone_with_the_view_that_was_given(self, rotated):
        view = rotated.versions()
        held = cost(rotated, lambda: rotated.discard(FIRST.id))
        del view
        gc.collect()
        assert rotated._last.take() is None
        assert cost(rotated, lambda: rotated.stage(THIRD)) > held

    def test_it_is_gone_when_the_handle_is_closed(self, rotated):
        view = rotated.versions()
        rotated.close()
        assert rotated._last.take() is None
        assert view.current == SECOND

    def test_it_shows_no_value_to_anybody(self, rotated):
        view = rotated.versions()
        _, last = rotated._last.take()
        assert last.versions == view
        for shown in (repr(last), *(repr(vars(line)) for line in (last.line, last.pending))):
            assert "cmz_value" not in shown
        assert all(b"cmz_value" not in pickle.dumps(line) for line in (last.line, last.pending))

    def test_a_change_of_another_is_seen_although_the_last_look_allowed_the_write(
        self, rotated, opened
    ):
        rotated.discard(FIRST.id)
        rotated.stage(THIRD)
        view = rotated.versions()
        opened().discard(THIRD.id)
        with pytest.raises(ConflictError, match="not PENDING"):
            rotated.promote(view.pending.id, replacing=view.current.id)
        assert rotated.get() == SECOND

    def test_nothing_is_remembered_of_a_look_that_came_while_somebody_was_writing(
        self, rotated, vault
    ):
        paste(vault, "token", "cmz_pasted").created += 60  # it is still its second
        view = rotated.versions()
        assert not rotated._last.take()[1].final
        assert view.current == Token("cmz_pasted")


class TestWhenItIsInDoubt:
    """Where a listing cannot tell which version is handed out, it is asked for."""

    def asked(self, store, wire):
        wire.clear()
        view = store.versions()
        return view, ("GET", "/secrets/token/", True) in wire

    def test_two_versions_of_the_same_second(self, rotated, vault, wire):
        view, asked = self.asked(rotated, wire)
        assert not asked
        older, latest = secrets_of(vault).by_name["token"].versions
        older.created = latest.created
        view, asked = self.asked(rotated, wire)
        assert asked
        assert view.current == SECOND

    def test_a_version_with_the_tags_of_another(self, rotated, vault, wire):
        latest = secrets_of(vault).by_name["token"].versions[-1]
        paste(vault, "token", "cmz_pasted", tags=dict(latest.tags)).created += 2
        view, asked = self.asked(rotated, wire)
        assert asked
        assert view.current == Token("cmz_pasted")

    def test_a_disabled_one(self, rotated, vault, wire):
        secrets_of(vault).by_name["token-pending"].versions[-1].attributes["enabled"] = False
        view, asked = self.asked(rotated, wire)
        assert asked
        assert view.current == SECOND

    def test_pending_is_asked_for_again_where_current_came_while_we_looked(
        self, rotated, vault, key_vault, monkeypatch
    ):
        """What was PENDING before is not shown beside a CURRENT that came after it was discarded."""
        rotated.discard(FIRST.id)
        rotated.stage(THIRD)
        before = rotated.versions()
        answer, done = key_vault.answer, []

        def meddling(vault_, method, target, headers, body):
            answered = answer(vault_, method, target, headers, body)
            if not done and target.startswith("/secrets/token-pending/?"):
                done.append(True)
                tags = {"cmzon-v": "1", "cmzon-state": "empty"}
                base = secrets_of(vault).by_name["token-pending"].latest.id
                paste(vault, "token-pending", "(empty)", tags={**tags, "cmzon-base": base})
                paste(vault, "token", "cmz_pasted").created += 60
            return answered

        monkeypatch.setattr(key_vault, "answer", meddling)
        view = rotated.versions()
        assert before.pending == THIRD
        assert done
        assert (view.current, view.pending) == (Token("cmz_pasted"), None)
