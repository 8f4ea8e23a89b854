"""A real Terraform against the schemas that azurerm and vault have published.

What holds here of the double holds for every test that is built on it: it serves what was published,
Terraform holds a configuration to it, and what it is not told stays out of the state.
"""

import json
import re
import subprocess
from contextlib import ExitStack

import pytest

from servers import terraform_schemas
from servers.terraform import Terraform, written_out
from servers.terraform_provider import Actor, DataSource
from servers.terraform_schemas import published, types_in

MOUNT = """
resource "vault_mount" "kv" {
  path    = "kv"
  type    = "kv"
  options = { version = "2" }
}
"""
KEY_VAULT = """
resource "azurerm_key_vault" "this" {
  name                = "tokens"
  location            = "westeurope"
  resource_group_name = "messaging"
  sku_name            = "standard"
  tenant_id           = "00000000-0000-0000-0000-000000000000"
}
"""
APP = """
resource "azurerm_linux_function_app" "this" {
  name                = "rotator"
  location            = "westeurope"
  resource_group_name = "messaging"
  service_plan_id     = "plan"
  site_config {}
  identity {
    type = "SystemAssigned"
  }
}
"""
DIRECT_LINE = """
resource "azurerm_bot_channel_directline" "this" {
  bot_name            = "bot"
  location            = "westeurope"
  resource_group_name = "messaging"
  site { name = "one" }
  site { name = "two" }
}
"""


def head(provider):
    return f"""
terraform {{
  required_providers {{
    {provider} = {{
      source = "hashicorp/{provider}"
    }}
  }}
}}
"""


@pytest.fixture
def configured(tmp_path, published_provider):
    """A function that serves a provider to a Terraform with this configuration, until the test ends."""
    with ExitStack() as stack:

        def started(provider, text, actors=None, **options):
            folder = written_out(tmp_path / "configuration", head(provider) + text)
            served = published_provider(provider, actors, tree=folder, **options)
            terraform = Terraform(folder, stack.enter_context(served))
            terraform.init()
            return terraform

        yield started


# what was published


def required(block):
    return {name for name, attribute in block["attributes"].items() if attribute["required"]}


def test_a_key_vault_needs_what_its_documentation_says():
    vault = published("azurerm")["resources"]["azurerm_key_vault"]
    assert required(vault) == {"location", "name", "resource_group_name", "sku_name", "tenant_id"}
    assert vault["attributes"]["vault_uri"] == {
        "type": "string",
        "required": False,
        "optional": False,
        "computed": True,
        "write_only": False,
    }


def test_a_mount_needs_a_path_and_a_type_and_takes_a_map_of_options():
    mount = published("vault")["resources"]["vault_mount"]
    assert required(mount) == {"path", "type"}
    assert mount["attributes"]["options"]["type"] == ["map", "string"]
    assert mount["attributes"]["allowed_managed_keys"]["type"] == ["set", "string"]
    assert mount["attributes"]["default_lease_ttl_seconds"]["type"] == "number"
    assert mount["attributes"]["seal_wrap"]["type"] == "bool"


def test_blocks_are_lists_sets_or_single_and_some_stand_once_only():
    app = published("azurerm")["resources"]["azurerm_linux_function_app"]["blocks"]
    kinds = {
        name: (app[name]["nesting"], app[name]["min"], app[name]["max"])
        for name in ("identity", "site_config", "connection_string", "timeouts")
    }
    assert kinds == {
        "identity": ("list", 0, 1),
        "site_config": ("list", 1, 1),
        "connection_string": ("set", 0, 0),
        "timeouts": ("single", 0, 0),
    }
    assert app["identity"]["block"]["attributes"]["principal_id"]["computed"]


def test_a_block_that_the_provider_fills_in_is_an_attribute():
    app = published("azurerm")["resources"]["azurerm_linux_function_app"]
    assert app["attributes"]["site_credential"]["type"] == [
        "list",
        ["object", {"name": "string", "password": "string"}],
    ]


def test_what_is_told_in_no_order_is_a_set():
    records = published("azurerm")["data"]["azurerm_private_dns_aaaa_record"]["attributes"]
    assert records["records"]["type"] == ["set", "string"]
    text = published("azurerm")["data"]["azurerm_dns_txt_record"]["attributes"]
    assert text["record"]["type"] == ["set", ["object", {"value": "string"}]]


