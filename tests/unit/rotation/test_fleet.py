"""Many accounts in memory: side by side, each on its own, within what their services bear."""

import threading
import time
from collections import Counter
from contextlib import contextmanager

import pytest

from cmzon_secrets.errors import (
    AccessDenied,
    ConfigurationError,
    ProviderUnavailable,
    ReadOnlyProvider,
    TransportError,
)
from cmzon_secrets.rotation import Fleet, Member, Opened, RotationPolicy
from cmzon_secrets.rotation.fleet import MOST_OUTAGES
from cmzon_secrets.testing import ManualClock, MemoryStore
from cmzon_secrets.testing.memory_issuer import MemoryIssuer

DAY = 86400.0


class Accounts:
    """Stores by name, one issuer, and what was seen of how they are opened."""

    def __init__(self):
        self.clock = ManualClock()
        self.issuer = MemoryIssuer(clock=self.clock)
        self.stores = {}
        self.opened = []
        self.under_way = Counter()
        self.most = Counter()
        self._lock = threading.Lock()

    def member(self, name, *, service="memory", store=None, issuer=None, hold=0.0):
        held = self.stores.setdefault(name, store or MemoryStore(clock=self.clock))

        @contextmanager
        def opening():
            with self._lock:
                self.opened.append(name)
                for where in (service, ""):
                    self.under_way[where] += 1
                    self.most[where] = max(self.most[where], self.under_way[where])
            time.sleep(hold)
            try:
                yield Opened(held, issuer or self.issuer, RotationPolicy(name))
            finally:
                with self._lock:
                    for where in (service, ""):
                        self.under_way[where] -= 1

        return Member(name, f"memory:{name}", service, opening)

    def fleet(self, members, **options):
        return Fleet(members, clock=self.clock, **options)


@pytest.fixture
def accounts():
    return Accounts()


def outcomes(fleet, **options):
    return {outcome.name: outcome.report for outcome in fleet.rotate(**options)}


def states(reports):
    return {name: report.state for name, report in reports.items()}


# ── all of them ─────────────────────────────────────────────────────────────────────────────────


def test_every_account_is_rotated_once(accounts):
    names = [f"account-{n}" for n in range(50)]
    reports = outcomes(accounts.fleet([accounts.member(name) for name in names]))
    assert states(reports) == dict.fromkeys(names, "done")
    assert Counter(accounts.opened) == Counter(names)
    assert len(accounts.issuer.live) == 50


def test_a_fleet_of_nobody_ends_at_once(accounts):
    assert outcomes(accounts.fleet([])) == {}


def test_running_it_again_does_nothing_that_is_done_already(accounts):
    members = [accounts.member(f"account-{n}") for n in range(5)]
    outcomes(accounts.fleet(members))
    again = outcomes(accounts.fleet(members))
    assert [report.actions for report in again.values()] == [()] * 5


def test_a_forced_and_a_dry_run_are_those_of_each_account(accounts):
    members = [accounts.member("a"), accounts.member("b")]
    outcomes(accounts.fleet(members))
    planned = outcomes(accounts.fleet(members), force=True, dry_run=True)
    assert {action.outcome for r in planned.values() for action in r.actions} == {"planned"}
    assert len(accounts.issuer.live) == 2
    outcomes(accounts.fleet(members), force=True)
    assert len(accounts.issuer.live) == 4


def test_an_outcome_names_account_place_and_seconds(accounts):
    (outcome,) = accounts.fleet([accounts.member("acme")]).rotate()
    assert (outcome.name, outcome.uri, outcome.report.state) == ("acme", "memory:acme", "done")
    assert outcome.took >= 0


# ── one failure is one account's ────────────────────────────────────────────────────────────────


class Broken(MemoryStore):
    def __init__(self, error, **options):
        super().__init__(**options)
        self.error = error

    def versions(self):
        raise self.error


@pytest.mark.parametrize(
    "error", [AccessDenied("place — no right"), KeyError("cmz_secret"), RuntimeError("cmz_secret")]
)
def test_an_account_that_fails_harms_no_other(accounts, error):
    members = [accounts.member("bad", store=Broken(error, clock=accounts.clock))]
    members += [accounts.member(f"good-{n}") for n in range(10)]
    reports = outcomes(accounts.fleet(members, concurrency=2))
    assert states(reports) == {"bad": "failed", **{f"good-{n}": "done" for n in range(10)}}
    assert "cmz_secret" not in str(reports["bad"].error) + reports["bad"].reason
    assert reports["bad"].error is not None


