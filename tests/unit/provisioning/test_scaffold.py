"""What `init` writes for each backend and place: whether those who read it accept it."""

import os
import re
import shlex
import shutil
import subprocess
from importlib import import_module
from pathlib import Path
from unittest.mock import ANY

import pytest

from cmzon_secrets.accounts import policy_of
from cmzon_secrets.cli.app import COMMANDS
from cmzon_secrets.config import load_config
from cmzon_secrets.errors import ConfigurationError
from cmzon_secrets.provisioning.configuration import token_uri
from cmzon_secrets.provisioning.scaffold import scaffold
from cmzon_secrets.registry import locate_provider
from cmzon_secrets.uri import split
from servers.aws_environment import aws_environment
from servers.terraform import ROOT, Terraform, needs_plugin, written_out
from unit.provisioning.choices import CHOICES, wanting

yaml = pytest.importorskip("yaml", reason="not run: init's manifests (no yaml)")


def of(**wanted):
    """The choices that fit, each with its name."""
    fit = [
        c for c in CHOICES if c[0] in wanted.get("backend", c) and c[1] in wanted.get("place", c)
    ]
    return pytest.mark.parametrize("choice", fit, ids="-".join)


@pytest.fixture
def made(choice, tmp_path):
    return scaffold(wanting(*choice), str(tmp_path))


def on_disk(made, folder):
    for path, text in made.files.items():
        written_out((folder / path).parent, text, (folder / path).name)
    return folder


def tool(*command, folder):
    if shutil.which(command[0]) is None:
        pytest.skip(f"not run: {command[0]} (not installed)")
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done


# ── what users get ──────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def elsewhere(monkeypatch):
    """What differs from machine to machine, as on one in a book."""
    from cmzon_secrets.provisioning import places, steps

    monkeypatch.setattr(places, "_program", lambda: ["/home/cmzon/bin/cmzon-secrets"])
    monkeypatch.setattr(places, "_user", lambda: "cmzon")
    monkeypatch.setattr(steps, "_python", lambda: "python")
    monkeypatch.setattr("os.getuid", lambda: 1000)
    monkeypatch.setattr("os.getgid", lambda: 1000)
    for name in ("VAULT_CACERT", "VAULT_NAMESPACE"):
        monkeypatch.delenv(name, raising=False)


@of()
def test_what_is_written_and_what_to_type_is_as_it_was_read_and_found_good(choice, elsewhere):
    """`golden/` holds it all, but what is copied. After a change: `GOLDEN=write`, and read the difference."""
    made = scaffold(wanting(*choice), "/home/cmzon/acme")
    told = "\n".join(as_read(made))
    golden = Path(__file__).with_name("golden") / f"{'-'.join(choice)}.txt"
    if os.environ.get("GOLDEN") == "write":
        golden.write_text(told, encoding="utf-8")
    assert told == golden.read_text(encoding="utf-8")


def as_read(made):
    examples = {path.read_bytes() for path in (ROOT / "examples").rglob("*") if path.is_file()}
    ours = {p: t for p, t in made.files.items() if not p.startswith("terraform/modules/")}
    for path, text in sorted(ours.items()):
        if text.encode() in examples:
            yield f"──── {path} (an example of ours)"
        else:
            yield f"──── {path}\n{text}"
    yield "──── to type"
    for step in made.steps:
        yield f"# {step.why}\n{step.command}"
    yield ""


# ── configuration ───────────────────────────────────────────────────────────────────────────────


@of()
def test_each_configuration_is_one_that_we_accept(made, tmp_path):
    texts = [text for path, text in made.files.items() if path.endswith("cmzon-secrets.toml")]
    for number, text in enumerate(texts):
        config = load_config(written_out(tmp_path, text, f"{number}.toml") / f"{number}.toml")
        account = config.account("acme")
        policy_of(account, config)
        assert locate_provider(account.token).path != locate_provider(account.admin).path


# ── Terraform ───────────────────────────────────────────────────────────────────────────────────


@of(backend=("aws", "azure", "vault"))
def test_a_root_is_at_most_fifteen_lines(made):
    lines = [line.strip() for line in made.files["terraform/main.tf"].splitlines()]
    assert len([line for line in lines if line and not line.startswith("#")]) <= 15


