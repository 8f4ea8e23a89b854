"""`init`: what is asked, refused and written, and that what it prints can be typed."""

from __future__ import annotations

import json
import os
import re
import shlex
import stat
import subprocess

import pytest

from cmzon_secrets.emulator import Emulator
from servers.programs import programs
from unit.provisioning.choices import CHOICES, options, wanting

TOKEN = "cmz_" + "Kanarienvogel" * 3
FILE_VM = ["--backend", "file", "--name", "acme"]
AZURE = [
    "--backend",
    "azure",
    "--name",
    "acme",
    "--resource-group",
    "rg",
    "--location",
    "westeurope",
]
AZURE += ["--operator", "00000000-0000-0000-0000-000000000001"]


def written(folder):
    ours = (p.relative_to(folder) for p in folder.rglob("*") if p.is_file())
    return {p.as_posix(): (folder / p).read_bytes() for p in ours if p.parts[0] != ".state"}


# ── what is written ─────────────────────────────────────────────────────────────────────────────


def test_what_it_wrote_and_what_to_type_is_data(cli):
    done = cli("init", *FILE_VM)
    assert (done.code, done.err) == (0, "")
    head, *lines = done.out.splitlines()
    assert head == "written in ."
    named = lines[: lines.index("")]
    assert sorted(line.strip() for line in named) == sorted(written(cli.folder))
    numbered = [line for line in lines if re.match(r" +\d+ ", line)]
    assert [int(line.split()[0]) for line in numbered] == list(range(1, len(numbered) + 1))
    assert any(line.endswith(" cmzon-secrets doctor --account acme") for line in numbered)


@pytest.mark.parametrize("choice", CHOICES, ids="-".join)
def test_every_choice_is_written_and_told_as_json(cli, choice):
    wanted = wanting(*choice)
    done = cli("init", *options(wanted), "--json")
    (item,) = json.loads(done.out)["items"]
    assert (done.code, done.err) == (0, "")
    assert (item["account"], item["backend"], item["runs_on"]) == ("acme", *choice)
    assert {file["path"] for file in item["files"]} == set(written(cli.folder))
    assert all(file["written"] for file in item["files"])
    commands = {command["command"] for command in item["commands"]}
    assert "cmzon-secrets doctor --account acme" in commands


def test_the_place_is_the_backends_own_where_none_is_named(cli):
    done = cli("init", "--backend", "aws", "--name", "acme", "--region", "eu-central-1", "--json")
    assert json.loads(done.out)["items"][0]["runs_on"] == "lambda"


def test_twice_is_once(cli):
    cli("init", *FILE_VM)
    before = written(cli.folder)
    done = cli("init", *FILE_VM)
    assert done.code == 0
    assert done.out.startswith(f"unchanged: all {len(before)} files are in . as they should be\n")
    assert written(cli.folder) == before


def test_another_folder_is_made_and_gone_to_first(cli):
    done = cli("init", *FILE_VM, "--directory", "new one/acme", "--json")
    (item,) = json.loads(done.out)["items"]
    assert item["commands"][0]["command"] == "cd 'new one/acme'"
    assert (cli.folder / "new one/acme/cmzon-secrets.toml").exists()


def test_where_secrets_will_be_nobody_else_may_enter(cli):
    cli("init", *FILE_VM)
    for name in ("keys", "token", "admin"):
        assert stat.S_IMODE((cli.folder / name).stat().st_mode) == 0o700


# ── what is in the way ──────────────────────────────────────────────────────────────────────────


def test_a_file_of_yours_is_never_overwritten(cli):
    (cli.folder / "cmzon-secrets.toml").write_text("# mine\n")
    done = cli("init", *FILE_VM)
    assert done.code == 1
    assert "cmzon-secrets.toml — there already, with other content" in done.err
    assert "--force" in done.err
    assert written(cli.folder) == {"cmzon-secrets.toml": b"# mine\n"}


def test_with_force_it_is(cli):
    (cli.folder / "cmzon-secrets.toml").write_text("# mine\n")
    assert cli("init", *FILE_VM, "--force").code == 0
    assert b"[accounts.acme]" in written(cli.folder)["cmzon-secrets.toml"]


