"""The zip for AWS Lambda: what is in it, and that it runs, on two of Lambda's stand-ins.

Ministack deploys it with a role that has the least permissions, and enforces them; but its functions
see its own packages. AWS's runtime client in an otherwise empty environment shows what is missing.
"""

import base64
import json
import os
import re
import secrets
import shutil
import time
import uuid
import zipfile
from pathlib import Path

import pytest

from cmzon_secrets.emulator import Emulator
from cmzon_secrets.provisioning import lambda_zip
from cmzon_secrets.registry import find_examination, locate_provider
from cmzon_secrets.testing.conformance.leaks import must_hide
from servers.lambda_runtime import deployed, zipped

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
HANDLER = "cmzon_secrets.runtimes.aws_lambda.handler"
STEPS = ("createSecret", "setSecret", "testSecret", "finishSecret")


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    """The CMzon API over HTTPS, with a CA of its own."""
    with Emulator(tls=True) as emulator:
        yield emulator


@pytest.fixture(scope="module")
def archive(tmp_path_factory, api):
    """The zip as ``make lambda ADD=ca.pem`` builds it."""
    folder = tmp_path_factory.mktemp("lambda")
    shutil.copyfile(api.ca, folder / "ca.pem")
    return zipped(folder / "first.zip", folder / "ca.pem")


@pytest.fixture(scope="module")
def names(archive):
    with zipfile.ZipFile(archive) as opened:
        return opened.namelist()


# ── what is in it ───────────────────────────────────────────────────────────────────────────────


def test_of_aws_only_the_services_used_are_described(names):
    data = {Path(n).parts[2] for n in names if n.startswith("botocore/data/")}
    shared = {"_retry.json", "endpoints.json", "partitions.json", "sdk-default-configuration.json"}
    assert data == {"kms", "secretsmanager", "sts"} | shared


def test_it_holds_these_packages_and_no_others(names):
    tops = {Path(n).parts[0] for n in names} - {n for n in names if ".dist-info" in n}
    packages = {top for top in tops if not top.endswith(".dist-info")}
    assert packages == {
        "ca.pem",
        "cmzon_secrets",
        *("h11", "httpcore2", "truststore"),
        *("botocore", "dateutil", "jmespath", "six.py", "urllib3"),
    }


def test_it_is_pure_python_so_that_it_fits_every_processor_and_every_version(names):
    assert [n for n in names if n.endswith((".so", ".pyd"))] == []


def test_it_holds_no_tests_no_bytecode_and_nothing_for_a_command_line(names):
    unwanted = re.compile(
        r"__pycache__|\.pyc$|(^|/)tests?/|pytest|conftest|/RECORD$|/INSTALLER$|^bin/"
        r"|^cmzon_secrets/(cli|testing|emulator|examinations|permissions|provisioning)/|examples-1"
    )
    assert [n for n in names if unwanted.search(n)] == []


