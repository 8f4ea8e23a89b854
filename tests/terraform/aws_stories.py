"""What happens to a user of the AWS module, from the first apply on, and what is seen meanwhile.

Terraform waits: 25 s for a queue, 12 s for a key. So stories are told at once, each in a thread of
its own, and the tests judge what each of them brings home: a `SimpleNamespace` of what was seen.
"""

import json
import re
import secrets
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from types import SimpleNamespace

from botocore.exceptions import ClientError

from cmzon_secrets.emulator import Emulator
from servers.aws_environment import REGION, aws_environment, client
from servers.child_process import script
from terraform.aws_applying import Root, changes, found, rights, until

NOWHERE = "https://127.0.0.1:9"
WHOLE = """
  name                    = "{name}"
  lambda_zip              = "{archive}"
  base_url                = "{base_url}"
  environment             = {{ CMZON_CA = "ca.pem" }}
  rotation                = {{ grace = "6m" }}
  recovery_window_in_days = 0
  admin_token_wo          = var.admin
  admin_token_wo_version  = var.admin_version
  create_emergency_topic  = true
  alarm_emails            = ["oncall@example.com"]
  egress                  = {{}}
  tags                    = {{ team = "shop" }}
"""
ADMIN = """
variable "admin" {
  type      = string
  default   = null
  ephemeral = true
}

variable "admin_version" {
  type    = number
  default = 1
}
"""
CONTROL = """
variable "control" {
  type      = string
  default   = "none"
  sensitive = true
}

resource "aws_secretsmanager_secret" "control" {
  name                    = "cmzon/NAME-control-admin"
  recovery_window_in_days = 0
}

resource "aws_secretsmanager_secret_version" "control" {
  secret_id     = aws_secretsmanager_secret.control.id
  secret_string = var.control
}
"""
LITTLE = """
  name                    = "{name}"
  create_function         = false
  kms_key                 = {{ arn = "{key}" }}
  recovery_window_in_days = 7
  rotators                = {{ services = ["ec2.amazonaws.com"] }}
"""
TAKE_OVER = """
import {{
  to = module.cmzon.aws_secretsmanager_secret.token
  id = "{arn}"
}}
"""


def a_name():
    return f"shop-{secrets.token_hex(4)}"


def a_canary():
    """No length that a log would take for a key of AWS, and nothing that JSON would escape."""
    return f"canary-{secrets.token_hex(15)}"


# ── from nothing to a rotating token, with IAM enforced ─────────────────────────────────────────


def whole_life(ministack, api, archive, folder):
    """Applied by a user who may do what apply-policy.json says; two rotations; applied; destroyed."""
    seen = SimpleNamespace(name=a_name(), control=a_canary(), tokens=[], api=api)
    keys = ministack.user(policy=rights("apply-policy.json", "apply-policy-egress.json"))
    seen.reader_keys = ministack.user({"Effect": "Allow", "Action": "sts:*", "Resource": "*"})
    reader = client("sts", ministack.url, *seen.reader_keys).get_caller_identity()["Arn"]
    arguments = WHOLE.format(name=seen.name, archive=archive, base_url=api.base_url)
    readers = f'readers = {{ arns = ["{reader}"] }}'
    control = CONTROL.replace("NAME", seen.name)
    seen.root = root = Root(folder, arguments + readers, ministack.url, keys, ADMIN + control)
    _first_apply(seen, root, api)
    function = _Function(ministack, seen, api)
    function.without_network()
    with function.scheduled():
        seen.first = until(function.current, patience=30)
    function.twice_more(seen.made["emergency_topic_arn"])
    seen.reading = _reading(ministack, seen, seen.made)
    _second_apply(seen, root, function)
    seen.files = found(root, [api.admin_token, seen.control, *seen.tokens])
    seen.there = left_behind(ministack.admin, seen.name)
    root.destroy()
    seen.left = left_behind(ministack.admin, seen.name)
    return seen


def _first_apply(seen, root, api):
    with root.given(admin=api.admin_token, control=seen.control):
        seen.said = root.plan(out="first").said
        seen.said += root.apply("first").said
    seen.made = root.made


