"""``awssecretsmanager:``: its URI, what is stored, what others may do meanwhile, and who may what.

On the strict double where the service's own rules matter, on ministack where its permissions do.
"""

import json
from datetime import UTC, datetime, timedelta

import pytest

from cmzon_secrets import errors, open_store
from cmzon_secrets.clouds.aws import Calls, Place
from cmzon_secrets.permissions import policy
from cmzon_secrets.providers.aws_secret_values import NEWEST, TAG, version_of
from cmzon_secrets.providers.aws_secrets_manager import AWSSecretsManager
from cmzon_secrets.testing import ManualClock
from cmzon_secrets.testing.conformance.leaks import failure_of, must_hide, shown
from cmzon_secrets.testing.conformance.store_hooks import bootstrap, new_token, rotate_to
from cmzon_secrets.tokens import Token
from servers.aws_environment import REGION, client
from servers.strict_aws import CURRENT, PENDING, PREVIOUS, Version
from servers.strict_kms import Refusal

NAME = "prod/cmzon"
ARN = f"arn:aws:secretsmanager:{REGION}:111122223333:secret:prod/cmzon-a1B2c3"


# its URI


@pytest.mark.parametrize("name", [NAME, ARN, "a+b=c@d.e_f-g", "x" * 512])
def test_a_name_or_an_arn_is_opened_and_the_uri_opens_again(name):
    store = open_store(f"awssecretsmanager://{name}")
    assert store.uri == f"awssecretsmanager://{name}"
    assert open_store(store.uri).uri == store.uri


def test_options_stay_in_the_uri():
    uri = f"awssecretsmanager://{NAME}?region=eu-west-1&profile=ops"
    assert open_store(uri).uri == uri
    assert AWSSecretsManager(NAME, Place(region="eu-west-1", profile="ops")).uri == uri


def test_the_region_of_an_arn_is_the_region():
    assert open_store(f"awssecretsmanager://{ARN}").service.place.region == REGION
    assert (
        open_store(f"awssecretsmanager://{ARN}?region={REGION}").uri == f"awssecretsmanager://{ARN}"
    )


@pytest.mark.parametrize("name", ["a b", "a%3Ab", "prod,cmzon", "näme", "x" * 513, "a%00b"])
def test_a_name_that_aws_forbids_is_refused_before_any_call(name, strict_aws):
    with pytest.raises(errors.InvalidURI):
        open_store(f"awssecretsmanager://{name}")
    assert strict_aws.calls == []


@pytest.mark.parametrize(
    ("rest", "fault"),
    [
        ("", "// is missing"),
        ("//", "nothing stands after"),
        (NAME, "// is missing"),
        ("//a b", r"letters, digits and /_\+=\.@-"),
        ("//arn:aws:kms:eu-central-1:111122223333:key/1", "not that of a secret"),
        ("//arn:aws:secretsmanager:eu-central-1:1:secret:x", "its ARN is not"),
        (f"//{ARN}?region=us-east-1", f"its ARN is in {REGION}"),
        (f"//{NAME}?stage=AWSPENDING", "unknown option 'stage'"),
        (f"//{NAME}?secret_access_key=x", "is a credential"),
    ],
)
def test_what_cannot_be_right_is_an_invalid_uri(rest, fault):
    with pytest.raises(errors.InvalidURI, match=fault):
        open_store(f"awssecretsmanager:{rest}")


def test_plain_http_to_another_machine_is_refused():
    with pytest.raises(errors.ConfigurationError, match="plain http"):
        open_store(f"awssecretsmanager://{NAME}?endpoint_url=http://aws.example")


# what is stored


@pytest.fixture
def bare(strict_aws):
    """The SDK, and an empty secret at the double."""
    sdk = client("secretsmanager", strict_aws.url)
    sdk.create_secret(Name=NAME)
    return sdk


@pytest.fixture
def secret(strict_aws, bare):
    return strict_aws.secrets[NAME]


