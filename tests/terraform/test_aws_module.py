"""terraform/modules/aws: its own tests, its examples, and what its plan means to our code.

The real Terraform and the real AWS provider, which here asks nobody: what only AWS could say is said in
``tests/plan.tftest.hcl``. That it applies, and that a token then rotates, is test_aws_applied.py's.
"""

import json
import re
import shutil
from datetime import timedelta
from pathlib import Path

import pytest

from cmzon_secrets.accounts import policy_of
from cmzon_secrets.config import account_from_environment
from cmzon_secrets.durations import parse_duration
from cmzon_secrets.errors import ConfigurationError
from cmzon_secrets.permissions import policy
from cmzon_secrets.rotation import RotationPolicy, RotationReport
from cmzon_secrets.runtimes import aws_lambda
from cmzon_secrets.runtimes.aws_events import Order, parse
from cmzon_secrets.runtimes.event_log import item_line
from cmzon_secrets.runtimes.scheduled import report_item
from cmzon_secrets.uri import split
from servers.terraform import LEFT_BEHIND, ROOT, Terraform, binary, needs_plugin
from servers.terraform_refusals import rules, told_by

MODULE = ROOT / "terraform/modules/aws"
KEY = "arn:aws:kms:eu-central-1:123456789012:key/00000000-0000-0000-0000-000000000000"
SECRET = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:cmzon/acme"
TOKEN, ADMIN = f"{SECRET}-T0kenT", f"{SECRET}-admin-Adm1nT"
OIDC = "arn:aws:iam::123456789012:oidc-provider/oidc.example.com"
ZIP = {"bucket": "artifacts", "key": "cmzon-secrets-lambda.zip"}

OURS = """
run "minimal" {
  command = plan
  module { source = "./examples/minimal" }
  %(account_of_cmzon)s
}

run "complete" {
  command = plan
  module { source = "./examples/complete" }
  variables {
    lambda_zip_s3            = { bucket = "artifacts", key = "zip", object_version = "1" }
    code_signing_config_arn  = "arn:aws:lambda:eu-central-1:123456789012:code-signing-config:csc-0f6c334abcdea4d8b"
    permissions_boundary_arn = "arn:aws:iam::123456789012:policy/boundary"
    replica_key_arn          = "arn:aws:kms:eu-west-1:123456789012:key/1"
    oidc_provider_arn        = "arn:aws:iam::123456789012:oidc-provider/oidc.example.com"
  }
  %(account_of_acme)s
  %(account_of_globex)s
}

run "readme" {
  command = plan
  module { source = "./readme" }
  %(account_of_cmzon)s
  %(account_of_fleet["acme"])s
  %(account_of_fleet["globex"])s
}

run "contradictions" {
  command = plan
  variables {
    rotation             = %(contradictions)s
    native_rotation_days = 30
  }
}
"""
"""Runs of ours beside the module's own: they need a file, or have to fail."""

PLACES_OF_THE_FLEET = """
resource "aws_kms_key" "cmzon" {}
resource "aws_secretsmanager_secret" "admin" {}
resource "aws_sns_topic" "oncall" {}
"""
"""What the README's fleet shares."""

CONTRADICTIONS = {
    "grace": "2h",
    "reader_ttl": "3h",
    "revoke_limit": "1h",
    "expires_in": "2h",
    "renew_before": "1h",
}


# ── one run of `terraform test` for all, and one that tells its plan ────────────────────────────


@pytest.fixture(scope="module")
def module(tmp_path_factory):
    """The module's copy, ready to run; with the zip where its example looks for one."""
    binary()
    needs_plugin("aws")
    copy = tmp_path_factory.mktemp("terraform") / "aws"
    shutil.copytree(MODULE, copy, ignore=LEFT_BEHIND)
    (copy / "dist").mkdir()
    (copy / "dist" / "cmzon-secrets-lambda.zip").touch()
    of_the_module = (copy / "tests" / "plan.tftest.hcl").read_text()
    header, separator, runs = of_the_module.partition('run "by_default"')
    first, _, _ = runs.partition('\nrun "')
    (copy / "tests" / "told.tftest.hcl").write_text(header + separator + first)
    (copy / "tests" / "ours.tftest.hcl").write_text(header + OURS % _filled_in())
    (copy / "readme").mkdir()
    (copy / "readme" / "main.tf").write_text(_readme() + PLACES_OF_THE_FLEET)
    made = Terraform(copy)
    made.init()
    return made