def test_a_vault_for_private_networks_alone_lets_no_address_in(tmp_path):
    made = scaffold(wanting("azure", "vm", allow="none"), str(tmp_path))
    assert re.search(r"allowed_cidrs += \[\]\n", made.files["terraform/main.tf"])


@pytest.fixture
def roots(tmp_path):
    """A function: one Terraform over the roots of a backend, so that all cost as much as one."""

    def over(backend, environment):
        calls = []
        for place in (place for name, place in CHOICES if name == backend):
            on_disk(scaffold(wanting(backend, place), str(tmp_path)), tmp_path / place)
            calls.append(f'module "{place}" {{ source = "./{place}/terraform" }}\n')
        return Terraform(written_out(tmp_path, "".join(calls)), environment)

    return over


@pytest.mark.slow
def test_terraform_accepts_the_roots_of_aws_and_would_write_them_so(roots):
    needs_plugin("aws")
    root = roots("aws", aws_environment())
    (root.folder / "lambda/terraform/cmzon-secrets-lambda.zip").touch()
    root.run("fmt", "-check", "-recursive")
    root.init()
    root.validate()


def test_terraform_accepts_the_roots_of_vault(roots, published_provider):
    with published_provider("vault", tree=ROOT / "terraform/modules/vault") as environment:
        root = roots("vault", environment)
        root.run("fmt", "-check", "-recursive")
        root.init()
        root.validate()


def test_terraform_plans_the_roots_of_azure_and_the_token_is_where_the_files_say(
    roots, published_provider
):
    """Those of AWS and Vault are applied, and the token found, in `tests/cli`."""
    with published_provider("azurerm", tree=ROOT / "terraform/modules/azure") as environment:
        root = roots("azure", environment)
        root.run("fmt", "-check", "-recursive")
        told = 'output "token_uri" { value = module.vm.token_uri }\n'
        written_out(root.folder, told, "outputs.tf")
        root.init()
        assert f'token_uri = "{token_uri(wanting("azure", "vm"))}"' in root.plan().said


LINK = r"\[([^]]*)\]\(([^)]*)\)"


@of(backend=("aws", "azure", "vault"))
def test_the_module_lies_beside_the_root_as_it_is_without_what_only_proves_it(made, choice):
    below = f"terraform/modules/{choice[0]}/"
    copied = {
        path.removeprefix(below): t for path, t in made.files.items() if path.startswith(below)
    }
    for path, text in copied.items():
        pages = (text, (ROOT / below / path).read_text())
        if path.endswith(".md"):  # links are the next test's
            pages = [re.sub(LINK, r"\1", page) for page in pages]
        assert pages[0] == pages[1]
    assert {"README.md", "main.tf", "variables.tf", "outputs.tf", "versions.tf"} <= set(copied)
    assert [path for path in copied if path.startswith(("tests/", "examples/"))] == []
    used = set(re.findall(r'path\.module}/(policies/[\w.-]+\.\w+)"', "".join(copied.values())))
    assert used <= set(copied)


@of(backend=("aws", "azure", "vault"))
def test_a_link_of_the_modules_page_leads_somewhere_or_is_words_alone(made, choice, tmp_path):
    page = Path(f"terraform/modules/{choice[0]}/README.md")
    on_disk(made, tmp_path)
    links = dict(re.findall(LINK, (tmp_path / page).read_text()))
    nowhere = [
        target
        for target in links.values()
        if not target.startswith("https://") and not (tmp_path / page.parent / target).exists()
    ]
    assert [target for target in nowhere if not target.startswith("#")] == []
    told = dict(re.findall(LINK, (ROOT / page).read_text()))
    assert links == {words: told[words] for words in links}
    assert {words for words, target in told.items() if target[0] in "h#"} <= set(links)


def test_git_keeps_neither_state_nor_plan_nor_build_but_the_lock_file(tmp_path):
    files = on_disk(scaffold(wanting("azure", "function"), str(tmp_path)), tmp_path)
    tool("git", "init", "--quiet", folder=files)
    names = [
        "terraform.tfstate",
        "terraform.tfstate.backup",
        "plan.tfplan",
        "cmzon-secrets-lambda.zip",
        "function.zip",
    ]
    names = [f"terraform/{name}" for name in [*names, ".terraform/x"]]
    names.append("function/.python_packages/lib/x.py")
    ignored = tool("git", "check-ignore", *names, folder=files).stdout.split()
    assert ignored == names
    kept = ["git", "check-ignore", "terraform/.terraform.lock.hcl", "terraform/main.tf"]
    assert subprocess.run(kept, cwd=files, check=False, capture_output=True).stdout == b""