@pytest.fixture
def store(secret):
    return AWSSecretsManager(NAME)


def labels(secret):
    """Label → the token's id."""
    return {
        label: json.loads(version.value["SecretString"])["id"]
        for version in secret.versions.values()
        for label in version.labels
    }


def stages(secret):
    """The same of the service's own labels."""
    return {label: holder for label, holder in labels(secret).items() if label != NEWEST}


def test_get_is_one_round_trip(store, strict_aws):
    bootstrap(store)
    strict_aws.calls.clear()
    store.get()
    assert strict_aws.calls == ["GetSecretValue"]


def test_a_reader_that_knows_nothing_of_us_gets_the_token(store, bare):
    token = bootstrap(store)
    value = json.loads(bare.get_secret_value(SecretId=NAME)["SecretString"])
    assert value["token"] == token.reveal()


def test_the_caching_client_of_aws_gets_the_token(store, bare):
    caching = pytest.importorskip(
        "aws_secretsmanager_caching", reason="not run: AWS's caching client (not installed)"
    )
    token = bootstrap(store)
    text = caching.SecretCache(client=bare).get_secret_string(NAME)
    assert json.loads(text)["token"] == token.reveal()


def test_stages_are_the_labels_of_the_service(store, secret):
    first = bootstrap(store)
    second, third = new_token(), new_token()
    rotate_to(store, second, replacing=first)
    store.stage(third)
    assert stages(secret) == {CURRENT: second.id, PREVIOUS: first.id, PENDING: third.id}
    store.discard(first.id)
    store.discard(third.id)
    assert stages(secret) == {CURRENT: second.id}


def test_the_one_label_of_ours_goes_with_the_version_written_last(store, secret):
    first, second = bootstrap(store), new_token()
    assert labels(secret)[NEWEST] == first.id
    rotate_to(store, second, replacing=first)
    assert labels(secret)[NEWEST] == second.id


@pytest.mark.parametrize("stage", [PENDING, PREVIOUS])
def test_what_is_discarded_has_no_label_left_by_which_it_could_be_read(stage, store, secret):
    first, second = bootstrap(store), new_token()
    store.stage(second)
    if stage == PREVIOUS:
        store.promote(second.id, replacing=first.id)
        secret.label(version_of(first)[0], NEWEST)
    gone = first if stage == PREVIOUS else second
    store.discard(gone.id)
    assert secret.versions[version_of(gone)[0]].labels == []


def test_a_rollback_moves_labels_and_writes_nothing(store, secret, strict_aws):
    first = bootstrap(store)
    second = rotate_to(store, new_token(), replacing=first)
    strict_aws.calls.clear()
    rotate_to(store, first, replacing=second)
    assert "PutSecretValue" not in strict_aws.calls
    assert stages(secret) == {CURRENT: first.id, PREVIOUS: second.id}


def test_the_version_id_follows_from_id_value_and_metadata():
    token = new_token()
    same = Token(token.reveal(), id=token.id, scopes=token.scopes, issued_at=token.issued_at)
    others = [new_token(token.reveal()), new_token(id=token.id)]
    assert version_of(token) == version_of(same)
    assert len({version_of(t)[0] for t in (token, *others)}) == 3
    assert token.reveal() not in version_of(token)[0]


def test_a_version_of_this_id_with_another_value_is_a_conflict(store, secret):
    bootstrap(store)
    token = new_token()
    secret.versions[version_of(token)[0]] = Version({"SecretString": "cmz_somebody_elses"})
    with pytest.raises(errors.ConflictError, match="another value"):
        store.stage(token)


# promoted_at


@pytest.fixture
def clock():
    return ManualClock(datetime(2026, 11, 25, 12, tzinfo=UTC))


@pytest.fixture
def timed(secret, clock):
    return AWSSecretsManager(NAME, clock=clock)


def move(secret, version_id):
    """What a native rotation, or somebody by hand, does."""
    secret.label(version_id, CURRENT)
    secret.changed = datetime(2026, 11, 26, tzinfo=UTC).timestamp()


