"""`doctor` as people and programs meet it: options, exit codes, output. What it finds: tests/unit."""

import json
import re
import shlex
import subprocess
import sys

import pytest

from cmzon_secrets.findings import Severity

SEVERITIES = set(Severity.__args__)


def test_as_json_each_finding_has_the_same_members(cli, put):
    done = cli("doctor", put(), "--offline", "--json")
    document = json.loads(done.out)
    assert set(document) == {"schema", "items", "uri", "role"}
    assert (document["schema"], document["role"]) == (1, "reader")
    for item in document["items"]:
        assert set(item) == {"check", "severity", "message", "evidence", "remedy"}
        assert item["severity"] in SEVERITIES
    assert (done.code, done.err) == (3, "")  # the key lies beside the file


def test_notes_are_no_reason_for_an_exit_code(cli):
    done = cli("doctor", "env:THE_TOKEN", "--offline", THE_TOKEN="cmz_value")
    assert done.code == 0
    assert "note" in done.out


@pytest.mark.parametrize(
    ("words", "variables", "role", "why"),
    [
        ([], {}, "reader", "no admin token is configured"),
        ([], {"CMZON_ADMIN_URI": "env:ADMIN"}, "rotator", "an admin token is configured"),
        (["--admin", "env:ADMIN"], {}, "rotator", "an admin token is configured"),
        (["--admin", "env:ADMIN", "--role", "reader"], {}, "reader", "--role says so"),
        (["--role", "rotator"], {}, "rotator", "--role says so"),
    ],
)
def test_whom_it_takes_this_machine_for_and_why(cli, words, variables, role, why):
    variables |= {"THE_TOKEN": "cmz_value", "ADMIN": "cmz_admin"}
    done = cli("doctor", "env:THE_TOKEN", "--offline", *words, **variables)
    _, first, second, *_ = done.out.splitlines()
    assert first.endswith(f"examined as a {role}")
    assert why in second


def test_an_account_with_an_admin_rotates(cli):
    (cli.folder / "cmzon-secrets.toml").write_text(
        'admin = "env:ADMIN"\n[accounts.acme]\ntoken = "env:THE_TOKEN"\n'
    )
    done = cli("doctor", "--account", "acme", "--offline", THE_TOKEN="cmz_t", ADMIN="cmz_a")
    assert done.out.startswith("acme  env:THE_TOKEN\n")
    assert "examined as a rotator" in done.out