def test_an_account_that_cannot_be_opened_harms_no_other(accounts):
    def refuse():
        raise ConfigurationError("no admin token — none is named")

    members = [Member("bad", "file:bad", "file", refuse), accounts.member("good")]
    assert states(outcomes(accounts.fleet(members))) == {"bad": "failed", "good": "done"}


def test_a_place_that_is_only_read_is_left_to_whoever_fills_it(accounts):
    def refuse():
        raise ReadOnlyProvider("env:T — it can be read but never written")

    report = outcomes(accounts.fleet([Member("reader", "env:T", "env", refuse)]))["reader"]
    assert (report.state, report.reason) == ("done", "read-only: whoever fills it rotates it")


def test_an_issuer_that_asks_a_person_is_attention_only_where_something_is_due(accounts):
    manual = MemoryIssuer(clock=accounts.clock)
    member = accounts.member("by-hand", issuer=manual)
    outcomes(accounts.fleet([member]))
    manual.interactive = True
    assert states(outcomes(accounts.fleet([member]))) == {"by-hand": "done"}
    forced = outcomes(accounts.fleet([member]), force=True)["by-hand"]
    assert forced.state == "attention"
    assert forced.reason == "its issuer needs a person: rotate this account by itself"
    accounts.clock.advance(31 * DAY)
    report = outcomes(accounts.fleet([member]))["by-hand"]
    assert report.state == "attention"
    assert "rotate this account by itself" in report.reason
    assert len(manual.live) == 1


def test_two_accounts_in_one_place_are_refused_before_anything_is_issued(accounts):
    shared = MemoryStore(clock=accounts.clock)
    members = [accounts.member("a", store=shared), accounts.member("b", store=shared)]
    reports = outcomes(accounts.fleet(members, concurrency=1))
    assert sorted(states(reports).values()) == ["done", "failed"]
    failed = next(report for report in reports.values() if report.state == "failed")
    assert "names the same place as account" in failed.reason
    assert len(accounts.issuer.live) == 1


def test_a_secret_that_is_not_there_is_not_made(accounts):
    class Cloud(MemoryStore):
        def exists(self):
            return False

    member = accounts.member("mistyped", store=Cloud(clock=accounts.clock))
    report = outcomes(accounts.fleet([member]))["mistyped"]
    assert report.state == "failed"
    assert "there is no such secret" in report.reason
    assert accounts.issuer.live == set()


def test_the_same_name_twice_is_refused(accounts):
    with pytest.raises(ConfigurationError, match="account a is in it 2 times"):
        accounts.fleet([accounts.member("a"), accounts.member("b"), accounts.member("a")])


# ── a few at a time ─────────────────────────────────────────────────────────────────────────────


def test_no_more_than_concurrency_are_under_way_at_a_time(accounts):
    members = [accounts.member(f"a{n}", hold=0.01) for n in range(20)]
    outcomes(accounts.fleet(members, concurrency=3, per_service=99))
    assert accounts.most[""] == 3


def test_no_service_is_asked_by_more_than_per_service(accounts):
    members = [accounts.member(f"a{n}", service=f"s{n % 2}", hold=0.01) for n in range(20)]
    outcomes(accounts.fleet(members, concurrency=16, per_service=2))
    assert (accounts.most["s0"], accounts.most["s1"]) == (2, 2)


def test_a_slow_service_does_not_hold_up_the_others(accounts):
    gate = threading.Event()
    slow = [accounts.member(f"slow-{n}", service="slow") for n in range(8)]

    def opening():
        gate.wait(30)
        raise AccessDenied("slow — no right")

    slow = [Member(member.name, member.uri, "slow", opening) for member in slow]
    quick = [accounts.member(f"quick-{n}", service="quick") for n in range(8)]
    running = accounts.fleet([*slow, *quick], concurrency=4, per_service=2).rotate()
    first = [next(running).name for _ in range(8)]
    gate.set()
    assert sorted(first) == sorted(member.name for member in quick)
    assert len(list(running)) == 8


def test_closing_the_iterator_begins_no_other_account(accounts):
    members = [accounts.member(f"a{n}", hold=0.02) for n in range(50)]
    running = accounts.fleet(members, concurrency=1).rotate()
    next(running)
    running.close()
    assert len(accounts.opened) <= 3