def _readme():
    """The first use that the README shows, and its fleet, side by side."""
    blocks = re.findall(r"```hcl\n(.*?)```", (MODULE / "README.md").read_text(), re.DOTALL)
    first, fleet = blocks[0], next(block for block in blocks if "for_each" in block)
    both = first + fleet.replace('module "cmzon"', 'module "fleet"')
    return re.sub(r'source( *)= "[^"]*"', r'source\1= "../"', both)


def _filled_in():
    account = 'override_data {{\n target = module.{}.data.aws_caller_identity.current\n values = {{ account_id = "123456789012" }}\n}}'
    names = ("cmzon", "acme", "globex", 'fleet["acme"]', 'fleet["globex"]')
    return {
        **{f"account_of_{name}": account.format(name) for name in names},
        "contradictions": json.dumps(CONTRADICTIONS),
    }


@pytest.fixture(scope="module")
def ran(module):
    """Each line that `terraform test` told."""
    files = [f"-filter=tests/{name}.tftest.hcl" for name in ("plan", "ours")]
    return [json.loads(line) for line in module.test("-json", *files, expect=1).out.splitlines()]


@pytest.fixture(scope="module")
def statuses(ran):
    """How each run ended."""
    ended = [line["test_run"] for line in ran if line["type"] == "test_run"]
    return {
        (Path(run["path"]).name.partition(".")[0], run["run"]): run.get("status") for run in ended
    }


@pytest.fixture(scope="module")
def problems(ran):
    """What was said of runs that did not pass: the run's name and the text."""
    found = [line for line in ran if line["type"] == "diagnostic"]
    return [
        (line.get("@testrun"), line["diagnostic"]["summary"], line["diagnostic"]["detail"])
        for line in found
    ]


@pytest.fixture(scope="module")
def planned(module):
    """What is planned with nothing but a name and a zip: the values by address."""
    told = module.test("-json", "-verbose", "-filter=tests/told.tftest.hcl").out.splitlines()
    (plan,) = [json.loads(line)["test_plan"] for line in told if '"type":"test_plan"' in line]
    return {change["address"]: change["change"]["after"] for change in plan["resource_changes"]}


@pytest.mark.slow
def test_its_own_tests_pass(statuses, problems):
    own = {run: status for run, status in statuses.items() if run[0] != "ours"}
    assert len(own) >= 8
    assert {run: status for run, status in own.items() if status != "pass"} == {}, problems


@pytest.mark.slow
@pytest.mark.parametrize("example", ["minimal", "complete", "readme"])
def test_its_examples_plan(statuses, problems, example):
    assert statuses["ours", example] == "pass", problems


def test_its_smallest_use_has_fifteen_lines():
    example = (MODULE / "examples/minimal/main.tf").read_text()
    (shown, *_) = re.findall(r"```hcl\n(.*?)```", (MODULE / "README.md").read_text(), re.DOTALL)
    for text in (example, shown):
        lines = [line for line in text.splitlines() if line and not line.startswith("#")]
        assert len(lines) <= 15


def test_the_first_steps_that_it_shows_are_those_that_it_gives():
    output = (MODULE / "outputs.tf").read_text().partition('output "first_steps"')[2]
    given = re.findall(r'^ +"([^#].*)",$', output, re.MULTILINE)
    (shown, *_) = re.findall(r"```sh\n(.*?)```", (MODULE / "README.md").read_text(), re.DOTALL)
    names = {
        "${local.admin_secret_arn}": "ARN_OF_THE_ADMIN_SECRET",
        "${local.region}": "REGION",
        "${local.function_name}": "cmzon-acme-rotation",
        "${aws_secretsmanager_secret.token.arn}": "ARN_OF_THE_SECRET",
    }
    for inside, outside in names.items():
        given = [line.replace(inside, outside) for line in given]
    assert [line.partition("    #")[0] for line in shown.splitlines()] == given


# ── what the function is given ──────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def function(planned):
    return planned["aws_lambda_function.rotation[0]"]


@pytest.fixture(scope="module")
def account(function):
    return account_from_environment(function["environment"][0]["variables"])


