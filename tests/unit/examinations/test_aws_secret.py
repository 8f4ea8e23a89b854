"""What is found at Secrets Manager, on a server that enforces policies, for callers with just the
right policy and with others."""

import json
import secrets

import pytest

from cmzon_secrets import open_provider
from cmzon_secrets.examinations import aws_secret
from cmzon_secrets.permissions import policy
from cmzon_secrets.uri import split
from servers.aws_environment import REGION


@pytest.fixture
def name(ministack):
    name = f"doctor/{secrets.token_hex(4)}"
    ministack.admin("secretsmanager").create_secret(Name=name, SecretString="cmz_secret_value")
    return name


@pytest.fixture
def arn(ministack, name):
    return ministack.admin("secretsmanager").describe_secret(SecretId=name)["ARN"]


def ours(role, arn):
    names = {"secret_arn": arn, "kms_key_arn": f"arn:aws:kms:{REGION}:000000000000:key/none"}
    return policy("awssecretsmanager", role, names)


def also(document, *actions, on):
    """The policy with one statement more."""
    more = {"Effect": "Allow", "Action": list(actions), "Resource": on}
    whole = json.loads(document)
    return json.dumps({**whole, "Statement": [*whole["Statement"], more]})


@pytest.fixture
def examined(ministack, monkeypatch, name):
    """Findings about the secret as a new user with this policy; as the administrator without one."""

    def examined(role, document=None, uri=f"awssecretsmanager://{name}"):
        if document is not None:
            ministack.as_user(monkeypatch, ministack.user(policy=document))
        with open_provider(uri) as store:
            found = list(aws_secret.examine(store, role))
        assert "cmz_secret_value" not in repr(found)
        return found

    return examined


def grave(found):
    return [
        (finding.check, finding.message)
        for finding in found
        if finding.severity in ("warning", "problem")
    ]


@pytest.mark.parametrize("role", ["reader", "rotator"])
def test_the_printed_policy_is_just_enough(examined, arn, role):
    found = examined(role, ours(role, arn))
    assert grave(found) == []
    named = {finding.check: finding for finding in found}
    assert ":user/user-" in named["credentials.source"].message
    assert REGION in named["credentials.source"].evidence
    assert named["clock.backend"].severity == "ok"
    assert named["permissions.least"].severity == "ok"
    assert "PutSecretValue" in named["permissions.unasked"].message


def test_the_same_by_arn(examined, arn):
    found = examined("rotator", ours("rotator", arn), f"awssecretsmanager://{arn}")
    assert grave(found) == []


def test_a_rotator_with_the_rights_of_a_reader_lacks_some_by_name(examined, arn):
    ((check, message),) = grave(examined("rotator", ours("reader", arn)))
    assert check == "permissions.missing"
    assert message == "as a rotator it lacks: DescribeSecret, UpdateSecretVersionStage"


def test_a_reader_with_the_rights_of_a_rotator_has_too_much(examined, arn):
    found = examined("reader", ours("rotator", arn))
    assert grave(found) == [("permissions.excess", "this reader may change which is CURRENT")]
    assert any(f.message == "this reader may see its labels and tags" for f in found)


@pytest.mark.parametrize(
    ("action", "words"),
    [
        ("secretsmanager:GetSecretValue", "read other secrets"),
        ("secretsmanager:PutSecretValue", "write other secrets"),
        ("secretsmanager:DeleteSecret", "delete other secrets"),
    ],
)
def test_a_wildcard_is_too_much(examined, arn, action, words):
    wide = also(ours("rotator", arn), action, on="*")
    ((check, message),) = grave(examined("rotator", wide))
    assert check == "permissions.excess"
    assert words in message


def test_who_may_ask_iam_is_told_of_rights_that_no_probe_shows(examined, arn):
    wide = also(ours("reader", arn), "iam:SimulatePrincipalPolicy", on="*")
    wide = also(wide, "secretsmanager:PutSecretValue", "secretsmanager:DeleteSecret", on=arn)
    found = examined("reader", also(wide, "secretsmanager:DescribeSecret", on=arn))
    assert grave(found) == [
        ("permissions.excess", "this reader may replace the token"),
        ("permissions.excess", "it may delete the secret"),
    ]
    assert "permissions.unasked" not in {finding.check for finding in found}


