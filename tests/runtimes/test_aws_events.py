"""What an event means to the Lambda function, and which ones are refused."""

import json

import pytest

from cmzon_secrets.errors import ConfigurationError
from cmzon_secrets.runtimes.aws_events import Order, parse

CANARY = "Kanarienvogel0123456789abcdefghijKLMNOP"
STEP = {
    "SecretId": "arn:aws:secretsmanager:eu-central-1:123456789012:secret:prod/acme-AbCdEf",
    "ClientRequestToken": "0b3c6d5e-0000-4000-8000-000000000001",
    "Step": "createSecret",
}
SCHEDULED = {
    "version": "0",
    "id": "1f2e3d4c-0000-4000-8000-000000000002",
    "detail-type": "Scheduled Event",
    "source": "aws.events",
    "account": "123456789012",
    "time": "2026-11-25T04:00:00Z",
    "region": "eu-central-1",
    "resources": ["arn:aws:events:eu-central-1:123456789012:rule/rotation"],
    "detail": {},
}


def by_sns(message):
    return {"Records": [{"EventSource": "aws:sns", "Sns": {"Message": message, "Subject": None}}]}


@pytest.mark.parametrize(
    "event", [{}, SCHEDULED, {**SCHEDULED, "source": "aws.scheduler"}, by_sns("{}")]
)
def test_a_schedules_turn_is_for_all_accounts(event):
    assert parse(event) == Order()


@pytest.mark.parametrize("carried", [lambda order: order, lambda order: by_sns(json.dumps(order))])
def test_an_order_says_which_account_and_what_to_do(carried):
    assert parse(carried({"account": "acme"})) == Order("acme")
    assert parse(carried({"account": None, "force": True})) == Order(force=True)
    assert parse(carried({"dry_run": True})) == Order(dry_run=True)
    assert parse(carried({"account": "acme", "revoke": True})) == Order("acme", revoke=True)
    assert parse(carried({"revoke": "tok_1", "replace": False})) == Order(
        revoke="tok_1", replace=False
    )


def test_a_rotation_step_names_secret_version_and_step():
    step = parse({**STEP, "RotationToken": CANARY, "SomethingNew": "that the service may add"})
    assert (step.name, step.secret_id) == ("createSecret", STEP["SecretId"])
    assert step.version_id == STEP["ClientRequestToken"]
    assert step.pass_on() == CANARY
    assert CANARY not in repr(step)
    assert parse(STEP).pass_on() is None


@pytest.mark.parametrize(
    ("event", "why"),
    [
        (None, "no JSON object"),
        ([], "no JSON object"),
        ("{}", "no JSON object"),
        ({"acount": "acme"}, "unknown key 'acount'"),
        ({CANARY: "acme"}, "unknown key"),
        ({"account": ""}, "account is not what it must be"),
        ({"account": [CANARY]}, "account is not what it must be"),
        ({"force": CANARY}, "force is not what it must be"),
        ({"force": 1}, "force is not what it must be"),
        ({"revoke": CANARY * 2}, "revoke is not what it must be"),
        ({"revoke": f"cmz_{CANARY}"}, "revoke is not what it must be"),
        ({"revoke": False}, "revoke is not what it must be"),
        ({"revoke": ""}, "revoke is not what it must be"),
        ({"revoke": "tok_1\n"}, "revoke is not what it must be"),
        ({"revoke": "tok_1", "force": True}, "revoke goes with neither force nor dry_run"),
        ({"revoke": "tok_1", "dry_run": True}, "revoke goes with neither force nor dry_run"),
        ({"replace": False}, "replace goes with revoke only"),
        ({**STEP, "SecretId": None}, "without a SecretId"),
        ({**STEP, "ClientRequestToken": ""}, "without a ClientRequestToken"),
        ({**STEP, "Step": 3}, "without a Step"),
        ({**STEP, "RotationToken": [CANARY]}, "RotationToken is no text"),
        ({**SCHEDULED, "source": "aws.cloudwatch"}, "from no schedule"),
        ({**SCHEDULED, "detail": {"alarm": CANARY}}, "from no schedule"),
        ({"Records": []}, "not one message of SNS"),
        ({"Records": [{"s3": {"bucket": CANARY}}]}, "not one message of SNS"),
        (by_sns(CANARY), "no JSON object"),
        (by_sns(f'["{CANARY}"]'), "no JSON object"),
        (by_sns("[" * 100_000), "no JSON object"),
        (by_sns(json.dumps({"AlarmName": CANARY})), "unknown key 'AlarmName'"),
        (by_sns(json.dumps(by_sns("{}"))), "unknown key 'Records'"),
        (by_sns(json.dumps(STEP)), "unknown key 'SecretId'"),
    ],
)
def test_what_is_none_of_these_is_refused_with_what_is_valid_and_never_repeated(event, why):
    with pytest.raises(ConfigurationError) as refused:
        parse(event)
    assert why in str(refused.value)
    assert '{"account": NAME, "revoke": TOKEN_ID or true' in refused.value.hint
    assert CANARY not in str(refused.value) + refused.value.hint