def test_the_time_of_a_promotion_stands_in_a_tag(timed, secret, clock):
    token = bootstrap(timed)
    assert secret.tags == {TAG: f"{version_of(token)[0]}@2026-11-25T12:00:00Z@"}
    assert timed.versions().promoted_at == clock.now()


def test_tags_of_others_stay(timed, bare, secret):
    bare.tag_resource(SecretId=NAME, Tags=[{"Key": "team", "Value": "messaging"}])
    bootstrap(timed)
    assert secret.tags["team"] == "messaging"


def test_a_label_that_others_moved_is_dated_by_the_service(timed, secret, bare):
    bootstrap(timed)
    put = bare.put_secret_value(SecretId=NAME, SecretString="cmz_by_hand", VersionStages=["x"])
    move(secret, put["VersionId"])
    assert timed.versions().promoted_at == datetime(2026, 11, 26, tzinfo=UTC)


def test_a_tag_is_not_believed_after_others_moved_the_label_away_and_back(timed, secret, bare):
    """It would date CURRENT earlier than the truth, and PREVIOUS would be revoked too soon."""
    token = bootstrap(timed)
    put = bare.put_secret_value(SecretId=NAME, SecretString="cmz_by_hand", VersionStages=["x"])
    move(secret, put["VersionId"])
    move(secret, version_of(token)[0])
    view = timed.versions()
    assert view.current == token
    assert view.promoted_at == datetime(2026, 11, 26, tzinfo=UTC)


@pytest.mark.parametrize(
    "value", ["", "yesterday", "@@", "{version}@noon@", "{version}@@", "{version}"]
)
def test_a_tag_that_somebody_altered_is_not_believed(value, timed, secret):
    token = bootstrap(timed)
    secret.tags[TAG] = value.format(version=version_of(token)[0])
    assert timed.versions().promoted_at.timestamp() == pytest.approx(secret.changed, abs=0.001)


def test_whoever_repeats_a_promotion_dates_it_later_never_earlier(timed, secret, clock):
    """It died when CURRENT had moved: the tag was not written, PENDING still there."""
    first, second = bootstrap(timed), new_token()
    timed.stage(second)
    secret.label(version_of(second)[0], CURRENT)
    clock.advance(3600)
    timed.promote(second.id, replacing=first.id)
    assert timed.versions().promoted_at == clock.now()
    assert stages(secret) == {CURRENT: second.id, PREVIOUS: first.id}
    clock.advance(3600)
    timed.promote(second.id, replacing=first.id)
    assert timed.versions().promoted_at == clock.now() - timedelta(hours=1)


def test_a_promotion_that_was_held_up_is_dated_when_it_happened(
    timed, clock, meanwhile, monkeypatch
):
    """AWS took its time over the move."""
    first, second = bootstrap(timed), new_token()
    timed.stage(second)
    happens = [lambda: clock.advance(5)]
    monkeypatch.setattr(Calls, "__call__", meanwhile("update_secret_version_stage", happens))
    timed.promote(second.id, replacing=first.id)
    assert timed.versions().promoted_at == clock.now()


# what a look is good for


def test_a_promotion_right_after_a_look_does_not_look_again(timed, strict_aws):
    first, second = bootstrap(timed), new_token()
    timed.stage(second)
    view = timed.versions()
    strict_aws.calls.clear()
    timed.promote(second.id, replacing=first.id)
    assert strict_aws.calls == [
        "UpdateSecretVersionStage",
        "TagResource",
        "UpdateSecretVersionStage",
    ]
    del view
    assert timed.versions().current == second


