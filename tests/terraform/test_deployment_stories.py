"""terraform/examples and docs/deploying.md: every way to a rotating token is short, and does what it says.

The real Terraform plans each root. What the clouds would answer is made up, and known while it
plans (``mock_provider``), so that a plan holds the settings as the programs will see them.
"""

import json
import re
import shlex
import shutil
import subprocess
import tomllib
from importlib import import_module

import pytest

from cmzon_secrets.accounts import policy_of
from cmzon_secrets.config import account_from_environment, load_config
from cmzon_secrets.durations import parse_duration
from cmzon_secrets.permissions import policy
from servers.terraform import ROOT, Terraform, binary, needs_plugin, written_out

STORIES = ROOT / "terraform" / "examples"
PAGE = ROOT / "docs" / "deploying.md"
ROOTS = sorted(path.parent.name for path in STORIES.glob("*/main.tf"))
OTHERS = {
    "terraform/examples/vault-kubernetes/kustomization.yaml": "yaml",
    "examples/compose/compose.yaml": "yaml",
    "examples/systemd/cmzon-secrets.toml": "toml",
    "examples/systemd/shop.service.conf": "ini",
}
ENOUGH = 15


def lines_of(text):
    """The lines that somebody has to write: neither blank nor a comment."""
    return [line for line in text.splitlines() if line.strip() and line.strip()[0] != "#"]


def new_lines(root):
    """main.tf with what lies beside it, and what is new in what was there before."""
    before = STORIES / root / "before.tf"
    there = lines_of(before.read_text()) if before.exists() else []
    written = [path for path in (STORIES / root).iterdir() if path.name != "before.tf"]
    main = [line for path in written for line in lines_of(path.read_text())]
    return main, [" ".join(line.split()) for line in there if "module.cmzon" in line]


# ── short, and the page shows them ──────────────────────────────────────────────────────────────


def test_there_is_a_story_for_every_place():
    clouds = {"aws-ecs", "aws-eks", "aws-lambda", "azure-aks", "azure-app-service"}
    assert {*ROOTS} == clouds | {"azure-function", "vault-kubernetes"}


@pytest.mark.parametrize("root", ROOTS)
def test_a_story_is_fifteen_lines_at_most(root):
    main, added = new_lines(root)
    assert 0 < len(main) + len(added) <= ENOUGH


@pytest.mark.parametrize("path", OTHERS)
def test_a_story_without_terraform_is_fifteen_lines_at_most(path):
    assert 0 < len(lines_of((ROOT / path).read_text())) <= ENOUGH


@pytest.mark.parametrize("root", ROOTS)
def test_the_page_shows_the_files_as_they_are(root):
    page = PAGE.read_text()
    assert f"```hcl\n{(STORIES / root / 'main.tf').read_text()}```" in page
    assert f"](../terraform/examples/{root}" in page
    for line in new_lines(root)[1]:
        assert f"\n{line}\n" in page


@pytest.mark.parametrize(("path", "language"), OTHERS.items())
def test_the_page_shows_the_other_files_as_they_are(path, language):
    assert f"```{language}\n{(ROOT / path).read_text()}```" in PAGE.read_text()


@pytest.mark.parametrize("root", ROOTS)
def test_no_provider_is_told_a_version_twice_and_none_is_pinned_to_this_machine(root):
    text = "".join(path.read_text() for path in (STORIES / root).iterdir())
    assert "required_providers" not in text  # the module says which
    assert "endpoint" not in text


def commands_of_ours():
    """What the page has typed of this program, here or in a container, each as its words."""
    typed = "\n".join(re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.DOTALL))
    ours = r"(?:(?:^|-- |\)\"\s+)cmzon-secrets|/cmzon-secrets:1) (.+)$"
    joined = typed.replace("\\\n", " ")
    return [shlex.split(words, comments=True) for words in re.findall(ours, joined, re.MULTILINE)]


def test_the_page_has_no_command_of_ours_that_the_program_does_not_understand():
    assert len(commands_of_ours()) > 9
    for name, *words in commands_of_ours():
        import_module(f"cmzon_secrets.cli.{name}").command.make_context(name, words)


# ── planned ─────────────────────────────────────────────────────────────────────────────────────