@of(backend=("file",))
def test_git_keeps_no_key_and_no_sealed_file(made, tmp_path):
    files = on_disk(made, tmp_path)
    tool("git", "init", "--quiet", folder=files)
    names = ["keys/acme.key", "keys/acme-admin.key", "token/acme.sealed", "token/acme.sealed.lock"]
    names.append("admin/acme.sealed")
    assert tool("git", "check-ignore", *names, folder=files).stdout.split() == names


# ── Kubernetes ──────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def objects(made, tmp_path):
    """Kind → object, as kubectl would apply them."""
    shown = tool("kubectl", "kustomize", "kubernetes", folder=on_disk(made, tmp_path)).stdout
    return {found["kind"]: found for found in yaml.safe_load_all(shown)}


@of(place=("kubernetes",))
def test_kubectl_puts_the_accounts_own_over_what_is_the_same_for_all(objects, made, choice):
    (name, text), *_ = objects["ConfigMap"]["data"].items()
    assert (name, text) == ("cmzon-secrets.toml", made.files["kubernetes/cmzon-secrets.toml"])
    pod = objects["CronJob"]["spec"]["jobTemplate"]["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    assert container["image"] == "registry.example.com/team/cmzon-secrets:2"
    config = next(volume for volume in pod["spec"]["volumes"] if volume["name"] == "config")
    assert config["configMap"]["name"] == objects["ConfigMap"]["metadata"]["name"]
    labels = pod["metadata"]["labels"]
    assert labels.get("azure.workload.identity/use") == ("true" if choice[0] == "azure" else None)
    env = {variable["name"]: variable["value"] for variable in container["env"]}
    of_vault = {"VAULT_ADDR": "https://vault.example.com:8200", "VAULT_JWT_FILE": ANY}
    config = {"CMZON_SECRETS_CONFIG": "/etc/cmzon-secrets/cmzon-secrets.toml"}
    assert env == (config | of_vault if choice[0] == "vault" else config)


@of(place=("kubernetes",))
def test_the_identity_is_that_of_the_pod(objects, made, choice):
    namespace = objects["CronJob"]["metadata"]["namespace"]
    account = objects["ServiceAccount"]["metadata"]["name"]
    root = made.files["terraform/main.tf"]
    assert objects["ServiceAccount"]["metadata"]["namespace"] == namespace
    if choice[0] == "aws":
        assert re.search(rf'namespace\s+= "{namespace}"\s+service_account = "{account}"', root)
    else:
        assert f'"{namespace}:{account}"' in root


@pytest.mark.parametrize(
    ("address", "ports"),
    [
        ("https://v.example.com", set()),
        ("https://v.example.com:8200", set()),
        ("https://v:9200", {9200}),
    ],
)
def test_the_network_policy_lets_it_out_to_vault_on_any_port(tmp_path, address, ports):
    made = scaffold(wanting("vault", "kubernetes", address=address), str(tmp_path))
    shown = tool("kubectl", "kustomize", "kubernetes", folder=on_disk(made, tmp_path)).stdout
    (policy,) = [o for o in yaml.safe_load_all(shown) if o["kind"] == "NetworkPolicy"]
    open_ports = {port["port"] for rule in policy["spec"]["egress"] for port in rule["ports"]}
    assert open_ports >= {53, 443, 8200} | ports
    assert (9200 in open_ports) == (9200 in ports)


def test_the_network_policy_lets_it_ask_the_agent_for_credentials(tmp_path):
    made = scaffold(wanting("aws", "kubernetes"), str(tmp_path))
    shown = tool("kubectl", "kustomize", "kubernetes", folder=on_disk(made, tmp_path)).stdout
    (policy,) = [o for o in yaml.safe_load_all(shown) if o["kind"] == "NetworkPolicy"]
    assert "169.254.170.23/32" in {
        to["ipBlock"]["cidr"] for rule in policy["spec"]["egress"] for to in rule.get("to", [])
    }


# ── systemd ─────────────────────────────────────────────────────────────────────────────────────


@of(place=("vm",))
def test_systemd_finds_nothing_wrong_in_the_units(made, tmp_path):
    folder = on_disk(made, tmp_path) / "systemd"
    units = ("./cmzon-secrets.service", "./cmzon-secrets.timer")
    assert tool("systemd-analyze", "verify", *units, folder=folder).stderr == ""


def with_a_unit(made, folder, name="application.conf"):
    """Where the units are, and the unit of a program that sends beside them, with what it is added."""
    units = on_disk(made, folder) / "systemd"
    written_out(units, "[Service]\nExecStart=/bin/true\n", "shop.service")
    (units / "shop.service.d").mkdir()
    shutil.copy(units / name, units / "shop.service.d" / "cmzon-secrets.conf")
    return units


def test_a_program_of_the_same_user_is_shut_off_from_what_opens_the_admin_token(tmp_path):
    made = scaffold(wanting("file", "vm"), str(tmp_path))
    units = with_a_unit(made, tmp_path)
    assert tool("systemd-analyze", "verify", "./shop.service", folder=units).stderr == ""
    account = load_config(tmp_path / "cmzon-secrets.toml").account("acme")
    token, admin = (split(uri) for uri in (account.token, account.admin))
    assert token.options["key"] != admin.options["key"]
    added = (units / "application.conf").read_text().splitlines()
    hidden = next(line for line in added if line.startswith("InaccessiblePaths=")).split("=")[1]
    folder, key = hidden.split()
    assert admin.path.startswith(f"{folder}/")
    assert admin.options["key"] == f"keyfile:{key}"
    assert {f"ReadOnlyPaths={tmp_path}", "PrivateUsers=yes", "LimitCORE=0"} <= set(added)


@pytest.mark.parametrize(("backend", "place"), [("vault", "vm"), ("aws", "vm"), ("azure", "vm")])
def test_where_the_program_is_another_user_its_unit_is_added_nothing(tmp_path, backend, place):
    made = scaffold(wanting(backend, place), str(tmp_path))
    assert "systemd/application.conf" not in made.files


def test_a_folder_may_have_blanks_and_signs_that_units_and_compose_files_read_otherwise(tmp_path):
    folder = tmp_path / "our $HOME 100%h a\\b"
    made = scaffold(wanting("file", "vm"), str(folder))
    text = made.files["systemd/cmzon-secrets.service.d/init.conf"]
    inside = str(folder).replace("\\", "\\\\").replace("%", "%%")
    assert f'Environment="CMZON_SECRETS_CONFIG={inside}/cmzon-secrets.toml"\n' in text
    assert f'ReadWritePaths="{inside}/token"\n' in text
    assert "ProtectHome" not in text  # for a folder elsewhere it stays as it is
    hidden = made.files["systemd/application.conf"]
    assert f'InaccessiblePaths="{inside}/admin" "{inside}/keys/acme-admin.key"\n' in hidden
    units = with_a_unit(made, folder)
    for unit in ("./cmzon-secrets.service", "./shop.service"):
        assert tool("systemd-analyze", "verify", unit, folder=units).stderr == ""
    compose = yaml.safe_load(
        scaffold(wanting("file", "compose"), str(folder)).files["compose.yaml"]
    )
    (rotator,) = compose["services"].values()
    assert rotator["volumes"][0]["source"].replace("$$", "$") == f"{folder}/cmzon-secrets.toml"
    assert "$$HOME" in rotator["environment"]["CMZON_SECRETS_CONFIG"]
    first, last = made.steps[0].command, made.steps[-1].command
    script = f"{first} && pwd && {last}"
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    told = split(done.stdout.splitlines()[1].partition("CMZON_TOKEN_URI=")[2])
    assert told.path == f"{folder}/token/acme.sealed"
    assert split(told.options["key"]).path == f"{folder}/keys/acme.key"


def test_a_folder_whose_name_cannot_be_printed_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match="cannot be printed"):
        scaffold(wanting("file", "vm"), str(tmp_path / "a\nb"))


