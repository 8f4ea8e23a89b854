"""The Lambda function in this process, on sealed files: what it does, answers, logs and raises."""

import json
import logging
import socket
import time
import traceback
import uuid
from contextlib import closing
from datetime import timedelta

import pytest

from cmzon_secrets import CMzonIssuer, open_provider
from cmzon_secrets.errors import (
    AccessDenied,
    AuthenticationError,
    CMzonSecretsError,
    ConfigurationError,
    InvalidURI,
    RotationError,
)
from cmzon_secrets.providers.aws_secrets_manager import AWSSecretsManager
from cmzon_secrets.runtimes import aws_lambda, scheduled, warm
from cmzon_secrets.runtimes.aws_lambda import handler
from cmzon_secrets.testing import ManualClock
from servers.aws_environment import client

CANARY = "Kanarienvogel0123456789abcdefghijKLMNOP"


class Context:
    """What Lambda gives beside the event, as far as it is looked at."""

    def __init__(self, seconds):
        self._left = seconds * 1000

    def get_remaining_time_in_millis(self):
        return self._left


def states(answer):
    return {item["account"]: item["state"] for item in answer["items"]}


def kinds(answer):
    return [action["kind"] for item in answer["items"] for action in item["actions"]]


def test_a_schedule_rotates_the_one_account_of_the_environment(shop):
    shop.one(CMZON_ROTATION_NAME="acme", CMZON_ROTATION_SCOPES="messages:send,audit:read")
    answer = handler({})
    assert answer["schema"] == 1
    assert states(answer) == {"acme": "done"}
    assert kinds(answer) == ["issue", "stage", "promote"]
    assert shop.held().current.scopes == ("messages:send", "audit:read")
    assert kinds(handler({})) == []


def test_a_schedule_rotates_every_account_of_the_file_and_answers_in_its_order(shop):
    names = [f"shop{number}" for number in range(5)]
    shop.many(*names)
    answer = handler({}, Context(300))
    assert list(states(answer).items()) == [(name, "done") for name in names]
    assert shop.live == 5


def test_the_answer_is_plain_json_as_that_of_the_command(shop):
    shop.one()
    item = json.loads(json.dumps(handler({})))["items"][0]
    assert set(item) == {"account", "uri", "state", "actions", "reason", "next_due", "error"}
    assert item["next_due"].endswith("Z")


def test_an_order_is_for_one_account(shop):
    shop.many("one", "two")
    assert states(handler({"account": "two"})) == {"two": "done"}
    assert shop.held("one").current is None


def test_a_forced_order_rotates_before_it_is_due_and_a_dry_run_only_says_so(shop):
    shop.one()
    handler({})
    first = shop.held().current
    assert kinds(handler({"force": True, "dry_run": True})) == ["issue", "stage", "promote"]
    assert shop.held().current == first
    handler({"force": True})
    assert shop.held().previous == first


def test_an_alarm_kills_the_leaked_token_and_leaves_a_good_one(shop):
    shop.one()
    handler({})
    leaked = shop.held().current
    message = json.dumps({"revoke": leaked.id})
    answer = handler({"Records": [{"EventSource": "aws:sns", "Sns": {"Message": message}}]})
    assert states(answer) == {"cmzon-secrets": "done"}
    with closing(CMzonIssuer("env:CMZON_TEST_ADMIN")) as issuer:
        with pytest.raises(AuthenticationError):
            issuer.verify(leaked)
        issuer.verify(shop.held().current)
    assert shop.live == 1


def test_an_alarm_that_comes_twice_kills_nothing_else(shop):
    shop.one()
    handler({})
    leaked = shop.held().current.id
    handler({"revoke": leaked})
    fresh = shop.held().current
    answer = handler({"revoke": leaked})
    assert shop.held().current == fresh
    assert states(answer) == {"cmzon-secrets": "done"}


def test_an_alarm_without_an_id_kills_what_is_current(shop):
    shop.one()
    handler({})
    leaked = shop.held().current
    handler({"revoke": True})
    assert shop.held().current != leaked
    assert shop.live == 1
    handler({"revoke": True, "replace": False})
    assert shop.live == 0