def _second_apply(seen, root, function):
    """Without the admin token: it is where it belongs."""
    seen.before = function.held()
    with root.given(control=seen.control):
        seen.said += root.plan(out="second").said
        plan = root.show_json("second")
        seen.said += root.apply("second").said
    seen.after = function.held()
    seen.changes, seen.plan = changes(plan), json.dumps(plan)
    seen.pulled = json.dumps(root.state())


class _Function:
    """The function that was deployed, and the secret that it fills."""

    def __init__(self, ministack, seen, api):
        self.seen, self.api, self.made = seen, api, seen.made
        self.functions, self.secrets = ministack.admin("lambda"), ministack.admin("secretsmanager")
        self.schedules, self.topics = ministack.admin("scheduler"), ministack.admin("sns")

    def invoke(self, event):
        answer = self.functions.invoke(
            FunctionName=self.made["function_name"], Payload=json.dumps(event)
        )
        return json.loads(answer["Payload"].read())

    def held(self):
        """Label → what is stored there, and the tags."""
        told = self.secrets.describe_secret(SecretId=self.made["secret_arn"])
        labels = {
            label: version
            for version, names in told.get("VersionIdsToStages", {}).items()
            for label in names
        }
        return {"tags": told.get("Tags", []), **{k: self._value(v) for k, v in labels.items()}}

    def _value(self, version):
        told = self.secrets.get_secret_value(SecretId=self.made["secret_arn"], VersionId=version)
        if "SecretString" not in told:  # ministack has a version where nothing was ever put
            return None
        record = json.loads(told["SecretString"])
        if record["token"] not in self.seen.tokens:
            self.seen.tokens.append(record["token"])
        return record

    def current(self):
        return self.held().get("AWSCURRENT")

    def without_network(self):
        kept = self.functions.get_function_configuration(FunctionName=self.made["function_name"])
        variables = kept["Environment"]["Variables"]
        self._configure({**variables, "CMZON_BASE_URL": NOWHERE})
        self.seen.unreached = self.invoke({})
        self.seen.unreached_held = self.current()
        self._configure(variables)

    def _configure(self, variables):
        self.functions.update_function_configuration(
            FunctionName=self.made["function_name"], Environment={"Variables": variables}
        )

    @contextmanager
    def scheduled(self):
        """The module's own target, at a time that is over instead of within the hour."""
        name = self.made["function_name"]
        target = self.schedules.get_schedule(Name=name)["Target"]
        over = datetime.now(UTC) - timedelta(minutes=5)
        self.schedules.create_schedule(
            Name=f"{name}-now",
            ScheduleExpression=f"at({over:%Y-%m-%dT%H:%M:%S})",
            FlexibleTimeWindow={"Mode": "OFF"},
            Target=target,
        )
        yield
        self.schedules.delete_schedule(Name=f"{name}-now")

    def twice_more(self, topic):
        """By hand, and by an order to kill what is in use."""
        self.seen.forced = self.invoke({"account": self.seen.name, "force": True})
        self.seen.second = self.current()
        order = json.dumps({"account": self.seen.name, "revoke": self.seen.second["id"]})
        self.topics.publish(TopicArn=topic, Message=order)
        self.seen.third = until(self._other, patience=30)
        self.seen.accepted = until(
            lambda: self._accepted()[:2] == [False, False] and self._accepted()
        )

    def _accepted(self):
        """Of each token in turn, whether the API takes it."""
        return [self._accepts(token) for token in self.seen.tokens]

    def _accepts(self, token):
        request = urllib.request.Request(
            f"{self.api.base_url}/v1/tokens/self", headers={"Authorization": f"Bearer {token}"}
        )
        trusted = ssl.create_default_context(cafile=self.api.ca)
        try:
            return urllib.request.urlopen(request, context=trusted).status == 200
        except urllib.error.HTTPError as error:
            if error.code != 401:
                raise
            return False

    def _other(self):
        now = self.current()
        return now if now["id"] != self.seen.second["id"] else None


