"""What a failed emergency says to type next can be typed as it stands, and means the same token."""

from __future__ import annotations

import shlex
import urllib.request

import pytest

OTHER = "file:other folder.sealed?key=keyfile:token.key"
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def other(cli, sealed, api):
    """A token that is not the one of ``$CMZON_TOKEN_URI``, in a place that a shell would take apart."""
    cli.environment["CMZON_TOKEN_URI"] = sealed
    assert cli("rotate").code == 0
    assert cli("rotate", OTHER).code == 0
    return OTHER


def held(cli, *words):
    return cli("get", *words, "--reveal").out


def commands(done):
    """What it says to type: before it begins, and after it failed."""
    before = done.err.partition("to repeat this if it fails: ")[2].splitlines()[0]
    after = "cmzon-secrets revoke" + done.err.partition("hint: ")[2].partition(
        "cmzon-secrets revoke"
    )[2].partition(" (")[0].rstrip("\n")
    return before, after


def typed(cli, command):
    program, *words = shlex.split(command)
    assert program == "cmzon-secrets"
    return cli(*words)


@pytest.mark.parametrize("choice", [[], ["--stage", "current"], ["--all"]], ids=" ".join)
def test_it_names_the_place_that_was_typed(cli, other, choice):
    untouched = held(cli)
    before_it = held(cli, other)
    done = cli("revoke", other, "--admin", "env:NO_SUCH", *choice, "--yes")
    assert done.code == 1
    assert "STILL ALIVE" in done.err
    first, last = commands(done)
    assert "--admin env:NO_SUCH" in first
    assert "--admin env:NO_SUCH" in last
    cli.environment["NO_SUCH"] = cli.environment["ADMIN_TOKEN"]
    for command in (first, last):
        repeated = typed(cli, command)
        assert repeated.code == 0, (command, repeated.err)
    assert held(cli, other) != before_it
    assert held(cli) == untouched


def test_it_names_the_account_that_was_typed(cli, other):
    (cli.folder / "cmzon-secrets.toml").write_text(f'[accounts.acme]\ntoken = "{other}"\n')
    done = cli("revoke", "--account", "acme", "--base-url", NOWHERE, "--yes")
    first, last = commands(done)
    assert first == last
    assert first.startswith("cmzon-secrets revoke --id tok_")
    assert first.endswith(f" --account acme --base-url {NOWHERE} --yes")


def test_it_keeps_what_was_said_of_a_successor_and_repeats_no_secret(cli, other):
    secret = "q7Zr2Lx9vT4mK8sN1wBc"
    done = cli("revoke", other, "--no-replace", "--name", secret, "--base-url", NOWHERE, "--yes")
    first, _ = commands(done)
    assert "--no-replace" in first
    assert secret not in done.out + done.err


def test_where_the_id_was_typed_it_is_the_id_that_is_repeated(cli, other, api):
    body = b'{"route": "DELETE /v1/tokens/{id}", "status": 500, "count": 2}'
    headers = {"Content-Type": "application/json"}
    url = f"{api.base_url}/_emulator/faults"
    urllib.request.urlopen(urllib.request.Request(url, body, headers)).close()
    done = cli("revoke", OTHER, "--id=tok_unknown", "--yes")
    first, _ = commands(done)
    assert first == shlex.join(["cmzon-secrets", "revoke", "--id", "tok_unknown", OTHER, "--yes"])
    urllib.request.urlopen(urllib.request.Request(url, method="DELETE")).close()