def test_an_order_with_the_admin_tokens_id_is_refused(shop):
    shop.one()
    handler({})
    with closing(CMzonIssuer("env:CMZON_TEST_ADMIN")) as issuer:
        own = issuer.verify(open_provider("env:CMZON_TEST_ADMIN").get()).id
    with pytest.raises(RotationError, match="the admin token itself"):
        handler({"revoke": own})
    assert states(handler({"force": True})) == {"cmzon-secrets": "done"}


def test_of_many_accounts_an_alarm_must_name_one(shop):
    shop.many("one", "two")
    with pytest.raises(ConfigurationError, match="none is named, and 2 are configured"):
        handler({"revoke": "tok_1"})
    with pytest.raises(ConfigurationError, match="has no account 'three'"):
        handler({"account": "three"})


def test_another_account_than_that_of_the_environment_is_refused(shop):
    shop.one(CMZON_ROTATION_NAME="acme")
    with pytest.raises(ConfigurationError, match="account 'other' — this runtime is for another"):
        handler({"account": "other"})


# ── steps of a native rotation ──────────────────────────────────────────────────────────────────


class Native:
    """A secret in Secrets Manager, and the events that its rotation sends."""

    def __init__(self, double, name):
        self.bare = client("secretsmanager", double.url)
        self.name = name
        self.arn = self.bare.create_secret(Name=name)["ARN"]
        self.version = str(uuid.uuid4())

    def steps(self, secret_id=None):
        for step in ("createSecret", "setSecret", "testSecret", "finishSecret"):
            yield {
                "SecretId": secret_id or self.arn,
                "ClientRequestToken": self.version,
                "Step": step,
            }

    @property
    def current(self):
        versions = self.bare.describe_secret(SecretId=self.name)["VersionIdsToStages"]
        return next((v for v, labels in versions.items() if "AWSCURRENT" in labels), None)


@pytest.fixture
def native(strict_aws):
    return Native(strict_aws, "prod/acme")


@pytest.mark.parametrize("uri", ["", "awssecretsmanager://prod/acme", "awssecretsmanager://ARN"])
def test_the_steps_rotate_the_secret_that_the_event_names(shop, configure, native, uri):
    configure(**shop.access, CMZON_TOKEN_URI=uri.replace("ARN", native.arn))
    for event in native.steps():
        assert states(handler(event)) == {"cmzon-secrets": "done"}
    assert native.current == native.version
    assert shop.live == 1


def test_of_many_accounts_the_steps_rotate_the_one_whose_secret_it_is(shop, native, strict_aws):
    other = Native(strict_aws, "prod/acme-other")
    shop.many(
        "sealed",
        text='[accounts.acme]\ntoken = "awssecretsmanager://prod/acme"\n'
        f'[accounts.other]\ntoken = "awssecretsmanager://{other.arn}"\n',
    )
    for event in native.steps():
        assert states(handler(event)) == {"acme": "done"}
    for event in other.steps():
        assert states(handler(event)) == {"other": "done"}
    assert native.current == native.version
    assert other.current == other.version


@pytest.mark.parametrize(
    ("secret_id", "why"),
    [
        ("arn:aws:secretsmanager:eu-central-1:111122223333:secret:prod/b-AbCdEf", "no account"),
        ("prod", "no account"),
        ("arn:aws:secretsmanager:eu-west-1:111122223333:secret:prod/acme-AbCdEf", "is not that of"),
        ("arn:aws:secretsmanager:eu-central-1:999999999999:secret:prod/acme-AbC123", "is not that"),
    ],
)
def test_a_step_for_another_secret_is_refused(shop, configure, native, secret_id, why):
    configure(**shop.access, CMZON_TOKEN_URI="awssecretsmanager://prod/acme")
    with pytest.raises(ConfigurationError, match=why):
        handler(next(native.steps(secret_id)))
    assert native.current is None


