"""terraform/modules/azure: what a real Terraform makes of it, and whether our own code can live with that.

The provider is the published schema. Where a test applies, vaults, roles, identities and secrets are
those of the double of Key Vault, which lets nobody do what no role was assigned for: the token is
rotated there with the settings and the rights that Terraform gave, and nothing else.
"""

import json
import os
import re
import shlex
import time
import uuid
from contextlib import ExitStack
from types import SimpleNamespace

import pytest

from cmzon_secrets.accounts import policy_of
from cmzon_secrets.cli.app import run
from cmzon_secrets.clock import Clock
from cmzon_secrets.config import account_from_environment
from cmzon_secrets.errors import ConfigurationError
from cmzon_secrets.registry import open_store
from cmzon_secrets.rotation import RotationPolicy
from cmzon_secrets.runtimes import warm
from cmzon_secrets.runtimes.azure_function import run_schedule
from servers.key_vault import TENANT, Fault
from servers.key_vault_secrets import paste
from servers.terraform import ROOT
from servers.terraform_provider import Actor, DataSource
from servers.terraform_refusals import policies, refusals, rules

MODULE = ROOT / "terraform/modules/azure"
README = (MODULE / "README.md").read_text(encoding="utf-8")
SPEED = 50
GIVEN = {
    "name": "acme",
    "resource_group_name": "rg",
    "location": "westeurope",
    "create_alarms": False,
}
OPERATOR, READER = str(uuid.UUID(int=1)), str(uuid.UUID(int=2))


# ── what Terraform says of it ───────────────────────────────────────────────────────────────────


@pytest.fixture
def served(terraform, published_provider):
    """A function that gives Terraform in a folder of the module, with a provider that does nothing."""
    with published_provider("azurerm", tree=MODULE) as environment:
        yield lambda inside=".": terraform(MODULE, inside=inside, environment=environment)


@pytest.mark.parametrize("example", ["minimal", "complete"])
def test_an_example_is_valid(served, example):
    tf = served(f"examples/{example}")
    tf.init()
    tf.validate()


def test_what_its_page_shows_is_fifteen_lines_and_valid(served):
    shown = re.search(r"```hcl\n(.*?)```", README, re.DOTALL)[1]
    assert len([line for line in shown.splitlines() if line.strip()]) <= 15
    tf = served("examples/minimal")
    tf.folder.joinpath("main.tf").write_text(re.sub(r'"\./cmzon[^"]+"', '"../.."', shown))
    tf.init()
    tf.validate()


def test_its_own_tests_pass(served):
    tf = served()
    tf.init()
    files = [
        f"-filter=tests/{name}.tftest.hcl" for name in ("access", "contradictions", "defaults")
    ]
    assert re.search(r"Success! \d\d passed, 0 failed", tf.test(*files).out)


@pytest.fixture(scope="module")
def refused(tmp_path_factory):
    return refusals(MODULE, tmp_path_factory.mktemp("refusals"))


def test_what_is_refused_is_refused_by_the_input_that_is_wrong(refused):
    assert [run for run in refused if run.inputs != run.expected] == []


def test_no_rule_is_without_a_refusal(refused):
    assert {line for run in refused for line, _ in run.told} == rules(MODULE)


def test_a_duration_that_is_none_is_named(refused):
    told = [message for run in refused for _, message in run.told]
    assert [message for message in told if "no duration: grace." in message] != []


# ── what it makes, with Key Vault's double in its hands ─────────────────────────────────────────


class Identity(Actor):
    """Its client id is its object id: the double knows callers by one of them."""

    def create(self, values):
        who = str(uuid.uuid5(uuid.NAMESPACE_DNS, values["name"]))
        return {"id": f"/identities/{values['name']}", "client_id": who, "principal_id": who}


