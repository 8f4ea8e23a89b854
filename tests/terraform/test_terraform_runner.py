"""`servers.terraform`: what every test with a real Terraform relies on."""

import os
import time

import pytest

from servers import terraform as runner
from servers.terraform import Terraform, written_out

ECHO = """
variable "given" {
  type    = any
  default = null
}
resource "terraform_data" "kept" {
  input = var.given
}
output "given" {
  value = terraform_data.kept.output
}
"""
SLEEPY = """
resource "terraform_data" "slow" {
  provisioner "local-exec" { command = "while :; do echo >> beats; sleep 0.02; done" }
}
"""


@pytest.fixture
def echo(terraform, tmp_path):
    found = Terraform(written_out(tmp_path / "echo", ECHO))
    found.init()
    return found


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        ("string", "${not} a template"),
        ("list(string)", ["a", "b"]),
        ("map(string)", {"a": "1"}),
        ("bool", True),
        ("number", 7),
    ],
)
def test_a_variable_arrives_as_it_was_given(echo, type_, value):
    written_out(echo.folder, ECHO.replace("any", type_))
    echo.plan(given=value)
    echo.apply("plan")
    assert echo.output() == {"given": value}


def test_each_verb_says_what_it_did(echo):
    echo.validate()
    assert echo.state() is None
    echo.plan("-var=given=[1]")
    assert echo.show_json()["resource_changes"][0]["change"]["actions"] == ["create"]
    echo.apply("plan")
    assert [found["type"] for found in echo.state()["resources"]] == ["terraform_data"]
    assert echo.plan("-detailed-exitcode", "-var=given=[2]", expect=2).code == 2
    echo.destroy()
    assert echo.state()["resources"] == []


def test_a_run_that_ends_otherwise_fails_with_all_that_was_said(echo):
    with pytest.raises(AssertionError, match=r"plan .*: 1\n[^\x1b]*Missing expression"):
        echo.plan("-var=given=[")


def test_what_a_run_wrote_is_told_with_the_inside_of_its_plan(echo):
    echo.plan(given=["found-everywhere"])
    echo.apply("plan")
    found = {name for name, content in echo.written() if b"found-everywhere" in content}
    assert {"plan/tfplan", "terraform.tfstate"} <= found


def test_it_sees_nothing_of_our_environment(echo, monkeypatch):
    for name in ("TF_VAR_given", "TF_LOG", "AWS_PROFILE", "TF_CLI_ARGS_plan"):
        monkeypatch.setenv(name, "ours")
    fresh = Terraform(echo.folder)
    assert not {"TF_VAR_given", "TF_LOG", "AWS_PROFILE", "TF_CLI_ARGS_plan"} & {*fresh.environment}
    fresh.apply()
    assert fresh.output() == {}


def test_a_tree_is_copied_without_what_runs_left_in_it(terraform, tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "ROOT", tmp_path)
    module = tmp_path / "modules" / "echo"
    written_out(module, ECHO)
    written_out(module / "examples" / "minimal", 'module "echo" { source = "../.." }')
    written_out(module / ".terraform", "", name="left")
    written_out(module, "{}", name="terraform.tfstate")
    copy = terraform("modules/echo", inside="examples/minimal")
    copy.init()
    copy.apply()
    assert not {".terraform", "terraform.tfstate"} & set(os.listdir(copy.folder.parents[1]))
    assert os.listdir(module / "examples" / "minimal") == ["main.tf"]


def test_a_run_that_hangs_is_ended_with_all_that_it_started(terraform, tmp_path):
    hanging = Terraform(written_out(tmp_path / "hanging", SLEEPY), patience=2)
    hanging.init()
    with pytest.raises(pytest.fail.Exception, match=r"terraform did not end in 2 s:\s[^\x1b]*slow"):
        hanging.apply()
    beats = (hanging.folder / "beats").read_text()
    time.sleep(0.3)
    assert (hanging.folder / "beats").read_text() == beats, "what it started goes on"


def test_a_machine_without_terraform_or_its_plug_in_skips_by_name(monkeypatch, tmp_path):
    with pytest.raises(pytest.skip.Exception, match=r"not run: terraform's provider none \(no"):
        runner.needs_plugin("none")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(pytest.skip.Exception, match=r"not run: terraform \(not installed\)"):
        runner.binary()


def test_plug_ins_come_from_the_folder_that_the_environment_names(monkeypatch, tmp_path):
    monkeypatch.setenv("TF_PLUGINS", str(tmp_path))
    (tmp_path / "registry.terraform.io" / "hashicorp" / "none" / "1.0.0").mkdir(parents=True)
    monkeypatch.setattr(runner, "plugin_folder", runner.plugin_folder.__wrapped__)
    assert runner.plugin_folder() == tmp_path
    runner.needs_plugin("none")