def test_writes_wait_for_the_pace_that_the_service_bears(accounts):
    class Slow(MemoryStore):
        WRITES_PER_SECOND = 4.0

    members = [
        accounts.member(f"a{n}", store=Slow(clock=accounts.clock), service="slow") for n in range(4)
    ]
    begun = accounts.clock.monotonic()
    reports = outcomes(accounts.fleet(members))
    writes = sum(a.kind in ("stage", "promote") for r in reports.values() for a in r.actions)
    assert writes == 8
    assert accounts.clock.monotonic() - begun >= (writes - 1) / 4 - 1e-9


def test_services_have_each_their_own_pace(accounts):
    class Slow(MemoryStore):
        WRITES_PER_SECOND = 1.0

    members = [
        accounts.member(f"a{n}", store=Slow(clock=accounts.clock), service=f"s{n}")
        for n in range(4)
    ]
    begun = accounts.clock.monotonic()
    outcomes(accounts.fleet(members, concurrency=1))
    # Two writes each: the second of an account waits for its first, and for nobody else's.
    assert accounts.clock.monotonic() - begun == pytest.approx(4.0)


def test_each_account_begins_at_a_random_moment_within_the_jitter():
    accounts = Accounts()
    members = [accounts.member(f"a{n}") for n in range(20)]
    begun = time.monotonic()
    fleet = Fleet(members, jitter=0.5)
    assert len(list(fleet.rotate())) == 20
    assert time.monotonic() - begun > 0.2
    assert accounts.opened != [member.name for member in members]


def test_after_the_time_limit_nothing_is_begun_and_everybody_is_told_of(accounts):
    class Long(MemoryStore):
        def versions(self):
            accounts.clock.advance(25.0)
            return super().versions()

    members = [accounts.member(f"a{n}", store=Long(clock=accounts.clock)) for n in range(10)]
    reports = outcomes(accounts.fleet(members, concurrency=1, time_limit=60.0))
    # Each run looks three times: the first one is past the limit when it ends, and ends all the same.
    assert Counter(states(reports).values()) == {"done": 1, "waiting": 9}
    assert len(accounts.opened) == 1
    waiting = [report for report in reports.values() if report.state == "waiting"]
    assert all("the next run goes on" in report.reason for report in waiting)


@pytest.mark.parametrize("option", [{"concurrency": 0}, {"per_service": -1}, {"concurrency": True}])
def test_a_number_that_cannot_be_meant_is_refused_by_name(accounts, option):
    with pytest.raises(ConfigurationError, match=f"{next(iter(option))} — a whole number"):
        accounts.fleet([], **option)


# ── outages ─────────────────────────────────────────────────────────────────────────────────────


def test_a_service_that_is_down_is_not_asked_by_all_ten_thousand(accounts):
    down = Broken(ProviderUnavailable("vault — no answer"), clock=accounts.clock)
    members = [accounts.member(f"a{n:03}", service="vault", store=down) for n in range(100)]
    members += [accounts.member("elsewhere", service="other")]
    reports = outcomes(accounts.fleet(members, concurrency=2))
    assert reports.pop("elsewhere").state == "done"
    assert {report.state for report in reports.values()} == {"failed"}
    assert MOST_OUTAGES <= len(accounts.opened) - 1 <= MOST_OUTAGES + 2
    assert sum("was not tried" in report.reason for report in reports.values()) >= 100 - 18


def test_an_issuer_that_is_down_is_not_asked_by_all_either(accounts):
    class Down(MemoryIssuer):
        asked = 0

        def issue(self, request, *, idempotency_key):
            self.asked += 1
            raise TransportError("issuer — no answer")

        def list(self, name):
            raise TransportError("issuer — no answer")

    issuer = Down(clock=accounts.clock)
    members = [accounts.member(f"a{n}", issuer=issuer) for n in range(100)]
    reports = outcomes(accounts.fleet(members, concurrency=1))
    assert {report.state for report in reports.values()} == {"failed"}
    assert issuer.asked == 2 * MOST_OUTAGES  # each is asked once more with the same key


def test_a_service_that_failed_for_fewer_in_a_row_is_asked_on(accounts):
    down = Broken(ProviderUnavailable("vault — no answer"), clock=accounts.clock)
    count = 2 * (MOST_OUTAGES - 1)
    members = [accounts.member(f"a{n}", store=down if n % 2 else None) for n in range(count)]
    reports = outcomes(accounts.fleet(members, concurrency=1))
    assert Counter(states(reports).values()) == {"done": count / 2, "failed": count / 2}
    assert not any("was not tried" in report.reason for report in reports.values())