SECRET = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:cmzon/acme-AbCdEf"
ROLE = "arn:aws:iam::123456789012:role/made"
KEY = "arn:aws:kms:eu-central-1:123456789012:key/11111111-2222-3333-4444-555555555555"
POLICY = "arn:aws:iam::123456789012:policy/made"
PRINCIPAL = "99999999-8888-7777-6666-555555555555"
GROUP = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/shop"
VAULT = f"{GROUP}/providers/Microsoft.KeyVault/vaults/shop-cmzon"
IDENTITY = f"{GROUP}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/made"

MOCKED = {
    "aws": f"""
  mock_resource "aws_secretsmanager_secret" {{
    defaults = {{ arn = "{SECRET}" }}
  }}
  mock_resource "aws_kms_key" {{
    defaults = {{ arn = "{KEY}" }}
  }}
  mock_resource "aws_iam_role" {{
    defaults = {{ arn = "{ROLE}" }}
  }}
  mock_resource "aws_iam_policy" {{
    defaults = {{ arn = "{POLICY}" }}
  }}
  mock_data "aws_iam_policy_document" {{
    defaults = {{ json = "{{}}" }}
  }}
""",
    "azurerm": f"""
  mock_resource "azurerm_key_vault" {{
    defaults = {{ id = "{VAULT}" }}
  }}
  mock_resource "azurerm_user_assigned_identity" {{
    defaults = {{ id = "{IDENTITY}", principal_id = "{PRINCIPAL}", client_id = "{PRINCIPAL}" }}
  }}
  override_resource {{
    target = azurerm_linux_web_app.shop
    values = {{ identity = {{ principal_id = "{PRINCIPAL}" }} }}
  }}
""",
    "vault": "",
}
ZIPS = ("dist/cmzon-secrets-lambda.zip", "dist/shop.zip", "rotation.zip")


def planned(folder, provider, environment=None):
    """Root → address → what Terraform would make, for all roots of a provider."""
    shutil.copytree(ROOT / "terraform", folder / "terraform")
    roots = [root for root in ROOTS if root.startswith(provider.removesuffix("rm"))]
    runs = "".join(_run(root) for root in roots)
    mock = f'mock_provider "{provider}" {{\n  override_during = plan\n{MOCKED[provider]}}}\n'
    written_out(folder / "tests", mock + runs, "stories.tftest.hcl")
    needed = f'{provider} = {{ source = "hashicorp/{provider}" }}'
    written_out(folder, f"terraform {{\n  required_providers {{\n    {needed}\n  }}\n}}\n")
    for name in ZIPS:
        written_out((folder / name).parent, "a zip", (folder / name).name)
    terraform = Terraform(folder, environment)
    terraform.init()
    told = map(json.loads, terraform.test("-json", "-verbose").out.splitlines())
    return {
        message["@testrun"]: {
            change["address"]: change["change"]["after"]
            for change in message["test_plan"]["resource_changes"]
        }
        for message in told
        if "test_plan" in message
    }


def _run(root):
    source = f'  module {{\n    source = "./terraform/examples/{root}"\n  }}\n'
    return f'run "{root}" {{\n  command = plan\n{source}}}\n'


@pytest.fixture(scope="module")
def aws(tmp_path_factory):
    binary()
    needs_plugin("aws")
    return planned(tmp_path_factory.mktemp("aws"), "aws")


@pytest.fixture(scope="module")
def azure(tmp_path_factory, published_provider):
    binary()
    with published_provider("azurerm", tree=ROOT / "terraform") as environment:
        return planned(tmp_path_factory.mktemp("azure"), "azurerm", environment)


@pytest.fixture(scope="module")
def vault(tmp_path_factory, published_provider):
    binary()
    with published_provider("vault", tree=ROOT / "terraform") as environment:
        return planned(tmp_path_factory.mktemp("vault"), "vault", environment)


def settings_of(plan):
    """What the function is told that rotates."""
    for address, values in plan.items():
        if address == "module.cmzon.aws_lambda_function.rotation[0]":
            return values["environment"][0]["variables"]
        if address == "module.cmzon.azurerm_linux_function_app.rotation[0]":
            return values["app_settings"]
    raise AssertionError("no function rotates")


def rotation_policy(plan):
    """The policy of the function, as it reads its settings."""
    return policy_of(account_from_environment(settings_of(plan)))


HOURS = parse_duration("1h")


