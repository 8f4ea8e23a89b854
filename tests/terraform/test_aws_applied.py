"""The AWS module, applied: from nothing to a rotating token, to a second apply, to nothing.

On ministack, which enforces IAM and runs the function, and on moto, which remembers more of what it
was told. What each gets wrong, and so is not proved there, is said where it matters.
"""

import json
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

pytest.importorskip("boto3", reason="not run: the AWS module, applied (no boto3)")

from cmzon_secrets.emulator import Emulator
from servers.lambda_runtime import zipped
from servers.terraform import binary, needs_plugin
from terraform import aws_stories as stories
from terraform.aws_applying import MODULE

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

FORGOTTEN_OF_AN_ALARM = {
    *("actions_enabled", "alarm_actions", "ok_actions", "alarm_description", "dimensions"),
    *("period", "statistic", "treat_missing_data"),
}
"""By ministack: what was set, and is told as empty."""


@pytest.fixture(scope="module", autouse=True)
def _terraform_is_here():
    binary()
    needs_plugin("aws")


@pytest.fixture(scope="module")
def api():
    """The CMzon API over HTTPS, with a CA of its own."""
    with Emulator(tls=True) as emulator:
        yield emulator


@pytest.fixture(scope="module")
def told(api, ministack_server, moto_server_url, tmp_path_factory):
    """The stories, told at once; each is a future."""
    folder = tmp_path_factory.mktemp("applied")
    with ThreadPoolExecutor() as threads:
        obstacles = threads.submit(stories.obstacles, ministack_server, folder / "obstacles")
        archive = zipped(folder / "rotation.zip", Path(shutil.copy(api.ca, folder / "ca.pem")))
        of_the_zip = {
            "life": (stories.whole_life, ministack_server, api, archive),
            "killed": (stories.killed_and_completed, moto_server_url, archive),
        }
        yield {
            "obstacles": obstacles,
            **{name: threads.submit(*told, folder / name) for name, told in of_the_zip.items()},
        }


@pytest.fixture
def life(told):
    return told["life"].result()


@pytest.fixture
def killed(told):
    return told["killed"].result()


@pytest.fixture
def obstacles(told):
    return told["obstacles"].result()


# ── obstacles, and what comes after ─────────────────────────────────────────────────────────────


def test_without_a_permission_the_error_names_the_action_and_nothing_that_was_made_is_lost(
    obstacles,
):
    assert "not authorized to perform: iam:CreateRole" in obstacles.refused
    made = obstacles.kept["aws_secretsmanager_secret.admin"]["arn"]
    assert obstacles.completed["aws_secretsmanager_secret.admin"]["arn"] == made
    assert "aws_iam_role.rotator" not in obstacles.kept
    assert "aws_iam_role.rotator" in obstacles.completed


def test_a_secret_that_exists_is_refused_by_name_and_taken_over_with_its_value(obstacles):
    name = f"cmzon/{obstacles.name}"
    assert f"creating Secrets Manager Secret ({name})" in obstacles.refused
    assert "ResourceExistsException" in obstacles.refused
    assert obstacles.completed["aws_secretsmanager_secret.token"]["name"] == name
    assert obstacles.taken == obstacles.value


def test_a_put_of_the_admin_token_leaves_nothing_to_be_changed_in_its_secret(obstacles):
    assert ("aws_secretsmanager_secret", "update") not in obstacles.after_put


def test_a_name_in_its_recovery_window_is_refused_and_what_it_held_can_be_restored(obstacles):
    """The real service says InvalidRequestException, "scheduled for deletion"; ministack this."""
    name = f"cmzon/{obstacles.name}"
    assert f"creating Secrets Manager Secret ({name})" in obstacles.in_recovery
    assert obstacles.restored == obstacles.value


# ── killed in the middle ────────────────────────────────────────────────────────────────────────


def test_killed_in_the_middle_the_next_apply_completes_with_the_same_key(killed):
    assert killed.killed == -9
    assert "aws_sqs_queue.failed" not in killed.known
    assert len(killed.queues) == 1
    assert {"aws_kms_key.this", "aws_secretsmanager_secret.token"} <= killed.known
    assert len(killed.keys) == 1


def test_after_two_rotations_not_a_single_change_is_left_to_be_made(killed):
    assert (killed.again.code, "No changes." in killed.again.out) == (0, True), killed.again.said