def _reading(ministack, seen, made):
    """What the role of readers is answered: a value, or the code of a refusal."""
    sts = client("sts", ministack.url, *seen.reader_keys)
    role = sts.assume_role(RoleArn=made["reader_role_arn"], RoleSessionName="shop")["Credentials"]
    import boto3

    session = boto3.Session(
        role["AccessKeyId"], role["SecretAccessKey"], role["SessionToken"], region_name=REGION
    )
    store = session.client("secretsmanager", endpoint_url=ministack.url)
    functions = session.client("lambda", endpoint_url=ministack.url)
    token, admin = made["secret_arn"], made["admin_secret_arn"]
    return {
        "the token": _asked(store.get_secret_value, SecretId=token)["SecretString"],
        "the admin token": _asked(store.get_secret_value, SecretId=admin),
        "the secret": _asked(store.describe_secret, SecretId=token),
        "another value": _asked(store.put_secret_value, SecretId=token, SecretString="x"),
        "a rotation": _asked(functions.invoke, FunctionName=made["function_name"]),
    }


def _asked(call, **arguments):
    try:
        return call(**arguments)
    except ClientError as error:
        return error.response["Error"]["Code"]


def left_behind(admin, name):
    """What of the name's is still there, by kind; of a key, what is not about to be deleted."""
    kms, logs, iam = admin("kms"), admin("logs"), admin("iam")
    keys = [kms.describe_key(KeyId=k["KeyId"])["KeyMetadata"] for k in kms.list_keys()["Keys"]]
    there = {
        "secrets": admin("secretsmanager").list_secrets(IncludePlannedDeletion=True)["SecretList"],
        "keys": [key for key in keys if key["KeyState"] != "PendingDeletion"],
        "aliases": kms.list_aliases()["Aliases"],
        "roles": iam.list_roles()["Roles"],
        "policies": iam.list_policies(Scope="Local")["Policies"],
        "functions": admin("lambda").list_functions()["Functions"],
        "logs": logs.describe_log_groups()["logGroups"],
        "queues": admin("sqs").list_queues().get("QueueUrls", []),
        "topics": admin("sns").list_topics()["Topics"],
        "schedules": admin("scheduler").list_schedules()["Schedules"],
        "alarms": admin("cloudwatch").describe_alarms()["MetricAlarms"],
        "dashboards": admin("cloudwatch").list_dashboards()["DashboardEntries"],
        "networks": admin("ec2").describe_vpcs()["Vpcs"],
        "addresses": admin("ec2").describe_addresses()["Addresses"],
    }
    of_ours = {
        kind: [it for it in found if name in json.dumps(it, default=str)]
        for kind, found in there.items()
    }
    return {kind: len(found) for kind, found in of_ours.items() if found}


# ── killed in the middle, and then as if nothing had been ───────────────────────────────────────


def killed_and_completed(moto_url, archive, folder):
    """On moto, which remembers what Terraform asks after: no change is left but the one that is asked."""
    with Emulator() as api:
        seen = SimpleNamespace(name=a_name())
        arguments = WHOLE.format(name=seen.name, archive=archive, base_url="https://api.example")
        root = Root(folder, arguments, moto_url, (), ADMIN)
        with root.given(admin=api.admin_token):
            seen.killed = root.killed(lambda: _waiting_for_the_queue(root, seen.name, moto_url))
            seen.known = set(root.resources)
            seen.queues = _queues(moto_url, seen.name)
            root.apply()
        made = root.made
        _rotated_twice(moto_url, made, api, folder)
        seen.again = root.plan("-detailed-exitcode", expect=None)
        seen.changed, seen.variables = _another_base_url(root, made, moto_url)
        seen.forgotten = root.apply("-refresh=false", admin_version=2, expect=1).said
        held = client("secretsmanager", moto_url).get_secret_value(
            SecretId=f"cmzon/{seen.name}-admin"
        )
        seen.untouched = held["SecretString"] == api.admin_token
        seen.keys = _keys(moto_url, seen.name)
        shared = f'kms_key = {{ arn = "{made["kms_key_arn"]}" }}'
        again = re.sub("egress .*", shared, arguments)  # neither of the two is what it is about
        _applied_again_without_its_state(seen, again, moto_url, folder / "again")
        root.destroy("-refresh=false")
    seen.left = left_behind(partial(client, url=moto_url), seen.name)
    return seen