@pytest.mark.parametrize("why", ["older than a second", "served a verb", "view let go", "closed"])
def test_any_other_look_is_not_relied_on(why, timed, clock, strict_aws):
    first, second = bootstrap(timed), new_token()
    timed.stage(second)
    view = timed.versions()
    if why == "older than a second":
        clock.advance(1.1)
    elif why == "served a verb":
        with pytest.raises(errors.ConflictError):
            timed.promote(second.id, replacing="tok_another")
    elif why == "closed":
        timed.close()
    else:
        del view
    AWSSecretsManager(NAME).discard(second.id)
    strict_aws.calls.clear()
    with pytest.raises(errors.ConflictError, match="is not PENDING"):
        timed.promote(second.id, replacing=first.id)
    assert strict_aws.calls[0] == "DescribeSecret"
    assert timed.get() == first


def test_a_current_that_a_rival_moved_since_the_look_is_not_moved_again(timed):
    first, ours, theirs = bootstrap(timed), new_token(), new_token()
    timed.stage(ours)
    view = timed.versions()
    rival = AWSSecretsManager(NAME)
    rival.discard(ours.id)
    rotate_to(rival, theirs, replacing=first)
    with pytest.raises(errors.ConflictError, match="is not PENDING"):
        timed.promote(ours.id, replacing=first.id)
    del view
    assert timed.versions().current == theirs


def test_no_change_and_conflict_are_answered_by_a_look_never_by_an_old_one(timed):
    first, second = bootstrap(timed), new_token()
    rival = AWSSecretsManager(NAME)
    view = timed.versions()
    rival.stage(second)
    timed.promote(second.id, replacing=first.id)  # there was no PENDING
    rival.discard(first.id)
    view = timed.versions()
    third = rotate_to(rival, new_token(), replacing=second)
    with pytest.raises(errors.ConflictError):
        timed.promote(second.id, replacing=first.id)  # which was CURRENT
    del view
    assert timed.versions().current == third


def test_a_replica_is_not_written_after_a_look_either(timed, secret):
    first, second = bootstrap(timed), new_token()
    timed.stage(second)
    secret.primary_region = "eu-west-1"
    view = timed.versions()
    with pytest.raises(errors.ReadOnlyProvider, match="eu-west-1"):
        timed.promote(second.id, replacing=first.id)
    del view


def test_a_value_is_asked_for_once_while_its_token_is_held_and_kept_no_longer(store, strict_aws):
    rotate_to(store, new_token(), replacing=bootstrap(store))
    strict_aws.calls.clear()
    held = store.versions()
    assert strict_aws.calls == ["DescribeSecret", "GetSecretValue", "GetSecretValue"]
    assert store.versions() == held
    assert strict_aws.calls[3:] == ["DescribeSecret"]
    del held
    assert dict(store._values) == {}
    store.versions()
    assert strict_aws.calls[4:] == ["DescribeSecret", "GetSecretValue", "GetSecretValue"]


def test_get_always_asks(store, strict_aws):
    token = bootstrap(store)
    strict_aws.calls.clear()
    assert [store.get(), store.get()] == [token, token]
    assert strict_aws.calls == ["GetSecretValue"] * 2


# what others do meanwhile


@pytest.fixture
def meanwhile():
    """Let something happen just before the first call of an operation."""

    def meanwhile(operation, happens, original=Calls.__call__):
        def call(calls, name, **parameters):
            if name == operation and happens:
                happens.pop()()
            return original(calls, name, **parameters)

        return call

    return meanwhile


def test_a_current_that_a_rival_moved_between_look_and_move_is_not_moved_again(store, secret):
    """The one compare-and-set: from the version that was looked at, and from no other."""
    first = bootstrap(store)
    ours, theirs = new_token(), new_token()
    store.stage(ours)

    class RivalAtWork(ManualClock):
        happens = [True]

        def now(self):  # asked after the look and before the move
            if self.happens:
                self.happens.pop()
                rival = AWSSecretsManager(NAME)
                rival.discard(ours.id)
                rotate_to(rival, theirs, replacing=first)
            return super().now()

    with pytest.raises(errors.ConflictError):
        AWSSecretsManager(NAME, clock=RivalAtWork()).promote(ours.id, replacing=first.id)
    assert store.get() == theirs


