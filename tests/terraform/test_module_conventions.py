"""terraform/modules: each is what its readers, tflint and checkov expect, and says so in its README.

A rule that is broken names the file and the line. Modules that come later are held to the same.
"""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

pytest.importorskip("hcl2", reason="not run: the rules of Terraform modules (no python-hcl2)")

import terraform_docs
import terraform_rules as rules

ROOT = Path(__file__).parents[2]
MODULES = terraform_docs.modules(ROOT / "terraform")
PLACES_OF_USES = ("terraform/**/examples/**/*.tf", "examples/**/*.tf")
USES = sorted({file.parent for place in PLACES_OF_USES for file in ROOT.glob(place)})


def _shown(folder):
    return str(folder.relative_to(ROOT)).removeprefix("terraform/modules/")


@pytest.fixture(params=MODULES, ids=_shown)
def module(request):
    return request.param


@pytest.fixture(params=[*MODULES, *USES], ids=_shown)
def folder(request):
    """A module, or an example of its use."""
    return request.param


def test_the_tables_and_the_copied_policies_are_those_that_make_terraform_writes(module):
    assert [str(path) for path, _ in terraform_docs.outdated(module)] == []


def test_terraform_would_format_nothing_otherwise():
    if not shutil.which("terraform"):
        pytest.skip("not run: terraform (not installed)")
    done = subprocess.run(
        ["terraform", "fmt", "-check", "-recursive", "terraform", "examples"],
        cwd=ROOT,
        capture_output=True,
        check=False,
        text=True,
    )
    assert (done.stdout, done.returncode) == ("", 0)


def test_it_has_the_standard_files_and_each_block_in_its_own(module):
    assert list(rules.misplaced(module)) == []


def test_it_asks_for_versions_with_both_ends(module):
    assert list(rules.loose_versions(module)) == []


def test_it_requires_the_providers_that_it_uses_and_no_others(module):
    assert list(rules.provider_mismatches(module)) == []


def test_every_variable_has_a_type(folder):
    assert list(rules.untyped_variables(folder)) == []


def test_every_variable_and_output_is_described(folder):
    assert list(rules.undocumented(folder)) == []


def test_every_name_is_in_snake_case(folder):
    assert list(rules.other_names(folder)) == []


def test_every_variable_is_used(folder):
    assert list(rules.unused_variables(folder)) == []


def test_every_local_is_used(folder):
    assert list(rules.unused_locals(folder)) == []


def test_every_data_source_is_used(folder):
    assert list(rules.unused_data(folder)) == []


def test_every_comment_begins_with_a_hash(folder):
    assert list(rules.other_comments(folder)) == []


def test_modules_from_elsewhere_are_pinned(folder):
    assert list(rules.unpinned_modules(folder)) == []


def test_no_expression_is_of_an_older_terraform(folder):
    assert list(rules.outdated_expressions(folder)) == []


def test_no_map_has_a_key_twice(folder):
    assert list(rules.repeated_keys(folder)) == []


def test_count_and_for_each_come_first(folder):
    assert list(rules.late_repetition(folder)) == []


def test_every_waiver_has_a_reason_and_stands_where_it_holds(folder):
    assert list(rules.bare_waivers(folder)) == []


def test_every_refusal_names_the_input(folder):
    assert list(rules.nameless_messages(folder)) == []


def test_a_policy_is_judged_alike_in_each_cloud():
    """The rules of `rotation` are tried by the tests of the AWS module."""
    declared = [
        re.search(r'^variable "rotation" \{.*?^\}', path.read_text(), re.DOTALL | re.MULTILINE)[0]
        for path in (ROOT / "terraform/modules").glob("*/variables.tf")
    ]
    rules = {
        re.sub(r".*?(?=^  validation)", "", text, count=1, flags=re.DOTALL | re.MULTILINE)
        for text in declared
    }
    assert (len(declared), len(rules)) == (3, 1)


def test_no_output_is_a_secret(folder):
    assert list(rules.secret_outputs(folder)) == []


def test_no_secret_is_remembered_in_state_or_plan(folder):
    assert list(rules.remembered_secrets(folder)) == []


