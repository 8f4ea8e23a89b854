"""The four steps of Secrets Manager's own rotation, on the strict double and an issuer in memory."""

import itertools
import logging
import secrets
import uuid
from contextlib import ExitStack, suppress
from datetime import timedelta

import pytest

from cmzon_secrets.clouds.aws import Calls
from cmzon_secrets.errors import (
    AccessDenied,
    ConfigurationError,
    ConflictError,
    PermissionDenied,
    RotationError,
    TokenNotFound,
)
from cmzon_secrets.providers.aws_secrets_manager import AWSSecretsManager
from cmzon_secrets.rotation import RotationPolicy, Rotator
from cmzon_secrets.rotation.places import GuardedStore
from cmzon_secrets.runtimes.rotation_steps import STEPS, Rotation
from cmzon_secrets.testing import ManualClock, interposed
from cmzon_secrets.testing.conformance.leaks import everything_logged, must_hide
from cmzon_secrets.testing.memory_issuer import MemoryIssuer
from servers.aws_environment import client
from servers.strict_aws import CURRENT, PENDING

NAME = "prod/acme"
ORDER = ("createSecret", "setSecret", "testSecret", "finishSecret")
DAY = timedelta(days=1)


class Secret:
    """A secret whose token was bootstrapped by a schedule, and the next rotation, begun by the service."""

    def __init__(self, double, *, empty=False):
        self.double = double
        client("secretsmanager", double.url).create_secret(Name=NAME)
        self.clock = ManualClock()
        self.issuer = MemoryIssuer(clock=self.clock)
        self.events = []
        self.policy = RotationPolicy("acme")
        if not empty:
            self.schedule()
        self.version = str(uuid.uuid4())

    def open(self):
        return AWSSecretsManager(NAME, clock=self.clock)

    def rotation(self, version=None, **options):
        store = self.open()
        return Rotation(
            store=store,
            native=store,
            issuer=options.pop("issuer", self.issuer),
            policy=self.policy,
            version_id=version or self.version,
            clock=self.clock,
            subscriber=self.events.append,
            **options,
        )

    def step(self, name, **options):
        return self.rotation(**options).perform(name)

    def all_steps(self):
        for name in ORDER:
            self.step(name)

    def schedule(self, **options):
        rotator = Rotator(GuardedStore(self.open()), self.issuer, self.policy, clock=self.clock)
        return rotator.run(**options)

    def begin_again(self, after=31 * DAY):
        """The next rotation, with a version of its own."""
        self.clock.advance(after)
        self.version = str(uuid.uuid4())

    def holder(self, label):
        return self.double.secrets[NAME].holder(label)

    @property
    def held(self):
        return self.open().versions()

    @property
    def issued(self):
        return len(self.issuer._tokens)


@pytest.fixture
def secret(strict_aws):
    return Secret(strict_aws)


# ── as it should go ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("announced", [True, False])
def test_four_steps_make_a_new_token_current_under_the_services_own_version(secret, announced):
    if announced:
        secret.version = secret.double.announce_rotation(NAME)
    old = secret.held.current
    for name in ORDER:
        secret.issuer.verify(secret.open().get())  # whoever reads at any moment gets a live one
        assert secret.step(name).state == "done"
    assert secret.holder(CURRENT) == secret.version
    assert secret.held.previous == old
    assert secret.held.pending is None
    assert secret.issuer.live == {old.id, secret.held.current.id}
    assert [e.name for e in secret.events if e.token_id == secret.held.current.id] == [
        "token_issued",
        "token_verified",
        "token_staged",
        "token_verified",
        "token_verified",
        "token_promoted",
    ]


def test_nothing_is_set_and_the_step_says_so(secret):
    secret.step("createSecret")
    assert secret.step("setSecret").reason == "nothing to set: the issuer knows the token"


def test_the_first_token_of_an_empty_secret_is_issued_and_current(strict_aws):
    secret = Secret(strict_aws, empty=True)
    secret.all_steps()
    assert secret.holder(CURRENT) == secret.version
    assert secret.issued == 1