def test_a_pending_that_appears_between_look_and_write_keeps_its_label(
    store, secret, meanwhile, monkeypatch
):
    bootstrap(store)
    ours, theirs = new_token(), new_token()
    rival = AWSSecretsManager(NAME)
    happens = [lambda: rival.stage(theirs)]
    monkeypatch.setattr(Calls, "__call__", meanwhile("put_secret_value", happens))
    with pytest.raises(errors.ConflictError, match=f"{theirs.id} is PENDING"):
        store.stage(ours)
    assert labels(secret)[PENDING] == theirs.id
    assert NEWEST not in labels(secret)


def test_a_current_that_changes_between_look_and_move_is_a_conflict(
    store, secret, bare, meanwhile, monkeypatch
):
    first, second = bootstrap(store), new_token()
    store.stage(second)
    pasted = new_token().reveal()
    happens = [lambda: bare.put_secret_value(SecretId=NAME, SecretString=pasted)]
    monkeypatch.setattr(Calls, "__call__", meanwhile("update_secret_version_stage", happens))
    with pytest.raises(errors.ConflictError, match="CURRENT is"):
        store.promote(second.id, replacing=first.id)
    assert store.get().reveal() == pasted


def test_two_who_stage_the_same_token_at_once_both_succeed(store, meanwhile, monkeypatch):
    bootstrap(store)
    token, rival = new_token(), AWSSecretsManager(NAME)
    happens = [lambda: rival.stage(token)]
    monkeypatch.setattr(Calls, "__call__", meanwhile("update_secret_version_stage", happens))
    store.stage(token)
    assert store.versions().pending == token


def test_pending_left_on_current_is_none_and_blocks_nobody(store, secret):
    """A native rotation that died before its last call leaves it so, and so do we."""
    first = bootstrap(store)
    secret.label(secret.holder(CURRENT), PENDING)
    assert store.versions().pending is None
    second = new_token()
    store.stage(second)
    assert stages(secret) == {CURRENT: first.id, PENDING: second.id}


def test_a_native_rotation_under_way_is_left_alone(store, secret, strict_aws):
    first = bootstrap(store)
    announced = strict_aws.announce_rotation(NAME)
    assert store.versions().pending is None
    with pytest.raises(errors.ConflictError, match="native rotation is under way"):
        store.stage(new_token())
    with pytest.raises(errors.ConflictError):
        store.promote("tok_any", replacing=first.id)
    assert secret.holder(PENDING) == announced


def test_a_token_staged_by_a_native_rotation_is_promoted_like_ours(store, bare, strict_aws):
    first, second = bootstrap(store), new_token()
    announced = strict_aws.announce_rotation(NAME)
    bare.put_secret_value(
        SecretId=NAME,
        ClientRequestToken=announced,
        SecretString=json.dumps({"token": second.reveal(), "id": second.id}),
        VersionStages=[PENDING],
    )
    store.promote(second.id, replacing=first.id)
    assert store.get() == second


def test_labels_of_others_stay_and_do_not_matter(store, secret):
    first = bootstrap(store)
    for number in range(18):
        secret.label(secret.holder(CURRENT), f"team-{number}")
    second = rotate_to(store, new_token(), replacing=first)
    assert store.get() == second
    assert secret.holder("team-0") == version_of(first)[0]


def test_a_version_dropped_between_two_calls_is_looked_for_again(
    store, secret, meanwhile, monkeypatch
):
    first, second = bootstrap(store), new_token()
    store.stage(second)
    rival = AWSSecretsManager(NAME)

    def rotate():
        rival.promote(second.id, replacing=first.id)
        rival.discard(first.id)
        del secret.versions[version_of(first)[0]]

    monkeypatch.setattr(Calls, "__call__", meanwhile("get_secret_value", [rotate]))
    view = AWSSecretsManager(NAME).versions()
    assert (view.current, view.pending, view.previous) == (second, None, None)