@pytest.mark.parametrize("force", [(), ("--force",)])
def test_the_folder_of_another_account_is_refused_for_applying_its_root_would_delete_secrets(
    cli, force
):
    cli("init", *FILE_VM)
    before = written(cli.folder)
    done = cli("init", "--backend", "aws", "--region", "eu-west-1", "--name", "globex", *force)
    assert done.code == 2
    assert "it is the folder of 'acme', not of 'globex'" in done.err
    assert "choose another --directory" in done.err
    assert written(cli.folder) == before


def test_a_folder_in_which_others_were_added_is_still_its_own(cli):
    cli("init", *FILE_VM)
    config = cli.folder / "cmzon-secrets.toml"
    config.write_text(config.read_text() + '[accounts.globex]\ntoken = "env:GLOBEX"\n')
    assert cli("init", *FILE_VM, "--force").code == 0
    assert b"globex" not in written(cli.folder)["cmzon-secrets.toml"]


def test_a_folder_that_may_not_be_written_to_gets_nothing(cli):
    if os.geteuid() == 0:
        where = "/proc/acme"  # where not even root may
    else:
        where = str(cli.folder / "closed")
        os.mkdir(where, 0o500)
    done = cli("init", *FILE_VM, "--directory", where)
    assert done.code == 1
    assert done.err.startswith("error: ")
    assert written(cli.folder) == {}


# ── what is refused ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        ([], "--backend is missing", "give it: Where shall the token be?"),
        (["--backend", "file"], "--name is missing", "give it: Name of the account"),
        (["--backend", "aws", "--name", "acme"], "--region is missing", "AWS region"),
        (["--backend", "azure", "--name", "acme"], "--vault-name is missing", "Key Vault"),
        (["--backend", "vault", "--name", "acme"], "--address is missing", "Address of Vault"),
        (["--backend", "s3"], "'s3' is not one of", "init --help"),
        ([*FILE_VM, "--runs-on", "lambda"], "no such choice with --backend file", "valid: vm, compose"),
        ([*FILE_VM, "--region", "eu-west-1"], "--region — it does not apply to", "leave it out"),
        (["--backend", "file", "--name", "Acme Ltd"], "--name — 'Acme Ltd' is not a name", "lower-case letters"),
        ([*FILE_VM, "--allow", "203.0.113.7"], "--allow — it does not apply to", "leave it out"),
        ([*AZURE, "--vault-name", "v-acme"], "--allow is missing", "Public addresses"),
        (["--backend", "file", "--name", "acme-admin"], "belongs to the account 'acme'", "another end"),
        ([*FILE_VM, "extra"], "more arguments than it takes", "init --help"),
    ],
)  # fmt: skip
def test_a_command_line_that_cannot_be_meant_is_told_with_the_remedy(cli, words, message, hint):
    done = cli("init", *words)
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert hint in done.err or hint == "init --help"
    assert written(cli.folder) == {}


def test_a_password_in_vaults_address_is_not_repeated(cli):
    """The variable was not typed here, and what is printed in CI is kept."""
    done = cli(
        *("init", "--backend", "vault", "--name", "acme", "--runs-on", "vm"),
        VAULT_ADDR="https://u:pw@vault.example.com:8200",
    )
    assert done.code == 2
    assert "--address — (not shown" in done.err
    assert "pw" not in done.err


@pytest.mark.parametrize(
    "words",
    [
        ["--backend", "file", "--name", TOKEN],
        ["--backend", TOKEN],
        [*FILE_VM, "--region", TOKEN],
        [*FILE_VM, TOKEN],
        [*FILE_VM, "--directory", f"{TOKEN}\n"],
        ["--backend", "azure", "--name", "acme", "--vault-name", TOKEN],
    ],
)
def test_a_token_typed_in_the_wrong_place_is_not_repeated(cli, words):
    done = cli("init", *words, "--json")
    assert done.code == 2
    assert TOKEN not in done.out + done.err


# ── what is asked ───────────────────────────────────────────────────────────────────────────────


def test_on_a_terminal_it_asks_and_offers_what_can_be_used(cli):
    terminal = cli.on_terminal("init")
    terminal.expect("Where shall the token be?")
    terminal.expect("[file] ")
    terminal.type("elsewhere\n")
    terminal.expect("one of: aws, azure, vault, file")
    terminal.type("\n")
    terminal.expect("Where shall rotation run? vm/compose [vm] ")
    terminal.type("\n")
    terminal.expect("Name of the account [acme] ")
    terminal.type("globex\n")
    assert terminal.end() == 0
    assert "[accounts.globex]" in (cli.folder / "cmzon-secrets.toml").read_text()