@pytest.mark.parametrize("twice", ORDER)
def test_a_repeated_step_changes_nothing(secret, twice):
    for name in ORDER:
        secret.step(name)
        if name == twice:
            before = secret.held
            assert secret.step(name).state == "done"
            assert secret.held == before
    assert secret.holder(CURRENT) == secret.version
    assert secret.issued == 2


@pytest.mark.parametrize("late", ORDER)
def test_a_step_that_comes_again_when_all_is_over_changes_nothing(secret, late):
    secret.all_steps()
    before = secret.held
    assert secret.step(late).state == "done"
    assert secret.held == before
    assert secret.issued == 2


def test_the_next_rotation_revokes_what_outlived_its_grace_and_only_then_issues(secret):
    secret.all_steps()
    replaced = secret.held.previous
    secret.begin_again()
    secret.step("createSecret")
    assert replaced.id not in secret.issuer.live
    assert secret.held.previous is None
    secret.all_steps()
    assert secret.holder(CURRENT) == secret.version


def test_a_rotation_within_the_grace_is_refused_with_its_end_and_nothing_is_issued(secret):
    secret.all_steps()
    ends = secret.held.promoted_at + secret.policy.grace
    secret.begin_again(after=timedelta(hours=1))
    with pytest.raises(RotationError, match="stays valid until its grace ends") as refused:
        secret.step("createSecret")
    assert f"until {ends:%Y-%m-%dT%H:%M:%S}" in str(refused.value)
    assert secret.issued == 2
    secret.clock.advance(DAY)
    secret.all_steps()
    assert secret.holder(CURRENT) == secret.version


# ── together with a schedule ────────────────────────────────────────────────────────────────────


def test_a_schedule_waits_while_the_service_has_begun_and_nothing_is_written_yet(secret):
    secret.version = secret.double.announce_rotation(NAME)
    report = secret.schedule(force=True)
    assert report.state == "waiting"
    assert secret.version in report.reason
    assert secret.issued == 1
    assert secret.holder(PENDING) == secret.version
    secret.all_steps()
    assert secret.holder(CURRENT) == secret.version


def test_a_schedule_revokes_previous_also_while_a_native_rotation_waits_for_that(secret):
    secret.all_steps()
    secret.clock.advance(timedelta(hours=1))
    secret.version = secret.double.announce_rotation(NAME)
    with pytest.raises(RotationError):
        secret.step("createSecret")
    secret.clock.advance(DAY)
    secret.schedule()
    assert secret.held.previous is None
    secret.all_steps()
    assert secret.holder(CURRENT) == secret.version


def test_a_schedule_that_finds_the_token_staged_promotes_it_and_the_last_step_has_nothing_to_do(
    secret,
):
    secret.step("createSecret")
    assert [action.kind for action in secret.schedule().actions] == ["promote"]
    assert secret.holder(CURRENT) == secret.version
    before = secret.held
    for name in ORDER[1:]:
        assert secret.step(name).state == "done"
    assert secret.held == before


def test_a_schedule_that_issued_at_the_same_moment_leaves_no_second_token(secret):
    """It died before it could stage, and the step gets the same token."""
    with suppress(Crash), interposed(Fuse(1), AWSSecretsManager, "stage"):
        secret.schedule(force=True)
    assert secret.issued == 2
    secret.all_steps()
    assert secret.issued == 2


def test_a_token_pending_under_another_version_is_told_and_a_schedule_resolves_it(secret):
    secret.step("createSecret")
    other = str(uuid.uuid4())
    with pytest.raises(ConflictError, match="another token is PENDING") as refused:
        secret.step("createSecret", version=other)
    assert "a scheduled run" in refused.value.hint
    assert secret.issued == 2