def test_a_foreign_value_in_another_stage_says_how_its_label_is_taken_off(store, bare):
    """Applications go on; who rotates has to look."""
    foreign = bare.put_secret_value(SecretId=NAME, SecretString='{"username": "admin"}')
    bare.put_secret_value(SecretId=NAME, SecretString="cmz_by_hand")
    assert store.get().reveal() == "cmz_by_hand"
    with pytest.raises(errors.InvalidToken) as caught:
        store.versions()
    assert caught.value.hint.endswith(
        f"update-secret-version-stage --secret-id {NAME} --version-stage {PREVIOUS}"
        f" --remove-from-version-id {foreign['VersionId']}"
    )


# answers that are none


@pytest.fixture
def answering(strict_aws):
    """Whatever is asked, this is the answer."""

    def answering(**answer):
        strict_aws.raw = (200, json.dumps(answer).encode())

    yield answering
    strict_aws.raw = None


VERSION = {"ARN": ARN, "Name": NAME, "VersionId": "v", "VersionStages": [CURRENT]}


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"message": "please log in"},
        {**VERSION, "ARN": "somewhere"},
        {**VERSION, "Name": None},
        {**VERSION, "VersionId": "a\nb"},
        {**VERSION, "SecretString": 5},
        {"ARN": ARN, "Name": NAME, "SecretString": "cmz_a_token"},
        {"ARN": ARN, "Name": NAME, "VersionId": "v", "SecretBinary": "YQ=="},
    ],
)
def test_what_is_no_version_of_a_secret_is_unavailable_not_missing(answer, answering):
    """To a rotator "not found" means: store a new token."""
    answering(**answer)
    with pytest.raises(errors.ProviderUnavailable, match="something that is not a"):
        AWSSecretsManager(NAME).get()


@pytest.mark.parametrize("answer", [{}, {"ARN": ARN}])
@pytest.mark.parametrize(
    "verb",
    [
        lambda store: store.versions(),
        lambda store: store.identity,
        lambda store: store.create(),
        lambda store: store.stage(new_token()),
        lambda store: store.promote("tok_any", replacing=None),
    ],
    ids=["versions", "identity", "create", "stage", "promote"],
)
def test_what_says_of_no_secret_is_unavailable_to_every_verb(verb, answer, answering):
    answering(**answer)
    with pytest.raises(errors.ProviderUnavailable, match="something that is not a secret"):
        verb(AWSSecretsManager(NAME))


def test_a_primary_region_that_is_none_is_not_shown(answering):
    answering(ARN=ARN, Name=NAME, PrimaryRegion="\x1b[31m")
    with pytest.raises(errors.ProviderUnavailable) as caught:
        AWSSecretsManager(NAME).stage(new_token())
    assert caught.value.message.isprintable()


@pytest.mark.parametrize("operation", ["_put_secret_value", "_update_secret_version_stage"])
def test_a_write_that_nobody_confirmed_is_unavailable(operation, store, strict_aws, monkeypatch):
    bootstrap(store)
    monkeypatch.setattr(strict_aws, operation, lambda request: {})
    with pytest.raises(errors.ProviderUnavailable, match="something that is not a"):
        store.stage(new_token())


# what is told


def test_a_missing_secret_names_the_region_that_was_asked(strict_aws):
    with pytest.raises(errors.TokenNotFound, match="no such secret in us-east-1") as caught:
        AWSSecretsManager(NAME, Place(region="us-east-1")).get()
    assert "right region" in caught.value.hint


@pytest.mark.parametrize("name", ["name", "arn"])
def test_a_secret_that_holds_no_token_yet_is_not_said_to_be_missing(name, strict_aws, bare):
    made = bare.create_secret(Name="prod/new")
    store = AWSSecretsManager({"name": "prod/new", "arn": made["ARN"]}[name])
    with pytest.raises(errors.TokenNotFound, match="it holds no token yet") as caught:
        store.get()
    assert "no such secret" not in caught.value.message
    assert caught.value.hint == f"store one with: cmzon-secrets put {store.uri}"