def test_the_same_input_gives_the_same_bytes(archive, tmp_path):
    """Unpacked elsewhere, in another order, at another time and with other rights."""
    with zipfile.ZipFile(archive) as opened:
        for name in reversed(opened.namelist()):
            opened.extract(name, tmp_path / "again")
    for path in (tmp_path / "again").rglob("*.py"):
        path.chmod(0o755)
    lambda_zip.pack(tmp_path / "again", tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == archive.read_bytes()


def test_entries_are_sorted_and_have_no_times_and_no_owners(archive):
    with zipfile.ZipFile(archive) as opened:
        entries = opened.infolist()
    assert [e.filename for e in entries] == sorted(e.filename for e in entries)
    assert {(e.date_time, e.external_attr >> 16) for e in entries} == {
        ((1980, 1, 1, 0, 0, 0), 0o100644)
    }


def test_it_is_small(archive):
    size = archive.stat().st_size
    print(f"\nthe zip for AWS Lambda: {size / 1e6:.1f} MB")
    assert size < 3_000_000


def test_the_tool_keeps_what_the_adapters_ask_of_aws():
    """A service that an adapter starts to call must be named there."""
    source = ROOT / "src" / "cmzon_secrets"
    called = set()
    for path in [*source.glob("providers/*.py"), *source.glob("sealing_keys/*.py")]:
        called |= set(re.findall(r"\bService\(\s*\"([a-z-]+)\"", path.read_text()))
    for path in source.glob("clouds/*.py"):
        called |= set(re.findall(r"\bService\(\s*\"([a-z-]+)\"", path.read_text()))
        called |= set(re.findall(r"create_client\(\s*\"([a-z-]+)\"", path.read_text()))
    assert called | {"sts"} == set(lambda_zip.SERVICES)


# ── on ministack, with the least permissions ────────────────────────────────────────────────────


class Deployment:
    """Two secrets, a role that may rotate the one and read the other, and the function."""

    def __init__(self, ministack, api, archive):
        self.ministack, self.api = ministack, api
        self.secrets = ministack.admin("secretsmanager")
        self.functions = ministack.admin("lambda")
        self.name = f"acme-{secrets.token_hex(4)}"
        self.arn = self.secrets.create_secret(Name=self.name)["ARN"]
        self.admin = f"admin-{secrets.token_hex(4)}"
        admin_arn = self.secrets.create_secret(Name=self.admin, SecretString=api.admin_token)["ARN"]
        self.rights = [*_policy(self.arn, "rotator"), *_policy(admin_arn, "reader")]
        self.archive = archive
        self.deploy(self.rights)

    def deploy(self, rights):
        document = json.dumps({"Version": "2012-10-17", "Statement": rights})
        self.function = f"rotation-{secrets.token_hex(4)}"
        self.functions.create_function(
            FunctionName=self.function,
            Runtime="python3.11",
            Handler=HANDLER,
            Role=self.ministack.role(policy=document),
            Code={"ZipFile": self.archive.read_bytes()},
            Timeout=60,
            Environment={"Variables": self.variables},
        )

    @property
    def variables(self):
        return {
            "CMZON_TOKEN_URI": f"awssecretsmanager://{self.name}",
            "CMZON_ADMIN_URI": f"awssecretsmanager://{self.admin}",
            "CMZON_BASE_URL": self.api.base_url,
            "CMZON_CA": "ca.pem",
            "CMZON_ROTATION_NAME": "acme",
            "CMZON_ROTATION_GRACE": "6m",
        }

    def invoke(self, event):
        """The answer's item, or the error; the log is kept."""
        answer = self.functions.invoke(
            FunctionName=self.function, Payload=json.dumps(event), LogType="Tail"
        )
        payload = answer["Payload"].read().decode()
        self.log = base64.b64decode(answer.get("LogResult", "")).decode()
        must_hide(payload + self.log, self.api.admin_token, *self.values)
        told = json.loads(payload)
        return told if "FunctionError" in answer else told["items"][0]

    @property
    def held(self):
        """Stage → what is stored there."""
        versions = self.secrets.describe_secret(SecretId=self.name).get("VersionIdsToStages", {})
        read = {v: self.secrets.get_secret_value(SecretId=self.name, VersionId=v) for v in versions}
        return {
            label: json.loads(read[version]["SecretString"])
            for version, labels in versions.items()
            for label in labels
            if "SecretString" in read[version]
        }

    @property
    def values(self):
        return [record["token"] for record in self.held.values()]

    def version_of(self, label):
        versions = self.secrets.describe_secret(SecretId=self.name)["VersionIdsToStages"]
        return next(version for version, labels in versions.items() if label in labels)


def _policy(arn, role):
    location = locate_provider(f"awssecretsmanager://{arn}")
    return json.loads(find_examination("awssecretsmanager").policy(location, role))["Statement"]


@pytest.fixture
def deployment(ministack, api, archive):
    return Deployment(ministack, api, archive)


def test_deployed_with_the_least_permissions_it_bootstraps_rotates_and_kills_a_leaked_token(
    deployment,
):
    assert [a["kind"] for a in deployment.invoke({})["actions"]] == ["issue", "stage", "promote"]
    first = deployment.held["AWSCURRENT"]["id"]
    assert deployment.invoke({})["actions"] == []
    forced = deployment.invoke({"account": "acme", "force": True})
    assert forced["state"] == "done"
    assert deployment.held["AWSPREVIOUS"]["id"] == first
    leaked = deployment.held["AWSCURRENT"]["id"]
    message = json.dumps({"account": "acme", "revoke": leaked})
    killed = deployment.invoke({"Records": [{"Sns": {"Message": message}}]})
    assert killed["state"] == "done"
    revoked = {a["token_id"] for a in killed["actions"] if a["kind"] == "revoke"}
    assert {first, leaked} <= revoked
    assert deployment.held["AWSCURRENT"]["id"] not in {first, leaked}


def test_deployed_it_performs_the_four_steps_and_each_again(deployment):
    deployment.invoke({})
    first = deployment.held["AWSCURRENT"]["id"]
    version = str(uuid.uuid4())
    event = {"SecretId": deployment.arn, "ClientRequestToken": version}
    for step in STEPS:
        for _ in range(2):
            assert deployment.invoke({**event, "Step": step})["state"] == "done", step
    assert deployment.version_of("AWSCURRENT") == version
    assert deployment.held["AWSPREVIOUS"]["id"] == first
    held = deployment.held
    assert deployment.invoke({**event, "Step": "createSecret"})["actions"] == []
    assert deployment.held == held
    early = deployment.invoke(
        {**event, "ClientRequestToken": str(uuid.uuid4()), "Step": "createSecret"}
    )
    assert "stays valid until its grace ends" in early["errorMessage"]


def test_deployed_with_a_role_that_may_not_write_it_says_so_and_fails(deployment):
    reading = [{**s, "Action": "secretsmanager:DescribeSecret"} for s in deployment.rights[:1]]
    deployment.deploy([*reading, *_policy(deployment.arn, "reader"), *deployment.rights[-2:]])
    told = deployment.invoke({})
    assert "AWS refuses it" in told["errorMessage"]
    assert "cmzon-secrets doctor --policy" in told["errorMessage"]
    assert deployment.held == {}
    assert '"state": "failed"' in deployment.log


# ── by AWS's runtime client, with nothing else installed ────────────────────────────────────────


@pytest.fixture
def function(ministack, api, archive, tmp_path):
    """The zip in an otherwise empty environment, as a user who may do what the role may."""
    deployment = Deployment(ministack, api, archive)
    document = json.dumps({"Version": "2012-10-17", "Statement": deployment.rights})
    key, secret = ministack.user(policy=document)
    environment = {
        **deployment.variables,
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_REGION": os.environ["AWS_REGION"],
        "AWS_ENDPOINT_URL": ministack.url,
    }
    with deployed(archive, HANDLER, folder=tmp_path, environment=environment) as running:
        running.deployment = deployment
        yield running


def test_nothing_is_missing_in_the_zip(function):
    begun = time.monotonic()
    answer, error = function.invoke({})
    cold = time.monotonic() - begun
    assert error is None
    assert [a["kind"] for a in answer["items"][0]["actions"]] == ["issue", "stage", "promote"]
    version = str(uuid.uuid4())
    begun = time.monotonic()
    for step in STEPS:
        event = {
            "SecretId": function.deployment.arn,
            "ClientRequestToken": version,
            "Step": step,
        }
        assert function.invoke(event)[1] is None, step
    warm = (time.monotonic() - begun) / len(STEPS)
    assert function.deployment.version_of("AWSCURRENT") == version
    print(f"\nAWS Lambda: first rotation {cold:.2f} s with the cold start, a step {warm:.2f} s")
    must_hide(function.log, function.deployment.api.admin_token, *function.deployment.values)


def test_an_error_reaches_aws_with_its_own_type_and_is_logged_without_the_event(function):
    canary = f"cmz_{secrets.token_urlsafe(30)}"
    _, error = function.invoke({"Step": "createSecret", "RotationToken": canary, "SecretId": "x"})
    assert error["errorType"] == "ConfigurationError"
    assert "a rotation step without a ClientRequestToken" in error["errorMessage"]
    must_hide(json.dumps(error) + function.log, canary)


def test_a_sealed_file_says_with_what_the_zip_must_be_built(archive, tmp_path):
    with deployed(
        archive,
        HANDLER,
        folder=tmp_path,
        environment={"CMZON_TOKEN_URI": "file:acme.sealed"},
    ) as sealed:
        _, error = sealed.invoke({})
    assert "provisioning.lambda_zip --with cryptography" in error["errorMessage"]