@pytest.mark.slow
def test_its_settings_are_the_account(account):
    assert account.name == "acme"
    assert (account.token, account.admin) == (
        f"awssecretsmanager://{TOKEN}",
        f"awssecretsmanager://{ADMIN}",
    )
    assert {split(uri).scheme for uri in (account.token, account.admin)} == {"awssecretsmanager"}
    assert account.base_url is None


@pytest.mark.slow
def test_its_settings_are_the_policy_that_the_package_has_by_default(account):
    assert policy_of(account) == RotationPolicy("acme")


@pytest.mark.slow
def test_the_handler_is_there_and_gets_the_time_it_needs(function):
    handler = f"{aws_lambda.__name__}.{aws_lambda.handler.__name__}"
    assert function["handler"] == handler
    assert function["timeout"] >= 2 * aws_lambda.MARGIN


@pytest.mark.slow
def test_what_the_schedule_sends_is_understood(planned):
    (target,) = planned["aws_scheduler_schedule.rotation[0]"]["target"]
    assert parse(json.loads(target["input"])) == Order()


# ── who may do what ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
@pytest.mark.parametrize(
    ("address", "role", "secret"),
    [
        ("aws_iam_policy.reader", "reader", TOKEN),
        ("aws_iam_role_policy.rotate[0]", "rotator", TOKEN),
        ("aws_iam_role_policy.admin[0]", "reader", ADMIN),
    ],
)
def test_a_role_has_the_least_permissions(planned, address, role, secret):
    least = policy("awssecretsmanager", role, {"secret_arn": secret, "kms_key_arn": KEY})
    assert json.loads(planned[address]["policy"]) == json.loads(least)


# ── who is told ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
@pytest.mark.parametrize(("state", "counted"), [("attention", True), ("done", False)])
def test_the_log_of_what_needs_a_person_is_counted(planned, state, counted):
    pattern = planned["aws_cloudwatch_log_metric_filter.attention[0]"]["pattern"]
    *path, last = re.fullmatch(r'\{ \$\.([\w.]+) = "(\w+)" \}', pattern)[1].split(".")
    report = RotationReport(state, reason="a person has to look", next_due=None)
    found = json.loads(item_line(report_item("acme", f"awssecretsmanager://{TOKEN}", report)))
    for name in path:
        found = found[name]
    assert (f'"{found[last]}"' in pattern) is counted


@pytest.mark.slow
def test_what_is_counted_is_what_rings(planned):
    (counted,) = planned["aws_cloudwatch_log_metric_filter.attention[0]"]["metric_transformation"]
    alarm = planned['aws_cloudwatch_metric_alarm.this["attention"]']
    assert (alarm["namespace"], alarm["metric_name"]) == (counted["namespace"], counted["name"])
    assert (alarm["statistic"], alarm["threshold"]) == ("Sum", 0)
    assert alarm["comparison_operator"] == "GreaterThanThreshold"
    assert (counted["value"], counted["default_value"]) == ("1", "0")


@pytest.mark.slow
def test_silence_rings_and_a_run_that_is_late_does_not(planned, function):
    alarm = planned['aws_cloudwatch_metric_alarm.this["silent"]']
    assert (alarm["namespace"], alarm["metric_name"]) == ("AWS/Lambda", "Invocations")
    assert alarm["dimensions"] == {"FunctionName": function["function_name"]}
    assert (alarm["statistic"], alarm["threshold"]) == ("Sum", 1)
    assert alarm["comparison_operator"] == "LessThanThreshold"
    assert alarm["treat_missing_data"] == "breaching"  # no run makes no data
    patience = timedelta(seconds=alarm["period"] * alarm["evaluation_periods"])
    assert patience >= 2 * timedelta(hours=1)
    schedule = planned["aws_scheduler_schedule.rotation[0]"]["schedule_expression"]
    assert schedule == "rate(1 hour)"


@pytest.mark.slow
def test_the_dashboard_shows_the_function(planned, function):
    body = json.loads(planned["aws_cloudwatch_dashboard.rotation[0]"]["dashboard_body"])
    shown = json.dumps(body)
    assert {widget["properties"]["region"] for widget in body["widgets"]} == {"eu-central-1"}
    assert f'"{function["function_name"]}"' in shown
    assert f"'/aws/lambda/{function['function_name']}'" in shown


# ── what is refused ─────────────────────────────────────────────────────────────────────────────