def test_a_secret_with_a_version_that_has_no_value_holds_no_token_either(
    strict_aws, bare, monkeypatch
):
    """As ministack answers where nothing was ever put."""
    bare.create_secret(Name="prod/new", SecretString="x")
    answered = strict_aws._get_secret_value
    monkeypatch.setattr(
        strict_aws,
        "_get_secret_value",
        lambda request: {k: v for k, v in answered(request).items() if k != "SecretString"},
    )
    with pytest.raises(errors.TokenNotFound, match="it holds no token yet"):
        AWSSecretsManager("prod/new").get()


def test_a_refusal_names_the_policy_of_the_verb_and_that_the_name_may_be_wrong(store, strict_aws):
    strict_aws.denied = {"GetSecretValue", "DescribeSecret"}
    for verb, role in ((store.get, "reader"), (store.versions, "rotator")):
        with pytest.raises(errors.AccessDenied) as caught:
            verb()
        assert f"doctor --policy {role} {store.uri}`" in caught.value.hint
        assert "the name is wrong" in caught.value.hint


def test_a_deleted_secret_is_restored_in_its_region(store, bare):
    bare.delete_secret(SecretId=NAME, RecoveryWindowInDays=7)
    with pytest.raises(errors.TokenNotFound) as caught:
        store.get()
    assert caught.value.hint.endswith(f"restore-secret --secret-id {NAME} --region {REGION}")


def test_whoever_puts_over_a_foreign_value_hears_that_it_stays(store, bare):
    bare.put_secret_value(SecretId=NAME, SecretString='{"username": "admin"}')
    with pytest.raises(errors.InvalidToken) as caught:
        store.stage(new_token())
    assert "never overwritten" in caught.value.hint


@pytest.mark.parametrize("code", ["InvalidRequestException", "LimitExceededException"])
def test_a_refusal_that_repeats_the_token_is_not_quoted(code, store, strict_aws, monkeypatch):
    def repeat(request):
        raise Refusal(code, f"blocked: {request['SecretString']}")

    bootstrap(store)
    token = new_token()
    monkeypatch.setattr(strict_aws, "_put_secret_value", repeat)
    error = failure_of(lambda: store.stage(token))
    must_hide(f"{shown(error)} {error.hint}", token.reveal())
    assert code in error.message


# identity


def test_identity_is_account_region_and_name_and_asks_for_the_secret(store, bare):
    arn = bare.describe_secret(SecretId=NAME)["ARN"]
    assert store.identity == f"aws:111122223333:{REGION}:{NAME}"
    assert AWSSecretsManager(arn).identity == store.identity
    assert AWSSecretsManager(arn[:-7]).identity == store.identity


def test_identity_is_that_of_the_last_view_and_costs_nothing_then(store, strict_aws):
    identity = store.identity
    store.versions()
    strict_aws.calls.clear()
    assert store.identity == identity
    assert strict_aws.calls == []
    del strict_aws.secrets[NAME]
    store.versions()
    with pytest.raises(errors.TokenNotFound):
        _ = store.identity


def test_an_arn_of_nothing_creates_nothing(strict_aws):
    with pytest.raises(errors.TokenNotFound) as caught:
        AWSSecretsManager(ARN).create()
    assert "made by its name" in caught.value.hint
    assert strict_aws.secrets == {}


# who may what, on a server that enforces it


@pytest.fixture
def arn(ministack):
    sdk = ministack.admin("secretsmanager")
    return sdk.create_secret(Name=f"prod/{new_token().id}", SecretString="cmz_first")["ARN"]


def allowed(role, arn):
    key = f"arn:aws:kms:{REGION}:000000000000:key/11111111-2222-3333-4444-555555555555"
    return policy("awssecretsmanager", role, {"secret_arn": arn, "kms_key_arn": key})