@pytest.mark.slow
def test_every_root_is_planned(aws, azure, vault):
    assert sorted({**aws, **azure, **vault}) == ROOTS


@pytest.mark.slow
def test_lambda_reads_the_secret_that_is_rotated_with_the_least_rights(aws):
    plan = aws["aws-lambda"]
    (function,) = plan["aws_lambda_function.shop"]["environment"]
    assert function["variables"] == {"CMZON_TOKEN_URI": f"awssecretsmanager://{SECRET}"}
    assert settings_of(plan)["CMZON_TOKEN_URI"] == f"awssecretsmanager://{SECRET}"
    attached = plan["aws_iam_role_policy_attachment.shop_reads_the_token"]
    assert attached == {"role": "shop", "policy_arn": POLICY}
    names = {"secret_arn": SECRET, "kms_key_arn": KEY}
    reader = plan["module.cmzon.aws_iam_policy.reader"]["policy"]
    assert json.loads(reader) == json.loads(policy("awssecretsmanager", "reader", names))


@pytest.mark.slow
def test_ecs_takes_the_token_out_of_the_secret_with_the_role_that_starts_the_task(aws):
    plan = aws["aws-ecs"]
    task = plan["aws_ecs_task_definition.shop"]
    (container,) = json.loads(task["container_definitions"])
    assert container["secrets"] == [{"name": "CMZON_API_TOKEN", "valueFrom": f"{SECRET}:token::"}]
    assert task["execution_role_arn"] == ROLE
    attached = plan["aws_iam_role_policy_attachment.ecs_reads_the_token"]
    assert attached == {"role": "shop-execution", "policy_arn": POLICY}


@pytest.mark.slow
def test_a_task_that_lives_for_a_week_does_not_outlive_its_token(aws):
    rotation = rotation_policy(aws["aws-ecs"])
    assert rotation.reader_ttl == 7 * 24 * HOURS
    assert rotation.reader_ttl + 24 * HOURS <= rotation.grace
    assert rotation.revoke_limit < rotation.rotate_every  # or the next rotation would have to wait


@pytest.mark.slow
def test_a_pod_of_eks_gets_the_role_that_reads(aws):
    plan = aws["aws-eks"]
    pod = plan["aws_eks_pod_identity_association.shop"]
    assert (pod["namespace"], pod["service_account"], pod["role_arn"]) == ("shop", "shop", ROLE)
    assert "module.cmzon.aws_iam_role.reader[0]" in plan


@pytest.mark.slow
def test_app_service_refers_to_the_newest_version_of_the_secret_that_is_rotated(azure):
    plan = azure["azure-app-service"]
    reference = plan["azurerm_linux_web_app.shop"]["app_settings"]["CMZON_API_TOKEN"]
    (vault, secret) = re.fullmatch(
        r"@Microsoft\.KeyVault\(SecretUri=https://(.+)\.vault\.azure\.net/secrets/(.+)/\)",
        reference,
    ).groups()
    assert settings_of(plan)["CMZON_TOKEN_URI"].startswith(
        f"azurekeyvault://{vault}/secrets/{secret}?"
    )


@pytest.mark.slow
def test_a_token_outlives_the_day_for_which_app_service_keeps_it(azure):
    rotation = rotation_policy(azure["azure-app-service"])
    assert (rotation.reader_ttl, rotation.grace) == (24 * HOURS, 48 * HOURS)


@pytest.mark.slow
@pytest.mark.parametrize("root", ["azure-function", "azure-app-service", "azure-aks"])
def test_the_application_may_read_the_token_and_no_other_secret(azure, root):
    scopes = {
        values["scope"]
        for address, values in azure[root].items()
        if re.search(r"\.azurerm_role_assignment\.secret\[.*reader.*\]", address)
    }
    assert scopes == {f"{VAULT}/secrets/cmzon-acme"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("root", "subnet"),
    [("azure-function", "shop"), ("azure-app-service", "web"), ("azure-aks", "nodes")],
)
def test_the_vault_lets_in_the_network_of_the_application(azure, root, subnet):
    (firewall,) = azure[root]["module.cmzon.azurerm_key_vault.this[0]"]["network_acls"]
    assert firewall["default_action"] == "Deny"
    assert f"/subnets/{subnet}" in "".join(filter(None, firewall["virtual_network_subnet_ids"]))