SOUND = {
    "main.tf": """
# Why it is so.
locals {
  name = "cmzon-${var.name}" # a prefix
}

data "aws_region" "this" {}

resource "aws_sns_topic" "this" {
  # checkov:skip=CKV_AWS_26:what it carries is no secret
  count = var.rotation.topic == null ? 1 : 0
  name  = "${local.name}/* // ${data.aws_region.this.region}"
}

module "inner" {
  source = "./modules/inner"
  count  = 1
}

ephemeral "aws_secretsmanager_secret_version" "admin" {
  secret_id = aws_sns_topic.this[0].arn
}

resource "aws_secretsmanager_secret_version" "admin" {
  secret_id                = ephemeral.aws_secretsmanager_secret_version.admin.arn
  secret_string_wo         = var.admin_token_wo
  secret_string_wo_version = 1
}
""",
    "variables.tf": """
variable "name" {
  description = "Its name."
  type        = string

  validation {
    condition     = var.name != ""
    error_message = "name: it is empty. Write one."
  }
}

variable "rotation" {
  description = <<-EOT
    When it is changed:
    soon.

    - `topic`: a | b
  EOT
  type = object({
    topic = optional(string) # its *ARN*
  })
  default = {}
}

variable "admin_token_wo" {
  description = "Kept nowhere."
  type        = string
  default     = null
  ephemeral   = true
}
""",
    "outputs.tf": """
output "token_uri" {
  description = "Where it is."
  value       = one(aws_sns_topic.this[*].arn)
}
""",
    "versions.tf": """
terraform {
  required_version = ">= 1.11"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.88, < 7"
    }
  }
}
""",
}


def _requiring(asked):
    return f"terraform {{\n  required_providers {{\n    x = {{ {asked} }}\n  }}\n}}"


DESCRIBED = 'description = "It."\n  type = string\n'
FAULTS = [
    (rules.misplaced, 'variable "late" {}'),
    (rules.misplaced, 'output "late" {}'),
    (rules.loose_versions, _requiring('version = ">= 5.88, < 7"')),
    (rules.loose_versions, _requiring('source = "a/x"')),
    (rules.loose_versions, _requiring('source = "a/x", version = ">= 5.88"')),
    (rules.loose_versions, _requiring('source = "a/x", version = "< 7"')),
    (rules.provider_mismatches, 'resource "google_topic" "this" {}'),
    (rules.untyped_variables, 'variable "a" {\n  description = "It."\n}'),
    (rules.undocumented, 'variable "a" {\n  type = string\n}'),
    (rules.undocumented, 'output "a" {\n  value = 1\n  description = ""\n}'),
    (rules.other_names, 'resource "aws_sns_topic" "aTopic" {}'),
    (rules.other_names, "locals {\n  a-b = 1\n}"),
    (rules.unused_variables, f'variable "a" {{\n  {DESCRIBED}}}\n# var.a'),
    (
        rules.unused_variables,
        f'variable "a" {{\n  {DESCRIBED}  validation {{\n    condition = var.a != ""\n  }}\n}}',
    ),
    (rules.unused_locals, 'locals {\n  a = "local.a"\n}'),
    (rules.unused_data, 'data "aws_region" "other" {}'),
    (rules.other_comments, "// of C"),
    (rules.other_comments, "locals {\n  a = 1 /* of C */\n}"),
    (rules.other_comments, "locals {\n  a = (true // before an operator\n    || false)\n}"),
    (rules.unpinned_modules, 'module "a" {\n  source = "terraform-aws-modules/vpc/aws"\n}'),
    (rules.unpinned_modules, 'module "a" {\n  source = "git::https://git.example/a.git"\n}'),
    (rules.outdated_expressions, 'locals {\n  a = "${var.name}"\n}'),
    (rules.outdated_expressions, "locals {\n  a = aws_sns_topic.this.0.arn\n}"),
    (rules.outdated_expressions, 'locals {\n  a = lookup(var.rotation, "topic")\n}'),
    (rules.outdated_expressions, "locals {\n  a = var.name == []\n}"),
    (rules.repeated_keys, "locals {\n  a = { b = 1, c = 2, b = 3 }\n}"),
    (rules.late_repetition, 'resource "aws_sns_topic" "a" {\n  name = "a"\n  count = 1\n}'),
    (rules.bare_waivers, 'resource "a_b" "c" {\n  # checkov:skip=CKV_AWS_26:no need\n}'),
    (rules.bare_waivers, "# checkov:skip=CKV_AWS_26:it stands above its block\nlocals {}"),
    (
        rules.nameless_messages,
        'variable "a" {\n  validation {\n    condition = true\n    error_message = "No."\n  }\n}',
    ),
    (rules.secret_outputs, 'output "admin_token" {\n  value = 1\n}'),
    (rules.secret_outputs, 'output "it" {\n  value = data.a_b.c.secret_string\n}'),
    (rules.secret_outputs, 'output "it" {\n  value = 1\n  sensitive = true\n}'),
    (rules.remembered_secrets, f'variable "token" {{\n  {DESCRIBED}  sensitive = true\n}}'),
    (
        rules.remembered_secrets,
        'resource "aws_secretsmanager_secret_version" "a" {\n  secret_string = var.name\n}',
    ),
    (rules.remembered_secrets, 'data "azurerm_key_vault_secret" "a" {\n  name = "a"\n}'),
]