class Cloud:
    """The part of Azure that counts here: whose are the vaults, and who may do what in them."""

    def __init__(self, key_vault):
        self.key_vault = key_vault
        self.roles = {}
        self.vault = None
        self.sent = []

    @property
    def actors(self):
        return {
            "data.azurerm_client_config": DataSource(lambda _: self._me()),
            "azurerm_key_vault": Actor(self._vault),
            "azurerm_key_vault_secret": Actor(self._secret),
            "azurerm_role_definition": Actor(self._role),
            "azurerm_role_assignment": Actor(self._assign),
            "azurerm_user_assigned_identity": Identity(),
        }

    def _me(self):
        return {
            "subscription_id": TENANT,
            "tenant_id": TENANT,
            "object_id": OPERATOR,
            "id": "me",
            "client_id": "me",
        }

    def _vault(self, values):
        self.vault = self.key_vault.vault(values["name"], speed=SPEED)
        return {"id": self.vault.id, "vault_uri": f"https://{self.vault.host}/"}

    def _secret(self, values):
        self.sent.append(values["value_wo"])
        paste(self.vault, values["name"], values["value_wo"])
        return {"id": f"https://{self.vault.host}/secrets/{values['name']}"}

    def _role(self, values):
        (granted,) = values["permissions"]
        id_ = f"/roleDefinitions/{values['name']}"
        self.roles[id_] = json.dumps({"DataActions": granted["data_actions"]})
        return {"id": id_, "role_definition_resource_id": id_}

    def _assign(self, values):
        if "/secrets/" in values["scope"]:
            role = self.roles[values["role_definition_id"]]
            self.vault.assign(
                values["principal_id"], role, values["scope"].removeprefix(f"{self.vault.id}/")
            )
        return {"id": f"{values['scope']}/{values['principal_id']}", "name": "assignment"}


@pytest.fixture
def deployed(terraform, published_provider, key_vault, monkeypatch):
    """A function that applies the module: Terraform, the outputs, and the cloud."""
    monkeypatch.setattr(Clock, "sleep", lambda _, seconds: time.sleep(max(0, seconds) / SPEED))
    with ExitStack() as stack:

        def apply(**given):
            cloud = Cloud(key_vault)
            given = {**GIVEN, "key_vault_name": f"v{uuid.uuid4().hex[:12]}", **given}
            served = published_provider("azurerm", cloud.actors, tree=MODULE)
            tf = terraform(MODULE, environment=stack.enter_context(served))
            tf.init()
            tf.apply(**given)
            outputs = tf.output()
            return SimpleNamespace(
                tf=tf, given=given, cloud=cloud, outputs=outputs, vault=cloud.vault
            )

        yield apply


def as_(principal, uri):
    return open_store(f"{uri}?credential=managed&client_id={principal}")


@pytest.fixture
def function(monkeypatch, cmzon_emulator):
    """A function that runs the Azure Function once, with the settings that Terraform gave it."""

    def run(made):
        for name, value in made.outputs["environment"].items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("CMZON_BASE_URL", cmzon_emulator.base_url)
        (item,) = run_schedule()
        return item

    yield run
    if (kept := warm._WARM.newest) is not None:
        kept.issuers.close()
    warm._WARM.newest = None


@pytest.fixture
def typed(monkeypatch, tmp_path):
    """A function that types those first steps which are ours, as an operator; how each ended."""

    def run_all(made, answer):
        monkeypatch.setenv("AZURE_CLIENT_ID", OPERATOR)
        lines = made.outputs["first_steps"].splitlines()
        steps = [shlex.split(line, comments=True) for line in lines]
        return [asked(words[1:], answer) for words in steps if words[:1] == ["cmzon-secrets"]]

    def asked(words, answer):
        keyboard = tmp_path / "keyboard"
        keyboard.write_text(f"{answer}\n")
        with keyboard.open() as typing, monkeypatch.context() as patch:
            patch.setattr("sys.stdin", typing)
            return run(words)

    return run_all


def test_from_nothing_to_a_token_that_rotates(deployed, typed, function, cmzon_emulator, capsys):
    made = deployed(
        operators={"me": OPERATOR},
        readers={"principal_ids": {"web": READER}},
        base_url=cmzon_emulator.base_url.replace("http:", "https:"),
    )
    made.outputs["first_steps"] = made.outputs["first_steps"].replace("https:", "http:")
    put_admin, put_token, _ = typed(made, cmzon_emulator.admin_token)
    examined = capsys.readouterr().out
    assert (put_admin, put_token) == (0, 0), examined
    assert (
        "permissions.least: as far as can be asked, it may what a rotator needs, no more"
        in examined
    )
    assert "✗" not in examined
    assert function(made)["state"] == "done"
    with (
        as_(READER, made.outputs["token_uri"]) as reader,
        as_(OPERATOR, made.outputs["token_uri"]) as place,
    ):
        assert reader.get() == place.versions().current
    assert made.tf.plan("-detailed-exitcode", expect=None, **made.given).code == 0, (
        "a second plan changes nothing"
    )


def test_a_place_without_a_token_is_filled_by_the_first_run(deployed, function, cmzon_emulator):
    made = deployed()
    words = shlex.split(re.search(r"^az keyvault secret set .*", README, re.MULTILINE)[0])
    name, value = words[words.index("--name") + 1], words[words.index("--value") + 1]
    tags = dict(tag.split("=") for tag in words if tag.startswith("cmzon-") and "=" in tag)
    paste(made.vault, name, value, tags=tags)
    paste(made.vault, f"{made.outputs['secret_name']}-admin", cmzon_emulator.admin_token)
    assert function(made)["state"] == "done"


