"""examples/kubernetes: what kubectl reads in it, and the fields that matter."""

import shutil
import subprocess

import pytest

from cmzon_secrets.accounts import policy_of
from cmzon_secrets.cli.rotate import command
from cmzon_secrets.config import load_config
from cmzon_secrets.registry import locate_provider

yaml = pytest.importorskip("yaml", reason="not run: kubernetes (no yaml)")


@pytest.fixture
def manifest(examples):
    return examples / "kubernetes" / "cmzon-secrets.yaml"


@pytest.fixture
def objects(manifest):
    """Kind → object."""
    return {document["kind"]: document for document in yaml.safe_load_all(manifest.read_text())}


@pytest.fixture
def job(objects):
    return objects["CronJob"]["spec"]["jobTemplate"]["spec"]


@pytest.fixture
def pod(job):
    return job["template"]["spec"]


@pytest.fixture
def container(pod):
    (container,) = pod["containers"]
    return container


def missing(given, read, path=""):
    """Where something given was not read, or read otherwise."""
    if isinstance(given, dict) and isinstance(read, dict):
        for key, value in given.items():
            yield from missing(value, read.get(key), f"{path}.{key}")
    elif isinstance(given, list) and isinstance(read, list) and len(given) == len(read):
        for number, (one, other) in enumerate(zip(given, read, strict=True)):
            yield from missing(one, other, f"{path}[{number}]")
    elif given != read:
        yield path


def test_kubectl_knows_every_field_of_the_cron_job(objects):
    if shutil.which("kubectl") is None:
        pytest.skip("not run: kubectl (not installed)")
    # With --local it reads the object into the types of its version and asks no cluster; what it
    # does not know is lost on the way.
    command = ["kubectl", "set", "env", "--local", "--output=yaml", "--filename=-", "ADDED=1"]
    given = yaml.safe_dump(objects["CronJob"])
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    read = yaml.safe_load(done.stdout)
    env = read["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]["env"]
    assert env.pop() == {"name": "ADDED", "value": "1"}
    assert list(missing(objects["CronJob"], read)) == []


def test_a_pod_security_standard_that_is_restricted_admits_it(pod, container):
    everywhere = pod["securityContext"]
    assert everywhere["runAsNonRoot"] is True
    assert everywhere["runAsUser"] > 0
    assert everywhere["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }
    assert {kind for volume in pod["volumes"] for kind in set(volume) - {"name"}} <= {
        "configMap",
        "projected",
    }


def test_it_has_no_key_to_the_cluster(objects, pod):
    assert objects["ServiceAccount"]["automountServiceAccountToken"] is False
    assert pod["automountServiceAccountToken"] is False
    assert pod["serviceAccountName"] == objects["ServiceAccount"]["metadata"]["name"]
    assert "Secret" not in objects


def test_a_run_that_hangs_does_not_stop_all_others(objects, job, pod, container):
    limit = command.make_context("rotate", list(container["args"][1:])).params["time_limit"]
    assert objects["CronJob"]["spec"]["concurrencyPolicy"] == "Forbid"
    assert limit.total_seconds() < job["activeDeadlineSeconds"] < 3600
    assert (job["backoffLimit"], pod["restartPolicy"]) == (0, "Never")


def test_its_command_line_is_one_we_understand(container):
    assert container["args"][0] == "rotate"
    assert command.make_context("rotate", list(container["args"][1:])).params["everything"]


def test_its_configuration_is_one_we_accept_and_lies_where_the_program_looks(
    objects, pod, container, tmp_path
):
    ((name, text),) = objects["ConfigMap"]["data"].items()
    (tmp_path / name).write_text(text)
    config = load_config(tmp_path / name)
    assert list(config.accounts) == ["acme", "globex"]
    for account in config.accounts.values():
        policy_of(account, config)
        assert locate_provider(account.token).options["auth"] == "kubernetes"
    env = {variable["name"]: variable["value"] for variable in container["env"]}
    places = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert env["CMZON_SECRETS_CONFIG"] == f"{places['config']}/{name}"
    assert env["VAULT_JWT_FILE"] == f"{places['vault']}/token"
    assert {volume["name"] for volume in pod["volumes"]} == set(places)


def test_the_image_runs_the_program_as_the_user_that_the_pod_demands(examples, pod):
    lines = (examples / "kubernetes" / "Dockerfile").read_text().splitlines()
    assert f"USER {pod['securityContext']['runAsUser']}" in lines
    assert lines[-1] == 'ENTRYPOINT ["cmzon-secrets"]'
