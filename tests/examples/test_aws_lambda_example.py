"""examples/aws-lambda: the stack gives the function what it needs, and no right beyond that."""

import json

import pytest

from cmzon_secrets.accounts import policy_of
from cmzon_secrets.config import account_from_environment
from cmzon_secrets.permissions import policy
from cmzon_secrets.runtimes.aws_events import Order, parse
from cmzon_secrets.uri import split

NAMES = {"secret_arn": "ARN", "kms_key_arn": "KEY"}
yaml = pytest.importorskip("yaml", reason="not run: CloudFormation (no yaml)")


class Template(yaml.SafeLoader):
    """CloudFormation's short functions stand for themselves: ``!Ref X`` is ``X``."""


def _plain(loader, tag, node):
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node)
    return loader.construct_scalar(node)


Template.add_multi_constructor("!", _plain)


@pytest.fixture
def resources(examples):
    text = (examples / "aws-lambda" / "template.yaml").read_text()
    return yaml.load(text, Template)["Resources"]


@pytest.fixture
def variables(resources):
    return resources["Function"]["Properties"]["Environment"]["Variables"]


def _rights(statements):
    return {
        (action, json.dumps(statement.get("Condition"), sort_keys=True))
        for statement in statements
        for action in _listed(statement["Action"])
    }


def _listed(value):
    return value if isinstance(value, list) else [value]


@pytest.mark.parametrize(("number", "role"), [(0, "rotator"), (1, "reader")])
def test_the_role_has_the_least_permissions_without_a_key_of_ones_own(resources, number, role):
    given = resources["Role"]["Properties"]["Policies"][number]["PolicyDocument"]["Statement"]
    needed = json.loads(policy("awssecretsmanager", role, NAMES))["Statement"]
    of_secrets = {right for right in _rights(needed) if right[0].startswith("secretsmanager:")}
    assert _rights(given) == of_secrets
    assert len({statement["Resource"] for statement in given}) == 1


def test_its_environment_is_a_policy_that_can_work(variables):
    account = account_from_environment(variables)
    assert policy_of(account).grace.total_seconds() == 86_400
    assert split(account.token).scheme == split(account.admin).scheme == "awssecretsmanager"


def test_the_handler_is_there_and_gets_the_time_it_needs(resources):
    from cmzon_secrets.runtimes import aws_lambda

    function = resources["Function"]["Properties"]
    assert function["Handler"] == f"{aws_lambda.__name__}.{aws_lambda.handler.__name__}"
    assert function["Timeout"] >= 5 * aws_lambda.MARGIN
    assert function["Runtime"] in ("python3.11", "python3.12", "python3.13", "python3.14")


def test_what_schedule_and_emergency_send_is_understood(resources, examples):
    (target,) = resources["Schedule"]["Properties"]["Targets"]
    assert parse(json.loads(target["Input"])) == Order()
    order = parse(json.loads((examples / "aws-lambda" / "emergency.json").read_text()))
    assert order.revoke
    assert order.replace


def test_whoever_invokes_it_is_named(resources):
    principals = {
        r["Properties"]["Principal"]
        for r in resources.values()
        if r["Type"] == "AWS::Lambda::Permission"
        if {"SourceArn", "SourceAccount"} & r["Properties"].keys()
    }
    assert principals == {
        "events.amazonaws.com",
        "sns.amazonaws.com",
        "secretsmanager.amazonaws.com",
    }


def test_a_run_that_is_missing_alarms_like_one_that_failed(resources):
    alarm = resources["Failed"]["Properties"]
    assert (alarm["MetricName"], alarm["TreatMissingData"]) == ("Errors", "breaching")
