"""tools/infrastructure_lint.py: a finding fails the lint, and what cannot be had is named and fails nothing."""

import infrastructure_lint as lint
import pytest


@pytest.fixture
def stand_in(tmp_path):
    """A home of checkov in which a program stands that ends as it is told."""

    def make(body):
        (tmp_path / "bin").mkdir()
        program = tmp_path / "bin" / "checkov"
        program.write_text(f"#!/bin/sh\n{body}\n")
        program.chmod(0o755)
        (tmp_path / lint.CHECKOV_VERSION).touch()
        return tmp_path

    return make


def test_without_terraform_its_format_is_named_as_not_run(monkeypatch, capsys):
    monkeypatch.setenv("PATH", "/nowhere")
    assert lint.terraform_format()
    assert capsys.readouterr().out == "not run: terraform fmt (terraform is not installed)\n"


def test_without_a_registry_checkov_is_named_as_not_run(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    assert lint.checkov(tmp_path / "home")
    expected = f"not run: checkov (pip could not install version {lint.CHECKOV_VERSION})\n"
    assert capsys.readouterr().out == expected


@pytest.mark.parametrize(("status", "clean"), [(0, True), (1, False)])
def test_what_checkov_finds_fails_the_lint(stand_in, status, clean):
    assert lint.checkov(stand_in(f"exit {status}")) is clean


def test_a_file_that_checkov_could_not_read_fails_the_lint(stand_in):
    assert not lint.checkov(stand_in("echo Passed checks: 3, Parsing errors: 1"))


def test_checkov_is_told_to_ask_nothing_of_the_network(stand_in, capsys):
    lint.checkov(stand_in('echo "$@"'))
    assert "--skip-download" in capsys.readouterr().out.split()
