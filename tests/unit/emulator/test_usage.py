"""What is noticed of tokens while they are used, each turning point once."""

import time
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from cmzon_secrets.clock import Clock
from cmzon_secrets.emulator import Emulator
from cmzon_secrets.emulator.account.account import Account
from cmzon_secrets.emulator.account.history import EMULATOR
from cmzon_secrets.emulator.account.tokens import TokenWish, deriving
from cmzon_secrets.emulator.account.usage import ACTIVITY_KEPT
from cmzon_secrets.emulator.storage.journal import Journal


class HandClock(Clock):
    """Time that passes by hand."""

    def __init__(self):
        self.passed = 0.0

    def now(self):
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.passed)

    def monotonic(self):
        return self.passed


def events(api, token_id):
    """The story of one token, oldest first: what happened, and from where."""
    history = api.emulator._now.server._account.history
    return [(e.event, e.ip) for e in in_its_thread(api, history.find) if e.token_id == token_id]


def names(api, token_id):
    return [event for event, _ in events(api, token_id)]


def in_its_thread(api, ask):
    import asyncio

    async def asked():
        return ask()

    server = api.emulator._now.server
    return asyncio.run_coroutine_threadsafe(asked(), server._loop).result()


@pytest.fixture
def elsewhere(emulator, connect):
    """A client that calls from another address of this machine."""
    import httpx2

    transport = httpx2.HTTPTransport(local_address="127.0.0.2")
    return connect(emulator, transport=transport)


def test_a_token_that_lies_in_a_drawer_has_been_issued_and_nothing_else(api):
    token = api.issue()
    assert names(api, token["id"]) == ["issued"]


def test_asking_about_itself_is_told_once_and_is_no_use(api):
    token = api.issue()
    for _ in range(3):
        api.call("GET", "/v1/tokens/self", token["token"])
    assert names(api, token["id"]) == ["issued", "verified"]
    listed = api.call("GET", "/v1/tokens", params={"name": "acme"}).json()["data"]
    assert listed[0]["last_used_at"] is None


def test_the_first_message_is_its_first_use_and_its_promotion_and_later_ones_are_neither(api):
    token = api.issue()
    for _ in range(3):
        assert api.send(token["token"]).is_success
    assert names(api, token["id"]) == ["issued", "first_used", "promoted"]


def test_a_message_that_was_refused_is_a_use_and_no_promotion(api):
    token = api.issue()
    assert api.send(token["token"], message={}).status_code == 400
    assert names(api, token["id"]) == ["issued", "first_used"]


def test_a_repeated_message_promotes_nothing(api):
    first, second = api.issue(), api.issue()
    api.send(first["token"], key="k")
    api.send(second["token"], key="k")
    assert names(api, second["id"]) == ["issued", "first_used"]


def test_every_address_it_is_used_from_is_told_once(api, elsewhere):
    token = api.issue()
    for _ in range(2):
        api.send(token["token"])
        elsewhere.send(token["token"])
    assert events(api, token["id"]) == [
        ("issued", "127.0.0.1"),
        ("first_used", "127.0.0.1"),
        ("promoted", "127.0.0.1"),
        ("used_from", "127.0.0.2"),
    ]


def test_use_of_a_dead_token_is_told_once_for_each_address_and_counted_every_time(api, elsewhere):
    token = api.issue()
    api.revoke(token["id"])
    for _ in range(3):
        assert api.send(token["token"]).status_code == 401
        assert elsewhere.send(token["token"]).status_code == 401
    refused = [ip for event, ip in events(api, token["id"]) if event == "refused"]
    assert refused == ["127.0.0.1", "127.0.0.2"]
    tokens = api.emulator._now.server._account.tokens
    assert in_its_thread(api, lambda: tokens.get(token["id"]).refused) == 6


def test_expiry_is_told_once_and_as_of_when_it_came(api):
    token = api.issue(expires_in=60)
    for _ in range(3):
        api.control("clock", advance=3600)
    assert names(api, token["id"]) == ["issued", "expired"]
    account = api.emulator._now.server._account
    issued, expired = in_its_thread(api, lambda: account.history.find()[-2:])
    assert expired.at - issued.at == pytest.approx(60, abs=0.01)


def test_expiry_is_told_by_itself_while_nobody_asks_for_anything(connect):
    clock = HandClock()
    with Emulator(clock=clock) as emulator:
        api = connect(emulator)
        token = api.issue(expires_in=60)
        clock.passed = 61.0
        end = time.monotonic() + 10
        while names(api, token["id"]) != ["issued", "expired"]:
            assert time.monotonic() < end, "not in 10 s"
            time.sleep(0.01)