@pytest.fixture
def sound(tmp_path):
    """A module in which nothing is wrong."""
    for name, text in SOUND.items():
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    ("rule", "fault"), FAULTS, ids=lambda value: getattr(value, "__name__", "")
)
def test_each_rule_finds_its_fault_and_nothing_else(sound, rule, fault):
    assert list(rule(sound)) == []
    (sound / "other.tf").write_text(f"{fault}\n")
    assert len(list(rule(sound))) == 1


@pytest.mark.parametrize("name", SOUND)
def test_a_missing_file_is_found(sound, name):
    (sound / name).unlink()
    assert f"{name}: is missing" in list(rules.misplaced(sound))


def test_a_provider_that_nothing_uses_is_found(sound):
    (sound / "main.tf").write_text("")
    assert list(rules.provider_mismatches(sound)) == ["versions.tf: aws is not used"]


def test_a_module_without_a_version_of_terraform_is_found(sound):
    (sound / "versions.tf").write_text("terraform {}\n")
    assert len(list(rules.loose_versions(sound))) == 1


README = f"# A module\n\n{terraform_docs.BEGIN}\nold\n{terraform_docs.END}\n\nThe end.\n"


def test_the_tables_are_written_between_the_marks(sound):
    (sound / "README.md").write_text(README)
    ((path, text),) = terraform_docs.outdated(sound)
    assert path == sound / "README.md"
    assert text.startswith(f"# A module\n\n{terraform_docs.BEGIN}\n## Requirements\n")
    assert text.endswith(f"\n{terraform_docs.END}\n\nThe end.\n")
    path.write_text(text)
    assert list(terraform_docs.outdated(sound)) == []


def test_the_tables_say_what_the_files_say(sound):
    lines = terraform_docs.tables(sound).splitlines()
    rotation = "When it is changed: soon.<br/>- `topic`: a \\| b"
    laid_out = "<pre>object({<br/>  topic = optional(string) # its &#42;ARN&#42;<br/>})</pre>"
    assert "| `terraform` | `>= 1.11` |" in lines
    assert "| `aws` | `>= 5.88, < 7` |" in lines
    assert "| `inner` | `./modules/inner` | n/a |" in lines
    assert "| `aws_sns_topic.this` | resource |" in lines
    assert "| `aws_region.this` | data source |" in lines
    assert "| `name` | Its name. | `string` | n/a | yes |" in lines
    assert f"| `rotation` | {rotation} | {laid_out} | `{{}}` | no |" in lines
    assert "| `token_uri` | Where it is. |" in lines


def test_what_cannot_be_read_is_named_with_its_line(sound):
    (sound / "other.tf").write_text("locals {\n  a = = 1\n}\n")
    with pytest.raises(SystemExit, match=r"other\.tf:2 — python-hcl2 cannot read this"):
        list(rules.unused_locals(sound))


def test_a_check_names_what_differs_and_leaves_it(sound, capsys):
    (sound / "README.md").write_text(README)
    assert not terraform_docs.settle(sound, check=True)
    expected = f"{sound / 'README.md'} is not as `make terraform` writes it\n"
    assert capsys.readouterr().out == expected
    assert (sound / "README.md").read_text() == README


def test_what_was_written_passes_the_next_check(sound):
    (sound / "README.md").write_text(README)
    assert terraform_docs.settle(sound, check=False)
    assert terraform_docs.settle(sound, check=True)


def test_a_readme_without_the_marks_is_refused_by_name(sound):
    (sound / "README.md").write_text("# A module\n")
    with pytest.raises(terraform_docs.Misplaced, match=r"README\.md — the tables have no place"):
        list(terraform_docs.outdated(sound))


def test_a_policy_that_was_edited_is_written_anew_and_one_of_ours_alone_is_refused(sound):
    (sound / "README.md").write_text(README)
    (sound / "policies").mkdir()
    (sound / "policies" / "hashivault.reader.hcl").write_text('path "*" {}\n')
    stale = dict(terraform_docs.outdated(sound))
    original = (terraform_docs.PERMISSIONS / "hashivault.reader.hcl").read_text()
    assert stale[sound / "policies" / "hashivault.reader.hcl"] == original
    (sound / "policies" / "own.hcl").write_text("")
    with pytest.raises(
        terraform_docs.Misplaced, match=r"own\.hcl — permissions has no file of that name"
    ):
        list(terraform_docs.outdated(sound))
