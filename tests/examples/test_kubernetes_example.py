"""examples/kubernetes, its overlays eks and aks: what kubectl reads in them, and the fields that matter."""

import shutil
import subprocess
from datetime import timedelta

import pytest

from cmzon_secrets.accounts import policy_of
from cmzon_secrets.cli.rotate import command
from cmzon_secrets.config import load_config
from cmzon_secrets.durations import parse_duration
from cmzon_secrets.registry import locate_provider
from cmzon_secrets.rotation import RotationPolicy

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


def needs_kubectl():
    if shutil.which("kubectl") is None:
        pytest.skip("not run: kubectl (not installed)")


@pytest.fixture(params=["eks", "aks"])
def overlay(request, examples):
    """The folder of an overlay, and kind → object as ``kubectl apply -k`` would send them."""
    needs_kubectl()
    folder = examples / request.param
    command = ["kubectl", "kustomize", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder, {document["kind"]: document for document in yaml.safe_load_all(done.stdout)}


def test_kubectl_knows_every_field_of_the_cron_job(objects):
    needs_kubectl()
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


def test_nothing_reaches_the_pod_and_it_reaches_no_more_than_it_needs(objects, job):
    policy = objects["NetworkPolicy"]["spec"]
    assert policy["podSelector"]["matchLabels"] == job["template"]["metadata"]["labels"]
    assert (policy["policyTypes"], policy.get("ingress")) == (["Ingress", "Egress"], None)
    anywhere = [
        port["port"] for rule in policy["egress"] if "to" not in rule for port in rule["ports"]
    ]
    assert sorted(set(anywhere)) == [53, 443, 8200]


def test_all_of_it_lies_in_one_namespace_that_is_restricted(objects):
    namespace = objects.pop("Namespace")["metadata"]
    assert namespace["labels"] == {"pod-security.kubernetes.io/enforce": "restricted"}
    places = {document["metadata"]["namespace"] for document in objects.values()}
    assert places == {namespace["name"]}


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


# with another manager than Vault


def test_an_overlay_has_our_configuration_and_your_image(overlay, objects):
    folder, found = overlay
    (name,) = found["ConfigMap"]["data"]
    assert found["ConfigMap"]["data"][name] == (folder / name).read_text()
    config = load_config(folder / name)
    for account in config.accounts.values():
        policy_of(account, config)
        locate_provider(account.token)
    assert "11111111" in image_of(found)
    assert "00000000" in image_of(objects)


def image_of(objects):
    (container,) = pod_of(objects)["containers"]
    return container["image"]


def pod_of(objects):
    return objects["CronJob"]["spec"]["jobTemplate"]["spec"]["template"]["spec"]


def test_nothing_of_vault_is_left_in_an_overlay_and_all_else_is_as_it_was(overlay, pod):
    _, found = overlay
    (theirs,), (ours,) = pod_of(found)["containers"], pod["containers"]
    assert [variable["name"] for variable in theirs["env"]] == ["CMZON_SECRETS_CONFIG"]
    assert [mount["name"] for mount in theirs["volumeMounts"]] == ["config"]
    assert [volume["name"] for volume in pod_of(found)["volumes"]] == ["config"]
    changed = {"image", "env", "volumeMounts"}
    same = {key: value for key, value in ours.items() if key not in changed}
    assert {key: value for key, value in theirs.items() if key not in changed} == same
    rest = {key: value for key, value in pod.items() if key not in ("containers", "volumes")}
    assert {**pod_of(found), **rest} == pod_of(found)


def test_azures_webhook_sees_the_pod(examples):
    needs_kubectl()
    command = ["kubectl", "kustomize", str(examples / "aks")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    (cron_job,) = (o for o in yaml.safe_load_all(done.stdout) if o["kind"] == "CronJob")
    labels = cron_job["spec"]["jobTemplate"]["spec"]["template"]["metadata"]["labels"]
    assert labels["azure.workload.identity/use"] == "true"
    assert labels["app.kubernetes.io/name"] == "cmzon-secrets"


# readers that cannot ask: External Secrets


@pytest.fixture(params=["vault", "eks", "aks"])
def external(request, examples):
    """Kind → object."""
    text = (examples / "kubernetes" / "external-secrets" / f"{request.param}.yaml").read_text()
    return {document["kind"]: document for document in yaml.safe_load_all(text)}


def test_external_secrets_copies_the_token_and_nothing_beside_it(external):
    spec = external["ExternalSecret"]["spec"]
    assert "dataFrom" not in spec
    (copied,) = spec["data"]
    assert copied["secretKey"] == "token"
    bare = (
        "azurekv" in external["SecretStore"]["spec"]["provider"]
    )  # the secret is the token itself
    assert copied["remoteRef"].get("property") == (None if bare else "token")


def test_external_secrets_looks_often_enough_for_a_grace(external):
    refreshed = parse_duration(external["ExternalSecret"]["spec"]["refreshInterval"])
    kubelet = timedelta(minutes=2)  # until a mounted Secret follows
    assert 10 * (refreshed + kubelet) < RotationPolicy(name="acme").grace


def test_external_secrets_logs_in_as_the_readers_service_account(external):
    (provider,) = external["SecretStore"]["spec"]["provider"].values()
    assert "shop" in str(provider)
    assert "secretRef" not in str(provider).lower()
    where = external["ExternalSecret"]["metadata"], external["SecretStore"]["metadata"]
    assert {(each["namespace"], each["name"]) for each in where} == {("shop", "cmzon")}
    assert external["ExternalSecret"]["spec"]["secretStoreRef"]["name"] == "cmzon"
