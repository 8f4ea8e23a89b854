"""``run``: the program is in our place, with the token and without what opens its store."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest

TOKEN = "cmz_" + "Kanarienvogel" * 3
SHOW_ENVIRONMENT = "import json, os; print(json.dumps(dict(os.environ)))"


def environment_of_child(cli, uri, **variables):
    done = cli("run", uri, "--", sys.executable, "-c", SHOW_ENVIRONMENT, **variables)
    assert done.code == 0, done.err
    return json.loads(done.out)


def test_the_program_gets_the_token_and_the_rest_of_the_environment(cli, put):
    child = environment_of_child(cli, put(), MINE="kept")
    assert child["CMZON_API_TOKEN"] == TOKEN
    assert child["MINE"] == "kept"


def test_it_does_not_get_what_opens_the_store(cli, sealed):
    key = (cli.folder / "token.key").read_text().strip()
    uri = "file:token.sealed?key=env:SEAL_KEY"
    assert cli("put", uri, stdin=TOKEN, SEAL_KEY=key).code == 0
    child = environment_of_child(
        cli,
        uri,
        SEAL_KEY=key,
        CMZON_SECRETS_PASSPHRASE="hush",
        CMZON_SECRETS_KEY="env:OTHER_KEY",
        OTHER_KEY=key,
        CMZON_ADMIN_URI="env:ADMIN",
        ADMIN="admin-token",
    )
    hidden = {"SEAL_KEY", "CMZON_SECRETS_PASSPHRASE", "CMZON_SECRETS_KEY", "OTHER_KEY", "ADMIN"}
    assert not hidden & set(child)
    assert key not in child.values()


def test_it_does_not_get_an_admin_token_nor_that_of_another_account(cli, put):
    uri = put()
    (cli.folder / "cmzon-secrets.toml").write_text(
        f'[accounts.a]\ntoken = "{uri}"\nadmin = "file:admin.sealed?key=env:ADMIN_KEY"\n'
        f'[accounts.b]\ntoken = ["env:B", "env:B2"]\nadmin = "env:ADMIN"\n'
    )
    secrets = {name: f"secret-{name}" for name in ("ADMIN", "ADMIN_KEY", "B", "B2")}
    words = ["run", "--account", "a", "--", sys.executable, "-c", SHOW_ENVIRONMENT]
    assert not set(secrets) & set(json.loads(cli(*words, **secrets).out))


LOGINS_OF_VAULT = ("TOKEN", "SECRET_ID", "WRAPPED_SECRET_ID")


@pytest.mark.parametrize(
    "place",
    ["hashivault://secret/admin", "file:admin.sealed?key=hashivault-transit://transit/keys/admin"],
)
def test_it_does_not_get_the_login_of_a_vault_that_is_in_use(cli, put, place):
    """Who rotates with it can read the admin token there."""
    logins = {f"{who}_{what}": "login" for who in ("VAULT", "BAO") for what in LOGINS_OF_VAULT}
    beside = {
        "VAULT_ADDR": "https://vault.example",
        "AWS_SESSION_TOKEN": "x",
        "AZURE_CLIENT_SECRET": "x",
    }
    child = environment_of_child(cli, put(), CMZON_ADMIN_URI=place, **logins, **beside)
    assert not set(logins) & set(child)
    assert set(beside) <= set(child), "the program's own as well"


def test_it_keeps_the_login_of_a_vault_that_has_nothing_to_do_with_the_token(cli, put):
    assert environment_of_child(cli, put(), VAULT_TOKEN="its own")["VAULT_TOKEN"] == "its own"


def test_the_program_takes_our_place(cli, put):
    uri = put()
    process = cli.start("run", uri, "--", "sh", "-c", "echo $$; exec sleep 60")
    assert process.stdout is not None
    assert int(process.stdout.readline()) == process.pid
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert process.returncode == -signal.SIGTERM


@pytest.mark.parametrize("code", [0, 1, 3, 42, 255])
def test_exit_codes_are_the_programs_own(cli, put, code):
    assert cli("run", put(), "--", "sh", "-c", f"exit {code}").code == code


def test_arguments_arrive_as_they_were_given(cli, put):
    odd = ["--json", "-h", "--", "a b", "$X", "", "ü"]
    script = "import json, sys; print(json.dumps(sys.argv[1:]))"
    done = cli("run", put(), "--", sys.executable, "-c", script, *odd)
    assert json.loads(done.out) == odd


def test_standard_input_goes_to_the_program(cli, put):
    assert cli("run", put(), "--", "cat", stdin="through").out == "through"


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="needs /proc")
def test_no_signal_that_python_ignores_is_ignored_in_the_program(cli, put):
    done = cli("run", put(), "--", "grep", "SigIgn", "/proc/self/status")
    ignored = int(done.out.split()[1], 16)
    assert not ignored & (1 << signal.SIGPIPE - 1)
    assert not ignored & (1 << signal.SIGXFSZ - 1)


def test_without_a_token_the_program_does_not_run(cli, sealed):
    done = cli("run", sealed, "--", "touch", "ran")
    assert done.code == 1
    assert not (cli.folder / "ran").exists()


def test_a_program_that_is_missing_is_told_before_the_token_is_read(cli):
    done = cli("run", "file:none?key=keyfile:none", "--", "no-such-program")
    assert done.code == 127


def test_a_file_that_is_no_program_is_126(cli, put):
    script = cli.folder / "broken"
    script.write_bytes(b"\x7fELF nonsense")
    script.chmod(0o755)
    done = cli("run", put(), "--", "./broken")
    assert done.code == 126
    assert done.err.startswith("error: ./broken — ")


def test_an_option_of_the_program_does_not_make_our_errors_json(cli, sealed):
    done = cli("run", sealed, "--", "sh", "--json")
    assert (done.code, done.out) == (1, "")


def test_the_uri_may_come_from_the_environment_or_an_account(cli, put):
    uri = put()
    assert cli("run", "--", "true", CMZON_TOKEN_URI=uri).code == 0
    (cli.folder / "cmzon-secrets.toml").write_text(f'[accounts.a]\ntoken = "{uri}"\n')
    assert cli("run", "--account", "a", "--", "true").code == 0


@pytest.mark.skipif(not os.path.exists("/proc/self/cmdline"), reason="needs /proc")
def test_the_token_is_not_on_any_command_line(cli, put):
    uri = put()
    process = cli.start("run", uri, "--", "sh", "-c", "echo up; exec sleep 60")
    assert process.stdout is not None
    process.stdout.readline()
    shown, deadline = "", time.monotonic() + 30
    while (
        "sleep\0" not in shown and time.monotonic() < deadline
    ):  # empty while it becomes a program
        shown = Path(f"/proc/{process.pid}/cmdline").read_text()
    process.kill()
    process.communicate()
    assert "sleep" in shown
    assert TOKEN not in shown