@pytest.mark.parametrize(
    "words",
    [
        ["file:x?kee=1"],
        ["env:T", "--role", "owner"],
        ["env:T", "--policy", "owner"],
        ["env:T", "--account", "acme"],
        ["--account", "acme", "--role", "rotator"],
        ["--account", "acme", "--policy", "reader"],
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(cli, words):
    (cli.folder / "cmzon-secrets.toml").write_text('[accounts.acme]\ntoken = ["env:A", "env:B"]\n')
    done = cli("doctor", *words)
    assert (done.code, done.out) == (2, "")
    assert "error: " in done.err


def test_a_uri_in_a_file_that_cannot_be_meant_is_a_finding(cli):
    (cli.folder / "cmzon-secrets.toml").write_text('[accounts.acme]\ntoken = "file:x?kee=1"\n')
    done = cli("doctor", "--account", "acme", "--offline")
    assert done.code == 3
    assert "unknown option 'kee'" in done.out


def test_the_policy_is_all_that_is_printed(cli):
    done = cli(
        "doctor",
        "--policy",
        "rotator",
        "hashivault://secret/app/cmzon?address=https://vault.example:8200",
    )
    assert (done.code, done.err) == (0, "")
    assert 'path "secret/data/app/cmzon" {\n  capabilities = ["read", "update"]\n}' in done.out


@pytest.mark.parametrize(
    ("uri", "word"),
    [
        ("hashivault://secret/app", "secret/data/app"),
        ("hashivault://secret/app?layout=split", "secret/data/app.rotation"),
        ("hashivault-transit://transit/cmzon", "transit/encrypt/cmzon"),
        ("awssecretsmanager://prod/acme", "secret:prod/acme-"),
        ("awskms://alias/K", "kms:Encrypt"),
        ("awskms://alias/K?ciphertext=env:C", "kms:Encrypt"),
        ("azurekeyvault://contoso/secrets/app", "setSecret"),
        ("azurekeyvault://contoso/keys/K", "wrap"),
        ("file:t?key=hashivault-transit://transit/cmzon", "transit/encrypt/cmzon"),
    ],
)
def test_a_policy_needs_no_more_than_the_uri_of_a_place_or_key(cli, uri, word):
    """Neither an address, nor a region, nor an SDK."""
    blocked = "import sys; sys.modules.update(dict.fromkeys(['urllib3', 'botocore', 'azure']))"
    program = f"{blocked}; from cmzon_secrets.cli.app import run; sys.exit(run(sys.argv[1:]))"
    words = [sys.executable, "-c", program, "doctor", "--policy", "rotator", uri]
    done = subprocess.run(
        words, check=False, capture_output=True, env=cli.environment, timeout=60, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert word in done.stdout


@pytest.mark.slow
def test_the_commands_of_its_remedies_work_as_they_stand(cli, openbao):
    openbao.admin("POST", "secret/data/doctor/wide", {"data": {"token": "cmz_secret_value"}})
    openbao.admin("POST", "transit/keys/doctor-wide", {})
    where = {"VAULT_ADDR": openbao.address, "VAULT_CACERT": openbao.ca}
    for uri in (
        "hashivault://secret/doctor/wide",
        "file:t?key=hashivault-transit://transit/doctor-wide",
    ):
        done = cli("doctor", uri, "--offline", "--json", **where, VAULT_TOKEN=openbao.root_token)
        remedies = " ".join(item["remedy"] or "" for item in json.loads(done.out)["items"])
        commands = re.findall(r"cmzon-secrets (doctor --policy [^`|]+)", remedies)
        assert commands
        for command in commands:
            assert cli(*shlex.split(command)).code == 0


@pytest.mark.slow
def test_a_copy_by_a_reader_of_the_source_is_well(cli, openbao, put):
    openbao.admin("POST", "secret/data/doctor/source", {"data": {"token": "cmz_secret_value"}})
    where = {"VAULT_ADDR": openbao.address, "VAULT_CACERT": openbao.ca}
    split = "hashivault://secret/doctor/source?layout=split"
    reader = openbao.token(openbao.policy(cli("doctor", "--policy", "reader", split).out))
    done = cli("copy", split, put("t"), "--yes", **where, VAULT_TOKEN=reader)
    assert done.code == 0
    assert "not told whether PENDING or PREVIOUS stay" in done.err


@pytest.fixture
def approle(openbao):
    """Address, role ID and a policy for the role ``doctor``, which reads one secret."""
    openbao.admin("POST", "secret/data/doctor/once", {"data": {"token": "cmz_secret_value"}})
    policy = openbao.policy('path "secret/data/doctor/once" { capabilities = ["read"] }')
    openbao.admin("POST", "auth/approle/role/doctor", {"token_policies": [policy]})
    role_id = openbao.admin("GET", "auth/approle/role/doctor/role-id")["data"]["role_id"]
    where = {"VAULT_ADDR": openbao.address, "VAULT_CACERT": openbao.ca}
    return where | {"VAULT_ROLE_ID": role_id}


ONCE = "hashivault://secret/doctor/once?auth=approle&role=doctor"


@pytest.mark.slow
def test_a_wrapped_secret_id_is_looked_at_and_left(cli, openbao, approle):
    wrapping = openbao.wrapped_secret_id("doctor")
    for _ in range(2):  # the first examination did not use it up
        done = cli("doctor", ONCE, "--offline", **approle, VAULT_WRAPPED_SECRET_ID=wrapping)
        assert "credentials.wrapped: the wrapped secret ID is valid" in done.out
        assert "not unwrapped" in done.out
    assert cli("get", ONCE, **approle, VAULT_WRAPPED_SECRET_ID=wrapping).code == 0
    done = cli("doctor", ONCE, "--offline", **approle, VAULT_WRAPPED_SECRET_ID=wrapping)
    assert done.code == 3
    assert "is not valid" in done.out


@pytest.mark.slow
def test_a_login_is_given_back(cli, openbao, approle):
    secret_id = openbao.admin("POST", "auth/approle/role/doctor/secret-id")["data"]["secret_id"]
    before = len(openbao.audited())
    assert cli("doctor", ONCE, "--offline", **approle, VAULT_SECRET_ID=secret_id).code == 0
    asked = [request["path"] for request in openbao.audited()[before:]]
    assert asked.count("auth/approle/login") == 1
    assert asked[-1] == "auth/token/revoke-self"


def test_of_a_sealed_file_the_policy_is_that_of_its_key(cli):
    uri = "file:t?key=awskms://11112222-aaaa-bbbb-cccc-111122223333"
    done = cli("doctor", "--policy", "reader", uri)
    (statement,) = json.loads(done.out)["Statement"]
    assert statement["Action"] == "kms:Decrypt"
    assert statement["Resource"].endswith("key/11112222-aaaa-bbbb-cccc-111122223333")


@pytest.mark.parametrize(
    ("package", "extra", "uri"),
    [
        ("hvac", "vault", "hashivault://secret/app?address=http://127.0.0.1:9"),
        ("botocore", "aws", "awssecretsmanager://app?region=eu-central-1"),
        ("azure", "azure", "azurekeyvault://contoso/secrets/app?credential=managed"),
    ],
)
def test_a_missing_sdk_is_a_problem_with_its_remedy(cli, package, extra, uri):
    blocked = f"import sys; sys.modules[{package!r}] = None; "
    program = f"{blocked}from cmzon_secrets.cli.app import run; sys.exit(run(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", program, "doctor", uri, "--offline", "--json"],
        check=False,
        capture_output=True,
        env={**cli.environment, "VAULT_TOKEN": "s.any"},
        timeout=60,
    )
    found = [item for item in json.loads(done.stdout)["items"] if item["severity"] == "problem"]
    assert [(item["check"], item["remedy"]) for item in found] == [
        ("configuration.place", f'pip install "cmzon-secrets[{extra}]"')
    ]


@pytest.mark.slow
def test_a_reader_of_a_real_server_with_just_its_policy_is_well(cli, openbao):
    openbao.admin("POST", "secret/data/doctor/cli", {"data": {"token": "cmz_secret_value"}})
    uri = "hashivault://secret/doctor/cli"
    where = {"VAULT_ADDR": openbao.address, "VAULT_CACERT": openbao.ca}
    policy = openbao.policy(cli("doctor", "--policy", "reader", uri, **where).out)
    done = cli("doctor", uri, "--offline", **where, VAULT_TOKEN=openbao.token(policy))
    assert (done.code, done.err) == (0, "")
    for line in ("reachability.server: it is unsealed", "tls.backend: its certificate is verified"):
        assert f"✓ ok       {line}" in done.out
    assert "permissions.least: as far as can be asked, it may what a reader needs" in done.out
    assert "cmz_secret_value" not in done.out


def test_only_what_is_to_be_mended_is_coloured(cli, put):
    terminal = cli.on_terminal("doctor", put(), "--offline")
    assert terminal.end() == 3
    coloured = [line for line in terminal.shown.splitlines() if "\x1b[" in line]
    assert [("key.place" in line, "\x1b[33m" in line) for line in coloured] == [(True, True)]


def test_what_was_typed_in_the_wrong_place_is_not_repeated(cli):
    secret = "cmz_KanarienvogelKanarienvogel"
    for words in (["doctor", secret], ["doctor", f"env:{secret}", "--offline"]):
        done = cli(*words)
        assert done.code in (2, 3)
        assert secret not in done.out + done.err