def test_a_secret_is_given_by_a_write_only_argument():
    secret = published("azurerm")["resources"]["azurerm_key_vault_secret"]["attributes"]
    assert [name for name, attribute in secret.items() if attribute["write_only"]] == ["value_wo"]
    kv = published("vault")["resources"]["vault_kv_secret_v2"]["attributes"]
    assert [name for name, attribute in kv.items() if attribute["write_only"]] == ["data_json_wo"]


def test_the_features_that_the_provider_itself_is_configured_with_are_blocks():
    features = published("azurerm")["provider"]["blocks"]["features"]["block"]
    vault = features["blocks"]["key_vault"]["block"]["attributes"]
    assert vault["purge_soft_delete_on_destroy"]["type"] == "bool"
    assert "alias" not in published("azurerm")["provider"]["attributes"]  # Terraform's own
    assert required(published("vault")["provider"]["blocks"]["auth_login"]["block"]) == {"path"}


def test_the_types_of_a_tree_are_those_its_hcl_names(tmp_path):
    written_out(
        tmp_path / "inner", 'data "vault_policy_document" "x" {}\n  # resource "vault_no" "x"'
    )
    written_out(tmp_path, MOUNT + KEY_VAULT)
    assert types_in(tmp_path, "vault") == {"vault_policy_document", "vault_mount"}


def test_where_pip_cannot_download_the_tests_say_so_by_name(tmp_path, monkeypatch):
    monkeypatch.setattr(terraform_schemas, "FOLDER", tmp_path / "schemas")
    failed = subprocess.CompletedProcess([], 1)
    monkeypatch.setattr(terraform_schemas.subprocess, "run", lambda *args, **options: failed)
    for cached in (published, terraform_schemas._downloaded_and_read):
        monkeypatch.setattr(terraform_schemas, cached.__name__, cached.__wrapped__)
    with pytest.raises(
        pytest.skip.Exception, match=r"not run: vault's schema .pip cannot download"
    ):
        terraform_schemas.published("vault")


# what Terraform makes of it


@pytest.mark.parametrize("name", ["azurerm", "vault"])
def test_terraform_takes_every_schema_as_it_was_published(name, tmp_path, published_provider):
    folder = written_out(tmp_path / "all", head(name))
    with published_provider(name) as environment:
        terraform = Terraform(folder, environment)
        terraform.init()
        told = json.loads(terraform.run("providers", "schema", "-json").out)
    told = told["provider_schemas"][f"registry.terraform.io/hashicorp/{name}"]
    schemas = published(name)
    assert told["provider"]["block"] == as_terraform_tells(schemas["provider"])
    for kind, key in (("resources", "resource_schemas"), ("data", "data_source_schemas")):
        assert told[key].keys() == schemas[kind].keys()
        for type_, block in schemas[kind].items():
            assert told[key][type_]["block"] == as_terraform_tells(block), type_


def as_terraform_tells(block):
    """A block as ``terraform providers schema -json`` writes it: nothing that is false or empty."""
    plain = {"description_kind": "plain"}
    attributes = {
        name: {k: v for k, v in attribute.items() if v} | plain
        for name, attribute in block["attributes"].items()
    }
    blocks = {
        name: {"nesting_mode": nested["nesting"], "block": as_terraform_tells(nested["block"])}
        | ({"min_items": nested["min"]} if nested["min"] else {})
        | ({"max_items": nested["max"]} if nested["max"] else {})
        for name, nested in block["blocks"].items()
    }
    told = {"attributes": attributes, "block_types": blocks}
    return {key: value for key, value in told.items() if value} | plain


def test_what_fits_is_valid(configured):
    configured("azurerm", KEY_VAULT).validate()


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (KEY_VAULT.replace("sku_name", "tags"), 'The argument "sku_name" is required'),
        (KEY_VAULT.replace("sku_name", "sku"), 'An argument named "sku" is not expected here'),
        (KEY_VAULT.replace('"standard"', '["standard"]'), "string required"),
        (KEY_VAULT.replace("}", 'vault_uri = "https://x"\n}'), '"vault_uri" cannot be configured'),
        (KEY_VAULT.replace("}", "network_acls {}\n}"), 'The argument "bypass" is required'),
        (KEY_VAULT.replace("}", 2 * 'network_acls {\nbypass="None"\ndefault_action="Deny"\n}\n' + "}"),
         "Too many network_acls blocks"),
        (KEY_VAULT.replace("}", "access_rules {}\n}"), 'type "access_rules" are not expected here'),
        (KEY_VAULT.replace("azurerm_key_vault", "azurerm_keyvault"), "azurerm_keyvault"),
        (APP.replace("identity {", 'identity {\nprincipal_id = "x"'),
         '"principal_id" cannot be configured'),
        ('data "azurerm_key_vault" "this" {}', 'The argument "name" is required'),
        ('provider "azurerm" {\nfeature {}\n}\n' + KEY_VAULT, 'type "feature" are not expected here'),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_by_terraform(configured, wrong, told):
    assert told in configured("azurerm", wrong).validate(expect=1).said