NAMED_ROLES = "arns name roles or users of one account"
REFUSALS = [
    ({"name": "Acme"}, "name: it becomes part"),
    ({"name": "a--b"}, "name: it becomes part"),
    *[
        ({"name": f"acme-{end}"}, "name: with this end it would be called as something of another")
        for end in ("admin", "pending", "transit", "reader", "rotator", "seeder")
    ],
    ({"tags": {"cmzon-secrets-promoted-at": "now"}}, "tags: cmzon-secrets-promoted-at is where"),
    ({"secret_name": "arn:cmzon"}, "secret_name: Secrets Manager takes"),
    ({"secret_name": "cmzon/acme-admin"}, "secret_name: NAME-admin holds the admin token"),
    ({"recovery_window_in_days": 3}, "recovery_window_in_days: Secrets Manager keeps"),
    ({"replicas": {"Ireland": {}}}, "replicas: each key is the name of a region"),
    ({"kms_key": {"arn": "alias/mine"}}, "kms_key: policies name the key itself"),
    (
        {"kms_deletion_window_in_days": 3, "recovery_window_in_days": 0},
        "kms_deletion_window_in_days: KMS waits",
    ),
    ({"kms_deletion_window_in_days": 7}, "kms_deletion_window_in_days: the key would be gone"),
    ({"admin_secret": {"arn": "cmzon/admin"}}, "admin_secret: the policy names this secret"),
    (
        {"admin_secret": {"arn": ADMIN, "kms_key_arn": "x"}},
        "admin_secret: its policy names the key",
    ),
    (
        {"admin_secret": {"arn": ADMIN}, "admin_token_wo_version": 1},
        "admin_token_wo_version: the admin token's secret is one that exists",
    ),
    *[
        case
        for who in ("readers", "rotators")
        for case in [
            ({who: {"services": ["ecs-tasks"]}}, f"{who}: services are written as AWS names them"),
            ({who: {"arns": ["*"]}}, f"{who}: {NAMED_ROLES}"),
            ({who: {"arns": ["arn:aws:iam::123456789012:role/*"]}}, f"{who}: {NAMED_ROLES}"),
            (
                {who: {"oidc": {"provider_arn": "https://oidc", "service_accounts": ["a:b"]}}},
                f"{who}: provider_arn is the ARN",
            ),
            (
                {who: {"oidc": {"provider_arn": OIDC, "service_accounts": ["shop:*"]}}},
                f"{who}: service_accounts are written NAMESPACE:NAME",
            ),
            (
                {who: {"oidc": {"provider_arn": OIDC, "service_accounts": []}}},
                f"{who}: service_accounts are written NAMESPACE:NAME",
            ),
        ]
    ],
    (
        {"rotation": {"grace": "a day", "reader_ttl": "5m", "orphan_age": "1"}},
        "rotation: no duration: grace, orphan_age. Write a whole number and a unit",
    ),
    ({"rotation": {"scopes": []}}, "rotation: scopes is a list of one or more words"),
    *[
        ({"rotation": {"scopes": scopes}}, "rotation: scopes is a list of one or more words")
        for scopes in (["a,b"], ["a b"], ["bücher"], ["messages:send", "messages:send"])
    ],
    *[
        ({"rotation": {"allowed_ips": [address]}}, "rotation: allowed_ips holds addresses")
        for address in ("203.0.113", "203.0.113.7/24", "2001:db8::1/48", "203.0.113.7/33")
    ],
    ({"base_url": "http://api.cmzon.com"}, "base_url: tokens are sent there, so it is https://"),
    ({"base_url": "https://user@api.cmzon.com"}, "base_url: tokens are sent there"),
    *[
        ({"schedule_expression": wrong}, "schedule_expression: write rate(1 hour)")
        for wrong in ("hourly", "rate(one hour)", "rate(0 hours)")
    ],
    ({"native_rotation_days": 0}, "native_rotation_days: Secrets Manager calls"),
    ({"native_rotation_days": 7.5}, "native_rotation_days: Secrets Manager calls"),
    (
        {"native_rotation_days": 7, "create_function": False},
        "native_rotation_days: Secrets Manager calls",
    ),
    ({"lambda_zip": "no/such.zip", "lambda_zip_s3": None}, "lambda_zip --output no/such.zip"),
    ({"lambda_zip_s3": None}, "lambda_zip: the function's code is missing"),
    ({"lambda_zip": "variables.tf"}, "lambda_zip: the function's code is missing, or given twice"),
    (
        {"code_signing_config_arn": "arn", "lambda_zip": "variables.tf", "lambda_zip_s3": None},
        "code_signing_config_arn: AWS signs zips in S3 only",
    ),
    ({"runtime": "python3.9"}, "runtime: the zip needs Python 3.11 or newer"),
    ({"architecture": "arm"}, "architecture: Lambda has arm64 and x86_64"),
    ({"memory_size": 128}, "memory_size: write 256 to 10240"),
    ({"memory_size": 300.5}, "memory_size: write 256 to 10240"),
    ({"timeout": 3}, "timeout: write 60 to 900"),
    ({"reserved_concurrency": 0}, "reserved_concurrency: write -1 for none"),
    ({"environment": {"LOG_LEVEL": "DEBUG"}}, "environment: only settings that begin with CMZON_"),
    ({"environment": {"CMZON_API_TOKEN": ""}}, "environment: a token, key or passphrase"),
    ({"environment": {"CMZON_SECRETS_KEY": "c2VjcmV0"}}, "environment: a token, key or"),
    ({"environment": {"CMZON_X": "cmz_live_x"}}, "environment: a token, key or passphrase"),
    *[
        ({"environment": {name: "x"}}, "environment: an address or a field of the policy")
        for name in ("CMZON_TOKEN_URI", "CMZON_ADMIN_URI", "CMZON_BASE_URL", "CMZON_ROTATION_GRACE")
    ],
    ({"vpc": {"subnet_ids": [], "security_group_ids": ["sg"]}}, "vpc: a function in a VPC has"),
    (
        {"vpc": {"subnet_ids": ["s"], "security_group_ids": ["sg"]}, "egress": {}},
        "vpc: egress makes a network of its own",
    ),
    ({"egress": {"cidr": "10.0.0.0/28"}}, "egress: cidr is the range of the new VPC"),
    ({"alarm_topic_arns": ["oncall"]}, "alarm_topic_arns: write ARNs of topics"),
    ({"alarm_emails": ["oncall"]}, "alarm_emails: write addresses"),
    (
        {
            "alarm_emails": ["a@example.com"],
            "alarm_topic_arns": ["arn:aws:sns:eu-central-1:123456789012:a"],
        },
        "alarm_emails: the topic is yours",
    ),
    ({"silent_after_hours": 200}, "silent_after_hours: CloudWatch looks back"),
    ({"silent_after_hours": 1.5}, "silent_after_hours: CloudWatch looks back"),
    ({"silent_after_hours": 1}, "silent_after_hours: the schedule runs less often"),
    ({"schedule_expression": "rate(1 day)"}, "silent_after_hours: the schedule runs less often"),
    (
        {"schedule_expression": "rate(300 minutes)"},
        "silent_after_hours: the schedule runs less often",
    ),
    ({"log_retention_in_days": 100}, "log_retention_in_days: CloudWatch Logs knows"),
    *[
        (
            {"emergency_rule_arns": [f"arn:aws:events:eu-central-1:123456789012:rule/{rule}"]},
            "emergency_rule_arns: write ARNs of single rules",
        )
        for rule in ("*", "????")
    ],
]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A function that says what Terraform says of these inputs. Rules of inputs need no provider."""
    folder = tmp_path_factory.mktemp("inputs")
    shutil.copy(MODULE / "variables.tf", folder)
    terraform = Terraform(folder)
    binary()

    def say(given, expect):
        inputs = {"name": "acme", "lambda_zip_s3": ZIP, **given}
        (folder / "given.tfvars.json").write_text(json.dumps(inputs))
        return terraform.plan("-var-file=given.tfvars.json", expect=expect).said

    return say


@pytest.fixture(scope="module")
def refusals(tmp_path_factory):
    """What was said of each, in one run of the program for all."""
    folder = tmp_path_factory.mktemp("refusals")
    shutil.copy(MODULE / "variables.tf", folder)
    (folder / "tests").mkdir()
    for number, (given, _) in enumerate(REFUSALS):
        inputs = {"name": "acme", "lambda_zip_s3": ZIP, **given}
        variables = "\n".join(f"{name} = {json.dumps(value)}" for name, value in inputs.items())
        run = f'run "refusal_{number}" {{\ncommand = plan\nvariables {{\n{variables}\n}}\n}}\n'
        (folder / "tests" / f"refusal_{number}.tftest.hcl").write_text(run)
    told = told_by(folder)
    return [told[f"refusal_{number}"] for number in range(len(REFUSALS))]


@pytest.mark.slow
def test_each_refusal_says_input_reason_and_remedy(refusals):
    for told, (given, message) in zip(refusals, REFUSALS, strict=True):
        assert len(told) == 1, (given, told)
        assert message in told[0][1], (given, told)


@pytest.mark.slow
def test_no_rule_is_without_a_refusal(refusals):
    assert {line for told in refusals for line, _ in told} == rules(MODULE)


@pytest.mark.slow
@pytest.mark.parametrize(
    "given",
    [
        {},
        {"name": "ab"},
        {"name": "admin"},
        {"secret_name": "prod/cmzon/acme"},
        {"recovery_window_in_days": 0, "kms_deletion_window_in_days": 7},
        {"kms_key": {"arn": KEY}, "kms_deletion_window_in_days": 7},
        {"environment": {"CMZON_CA": "ca.pem"}},
        {
            "rotation": {
                "allowed_ips": [
                    *("2001:db8::/48", "2001:0DB8::/48", "2001:db8::1", "2001:db8::1/128"),
                    *("203.0.113.7", "203.0.113.7/32", "203.0.113.0/24"),
                ]
            }
        },
        {"base_url": "https://api.eu.cmzon.com/v1"},
        {"schedule_expression": "rate(1 day)", "silent_after_hours": 36},
        {"schedule_expression": "rate(30 minutes)", "silent_after_hours": 1},
        {"schedule_expression": "cron(0 * * * ? *)"},
        {"readers": {"services": ["ec2.amazonaws.com.cn"]}},
        {"lambda_zip_s3": None, "create_function": False},
    ],
    ids=str,
)
def test_what_is_right_is_not_refused(inputs, given):
    inputs(given, expect=0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"silent_after_hours": "often"}, "a number is required"),
        ({"vpc": {"subnet_ids": ["subnet-1"]}}, 'attribute "security_group_ids" is required'),
    ],
)
def test_a_wrong_type_is_told_by_terraform_itself(inputs, given, message):
    assert message in inputs(given, expect=1)


@pytest.mark.slow
def test_a_policy_that_contradicts_itself_is_refused_at_the_plan(problems, statuses):
    assert statuses["ours", "contradictions"] == "error"
    told = [detail for run, _, detail in problems if run == "contradictions"]
    for message in (
        "rotation: grace is shorter than reader_ttl and request_deadline together",
        "rotation: revoke_limit is shorter than grace",
        "rotation: renew_before is shorter than grace",
        "rotation: expires_in is not longer than renew_before",
        "native_rotation_days: it lies between rotation.grace",
    ):
        assert any(text.startswith(message) for text in told), message


@pytest.mark.parametrize(
    "rotation",
    [
        {"grace": "2h", "reader_ttl": "3h"},
        {"revoke_limit": "1h"},
        {"expires_in": "2h"},
        {"expires_in": "30d", "renew_before": "1h"},
    ],
    ids=str,
)
def test_what_the_plan_refuses_is_what_the_package_would_refuse(rotation):
    with pytest.raises(ConfigurationError):
        RotationPolicy("acme", **{k: parse_duration(v) for k, v in rotation.items()})


def test_the_key_works_until_nothing_is_encrypted_with_it_any_more():
    key = re.search(
        r'^resource "aws_kms_key" "this" \{\n(.*?)^\}',
        (MODULE / "encryption.tf").read_text(),
        re.DOTALL | re.MULTILINE,
    )
    assert re.search(r"lifecycle \{[^}]*create_before_destroy = true", key[1])


@pytest.mark.slow
def test_a_missing_provider_is_told_by_terraform_itself(module, tmp_path):
    copy = Terraform(shutil.copytree(MODULE, tmp_path / "aws", ignore=LEFT_BEHIND))
    (tmp_path / "empty").mkdir()
    said = copy.run("init", "-input=false", f"-plugin-dir={tmp_path / 'empty'}", expect=1).said
    assert "hashicorp/aws" in said
    assert "not found" in said
