"""``awssecretsmanager:`` in a rotation of the service's own, which chooses the id of the version.

On moto, ministack and the strict double; what only the service's rules show is on the double alone.
"""

import logging
import secrets
import uuid
from contextlib import suppress

import pytest

from cmzon_secrets import errors
from cmzon_secrets.clouds.aws import Calls
from cmzon_secrets.providers.aws_secret_values import version_of
from cmzon_secrets.providers.aws_secrets_manager import AWSSecretsManager
from cmzon_secrets.testing import interposed
from cmzon_secrets.testing.conformance.leaks import everything_logged, failure_of, must_hide, shown
from cmzon_secrets.testing.conformance.store_hooks import bootstrap, new_token, rotate_to
from servers.aws_environment import client
from servers.strict_aws import CURRENT, PENDING
from servers.strict_kms import Refusal

SERVERS = ("moto", "ministack", "strict_aws")


@pytest.fixture(params=SERVERS)
def server(request):
    """The bare SDK on each of them."""
    found = request.getfixturevalue(request.param)
    if request.param == "ministack":
        return found.admin("secretsmanager")
    return client("secretsmanager", getattr(found, "url", None))


@pytest.fixture
def strict(strict_aws):
    return client("secretsmanager", strict_aws.url)


def opened(bare):
    name = f"native/{secrets.token_hex(6)}"
    bare.create_secret(Name=name)
    return AWSSecretsManager(name)


@pytest.fixture
def store(server):
    made = opened(server)
    bootstrap(made)
    return made


@pytest.fixture
def strict_store(strict):
    made = opened(strict)
    bootstrap(made)
    return made


def new_version():
    """A ``ClientRequestToken``."""
    return str(uuid.uuid4())


def stages_at(bare, store):
    found = bare.describe_secret(SecretId=name_of(store))["VersionIdsToStages"]
    return {label: version for version, labels in found.items() for label in labels}


def name_of(store):
    return store.uri.removeprefix("awssecretsmanager://")


# the whole of it


def test_a_rotation_in_the_services_own_steps(store, server):
    version, first, second = new_version(), store.get(), new_token()
    assert store.pending_as(version) is None
    store.stage_as(version, second)
    assert store.pending_as(version) == second
    assert stages_at(server, store)[PENDING] == version
    assert store.get() == first
    store.promote(second.id, replacing=first.id)
    assert store.is_current(version)
    assert store.pending_as(version) is None
    assert stages_at(server, store)[CURRENT] == version
    view = store.versions()
    assert (view.current, view.pending, view.previous) == (second, None, first)


def test_every_step_can_be_repeated(store, server):
    version, first, second = new_version(), store.get(), new_token()
    for _ in range(2):
        store.stage_as(version, second)
        assert store.pending_as(version) == second
    for _ in range(2):
        store.promote(second.id, replacing=first.id)
        store.stage_as(version, second)
        assert store.is_current(version)
    assert stages_at(server, store)[CURRENT] == version
    assert PENDING not in stages_at(server, store)


def test_a_version_has_one_value_for_good(store):
    version, first, second = new_version(), store.get(), new_token()
    store.stage_as(version, second)
    with pytest.raises(errors.ConflictError, match=f"version {version} has another value"):
        store.stage_as(version, new_token())
    store.promote(second.id, replacing=first.id)
    with pytest.raises(errors.ConflictError, match=f"version {version} has another value"):
        AWSSecretsManager(name_of(store)).stage_as(version, new_token())
    assert store.get() == second


def test_another_version_that_is_pending_is_in_the_way(store):
    ours, theirs = new_version(), new_version()
    token = new_token()
    store.stage_as(theirs, token)
    for another in (new_token(), token):
        with pytest.raises(errors.ConflictError, match=f"AWSPENDING is on version {theirs}"):
            store.stage_as(ours, another)
    assert store.pending_as(theirs) == token
    assert store.pending_as(ours) is None


def test_what_is_current_is_not_staged_as_another_version(store):
    with pytest.raises(errors.ConflictError, match="is CURRENT already"):
        store.stage_as(new_version(), store.get())


def test_a_missing_secret_is_told_in_every_step(server):
    nowhere = AWSSecretsManager(f"native/{secrets.token_hex(6)}")
    for step in (
        lambda: nowhere.stage_as(new_version(), new_token()),
        lambda: nowhere.pending_as(new_version()),
        lambda: nowhere.is_current(new_version()),
    ):
        with pytest.raises(errors.TokenNotFound):
            step()


# a version that the service has announced


@pytest.fixture(params=["ministack", "strict_aws"])
def announced(request):
    """A store and the version on which the service has put AWSPENDING, without a value."""
    found = request.getfixturevalue(request.param)
    if request.param == "ministack":
        bare, version = found.admin("secretsmanager"), new_version()
        store = opened(bare)
        bootstrap(store)
        # What the service does by itself; the real one refuses it from others.
        bare.put_secret_value(
            SecretId=name_of(store), ClientRequestToken=version, VersionStages=[PENDING]
        )
        return store, version
    store = opened(client("secretsmanager", found.url))
    bootstrap(store)
    return store, found.announce_rotation(name_of(store))


def test_a_rotation_that_the_service_has_begun_is_seen(announced):
    store, version = announced
    assert store.rotating_natively is None
    assert store.versions().pending is None
    assert store.rotating_natively == version
    assert store.pending_as(version) is None
    with pytest.raises(errors.ConflictError, match="native rotation is under way"):
        store.stage(new_token())
    with pytest.raises(errors.ConflictError, match=f"AWSPENDING is on version {version}"):
        store.stage_as(new_version(), new_token())