def test_messages_of_each_second_are_remembered_for_so_long_and_no_longer():
    clock = HandClock()
    with closing(Journal(None)) as journal:
        account = Account(journal, deriving(b"secret"), clock=clock)
        token = account.issue(TokenWish("acme", ("messages:send",)), EMULATOR)
        first = int(account.clock.timestamp())
        for second in range(ACTIVITY_KEPT + 10):
            clock.passed = float(second)
            account.usage.carried(token, EMULATOR)
            account.usage.carried(token, EMULATOR)
        activity = account.usage.activity(token.id)
        assert sorted(activity) == list(range(first + 10, first + ACTIVITY_KEPT + 10))
        assert set(activity.values()) == {2}
        assert token.messages == 2 * (ACTIVITY_KEPT + 10)


def test_expiry_is_not_told_again_when_the_clock_went_back_and_forth(api):
    token = api.issue(expires_in=60)
    for seconds in (3600, -3600, 3600):
        api.control("clock", advance=seconds)
    assert names(api, token["id"]) == ["issued", "expired"]


def test_a_token_that_is_live_again_because_the_clock_went_back_can_be_used(api):
    token = api.issue(expires_in=60)
    api.control("clock", advance=3600)
    assert api.send(token["token"]).status_code == 401
    api.control("clock", advance=-3600)
    assert api.send(token["token"]).status_code == 200


def test_the_expiry_of_a_revoked_token_is_no_news(api):
    token = api.issue(expires_in=60)
    api.revoke(token["id"])
    api.control("clock", advance=3600)
    assert names(api, token["id"]) == ["issued", "revoked"]


def test_an_expiry_by_hand_is_told_as_that_and_not_a_second_time_as_an_expiry(api):
    token = api.issue(expires_in=3600)
    for _ in range(2):
        api.http.post(f"/_emulator/tokens/{token['id']}/expire")
    api.control("clock", advance=7200)
    assert names(api, token["id"]) == ["issued", "expired_now"]


def test_a_time_that_was_ended_by_hand_stays_ended_whatever_the_clock_does(tmp_path, connect):
    with Emulator(state=tmp_path) as emulator:
        api = connect(emulator)
        token = api.issue(expires_in=90 * 86400)
        emulator.snapshot("before")
        emulator.advance(60 * 86400)
        emulator.expire(token["id"])
        emulator.advance(-60 * 86400)
        assert api.send(token["token"]).status_code == 401
    with Emulator(state=tmp_path) as emulator:
        api = connect(emulator)
        assert api.send(token["token"]).status_code == 401
        emulator.advance(90 * 86400)
        assert names(api, token["id"]) == ["issued", "expired_now", "refused"]
        emulator.restore("before")
        assert api.send(token["token"]).status_code == 200


def test_nothing_is_told_again_after_a_restart(tmp_path, connect):
    with Emulator(state=tmp_path) as emulator:
        api = connect(emulator)
        used, short = api.issue(), api.issue(expires_in=60)
        api.send(used["token"])
        api.control("clock", advance=3600)
        assert api.send(short["token"]).status_code == 401
        before = names(api, used["id"]), names(api, short["id"])
    with Emulator(state=tmp_path) as emulator:
        api = connect(emulator)
        assert api.send(used["token"]).status_code == 200
        assert api.send(short["token"]).status_code == 401
        api.control("clock", advance=1)
        assert (names(api, used["id"]), names(api, short["id"])) == before
    assert before == (["issued", "first_used", "promoted"], ["issued", "expired", "refused"])


def test_an_expiry_while_it_was_stopped_is_told_at_the_next_start(tmp_path, connect):
    with Emulator(state=tmp_path) as emulator:
        api = connect(emulator)
        token = api.issue(expires_in=60)
    with Emulator(state=tmp_path) as emulator:
        api = connect(emulator)
        api.control("clock", advance=120)
        assert names(api, token["id"]) == ["issued", "expired"]


def test_a_reset_forgets_the_stories_and_begins_the_admins_anew(api):
    token = api.issue()
    api.send(token["token"])
    api.control("reset")
    account = api.emulator._now.server._account
    told = [(e.event, e.name) for e in in_its_thread(api, account.history.find)]
    assert told == [("issued", "emulator-admin")]
    api.send()
    told = [e.event for e in in_its_thread(api, account.history.find)]
    assert told == ["issued", "first_used", "promoted"]