def test_a_step_that_fails_is_raised_as_what_it_is(shop, configure, native, strict_aws):
    configure(**shop.access, CMZON_TOKEN_URI="awssecretsmanager://prod/acme")
    strict_aws.denied = {"PutSecretValue"}
    with pytest.raises(AccessDenied, match="; grant what `cmzon-secrets doctor --policy"):
        handler(next(native.steps()))


@pytest.fixture
def silent():
    """The address of a service whose network drops what is sent: no connection is answered."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_behind_a_network_that_swallows_everything_it_fails_long_before_it_is_killed(
    shop, configure, silent, strict_aws, monkeypatch
):
    """A subnet without a way out: nothing refuses, nothing answers."""
    defaults = AWSSecretsManager.__init__.__kwdefaults__
    assert defaults["timeout"] < 60 / 3  # the least that the module lets the function run
    monkeypatch.setitem(defaults, "timeout", 1.0)
    configure(**shop.access, CMZON_TOKEN_URI=f"awssecretsmanager://acme?endpoint_url={silent}")
    begun = time.monotonic()
    with pytest.raises(CMzonSecretsError, match=r"no answer within 1 s"):
        handler({}, Context(60))
    assert time.monotonic() - begun < 3 * defaults["timeout"]
    assert shop.live == 0


# ── what fails ──────────────────────────────────────────────────────────────────────────────────


def test_a_failed_account_is_raised_after_the_others_were_rotated_and_everything_was_logged(
    shop, lines
):
    shop.many("good", "bad", "fair")
    (shop.folder / "bad").write_text("no sealed file")
    with pytest.raises(CMzonSecretsError, match="1 of 3 failed, the first: account bad — "):
        handler({})
    logged = {line["item"]["account"]: line["item"] for line in lines() if "item" in line}
    assert {name: item["state"] for name, item in logged.items()} == {
        "good": "done",
        "bad": "failed",
        "fair": "done",
    }
    assert logged["bad"]["error"]["type"] == "AccessDenied"


def test_what_is_raised_has_its_remedy_and_no_other_error_behind_it(shop):
    shop.one(CMZON_ROTATION_SCOPES="everything")
    with pytest.raises(CMzonSecretsError) as raised:
        handler({})
    assert raised.value.__cause__ is None
    assert raised.value.__context__ is None
    shop.one(CMZON_ROTATION_GRACE="1s")
    with pytest.raises(ConfigurationError, match="; set grace to at least 6m"):
        handler({})


def test_what_needs_a_person_is_answered_and_logged_but_not_raised(shop, lines):
    shop.one(CMZON_ISSUER="manual")
    answer = handler({})
    assert states(answer) == {"cmzon-secrets": "attention"}
    assert lines()[-1]["item"]["state"] == "attention"


def test_no_account_is_begun_when_the_function_is_about_to_be_killed(shop):
    shop.many("one", "two", "three")
    answer = handler({}, Context(0))
    assert states(answer) == dict.fromkeys(["one", "two", "three"], "waiting")
    assert "not begun within the time limit" in answer["items"][0]["reason"]
    assert set(states(handler({}, Context(300))).values()) == {"done"}


@pytest.mark.parametrize(("left", "usable"), [(900, 870), (60, 30), (20, 10), (0, 0)])
def test_a_margin_is_kept_of_the_time_that_is_left(left, usable):
    assert aws_lambda._time_left(Context(left)) == usable


def test_without_a_place_it_says_which_variable_is_missing(shop, configure):
    configure(**shop.access)
    with pytest.raises(ConfigurationError, match=r"no token URI — .*; set CMZON_TOKEN_URI, or"):
        handler({})


def test_an_unforeseen_error_is_raised_without_its_text(shop, monkeypatch):
    def broken(**_):
        raise KeyError(CANARY)

    monkeypatch.setattr(aws_lambda, "rotate_configured", broken)
    shop.one()
    with pytest.raises(CMzonSecretsError, match="an unexpected KeyError in broken, line") as raised:
        handler({})
    assert CANARY not in "".join(traceback.format_exception(raised.value))


# ── secrecy ─────────────────────────────────────────────────────────────────────────────────────


def test_neither_token_nor_event_is_in_log_answer_or_error(shop, caplog, capsys):
    caplog.set_level(logging.DEBUG)
    shop.one()
    told = []
    for event in (
        {},
        {"force": True},
        {"revoke": True},
        {"revoke": CANARY * 2},
        {"account": CANARY},
        {"Step": "createSecret", "SecretId": "x", "ClientRequestToken": "y" * 32}
        | {"RotationToken": CANARY},
        {"Step": CANARY, "SecretId": "x", "ClientRequestToken": "y" * 32},
    ):
        values = [token.reveal() for token in shop.held()]
        try:
            told.append(json.dumps(handler(event)))
        except CMzonSecretsError as error:
            error.__traceback__ = error.__traceback__.tb_next  # without this test's own locals
            told += traceback.TracebackException.from_exception(error, capture_locals=True).format()
        values += [token.reveal() for token in shop.held()]
        told += [caplog.text, *capsys.readouterr()]
        assert values
        for secret in (*values, CANARY, shop.emulator.admin_token):
            assert not any(secret in text for text in told), event


def test_a_token_in_the_place_of_a_uri_is_not_repeated(shop, configure, capsys):
    for variable in ("CMZON_TOKEN_URI", "CMZON_ADMIN_URI"):
        shop.one()
        configure(**{**shop.access, "CMZON_TOKEN_URI": shop.place("x"), variable: f"cmz_{CANARY}"})
        with pytest.raises((InvalidURI, CMzonSecretsError)) as raised:
            handler({})
        assert CANARY not in str(raised.value) + "".join(capsys.readouterr())


def test_a_token_within_a_setting_is_withheld_where_an_error_repeats_the_setting(shop, lines):
    shop.one(CMZON_ROTATION_NAME="acme")
    handler({})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CMZON_BASE_URL", f"http://127.0.0.1:9/cmz_{CANARY}")
        with pytest.raises(CMzonSecretsError, match="not shown: it may be a secret") as raised:
            handler({"force": True})
    assert CANARY not in json.dumps(lines()) + str(raised.value)


def test_each_step_is_one_line_of_json_with_ids_only(shop, lines):
    shop.one()
    handler({})
    logged = lines()
    assert [line.get("event", "item") for line in logged] == [
        "token_issued",
        "token_verified",
        "token_staged",
        "token_promoted",
        "rotation_finished",
        "item",
    ]
    assert logged[0]["token_id"] == shop.held().current.id


# ── warm and frozen ─────────────────────────────────────────────────────────────────────────────


def test_what_is_open_is_kept_for_the_next_call_and_closed_when_it_is_old(shop):
    shop.one()
    clock = ManualClock()
    account = next(iter(scheduled.configured().accounts.values()))
    with warm.warm_issuers(clock) as first:
        issuer = first.of(account)
    with warm.warm_issuers(clock) as second:
        assert second is first
    clock.advance(warm.KEPT_FOR.total_seconds())
    assert not issuer._http._closed
    with warm.warm_issuers(clock) as third:
        assert third is not first
    assert issuer._http._closed


def test_a_clock_that_stepped_back_while_frozen_keeps_nothing(shop):
    shop.one()
    clock = ManualClock()
    with warm.warm_issuers(clock) as first:
        pass
    clock.set_wall_clock(clock.now() - timedelta(hours=1))
    with warm.warm_issuers(clock) as second:
        assert second is not first


def test_other_settings_open_anew_and_what_is_in_use_stays_open(shop):
    shop.one()
    with warm.warm_issuers() as first:
        issuer = first.of(next(iter(scheduled.configured().accounts.values())))
        shop.one(CMZON_ROTATION_NAME="other")
        with warm.warm_issuers() as second:
            assert second is not first
        assert not issuer._http._closed
    assert issuer._http._closed