def test_the_announced_version_gets_its_token_and_is_promoted(announced):
    store, version = announced
    first, second = store.get(), new_token()
    for _ in range(2):
        store.stage_as(version, second)
    assert store.versions().pending == second
    assert store.rotating_natively is None
    assert store.pending_as(version) == second
    store.promote(second.id, replacing=first.id)
    assert store.is_current(version)
    assert store.get() == second


# by the service's own rules


def test_the_first_value_of_all_is_current_at_once(strict, strict_aws):
    store, version, token = opened(strict), new_version(), new_token()
    store.stage_as(version, token)
    assert store.is_current(version)
    assert store.versions().promoted_at is not None
    announced, store = new_token(), opened(strict)
    version = strict_aws.announce_rotation(name_of(store))
    store.stage_as(version, announced)
    assert store.is_current(version)
    store.promote(announced.id, replacing=None)
    assert PENDING not in stages_at(strict, store)


def test_pending_left_on_current_is_in_nobodys_way(strict_store, strict, strict_aws):
    secret = strict_aws.secrets[name_of(strict_store)]
    secret.label(secret.holder(CURRENT), PENDING)
    assert strict_store.pending_as(secret.holder(CURRENT)) is None
    version, token = new_version(), new_token()
    strict_store.stage_as(version, token)
    assert strict_store.pending_as(version) == token


def test_previous_can_be_staged_as_a_version_of_the_services(strict_store):
    first = strict_store.get()
    second = rotate_to(strict_store, new_token(), replacing=first)
    version = new_version()
    strict_store.stage_as(version, first)
    strict_store.promote(first.id, replacing=second.id)
    assert strict_store.is_current(version)
    assert strict_store.versions().previous == second


def test_a_label_is_not_taken_from_a_rival_who_was_first(strict_store, strict, monkeypatch):
    ours, theirs = new_version(), new_token()
    rival, real, happens = AWSSecretsManager(name_of(strict_store)), Calls.__call__, [True]

    def overtaken(calls, operation, **parameters):
        if operation == "put_secret_value" and happens:
            happens.pop()
            rival.stage(theirs)
        return real(calls, operation, **parameters)

    monkeypatch.setattr(Calls, "__call__", overtaken)
    with pytest.raises(errors.ConflictError, match="AWSPENDING is on version"):
        strict_store.stage_as(ours, new_token())
    assert stages_at(strict, strict_store)[PENDING] == version_of(theirs)[0]


@pytest.mark.parametrize("listed", [True, False], ids=["announced", "not announced"])
def test_a_step_that_died_between_any_two_calls_is_completed_by_its_repeat(
    listed, strict, strict_aws
):
    class Crash(BaseException):
        pass

    for crash_at in range(1, 30):
        store, token = opened(strict), new_token()
        bootstrap(store)
        version = strict_aws.announce_rotation(name_of(store)) if listed else new_version()
        taken = []

        def step(taken=taken, crash_at=crash_at):
            taken.append(1)
            if len(taken) == crash_at:
                raise Crash

        dying = AWSSecretsManager(name_of(store))
        with interposed(step, Calls, "__call__"), suppress(Crash):
            dying.stage_as(version, token)
        store.stage_as(version, token)
        assert store.versions().pending == store.pending_as(version) == token
        if len(taken) < crash_at:
            break
    assert crash_at > 4


# what goes along


def test_the_rotation_token_goes_with_the_value_and_nowhere_else(
    strict_store, strict_aws, monkeypatch, caplog
):
    caplog.set_level(logging.DEBUG)
    seen, real = [], strict_aws.answer

    def answer(operation, access_key, request):
        seen.append((operation, request.get("RotationToken")))
        return real(operation, access_key, request)

    monkeypatch.setattr(strict_aws, "answer", answer)
    secret = secrets.token_urlsafe(32)
    strict_store.stage_as(new_version(), new_token(), rotation_token=secret)
    assert [operation for operation, token in seen if token == secret] == ["PutSecretValue"]
    assert {token for _, token in seen} == {secret, None}
    must_hide(everything_logged(caplog.records), secret)


@pytest.mark.parametrize("code", ["InvalidRequestException", "AccessDeniedException"])
def test_a_refusal_that_repeats_the_rotation_token_is_not_quoted(
    code, strict_store, strict_aws, monkeypatch
):
    def repeat(request):
        raise Refusal(code, f"not with {request['RotationToken']}")

    monkeypatch.setattr(strict_aws, "_put_secret_value", repeat)
    secret = new_token()  # a traceback shows what this test holds, too
    undated = new_token(issued_at=None)  # the answer has a date, which may be the same
    error = failure_of(
        lambda: strict_store.stage_as(new_version(), undated, rotation_token=secret.reveal())
    )
    must_hide(f"{shown(error)} {error.hint}", secret)


@pytest.mark.parametrize("version", ["", "short", "x" * 65, f"{'x' * 32}\n", "ü" * 36])
def test_an_id_that_no_version_can_have_is_refused_before_any_call(
    version, strict_store, strict_aws
):
    strict_aws.calls.clear()
    with pytest.raises(errors.ConfigurationError, match="32 to 64"):
        strict_store.stage_as(version, new_token())
    assert strict_aws.calls == []
