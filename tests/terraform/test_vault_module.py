"""terraform/modules/vault: a real Terraform applies it to a real OpenBao, and a token is rotated there.

Terraform acts with the policy that the module's README gives it, never as root, and each server's
test has an account and an engine of its own.
"""

import os
import re
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import quote

import pytest

from cmzon_secrets.accounts import policy_of
from cmzon_secrets.config import account_from_environment, load_config
from cmzon_secrets.emulator import Emulator
from cmzon_secrets.errors import AccessDenied, ConfigurationError
from cmzon_secrets.registry import open_provider, open_store
from cmzon_secrets.rotation import RotationPolicy
from cmzon_secrets.runtimes.scheduled import rotate_configured
from cmzon_secrets.tokens import Token
from servers.openbao import binary as bao
from servers.openbao import token_review, unused
from servers.programs import programs
from servers.terraform import ROOT
from servers.terraform_refusals import policies, refusals, rules
from servers.terraform_vault import actors

MODULE = ROOT / "terraform/modules/vault"
README = (MODULE / "README.md").read_text(encoding="utf-8")
POLICY = re.search(r"## What Terraform may\n.*?```hcl\n(.*?)```", README, re.DOTALL)[1]
ACCOUNT = {"rotators": {}, "readers": {"service_accounts": ["shop:shop"]}, "approle": {}}


@pytest.fixture
def served(terraform, published_provider):
    """The module and its examples, with a provider that does nothing."""
    with published_provider("vault", tree=MODULE) as environment:
        yield lambda inside=".": terraform(MODULE, inside=inside, environment=environment)


@pytest.fixture
def deployed(terraform, published_provider, openbao, vault_environment):
    """A function that applies the module to the server: what was made, and where."""
    with ExitStack() as stack:

        def apply(imported=None, **given):
            name, mount = given.get("name", unused("acme")), given.get("mount", unused("cmzon"))
            token = openbao.token(openbao.policy(of_terraform(name, mount)))
            served = published_provider("vault", actors(openbao, token), tree=MODULE)
            tf = terraform(MODULE, environment=stack.enter_context(served))
            variables = {"name": name, "mount": mount, **ACCOUNT, **given}
            for to, id_ in (imported or {}).items():
                with (tf.folder / "imports.tf").open("a") as file:
                    file.write(f'import {{\n  to = {to}\n  id = "{id_}"\n}}\n')
            tf.init()
            tf.apply(**variables)
            vault_environment(openbao.environment())
            return SimpleNamespace(
                token=token,
                tf=tf,
                variables=variables,
                outputs=tf.output(),
                name=name,
                mount=mount,
                prefix=f"{mount}-{name}",
            )

        yield apply


def of_terraform(name, mount):
    """The README's policy, for another account in another engine."""
    text = POLICY.replace("cmzon-acme", f"{mount}-{name}").replace("keys/acme", f"keys/{name}")
    return text.replace("sys/mounts/cmzon", f"sys/mounts/{mount}").replace(
        '"cmzon/config"', f'"{mount}/config"'
    )


def unchanged(made):
    return made.tf.plan("-detailed-exitcode", expect=None, **made.variables).code == 0


@pytest.fixture
def emulator(monkeypatch):
    with Emulator(strict=True) as running:
        monkeypatch.setenv("CMZON_BASE_URL", running.base_url)
        yield running


