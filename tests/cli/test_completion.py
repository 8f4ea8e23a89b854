"""Words that Tab completes, as the shell asks for them."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = "import sys; sys.argv = ['cmzon-secrets']; from cmzon_secrets.cli import main; main()"


@pytest.fixture
def completed(cli):
    """A function: what a shell offers for the last of the words."""

    def completed(*words):
        asked = {
            "_CMZON_SECRETS_COMPLETE": "bash_complete",
            "COMP_WORDS": " ".join(["cmzon-secrets", *words]),
            "COMP_CWORD": str(len(words)),
        }
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            check=False,
            capture_output=True,
            text=True,
            cwd=cli.folder,
            env={**cli.environment, **asked},
        )
        assert done.stderr == ""
        return [line.partition(",")[2] for line in done.stdout.splitlines() if line]

    return completed


def test_commands_options_issuers_and_accounts_are_completed(cli, completed):
    (cli.folder / "cmzon-secrets.toml").write_text(
        "[accounts.acme]\ntoken = 'env:A'\n[accounts.beta]\ntoken = 'env:B'\n"
    )
    assert completed("rot") == ["rotate"]
    assert completed("rotate", "--roll") == ["--rollback"]
    assert completed("rotate", "--issuer", "m") == ["manual"]
    assert completed("get", "--account", "a") == ["acme"]


@pytest.mark.parametrize("text", [None, "not toml"], ids=["none", "broken"])
def test_without_a_file_that_can_be_used_no_account_is_offered(cli, completed, text):
    if text is not None:
        (cli.folder / "cmzon-secrets.toml").write_text(text)
    assert completed("get", "--account", "a") == []