# ── what to type ────────────────────────────────────────────────────────────────────────────────


@of()
def test_the_steps_are_shell_and_doctor_is_among_them(made):
    script = "\n".join(step.command for step in made.steps)
    done = subprocess.run(["sh", "-n"], input=script, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "cmzon-secrets doctor --account acme" in {step.command for step in made.steps}


@of()
def test_each_command_of_ours_among_the_steps_is_one_that_we_understand(made):
    for step in made.steps:
        for words in re.findall(
            r"cmzon-secrets ((?:put|rotate|doctor|keygen)\b[^&|;]*)", step.command
        ):
            name, *rest = shlex.split(words)
            assert name in COMMANDS
            import_module(f"cmzon_secrets.cli.{name}").command.make_context(name, rest)


@of(backend=("aws", "azure", "vault"))
def test_what_the_steps_ask_terraform_for_is_among_its_outputs(made):
    outputs = set(re.findall(r'^output "(\w+)"', made.files["terraform/outputs.tf"], re.MULTILINE))
    asked = set(
        re.findall(
            r"-chdir=terraform output (?:-\w+ )?(\w+)", "".join(step.command for step in made.steps)
        )
    )
    assert asked <= outputs


@pytest.mark.parametrize(
    ("there", "stops"),
    [
        (None, False),
        ("[Service]\nEnvironment=CMZON_SECRETS_CONFIG={folder}/cmzon-secrets.toml\n", False),
        ("[Service]\nEnvironment=CMZON_SECRETS_CONFIG=/srv/other/cmzon-secrets.toml\n", True),
    ],
    ids=["no timer", "ours", "another folder's"],
)
def test_the_timer_of_another_folder_is_shown_and_kept_and_a_script_ends_there(
    tmp_path, there, stops
):
    made = scaffold(wanting("file", "vm"), str(tmp_path))
    etc = tmp_path / "etc"
    drop_in = etc / "cmzon-secrets.service.d" / "init.conf"
    if there is not None:
        written_out(drop_in.parent, there.format(folder=tmp_path), drop_in.name)
    step = next(step.command for step in made.steps if "install -m 644" in step.command)
    script = f'sudo() {{ "$@"; }}\n{step}\necho went on\n'
    done = subprocess.run(
        ["sh", "-e"],
        input=script.replace("/etc/systemd/system", str(etc)),
        cwd=on_disk(made, tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    if stops:
        assert (done.returncode, done.stdout) == (1, there.splitlines()[1] + "\n")
        assert drop_in.read_text() == there
    else:
        assert (done.returncode, done.stdout) == (0, "went on\n")
        assert drop_in.read_text() == made.files["systemd/cmzon-secrets.service.d/init.conf"]


@pytest.mark.parametrize("namespace", ["", "team/messages"])
@pytest.mark.parametrize("certificate", ["", "a ca.pem"])
def test_a_machine_keeps_what_this_shell_knows_of_the_vault(tmp_path, certificate, namespace):
    """A unit has no such shell: the CA goes to a file beside the secret, and its path with the names."""
    made = scaffold(wanting("vault", "vm"), str(tmp_path))
    folder = on_disk(made, tmp_path)
    written_out(folder, "-----BEGIN CERTIFICATE-----\n", "a ca.pem")
    first, second = (
        next(step.command for step in made.steps if step.command.startswith(words))
        for words in ("test -z", "printf")
    )
    script = f"terraform() {{ echo a-role; }}\n{first}\n{second}\n"
    known = {"VAULT_CACERT": certificate, "VAULT_NAMESPACE": namespace}
    environment = {"PATH": os.environ["PATH"], **{k: v for k, v in known.items() if v}}
    done = subprocess.run(
        ["sh", "-eu"], input=script, text=True, cwd=folder, env=environment, check=False
    )
    assert done.returncode == 0
    expected = ["VAULT_ROLE_ID=a-role"]
    if certificate:
        expected.append(f"VAULT_CACERT={folder}/keys/vault-ca.pem")
        assert (folder / "keys/vault-ca.pem").read_text() == "-----BEGIN CERTIFICATE-----\n"
    if namespace:
        expected.append(f"VAULT_NAMESPACE={namespace}")
    assert (folder / "vault.env").read_text().splitlines() == expected


@of()
def test_no_step_has_a_place_for_a_secret(made):
    for step in made.steps:
        assert "--from-env" not in step.command
        assert not re.search(r"put .*(<|\|)", step.command)