def test_what_only_its_owner_knows_is_asked_again_until_it_is_given(cli):
    """An example is shown, and is no answer; nor is one that Azure would refuse."""
    words = ["--backend", "azure", "--runs-on", "function", "--name", "my-company-production"]
    terminal = cli.on_terminal("init", *words, "--location", "northeurope")
    terminal.expect("no other in the world may have it ")
    terminal.type("\n")
    terminal.expect("'' is not a name for a Key Vault; write 3 to 24")
    terminal.type("my-company\n")
    terminal.expect("Resource group [cmzon-my-company-production] ")
    terminal.type("messages\n")
    terminal.expect("[such as 00000000-0000-0000-0000-000000000000] ")
    terminal.type("\n")
    terminal.expect("'' is not an object id")
    terminal.type("00000000-0000-0000-0000-000000000001\n")
    terminal.expect("[such as 203.0.113.7,")
    terminal.type("203.0.113.7\n")
    assert terminal.end() == 0
    assert "Azure region" not in terminal.shown  # it was given
    root = (cli.folder / "terraform/main.tf").read_text()
    assert '"messages"' in root
    assert 'allowed_cidrs       = ["203.0.113.7"]' in root


def test_an_answer_that_cannot_be_meant_is_told_at_once_and_asked_again(cli):
    terminal = cli.on_terminal("init", "--backend", "file", "--runs-on", "vm")
    terminal.expect("[acme] ")
    terminal.type("Acme Ltd\n")
    terminal.expect("'Acme Ltd' is not a name for an account; write 2 to 40")
    terminal.expect("Name of the account [acme] ")
    terminal.type("globex\n")
    assert terminal.end() == 0
    assert "[accounts.globex]" in (cli.folder / "cmzon-secrets.toml").read_text()


def test_what_was_given_and_cannot_be_meant_is_told_before_anything_is_asked(cli):
    terminal = cli.on_terminal("init", "--backend", "aws", "--runs-on", "lambda", "--name", "Q")
    assert terminal.end() == 2
    assert "AWS region" not in terminal.shown


@pytest.mark.parametrize(
    ("said", "offered", "answer"),
    [("eu-north-1", "[eu-north-1]", ""), ("Frankfurt", "[such as eu-central-1]", "eu-west-1")],
)
def test_what_the_environment_says_is_offered_where_it_can_be_used(cli, said, offered, answer):
    words = ["--backend", "aws", "--runs-on", "lambda", "--name", "acme"]
    terminal = cli.on_terminal("init", *words, AWS_REGION=said)
    terminal.expect(f"AWS region {offered} ")
    terminal.type(f"{answer}\n")
    assert terminal.end() == 0
    region = f'region = "{answer or said}"'
    assert region in (cli.folder / "terraform/main.tf").read_text()


@pytest.mark.parametrize("address", ["https://v.example.com", "http://127.0.0.1:8200"])
def test_and_without_a_terminal_it_is_taken(cli, address):
    words = ["--backend", "vault", "--runs-on", "vm", "--name", "acme"]
    assert cli("init", *words, VAULT_ADDR=address).code == 0
    assert f'"{address}"' in (cli.folder / "terraform/main.tf").read_text()


@pytest.mark.parametrize("key", ["\x03", "\x04"])
def test_whoever_leaves_while_it_asks_leaves_nothing_behind(cli, key):
    terminal = cli.on_terminal("init")
    terminal.expect("[file] ")
    terminal.type(key)
    assert terminal.end() == {"\x03": 130, "\x04": 2}[key]
    assert written(cli.folder) == {}


def test_colours_are_for_terminals_that_want_them(cli):
    plain = cli.on_terminal("init", *FILE_VM, "--runs-on", "vm", NO_COLOR="1")
    assert plain.end() == 0
    assert "\x1b[" not in plain.shown
    coloured = cli.on_terminal("init", *FILE_VM, "--runs-on", "vm")
    assert coloured.end() == 0
    assert "\x1b[" in coloured.shown