def test_an_emergency_while_the_service_has_begun_kills_at_once_without_a_successor(secret):
    secret.version = secret.double.announce_rotation(NAME)
    leaked = secret.held.current
    rotator = Rotator(secret.open(), secret.issuer, secret.policy, clock=secret.clock)
    rotator.revoke(token_id=leaked.id, replace=False)
    assert leaked.id not in secret.issuer.live
    secret.all_steps()
    assert secret.issuer.live == {secret.held.current.id}


def test_an_emergency_takes_over_the_version_that_the_service_has_begun(secret):
    secret.version = secret.double.announce_rotation(NAME)
    leaked = secret.held.current
    rotator = Rotator(secret.open(), secret.issuer, secret.policy, clock=secret.clock)
    assert rotator.revoke(token_id=leaked.id).state == "done"
    assert secret.holder(CURRENT) == secret.version
    assert secret.issuer.live == {secret.held.current.id}
    secret.all_steps()  # which find their version CURRENT already
    assert secret.issuer.live == {secret.held.current.id}
    assert secret.issued == 2


# ── what goes wrong ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["setSecret", "testSecret"])
def test_a_dead_pending_token_is_not_promoted_and_the_remedy_works(secret, name):
    secret.step("createSecret")
    dead = secret.held.pending
    secret.issuer.revoke(dead)
    with pytest.raises(RotationError, match=r"refuses it \(401\)") as refused:
        secret.step(name)
    assert "invoke this function with {}" in refused.value.hint
    assert "aws secretsmanager rotate-secret" in refused.value.hint
    secret.clock.advance(120)
    secret.schedule()
    assert secret.held.pending is None
    secret.begin_again(after=DAY)
    secret.all_steps()
    assert secret.holder(CURRENT) == secret.version


def test_a_token_that_is_refused_from_here_names_the_addresses(secret, monkeypatch):
    secret.step("createSecret")

    def forbidden(token):
        raise PermissionDenied("403", status=403)

    monkeypatch.setattr(secret.issuer, "verify", forbidden)
    with pytest.raises(RotationError, match=r"from here \(403\)") as refused:
        secret.step("testSecret")
    assert "allowed_ips" in refused.value.hint


@pytest.mark.parametrize("empty", [True, False])
def test_the_trial_of_a_new_setting_is_answered_for_there_is_no_token_to_test(strict_aws, empty):
    """Secrets Manager announces a version and begins with testSecret, where it is not to rotate at once."""
    secret = Secret(strict_aws, empty=empty)
    secret.version = strict_aws.announce_rotation(NAME)
    before, issued = secret.held, secret.issued
    report = secret.step("testSecret")
    assert (report.state, report.reason) == (
        "done",
        "nothing to test: this version has no token yet",
    )
    assert (secret.held, secret.issued) == (before, issued)


@pytest.mark.parametrize(
    ("name", "announced"), [("setSecret", True), ("finishSecret", True), ("testSecret", False)]
)
def test_a_step_before_the_first_says_that_the_version_has_no_token(secret, name, announced):
    if announced:
        secret.version = secret.double.announce_rotation(NAME)
    with pytest.raises(RotationError, match="has no token") as refused:
        secret.step(name)
    assert "createSecret comes first" in refused.value.hint


def test_finishing_does_not_promote_past_somebody_elses_current(secret):
    secret.step("createSecret")
    with (
        interposed(_moving_current(secret), AWSSecretsManager, "promote"),
        pytest.raises(ConflictError),
    ):
        secret.step("finishSecret")
    assert secret.held.current.reveal() == "cmz_pasted_by_hand"


def _moving_current(secret):
    """Somebody pastes a token as CURRENT between the look and the move."""
    moved = []

    def step():
        if not moved:
            moved.append(True)
            client("secretsmanager", secret.double.url).put_secret_value(
                SecretId=NAME, SecretString="cmz_pasted_by_hand", ClientRequestToken="p" * 32
            )

    return step