def _applied_again_without_its_state(seen, arguments, url, folder):
    """Somebody else's root of the same name; it fails, and is cleaned up as people do it."""
    there = partial(left_behind, partial(client, url=url), seen.name)
    seen.before_the_other = there()
    other = Root(folder, arguments, url, (), ADMIN)
    seen.collision = other.apply(expect=1).said
    seen.of_the_other = set(other.resources)
    other.destroy()
    seen.after_the_other = there()


def _waiting_for_the_queue(root, name, url):
    """The queue is made, and Terraform waits for it to settle; all else is in the state already."""
    state = root.folder / "terraform.tfstate"
    quiet = state.exists() and time.time() - state.stat().st_mtime > 3
    return quiet and '"name": "token"' in state.read_text() and _queues(url, name)


def _another_base_url(root, made, url):
    """What an apply with one input changed says, and what the function is told from then on."""
    main = root.folder / "main.tf"
    main.write_text(main.read_text().replace("https://api.example", "https://new.example"))
    said = root.apply("-refresh=false").said
    functions = client("lambda", url)
    told = functions.get_function_configuration(FunctionName=made["function_name"])
    return said, told["Environment"]["Variables"]


def _queues(url, name):
    return client("sqs", url).list_queues(QueueNamePrefix=f"cmzon-{name}").get("QueueUrls", [])


def _keys(url, name):
    kms = client("kms", url)
    keys = [kms.describe_key(KeyId=k["KeyId"])["KeyMetadata"] for k in kms.list_keys()["Keys"]]
    return [key["Arn"] for key in keys if name in key["Description"]]


def _rotated_twice(url, made, api, folder):
    """As the function does it, which moto cannot run."""
    environment = {
        **aws_environment(url),
        "HOME": str(folder),
        "CMZON_TOKEN_URI": made["token_uri"],
        "CMZON_ADMIN_URI": made["admin_uri"],
        "CMZON_BASE_URL": api.base_url,
    }
    for options in ([], ["--force"]):
        command = [script("cmzon-secrets"), "rotate", *options]
        subprocess.run(command, env=environment, cwd=folder, check=True, capture_output=True)


def _put_the_admin_token(root, ministack, keys, folder):
    """As the module's first steps have it typed, by whoever applied."""
    put = [script("cmzon-secrets"), "put", root.made["admin_uri"]]
    environment = {**aws_environment(ministack.url, *keys), "HOME": str(folder)}
    subprocess.run(put, env=environment, cwd=folder, check=True, input="cmz_admin", text=True)


# ── obstacles, and what comes after ─────────────────────────────────────────────────────────────


def obstacles(ministack, folder):
    """The secret exists; a permission is missing; the name waits in its recovery window."""
    seen = SimpleNamespace(name=a_name(), value=a_canary())
    name, store = f"cmzon/{seen.name}", ministack.admin("secretsmanager")
    existing = store.create_secret(Name=name, SecretString=seen.value)["ARN"]
    key = ministack.admin("kms").create_key()["KeyMetadata"]["Arn"]
    keys = ministack.user(policy=rights("apply-policy.json", without={"iam:CreateRole"}))
    root = Root(folder, LITTLE.format(name=seen.name, key=key), ministack.url, keys)
    seen.refused = root.apply(expect=1).said
    seen.kept = root.resources

    ministack.allow(keys, rights("apply-policy.json"))
    taking_over = folder / "import.tf"
    taking_over.write_text(TAKE_OVER.format(arn=existing))
    root.apply()
    seen.completed = root.resources
    _put_the_admin_token(root, ministack, keys, folder)
    root.plan(out="after-put")
    seen.after_put = changes(root.show_json("after-put"))
    seen.taken = store.get_secret_value(SecretId=name)["SecretString"]

    taking_over.unlink()
    root.destroy()
    seen.in_recovery = root.apply(expect=1).said
    store.restore_secret(SecretId=name)
    store.restore_secret(SecretId=f"{name}-admin")
    seen.restored = store.get_secret_value(SecretId=name)["SecretString"]
    seen.root = root
    return seen