def test_nobody_may_do_more_than_is_said_of_him(deployed):
    made = deployed(operators={"me": OPERATOR}, readers={"principal_ids": {"web": READER}})
    names = [f"secrets/cmzon-acme{end}" for end in ("", "-pending", "-admin", "-admin-pending")]
    rights = {
        who: {
            (action, name)
            for action in ACTIONS
            for name in names
            if allowed(made.vault, principal, action, name)
        }
        for who, principal in (
            ("reader", READER),
            ("rotator", made.outputs["rotator_client_id"]),
            ("operator", OPERATOR),
        )
    }
    reads = ("secrets/getSecret/action", names[0])
    token = {(action, name) for action in WRITES for name in names[:2]}
    assert rights["reader"] == {reads}
    assert rights["rotator"] == token | {("secrets/getSecret/action", names[2])}
    assert rights["operator"] == {(action, name) for action in WRITES for name in names}


WRITES = {f"secrets/{verb}/action" for verb in ("getSecret", "setSecret", "readMetadata", "update")}
ACTIONS = WRITES | {
    "secrets/delete",
    "secrets/purge/action",
    "secrets/backup/action",
    "secrets/recover/action",
}


def allowed(vault, principal, action, resource):
    try:
        vault.authorize(principal, action, resource)
    except Fault:
        return False
    return True


def test_a_policy_that_the_plan_refuses_is_one_that_the_function_would_refuse():
    contradictions = policies(MODULE / "tests" / "contradictions.tftest.hcl")
    assert len(contradictions) == 4
    for rotation in contradictions:
        with pytest.raises(ConfigurationError):
            RotationPolicy("acme", **rotation)


def test_the_functions_settings_are_a_policy_that_can_work(deployed):
    rotation = {"rotate_every": "7d", "grace": "48h", "scopes": ["messages:send", "messages:read"]}
    made = deployed(
        rotation=rotation, base_url="https://api.example.com", environment={"CMZON_CA": "ca.pem"}
    )
    account = account_from_environment(made.outputs["environment"])
    policy = policy_of(account)
    assert (policy.name, policy.rotate_every.days, policy.grace.days) == ("acme", 7, 2)
    assert list(policy.scopes) == ["messages:send", "messages:read"]
    assert account.base_url == "https://api.example.com"
    app = resource(made.tf.state(), "azurerm_linux_function_app")
    assert made.outputs["environment"].items() <= app["app_settings"].items()
    assert app["app_settings"]["CMZON_CA"] == "ca.pem"


def resource(state, type_):
    (found,) = [r for r in state["resources"] if r["type"] == type_]
    return found["instances"][0]["attributes"]


def test_an_admin_token_goes_to_the_vault_and_is_kept_nowhere(deployed):
    token = "cmz_live_" + uuid.uuid4().hex
    made = deployed(admin_token_wo=token, admin_token_wo_version=1)
    made.tf.plan(**made.given)
    assert made.cloud.sent == [token]
    kept = {name for name, content in made.tf.written() if token.encode() in content}
    assert kept == set()
    assert any(made.vault.id.encode() in content for _, content in made.tf.written()), (
        "they are looked at"
    )
    steps = made.outputs["first_steps"]
    assert [
        made.outputs[uri]
        for uri in ("admin_uri", "token_uri")
        if f"put --create '{made.outputs[uri]}'" in steps
    ] == [made.outputs["token_uri"]]


def test_a_package_is_deployed_by_the_login_of_whoever_applies_and_again_when_it_changes(
    deployed, tmp_path, monkeypatch
):
    package, said = tmp_path / "rotation.zip", tmp_path / "said"
    az = tmp_path / "bin" / "az"
    az.parent.mkdir()
    az.write_text(f'#!/bin/sh\necho "$@" >> {said}\n')
    az.chmod(0o755)
    package.write_bytes(b"one")
    monkeypatch.setenv("PATH", f"{az.parent}:{os.environ['PATH']}")
    made = deployed(function_zip=str(package))
    made.tf.apply(**made.given)
    assert len(said.read_text().splitlines()) == 1
    assert (
        f"config-zip --subscription {TENANT} --resource-group rg --name cmzon-acme-"
        in said.read_text()
    )
    package.write_bytes(b"two")
    made.tf.apply(**made.given)
    assert len(said.read_text().splitlines()) == 2
    assert "config-zip" not in made.outputs["first_steps"]