def test_an_issuer_that_asks_a_person_is_refused(secret):
    class Manual(MemoryIssuer):
        interactive = True

    with pytest.raises(ConfigurationError, match="asks a person"):
        secret.step("createSecret", issuer=Manual())


def test_a_step_of_another_name_is_refused_with_those_there_are(secret):
    with pytest.raises(ConfigurationError) as refused:
        secret.step("deleteSecret")
    assert all(name in refused.value.hint for name in STEPS)


def test_a_secret_that_is_not_there_costs_no_token(strict_aws):
    secret = Secret(strict_aws)
    del strict_aws.secrets[NAME]
    with pytest.raises(TokenNotFound):
        secret.step("createSecret")
    assert secret.issued == 1


def test_a_role_that_may_not_write_is_told_what_prints_its_policy(secret):
    secret.double.denied = {"PutSecretValue"}
    with pytest.raises(AccessDenied) as denied:
        secret.step("createSecret")
    assert "doctor --policy" in denied.value.hint


# ── the rotation token ──────────────────────────────────────────────────────────────────────────


def test_the_rotation_token_is_passed_on_to_the_write_and_shown_nowhere(
    secret, monkeypatch, caplog
):
    sent, canary = [], secrets.token_urlsafe(30)
    answer = secret.double._put_secret_value

    def put(request):
        sent.append(request.get("RotationToken"))
        return answer(request)

    monkeypatch.setattr(secret.double, "_put_secret_value", put)
    caplog.set_level(logging.DEBUG)
    rotation = secret.rotation(pass_on=lambda: canary)
    for name in ORDER:
        rotation.perform(name)
    assert sent == [canary]
    values = [token.reveal() for token in secret.held]
    told = repr(rotation) + str(secret.events) + everything_logged(caplog.records)
    must_hide(told, canary, *values)


# ── crashes ─────────────────────────────────────────────────────────────────────────────────────


class Crash(BaseException):
    """The function is gone: nothing of ours may catch it."""


class Fuse:
    def __init__(self, blows_at=None):
        self.calls = 0
        self.blows_at = blows_at

    def __call__(self):
        self.calls += 1
        if self.calls == self.blows_at:
            raise Crash


FEWEST_CALLS = {"createSecret": 20, "setSecret": 3, "testSecret": 3, "finishSecret": 7}
"""To AWS and the issuer; a search that has become smaller searches no more."""


def _watched(secret, fuse):
    """Each call to AWS and to the issuer is a moment before, and one after, to die at."""
    watching = ExitStack()
    watching.enter_context(interposed(fuse, Calls, "__call__"))
    watching.enter_context(interposed(fuse, secret.issuer, "issue", "verify", "revoke", "list"))
    return watching


@pytest.mark.slow
@pytest.mark.parametrize("name", ORDER)
def test_a_function_that_dies_at_any_call_of_a_step_is_resumed_by_the_step_repeated(
    strict_aws, name
):
    deaths = 0
    for blows_at in itertools.count(2, step=2):  # just after each call, so just before the next
        strict_aws.reset()
        secret = Secret(strict_aws)
        secret.schedule(force=True)
        secret.begin_again()
        secret.version = strict_aws.announce_rotation(NAME)
        for before in ORDER[: ORDER.index(name)]:
            secret.step(before)
        died = _dies(secret, name, blows_at)
        for again in ORDER[ORDER.index(name) :]:
            secret.issuer.verify(secret.open().get())
            secret.step(again)
        assert secret.holder(CURRENT) == secret.version
        assert secret.holder(PENDING) in (None, secret.version)
        secret.clock.advance(2 * DAY)
        secret.schedule()
        assert secret.issuer.live == {secret.held.current.id}
        assert secret.held.previous is None
        if not died:
            break
        deaths += 1
    assert deaths >= FEWEST_CALLS[name], deaths


def _dies(secret, name, blows_at):
    with _watched(secret, Fuse(blows_at)):
        try:
            secret.step(name)
        except Crash:
            return True
    return False