@pytest.fixture
def typed(openbao, tmp_path):
    """A function that types the first steps, as an administrator: ``vault`` is the server's own program."""
    found = programs(tmp_path / "programs")
    (found / "vault").symlink_to(bao())
    environment = openbao.environment(openbao.root_token, HOME=str(tmp_path))
    environment["PATH"] = f"{found}:{os.environ['PATH']}"

    def run(lines, given=""):
        script = ["bash", "-ec", "\n".join(lines)]
        done = subprocess.run(
            script, input=given, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


@pytest.fixture
def seeded(typed, emulator):
    """A function that types those first steps which make the secrets."""

    def run(made):
        steps = made.outputs["first_steps"].splitlines()
        typed([line for line in steps if "-seeder " in line], f"{emulator.admin_token}\n")

    return run


@pytest.fixture
def rotator(typed, monkeypatch, tmp_path):
    """A function that makes this process the rotator on a machine of its own; the secret ID it got."""

    def become(made):
        steps = made.outputs["first_steps"].splitlines()
        (wrap,) = (line for line in steps if line.startswith("vault write -wrap-ttl"))
        (unwrap,) = (line for line in steps if "vault unwrap" in line)
        file = tmp_path / "secret-id"
        wrapping = typed([wrap]).strip()
        typed(
            [
                unwrap.replace("WRAPPING_TOKEN", wrapping).replace(
                    "/etc/cmzon-secrets/secret-id", str(file)
                )
            ]
        )
        assert file.stat().st_mode & 0o777 == 0o600
        for name, value in made.outputs["environment"].items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("VAULT_ROLE_ID", made.outputs["approle_role_id"])
        monkeypatch.setenv("VAULT_SECRET_ID_FILE", str(file))
        return [wrapping, file.read_text().strip()]

    return become


@pytest.fixture
def pod(openbao, monkeypatch, tmp_path):
    """A function that makes this process a pod: its service account, and for whom its token is."""
    import jwt
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    with token_review() as cluster:
        configuration = {
            "kubernetes_host": cluster.address,
            "token_reviewer_jwt": "reviewer",
            "disable_local_ca_jwt": True,
            "kubernetes_ca_cert": Path(openbao.ca).read_text(),
        }
        openbao.admin("POST", "auth/kubernetes/config", configuration)

        def become(namespace, name, audience="vault"):
            account = f"system:serviceaccount:{namespace}:{name}"
            claims = {"iss": "https://cluster", "sub": account, "aud": [audience]}
            now = int(time.time())
            claims |= {"iat": now - 10, "nbf": now - 10, "exp": now + 600}
            of_kubernetes = {
                "namespace": namespace,
                "serviceaccount": {"name": name, "uid": f"uid-{name}"},
            }
            token = jwt.encode({**claims, "kubernetes.io": of_kubernetes}, key, algorithm="ES256")
            cluster.accounts[token] = (namespace, name)
            file = tmp_path / f"token-{namespace}-{name}-{audience}"
            file.write_text(token)
            monkeypatch.setenv("VAULT_JWT_FILE", str(file))

        yield become


def put(uri, text):
    token = Token(text)
    with open_store(uri) as store:
        store.stage(token)
        store.promote(token.id, replacing=None)


def value(uri):
    with open_provider(uri) as provider:
        return provider.get().reveal()


# what it is, without a server


def test_its_smallest_example_is_valid(served):
    tf = served("examples/minimal")
    tf.init()
    tf.validate()


def test_it_makes_what_its_own_tests_say(served):
    tf = served()
    tf.init()
    files = [f"-filter=tests/{name}.tftest.hcl" for name in ("contradictions", "defaults")]
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


def test_a_policy_that_the_plan_refuses_is_one_that_the_rotator_would_refuse():
    contradictions = policies(MODULE / "tests" / "contradictions.tftest.hcl")
    assert len(contradictions) == 4
    for rotation in contradictions:
        with pytest.raises(ConfigurationError):
            RotationPolicy("acme", **rotation)


def test_two_accounts_of_the_complete_example_are_one_file_that_we_accept(served, tmp_path):
    tf = served("examples/complete")
    tf.init()
    tf.apply(cluster={"host": "https://cluster.example.com", "ca_cert": "PEM"})
    file = tmp_path / "cmzon-secrets.toml"
    file.write_text(tf.output()["configuration"])
    config = load_config(file)
    assert list(config.accounts) == ["acme", "globex"]
    for account in config.accounts.values():
        policy_of(account, config)
        assert f"role=team-cmzon-{account.name}-rotator" in account.token


# the whole story


def test_from_nothing_to_a_token_that_rotates(deployed, seeded, rotator, emulator, pod):
    made = deployed()
    seeded(made)
    secrets = [emulator.admin_token, *rotator(made)]
    policy_of(account_from_environment())
    (first,) = rotate_configured()
    assert (first["state"], first["account"]) == ("done", made.name), str(first)
    pod("shop", "shop")
    reader = made.outputs["reader_uris"]["shop"]
    secrets.append(value(reader))
    (again,) = rotate_configured(force=True)
    assert [action["kind"] for action in again["actions"]][-1] == "promote"
    secrets.append(value(reader))
    assert len(set(secrets)) == 5
    assert unchanged(made)
    written = b"\n".join(content for _, content in made.tf.written())
    assert made.outputs["approle_role_id"].encode() in written
    assert [secret for secret in secrets if secret.encode() in written] == []


def test_a_reader_reads_the_token_and_can_do_nothing_else(deployed, seeded, emulator, pod):
    made = deployed(rotators={"service_accounts": ["cmzon:cmzon-secrets"]}, approle=None)
    seeded(made)
    pod("cmzon", "cmzon-secrets")
    put(made.outputs["token_uri"], "cmz_put")
    assert value(made.outputs["admin_uri"]) == emulator.admin_token
    pod("shop", "shop")
    reader = made.outputs["reader_uris"]["shop"]
    assert value(reader) == "cmz_put"
    with open_store(reader) as store, pytest.raises(AccessDenied, match="update"):
        store.stage(Token("cmz_of_a_reader"))
    with pytest.raises(AccessDenied):
        value(reader.replace(f"/{made.name}?", f"/{made.name}-admin?"))


def test_nobody_else_logs_in_as_a_reader(deployed, pod):
    (reader,) = deployed().outputs["reader_uris"].values()
    for who, why in {
        ("shop", "worker", "vault"): "service account name not authorized",
        ("elsewhere", "shop", "vault"): "namespace not authorized",
        ("shop", "shop", "kubernetes"): "audience",
    }.items():
        pod(*who)
        with pytest.raises(AccessDenied, match=f"login at auth/kubernetes .*{why}"):
            value(reader)


def test_terraform_itself_can_neither_read_a_token_nor_log_in_as_the_rotator(deployed, openbao):
    made = deployed()
    for method, path in (
        ("GET", f"{made.mount}/data/{made.name}"),
        ("GET", f"{made.mount}/data/{made.name}-admin"),
        ("POST", f"auth/approle/role/{made.prefix}-rotator/secret-id"),
        ("POST", f"auth/approle/role/{made.prefix}-rotator/custom-secret-id"),
    ):
        status, _ = openbao.ask(method, path, {"secret_id": "mine"}, made.token)
        assert (path, status) == (path, 403)
    assert openbao.ask("GET", f"sys/mounts/{made.mount}", token=made.token)[0] == 200


def test_a_rotator_makes_no_secret_that_is_missing(deployed, rotator, emulator, typed):
    made = deployed()
    typed(
        [f"vault kv put -mount={made.mount} -cas=0 {made.name}-admin token={emulator.admin_token}"]
    )
    rotator(made)
    (item,) = rotate_configured()
    assert (item["state"], item["error"]["type"]) == ("failed", "TokenNotFound")


def test_with_layout_split_a_reader_sees_what_is_current_alone(deployed, seeded, rotator, pod):
    made = deployed(layout="split")
    seeded(made)
    rotator(made)
    pod("shop", "shop")
    reader = made.outputs["reader_uris"]["shop"]
    seen = set()
    for _ in range(2):
        (item,) = rotate_configured(force=True)
        assert item["state"] == "done", item["reason"]
        seen.add(value(reader))
    assert len(seen) == 2
    with open_store(reader) as store, pytest.raises(AccessDenied, match="rotation"):
        store.versions()


# what changes, what goes


def test_what_somebody_widened_by_hand_is_shown_and_taken_back(deployed, openbao):
    made = deployed()
    policy, role = f"{made.prefix}-reader", f"auth/approle/role/{made.prefix}-rotator"
    openbao.policy('path "*" {\n  capabilities = ["sudo", "read"]\n}\n', policy)
    openbao.admin("POST", role, {"token_policies": ["root-like"], "secret_id_ttl": 0})
    openbao.admin("POST", f"{made.mount}/config", {"cas_required": False})
    shown = made.tf.plan(**made.variables).out
    assert "0 to add, 3 to change, 0 to destroy" in shown
    made.tf.apply("plan")
    assert unchanged(made)
    assert "sudo" not in openbao.admin("GET", f"sys/policies/acl/{policy}")["data"]["policy"]
    assert "root-like" not in openbao.admin("GET", role)["data"]["token_policies"]
    assert openbao.admin("GET", f"{made.mount}/config")["data"]["cas_required"]


def test_an_engine_goes_only_where_it_was_let_go_and_all_else_with_a_destroy(deployed, openbao):
    before = everything(openbao)
    made = deployed(
        readers={"service_accounts": ["a:a", "b:b"]}, transit={"deletion_allowed": True}
    )
    assert len(everything(openbao) - before) == 11  # with the policy of Terraform itself
    given_up = {**made.variables, "create_mount": False}
    for said in (
        made.tf.plan(expect=1, **given_up).said,
        made.tf.destroy(expect=1, **made.variables).said,
    ):
        assert "vault_mount.kv[0] has lifecycle.prevent_destroy set" in said
    made.tf.run("state", "rm", "vault_mount.kv[0]")
    made.tf.destroy(**made.variables)
    policy, engine = sorted(everything(openbao) - before, reverse=True)
    assert policy.startswith("policy ")
    assert engine == f"mount {made.mount}/"


def test_a_transit_engine_goes_only_where_it_was_let_go(served):
    tf = served()
    tf.init()
    tf.apply(name="acme", transit={"create_mount": True})
    said = tf.plan(name="acme", transit={"create_mount": False}, expect=1).said
    assert "vault_mount.transit[0] has lifecycle.prevent_destroy set" in said


def test_two_accounts_of_one_name_in_two_engines_do_not_meet(deployed, openbao):
    made = deployed()
    of_the_first = openbao.admin("GET", f"sys/policies/acl/{made.prefix}-reader")["data"]
    (made.tf.folder / "terraform.tfstate").unlink()  # the other is another root's
    other = deployed(name=made.name)
    assert other.mount != made.mount
    assert openbao.admin("GET", f"sys/policies/acl/{made.prefix}-reader")["data"] == of_the_first


def everything(openbao):
    """Names of all mounts, auth methods, policies and roles of the server."""
    kinds = {
        "mount": openbao.admin("GET", "sys/mounts")["data"],
        "auth": openbao.admin("GET", "sys/auth")["data"],
        "policy": openbao.admin("LIST", "sys/policies/acl")["data"]["keys"],
    }
    for method in ("approle", "kubernetes"):
        status, found = openbao.ask("LIST", f"auth/{method}/role", token=openbao.root_token)
        kinds[method] = found["data"]["keys"] if status == 200 else []
    return {f"{kind} {name}" for kind, names in kinds.items() for name in names}


def test_an_engine_that_exists_is_used_as_it_is(deployed, openbao):
    before = openbao.admin("GET", "secret/config")["data"]
    made = deployed(mount="secret", create_mount=False, path="prod/cmzon", readers={})
    made.tf.destroy(**made.variables)
    assert openbao.admin("GET", "secret/config")["data"] == before


def test_an_engine_that_exists_can_be_taken_over_with_its_secrets(deployed, openbao):
    mount = unused("cmzon")
    openbao.admin("POST", f"sys/mounts/{mount}", {"type": "kv", "options": {"version": "2"}})
    openbao.admin("POST", f"{mount}/data/kept", {"data": {"token": "cmz_kept"}})
    blocks = {"vault_mount.kv[0]": mount, "vault_kv_secret_backend_v2.kv[0]": f"{mount}/config"}
    made = deployed(mount=mount, imported=blocks)
    assert unchanged(made)
    assert openbao.admin("GET", f"{mount}/config")["data"]["cas_required"]
    assert openbao.admin("GET", f"{mount}/data/kept")["data"]["data"] == {"token": "cmz_kept"}


def test_a_single_machine_may_be_bound_and_no_plan_differs(deployed, openbao):
    bound = {
        "secret_id_bound_cidrs": ["127.0.0.1/32"],
        "token_bound_cidrs": ["127.0.0.1/32", "10.0.0.0/8"],
    }
    assert unchanged(deployed(approle=bound))


def test_a_transit_key_seals_files_for_the_rotator_and_cannot_be_lost_by_mistake(
    deployed, rotator, openbao, tmp_path
):
    made = deployed(transit={})
    rotator(made)
    login = f"auth=approle&role={made.prefix}-rotator"
    key = f"{made.outputs['key_uri']}?{login}"
    put(f"file:{tmp_path}/token.sealed?key={quote(key, safe='')}", "cmz_sealed")
    destroyed = made.tf.destroy(
        "-target=vault_transit_secret_backend_key.this", expect=1, **made.variables
    )
    assert "deletion is not allowed" in destroyed.said
    made.tf.run("state", "rm", "vault_mount.kv[0]")
    made.variables["transit"] = {"deletion_allowed": True}
    made.tf.apply(**made.variables, create_mount=False)
    made.tf.destroy(**made.variables)