def test_a_test_of_terraforms_runs_against_a_mocked_provider(configured):
    terraform = configured("azurerm", KEY_VAULT)
    test = """
mock_provider "azurerm" {}
run "names_the_vault" {
  assert {
    condition     = azurerm_key_vault.this.name == "NAME" && azurerm_key_vault.this.vault_uri != ""
    error_message = "the vault has another name"
  }
}
"""
    written_out(terraform.folder, test.replace("NAME", "tokens"), "vault.tftest.hcl")
    assert "1 passed, 0 failed" in terraform.test().said
    written_out(terraform.folder, test.replace("NAME", "others"), "vault.tftest.hcl")
    assert "the vault has another name" in terraform.test(expect=1).said


def test_what_is_made_up_is_the_same_at_the_next_plan(configured):
    app = f"""
{APP}
data "azurerm_client_config" "this" {{}}
output "principal" {{ value = azurerm_linux_function_app.this.identity[0].principal_id }}
output "tenant" {{ value = data.azurerm_client_config.this.tenant_id }}
"""
    terraform = configured("azurerm", app)
    terraform.apply()
    assert terraform.output().keys() == {"principal", "tenant"}
    terraform.plan("-detailed-exitcode", expect=0)


# what an actor does


class Mounts(Actor):
    """Keeps mounts by path, and all that it was asked for."""

    replaced_for = ("path",)

    def __init__(self):
        self.kept, self.asked = {}, []

    def create(self, values):
        self.asked.append(("create", values["path"]))
        self.kept[values["path"]] = values
        return {"id": values["path"], "accessor": f"kv_{values['path']}"}

    def read(self, state):
        kept = self.kept.get(state["id"])
        return kept and {**state, "path": kept["path"], "description": kept["description"]}

    def update(self, state, values):
        self.asked.append(("update", state["description"], values["description"]))
        self.kept[state["id"]] = values
        return {}

    def delete(self, state):
        self.asked.append(("delete", state["id"]))
        del self.kept[state["id"]]


def test_an_actor_makes_changes_replaces_and_removes(configured):
    mounts = Mounts()
    terraform = configured(
        "vault",
        MOUNT + "output accessor { value = vault_mount.kv.accessor }",
        {"vault_mount": mounts},
    )
    terraform.apply()
    assert terraform.output() == {"accessor": "kv_kv"}
    terraform.plan("-detailed-exitcode", expect=0)

    described = head("vault") + MOUNT.replace("options", 'description = "tokens"\noptions')
    written_out(terraform.folder, described)
    terraform.apply()
    written_out(terraform.folder, described.replace('path    = "kv"', 'path = "other"'))
    assert "forces replacement" in terraform.apply().said
    terraform.destroy()
    assert mounts.asked == [
        ("create", "kv"),
        ("update", None, "tokens"),
        ("delete", "kv"),
        ("create", "other"),
        ("delete", "other"),
    ]


@pytest.mark.parametrize("text", [APP, DIRECT_LINE], ids=["a list", "a set"])
def test_what_an_actor_never_tells_is_null_and_not_waited_for_again(configured, text):
    (type_,) = re.findall(r'resource "(\w+)"', text)
    terraform = configured("azurerm", text, {type_: Actor()})
    terraform.apply()
    terraform.plan("-detailed-exitcode", expect=0)


def test_what_has_gone_or_changed_behind_its_back_terraform_mends(configured):
    mounts = Mounts()
    terraform = configured("vault", MOUNT, {"vault_mount": mounts})
    terraform.apply()
    mounts.kept["kv"]["description"] = "by hand"
    terraform.apply()
    assert mounts.asked[-1] == ("update", "by hand", None)
    mounts.kept.clear()
    terraform.apply()
    assert mounts.asked[-1] == ("create", "kv")


def test_what_is_there_already_can_be_imported(configured):
    mounts = Mounts()
    mounts.kept["kv"] = {"path": "kv", "description": "by hand"}
    terraform = configured("vault", MOUNT, {"vault_mount": mounts})
    terraform.run("import", "vault_mount.kv", "kv")
    (mount,) = terraform.state()["resources"]
    assert mount["instances"][0]["attributes"]["description"] == "by hand"