# ── what is printed can be typed ────────────────────────────────────────────────────────────────


@pytest.fixture
def shell(cli, tmp_path_factory):
    """Runs the printed commands in order, in one shell; ``sudo`` and ``docker`` only note theirs."""
    folder = tmp_path_factory.mktemp("programs")
    noted = shlex.quote(str(folder / "noted"))
    programs(folder, sudo=f'echo "$@" >> {noted}', docker=f'echo "docker $@" >> {noted}')

    def type_all(steps, token, **variables):
        commands = [step["command"] for step in steps]
        given = (f"printf '%s\\n' \"$GIVEN\" | {c}" if " put " in c else c for c in commands)
        done = subprocess.run(
            ["sh", "-euc", "\n".join(given)],
            cwd=cli.folder,
            env={
                **cli.environment,
                "PATH": f"{folder}:{os.environ['PATH']}",
                "GIVEN": token,
                **variables,
            },
            capture_output=True,
            text=True,
            check=False,
        )
        return done, (folder / "noted").read_text()

    return type_all


def test_file_on_a_machine_from_nothing_to_a_token_that_rotates(cli, shell):
    with Emulator(strict=True) as api:
        (item,) = json.loads(cli("init", *FILE_VM, "--directory", "acme", "--json").out)["items"]
        done, noted = shell(item["commands"], api.admin_token, CMZON_BASE_URL=api.base_url)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "0 problems, 0 warnings" in done.stdout
        assert api.admin_token not in done.stdout + done.stderr
        folder = cli.folder / "acme"
        with_the_tokens_key = f"file:{folder}/admin/acme.sealed?key=keyfile:{folder}/keys/acme.key"
        assert cli("get", with_the_tokens_key, "--reveal").code == 1
        assert noted.splitlines() == [
            "install -m 644 -D -t /etc/systemd/system"
            " systemd/cmzon-secrets.service systemd/cmzon-secrets.timer",
            "install -m 644 -D systemd/cmzon-secrets.service.d/init.conf"
            " /etc/systemd/system/cmzon-secrets.service.d/init.conf",
            "systemctl daemon-reload",
            "systemctl enable --now cmzon-secrets.timer",
            "systemctl start cmzon-secrets.service",
        ]
        again = run_as_the_unit_says(folder, api)
        assert (again.returncode, again.stderr) == (0, "")
        status = cli(
            "status", "--account", "acme", CMZON_SECRETS_CONFIG=str(folder / "cmzon-secrets.toml")
        )
        assert "CURRENT" in status.out


def run_as_the_unit_says(folder, api):
    lines = (folder / "systemd/cmzon-secrets.service.d/init.conf").read_text().splitlines()
    settings = [line.partition("=")[::2] for line in lines if re.match(r"\w+=.", line)]
    values = {name: shlex.split(value) for name, value in settings}
    environment = dict(word.split("=", 1) for word in values["Environment"])
    source = environment | {"CMZON_BASE_URL": api.base_url, "PYTHONPATH": "src"}
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    return subprocess.run(
        values["ExecStart"], cwd=root, env=source, capture_output=True, text=True, check=False
    )


def test_file_in_a_container_too(cli, shell):
    yaml = pytest.importorskip("yaml", reason="not run: init's Compose file (no yaml)")
    with Emulator(strict=True) as api:
        words = ["init", *FILE_VM, "--runs-on", "compose", "--json"]
        (item,) = json.loads(cli(*words).out)["items"]
        done, noted = shell(item["commands"], api.admin_token, CMZON_BASE_URL=api.base_url)
        assert done.returncode == 0, done.stdout + done.stderr
        assert noted.splitlines() == [
            "docker compose up --detach --build",
            "docker compose exec rotator cmzon-secrets status --account acme",
        ]
        (rotator,) = yaml.safe_load((cli.folder / "compose.yaml").read_text())["services"].values()
        loop = rotator["entrypoint"][-1]
        once = re.fullmatch(r"while :; do cmzon-secrets (.*); sleep 3600; done", loop)[1]
        environment = {"CMZON_BASE_URL": api.base_url, **rotator["environment"]}
        assert cli(*once.split(), **environment).code == 0
        healthy = rotator["healthcheck"]["test"][2:]
        assert cli(*healthy, **environment).code == 0