def test_a_rotator_that_may_ask_iam_and_lacks_put(examined, arn):
    less = json.loads(ours("rotator", arn))
    text = json.dumps(less).replace("secretsmanager:PutSecretValue", "secretsmanager:ListSecrets")
    found = examined("rotator", also(text, "iam:SimulatePrincipalPolicy", on="*"))
    ((check, message),) = grave(found)
    assert check == "permissions.simulated"
    assert message.endswith(": PutSecretValue")
    assert "permissions.least" not in {finding.check for finding in found}


def test_what_is_answered_counts_for_more_than_what_is_simulated(
    ministack, examined, monkeypatch, arn
):
    """A caller whose rights come from the secret's own policy, which a simulation of his does not know."""
    simulating = {
        "EvaluationResults": [
            {"EvalActionName": f"secretsmanager:{right.action}", "EvalDecision": "implicitDeny"}
            for right in aws_secret._SIMULATED
        ]
    }
    asked = aws_secret.Calls.__call__

    def answered(calls, operation, **parameters):
        if operation == "simulate_principal_policy":
            return simulating
        return asked(calls, operation, **parameters)

    monkeypatch.setattr(aws_secret.Calls, "__call__", answered)
    found = examined("rotator", ours("rotator", arn))
    (finding,) = [f for f in found if f.severity in ("warning", "problem")]
    assert (finding.check, finding.severity) == ("permissions.simulated", "warning")
    assert finding.message.endswith(": PutSecretValue, TagResource")
    assert finding.evidence == "simulation of the caller's own policies"


def test_a_reader_is_told_why_iam_was_not_asked(examined, arn):
    wide = also(ours("reader", arn), "iam:SimulatePrincipalPolicy", on="*")
    (unasked,) = [f for f in examined("reader", wide) if f.check == "permissions.unasked"]
    assert "ARN" in unasked.evidence
    assert "SimulatePrincipalPolicy" not in unasked.evidence


@pytest.mark.parametrize(
    ("rules", "interval"),
    [
        ({"AutomaticallyAfterDays": 7, "Duration": "2h"}, "every 7 days"),
        ({"ScheduleExpression": "cron(0 8 1 * ? *)"}, "cron(0 8 1 * ? *)"),
        ({}, "no schedule told"),
    ],
)
def test_rotations_that_aws_begins_are_told_and_the_schedule_is_to_stay(rules, interval):
    """It alone revokes. ministack keeps no rules, so this is what DescribeSecret answers on AWS."""
    answer = {"ARN": "arn:s", "RotationEnabled": True, "RotationLambdaARN": "arn:f"}
    finding, *_ = aws_secret._of_secret({**answer, "RotationRules": rules})
    assert "keep the schedule beside it" in finding.message
    assert finding.evidence == f"arn:s: arn:f, {interval}"


def test_nothing_is_changed(ministack, examined, name):
    manager = ministack.admin("secretsmanager")

    def seen():
        described = manager.describe_secret(SecretId=name)
        names = {secret["Name"] for secret in manager.list_secrets()["SecretList"]}
        kept = ("VersionIdsToStages", "LastChangedDate", "DeletedDate", "Tags")
        return {key: described.get(key) for key in kept}, names

    before = seen()
    for role in ("reader", "rotator"):
        examined(role)  # as somebody who may do everything
    assert seen() == before


def test_a_secret_that_is_not_there_is_no_missing_right(ministack, examined, arn):
    uri = "awssecretsmanager://doctor/nothing-of-that-name"
    assert not any(
        check == "permissions.missing" for check, _ in grave(examined("rotator", uri=uri))
    )


def test_what_the_uri_does_not_say_is_left_to_be_filled_in():
    document = aws_secret.policy(split(f"awssecretsmanager://prod/acme?region={REGION}"), "reader")
    assert f"arn:aws:secretsmanager:{REGION}:ACCOUNT:secret:prod/acme-??????" in document


def test_the_region_may_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("AWS_REGION", "eu-west-3")
    document = aws_secret.policy(split("awssecretsmanager://prod/acme"), "reader")
    assert "arn:aws:secretsmanager:eu-west-3:ACCOUNT:" in document


def test_an_arn_is_taken_as_it_is():
    arn = f"arn:aws:secretsmanager:{REGION}:111122223333:secret:prod/acme-AbC123"
    assert f'"{arn}"' in aws_secret.policy(split(f"awssecretsmanager://{arn}"), "rotator")