def test_counted_up_without_the_admin_token_nothing_is_written_over_it(killed):
    assert "You must provide either SecretString or SecretBinary" in killed.forgotten
    assert killed.untouched


def test_one_input_changed_changes_the_function_and_nothing_is_made_anew_for_it(killed):
    assert re.search(r"0 added, [1-9]\d* changed, 0 destroyed", killed.changed), killed.changed
    assert killed.variables["CMZON_BASE_URL"] == "https://new.example"


def test_a_second_root_of_the_name_is_refused_and_takes_hold_of_nothing_of_the_first(killed):
    assert "EntityAlreadyExists" in killed.collision
    assert "ResourceExistsException" in killed.collision
    assert killed.of_the_other == set()
    assert killed.before_the_other["alarms"] == 4
    assert killed.after_the_other == killed.before_the_other


def test_destroyed_it_leaves_nothing_on_this_server_either(killed):
    assert killed.left == {}


# ── from nothing to a rotating token ────────────────────────────────────────────────────────────


def test_without_network_the_run_fails_with_the_address_and_stores_nothing(life):
    assert stories.NOWHERE.removeprefix("https://") in life.unreached["errorMessage"]
    assert life.unreached_held is None


def test_the_schedule_alone_makes_the_first_token_and_it_is_accepted(life):
    assert life.first["id"]
    assert life.accepted == [False, False, True]


def test_a_forced_rotation_replaces_it(life):
    assert life.forced["items"][0]["state"] == "done"
    assert life.second["id"] != life.first["id"]


def test_an_order_to_the_topic_kills_what_is_in_use_and_what_was_before_it(life):
    assert life.third["id"] not in {life.first["id"], life.second["id"]}
    assert len(life.tokens) == 3


def test_a_reader_reads_the_token_and_can_do_nothing_else(life):
    assert json.loads(life.reading.pop("the token"))["id"] == life.third["id"]
    assert set(life.reading.values()) == {"AccessDeniedException"}


def test_a_second_apply_without_the_admin_token_leaves_the_secret_as_rotation_left_it(life):
    """These settings of the alarms, and nothing else, are set again."""
    assert life.changes == {("aws_cloudwatch_metric_alarm", "update"): FORGOTTEN_OF_AN_ALARM}
    assert life.after == life.before
    assert "cmzon-secrets-promoted-at" in {tag["Key"] for tag in life.after["tags"]}


def test_no_token_is_in_a_state_a_plan_or_an_output_and_what_a_state_does_remember_is_found_there(
    life,
):
    assert life.files == {life.control}
    assert life.control in life.plan
    assert life.control in life.pulled
    for token in [life.api.admin_token, *life.tokens]:
        assert token not in life.plan + life.pulled + life.said


def test_destroyed_it_leaves_nothing_of_what_was_there(life):
    assert life.there == {
        "secrets": 3,
        "keys": 1,
        "aliases": 1,
        "roles": 3,
        "policies": 1,
        "functions": 1,
        "logs": 1,
        "queues": 1,
        "topics": 2,
        "schedules": 1,
        "alarms": 4,
        "dashboards": 1,
        "networks": 1,
        "addresses": 1,
    }
    assert life.left == {}


# ── what applying needs, and takes ──────────────────────────────────────────────────────────────


def test_it_writes_and_reads_the_admin_token_and_no_other_whatever_accounts_are_called():
    policy = json.loads((MODULE / "apply-policy.json").read_text())["Statement"]
    (allowed,) = (s["Resource"] for s in policy if "secretsmanager:GetSecretValue" in s["Action"])
    first = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:cmzon"
    for account in ("acme", "shop-admin-eu", "admin"):
        assert fnmatchcase(f"{first}/{account}-admin-T0kenT", allowed)
        assert not fnmatchcase(f"{first}/{account}-T0kenT", allowed)


def test_whoever_sets_up_native_rotation_may_invoke_the_function():
    """AWS asks for it at RotateSecret, and ministack does not."""
    policy = json.loads((MODULE / "apply-policy.json").read_text())["Statement"]
    granted = {action for s in policy for action in s["Action"]}
    assert {"secretsmanager:RotateSecret", "lambda:InvokeFunction"} <= granted


@pytest.mark.parametrize("file", ["apply-policy.json", "apply-policy-egress.json"])
def test_what_applying_needs_is_short_enough_for_a_managed_policy(file):
    policy = json.loads((MODULE / file).read_text())
    assert len(json.dumps(policy, separators=(",", ":"))) <= 6144