@pytest.mark.slow
def test_a_pod_of_aks_logs_in_as_the_identity_that_reads(azure):
    plan = azure["azure-aks"]
    login = plan['module.cmzon.azurerm_federated_identity_credential.reader["shop:shop"]']
    assert login["subject"] == "system:serviceaccount:shop:shop"


@pytest.mark.slow
def test_vault_lets_the_cron_job_rotate_and_the_pods_of_the_application_read(vault):
    plan = vault["vault-kubernetes"]
    role = "module.cmzon.vault_kubernetes_auth_backend_role"
    rotator, reader = plan[f"{role}.rotator[0]"], plan[f'{role}.reader["shop"]']
    assert rotator["bound_service_account_names"] == ["cmzon-secrets"]
    assert rotator["bound_service_account_namespaces"] == ["cmzon"]
    assert reader["bound_service_account_names"] == ["shop"]
    assert reader["bound_service_account_namespaces"] == ["shop"]
    assert reader["token_policies"] == ["cmzon-acme-reader"]


@pytest.mark.slow
@pytest.mark.parametrize("root", [root for root in ROOTS if not root.startswith("vault")])
def test_a_policy_under_which_readers_are_safe_stands_in_the_settings(aws, azure, root):
    assert rotation_policy({**aws, **azure}[root]).name == "acme"


def test_kubectl_puts_the_files_of_vault_and_kubernetes_together(tmp_path):
    if shutil.which("kubectl") is None:
        pytest.skip("not run: kubectl (not installed)")
    yaml = pytest.importorskip("yaml", reason="not run: kubernetes (no yaml)")
    for tree in ("terraform/examples/vault-kubernetes", "examples/kubernetes"):
        shutil.copytree(ROOT / tree, tmp_path / tree)
    folder = tmp_path / "terraform" / "examples" / "vault-kubernetes"
    (folder / "cmzon-secrets.toml").write_text("[accounts.acme]\n")
    built = subprocess.run(
        ["kubectl", "kustomize", folder], capture_output=True, text=True, check=True
    ).stdout
    objects = {each["kind"]: each for each in yaml.safe_load_all(built)}
    assert objects["ConfigMap"]["data"] == {"cmzon-secrets.toml": "[accounts.acme]\n"}
    account = objects["ServiceAccount"]["metadata"]  # the one that main.tf lets rotate
    assert (account["namespace"], account["name"]) == ("cmzon", "cmzon-secrets")
    assert "cmzon-secrets@sha256:1111" in built


@pytest.mark.slow
def test_the_commands_of_the_page_name_what_was_planned(aws, azure, vault):
    page = PAGE.read_text()
    function = aws["aws-lambda"]["module.cmzon.aws_lambda_function.rotation[0]"]
    assert f"--function-name {function['function_name']} " in page
    admin = aws["aws-lambda"]["module.cmzon.aws_secretsmanager_secret.admin[0]"]["name"]
    assert f"cmzon-secrets put awssecretsmanager://{admin}\n" in page
    for setting in ("CMZON_TOKEN_URI", "CMZON_ADMIN_URI"):
        place = settings_of(azure["azure-function"])[setting].partition("?")[0]
        assert f"cmzon-secrets put --create {place}\n" in page
    seeder = vault["vault-kubernetes"]['module.cmzon.vault_policy.this["seeder"]']["name"]
    assert f"-policy={seeder} " in page


# ── the machine with systemd ────────────────────────────────────────────────────────────────────


def test_the_file_of_the_machine_is_one_we_accept(tmp_path):
    shutil.copy(ROOT / "examples" / "systemd" / "cmzon-secrets.toml", tmp_path)
    config = load_config(tmp_path / "cmzon-secrets.toml")
    assert list(config.accounts) == ["acme"]
    assert policy_of(config.accounts["acme"], config).grace == 24 * HOURS


def test_the_program_on_the_machine_reads_what_the_service_rotates():
    folder = ROOT / "examples" / "systemd"
    written = tomllib.loads((folder / "cmzon-secrets.toml").read_text())
    added = (folder / "shop.service.conf").read_text()
    service = (folder / "cmzon-secrets.service").read_text()
    assert f"CMZON_TOKEN_URI={written['accounts']['acme']['token']}\n" in added
    for line in lines_of(added)[1:4]:  # the user, and the key
        assert f"{line}\n" in service