def test_a_write_only_value_reaches_the_actor_and_nothing_that_terraform_writes(configured):
    given = []

    class Secrets(Actor):
        def create(self, values):
            given.append(values["data_json_wo"])
            return {"id": "x"}

        def update(self, state, values):
            given.append((state["data_json_wo"], values["data_json_wo"]))
            return values

    secret = """
variable "token" {
  type      = string
  ephemeral = true
}
resource "vault_kv_secret_v2" "token" {
  mount                = "kv"
  name                 = "cmzon"
  data_json_wo         = jsonencode({ token = var.token })
  data_json_wo_version = VERSION
}
"""
    terraform = configured(
        "vault", secret.replace("VERSION", "1"), {"vault_kv_secret_v2": Secrets()}
    )
    terraform.plan(token="mzn_first")
    terraform.apply("plan", token="mzn_first")
    written_out(terraform.folder, head("vault") + secret.replace("VERSION", "2"))
    terraform.apply(token="mzn_second")
    assert given == ['{"token":"mzn_first"}', (None, '{"token":"mzn_second"}')]
    written = dict(terraform.written())
    assert {"plan/tfplan", "terraform.tfstate"} <= written.keys()
    assert not [name for name, content in written.items() if b"mzn_" in content]


def test_a_write_only_value_inside_a_block_reaches_the_actor_too(configured):
    given = []

    class Connections(Actor):
        def create(self, values):
            given.extend(block["password_wo"] for block in values["postgresql"])
            return values

    connection = """
resource "vault_database_secret_backend_connection" "this" {
  backend = "db"
  name    = "db"
  postgresql {
    password_wo         = "mzn_inside"
    password_wo_version = 1
  }
}
"""
    actors = {"vault_database_secret_backend_connection": Connections()}
    terraform = configured("vault", connection, actors)
    terraform.apply()
    assert given == ["mzn_inside"]
    assert "mzn_inside" not in str(terraform.state())


def test_the_text_of_an_actors_exception_is_terraforms_error(configured):
    class Refusing(Actor):
        def create(self, values):
            raise PermissionError("permission denied on sys/mounts/kv")

    terraform = configured("vault", MOUNT, {"vault_mount": Refusing()})
    assert "Error: permission denied on sys/mounts/kv" in terraform.apply(expect=1).said
    assert terraform.state()["resources"] == []


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ({"id": "kv", "type": "transit"}, "produced an unexpected new value: .type: was"),
        ({"id": "kv", "colour": "red"}, "the schema has no colour"),
        ({"id": ["kv"]}, "string"),
    ],
)
def test_an_answer_that_no_provider_may_give_is_an_error(configured, answer, told):
    class Lying(Actor):
        def create(self, values):
            return answer

    terraform = configured("vault", MOUNT, {"vault_mount": Lying()})
    assert told in terraform.apply(expect=1).said


def test_a_data_source_finds_what_is_asked_for_and_the_provider_is_configured(configured):
    def found(asked):
        return {"hcl": f"path {asked['rule'][0]['path']}", "id": "1"}

    text = """
provider "vault" {
  address = "https://127.0.0.1:8200"
}
data "vault_policy_document" "read" {
  rule {
    path         = "secret/cmzon"
    capabilities = ["read"]
  }
}
output "hcl" { value = data.vault_policy_document.read.hcl }
"""
    addresses = []
    terraform = configured(
        "vault",
        text,
        {"data.vault_policy_document": DataSource(found)},
        configured=lambda configuration: addresses.append(configuration["address"]),
    )
    terraform.apply()
    assert terraform.output() == {"hcl": "path secret/cmzon"}
    assert {*addresses} == {"https://127.0.0.1:8200"}


def test_with_a_tree_only_the_types_that_it_names_are_served(configured):
    terraform = configured("vault", MOUNT)
    (told,) = json.loads(terraform.run("providers", "schema", "-json").out)[
        "provider_schemas"
    ].values()
    assert told["resource_schemas"].keys() == {"vault_mount"}
    assert "data_source_schemas" not in told


def test_an_actor_of_a_type_that_was_never_published_is_a_mistake(published_provider):
    with (
        pytest.raises(AssertionError, match="never published: vault_mounts"),
        published_provider("vault", {"vault_mounts": Actor()}),
    ):
        pass