@pytest.fixture
def becoming(ministack, arn, monkeypatch):
    """Be somebody new who has the policy of a role for the secret; the bare SDK as the same."""

    def become(role):
        keys = ministack.user(policy=allowed(role, arn))
        ministack.as_user(monkeypatch, keys)
        return client("secretsmanager", ministack.url, *keys)

    return become


def refused(call, **parameters):
    with pytest.raises(Exception, match="AccessDeniedException"):
        call(**parameters)


def test_a_reader_reads_the_token_and_may_do_nothing_else(ministack, becoming, arn):
    sdk = becoming("reader")
    store = AWSSecretsManager(arn)
    assert store.get().reveal() == "cmz_first"
    for verb in (
        store.versions,
        lambda: store.stage(new_token()),
        lambda: store.promote("tok_any", replacing=None),
        lambda: store.discard("tok_any"),
        lambda: store.identity,
        AWSSecretsManager("prod/another").create,
    ):
        with pytest.raises(errors.AccessDenied):
            verb()
    refused(sdk.put_secret_value, SecretId=arn, SecretString="x")
    refused(sdk.tag_resource, SecretId=arn, Tags=[{"Key": TAG, "Value": "x"}])
    refused(sdk.delete_secret, SecretId=arn)
    refused(sdk.list_secrets)
    refused(sdk.get_secret_value, SecretId="prod/another")
    assert ministack.admin("secretsmanager").get_secret_value(SecretId=arn)["SecretString"]


def test_a_rotator_lives_a_whole_life_and_may_do_nothing_else(ministack, becoming, arn):
    sdk = becoming("rotator")
    store = AWSSecretsManager(arn)
    first, second, third = store.get(), new_token(), new_token()
    rotate_to(store, second, replacing=first)
    store.stage(third)
    store.discard(third.id)
    store.discard(first.id)
    view = store.versions()
    assert (view.current, view.pending, view.previous) == (second, None, None)
    tags = ministack.admin("secretsmanager").describe_secret(SecretId=arn)["Tags"]
    assert [tag["Key"] for tag in tags] == [TAG]
    assert store.identity
    refused(sdk.tag_resource, SecretId=arn, Tags=[{"Key": "team", "Value": "mine"}])
    refused(sdk.delete_secret, SecretId=arn)
    refused(sdk.put_resource_policy, SecretId=arn, ResourcePolicy="{}")
    refused(sdk.update_secret, SecretId=arn, SecretString="x")
    refused(sdk.rotate_secret, SecretId=arn)
    refused(sdk.create_secret, Name="prod/another")
    refused(sdk.put_secret_value, SecretId="prod/another", SecretString="x")
    refused(sdk.list_secrets)


@pytest.mark.parametrize("role", ["reader", "rotator"])
def test_the_key_is_used_through_the_service_only(role):
    statement = json.loads(allowed(role, ARN))["Statement"][-1]
    assert statement["Condition"]["StringLike"] == {
        "kms:EncryptionContext:SecretARN": ARN,
        "kms:ViaService": "secretsmanager.*.amazonaws.com",
    }


def test_a_role_of_another_account_is_assumed(moto):
    theirs = Place(role_arn="arn:aws:iam::222222222222:role/rotator")
    store = AWSSecretsManager(NAME, theirs)
    store.create()
    token = bootstrap(store)
    assert store.get() == token
    assert store.identity == f"aws:222222222222:{REGION}:{NAME}"
    assert list(AWSSecretsManager(NAME).versions()) == []


def test_what_a_role_may_is_what_counts(ministack, arn, monkeypatch):
    """The caller may assume the role and nothing else; the role may read."""
    role = ministack.role(policy=allowed("reader", arn))
    keys = ministack.user({"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": role})
    ministack.as_user(monkeypatch, keys)
    with pytest.raises(errors.AccessDenied):
        AWSSecretsManager(arn).get()
    store = open_store(f"awssecretsmanager://{arn}?role_arn={role}")
    assert store.get().reveal() == "cmz_first"
    with pytest.raises(errors.AccessDenied):
        store.versions()
