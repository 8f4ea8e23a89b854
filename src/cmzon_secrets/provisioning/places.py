"""The files of the place where rotation runs: manifests, units, a Compose file, a function.

Manifests, units and the function are the project's examples as they are; what an account has otherwise
stands beside them, in the form that Kustomize and systemd have for it. The Compose file is made here.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from cmzon_secrets.provisioning.configuration import configuration
from cmzon_secrets.provisioning.shipped import shipped_file
from cmzon_secrets.provisioning.terraform_root import NAMESPACE
from cmzon_secrets.provisioning.wanted import BACKENDS, Wanted

__all__ = [
    "APPLICATION",
    "DROP_IN",
    "SECRET_ID",
    "VAULT_CA",
    "VAULT_ENV",
    "place_files",
    "private_folders",
]

VAULT_ENV = "vault.env"
SECRET_ID = "keys/secret-id"  # noqa: S105  # a path
VAULT_CA = "keys/vault-ca.pem"
"""Where a machine that logs in to Vault with an AppRole keeps its ID, the secret that goes with it, and
the server's CA where that is not a public one."""

DROP_IN = "cmzon-secrets.service.d/init.conf"
APPLICATION = "application.conf"
"""What is added to the unit of a program that sends, where that runs as the user who rotates."""

_UNITS = ("cmzon-secrets.service", "cmzon-secrets.timer")
_HOMES = ("/home/", "/root/", "/run/user/")
_ALL_BUT_ITSELF = "*\n!.gitignore\n"


def place_files(wanted: Wanted, folder: Path) -> dict[str, str]:
    """Path below ``folder``, where they will lie → text."""
    kept = {f"{name}/.gitignore": _ALL_BUT_ITSELF for name in private_folders(wanted)}
    match wanted.runs_on:
        case "function":
            return _function()
        case "kubernetes":
            return _kubernetes(wanted)
        case "vm":
            return {**_vm(wanted, folder), **kept}
        case "compose":
            return {**_compose(wanted, folder), **kept}
        case _:
            return {}


def private_folders(wanted: Wanted) -> tuple[str, ...]:
    """Folders that hold secrets, which nobody else may enter and git does not keep."""
    if wanted.backend == "file":
        return ("keys", "token", "admin")
    return ("keys",) if wanted.backend == "vault" and wanted.on_machine else ()


# ── Azure Functions ─────────────────────────────────────────────────────────────────────────────


def _function() -> dict[str, str]:
    names = ("function_app.py", "host.json", "requirements.txt")
    files = {n: shipped_file(f"examples/azure-function/{n}") for n in names}
    files[".gitignore"] = ".python_packages/\n"
    return {f"function/{name}": text for name, text in files.items()}


# ── Kubernetes ──────────────────────────────────────────────────────────────────────────────────


def _kubernetes(wanted: Wanted) -> dict[str, str]:
    base = ["kustomization.yaml", "cmzon-secrets.yaml"]
    if wanted.backend != "vault":
        base.append("without-vault/kustomization.yaml")
    return {
        **{f"kubernetes/base/{name}": shipped_file(f"examples/kubernetes/{name}") for name in base},
        "kubernetes/Dockerfile": _dockerfile(wanted),
        "kubernetes/cmzon-secrets.toml": configuration(wanted, login=True),
        "kubernetes/kustomization.yaml": _kustomization(wanted),
    }


_KUSTOMIZATION = """\
# kubectl apply -k kubernetes: what {name} has of its own, over the CronJob that is the same for all.
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources: [base]
{components}configMapGenerator:
  - {{ name: cmzon-secrets, namespace: {namespace}, behavior: replace, files: [cmzon-secrets.toml] }}
images:
  - {{ name: registry.example.com/cmzon-secrets, newName: {image}, newTag: "{tag}" }}
{patches}"""

_CRON_JOB_PATCH = """\
  - patch: |-
      apiVersion: batch/v1
      kind: CronJob
      metadata: {{ name: cmzon-secrets, namespace: {namespace} }}
      spec: {{ jobTemplate: {{ spec: {{ template: {what} }} }} }}
"""

_NETWORK_POLICY_PATCH = """\
  - target: {{ kind: NetworkPolicy, name: cmzon-secrets }}
    patch: |-
      - {{ op: add, path: /spec/egress/-, value: {way_out} }}
"""

_LABELLED = '{ metadata: { labels: { azure.workload.identity/use: "true" } } }'
"""Then AKS gives the pod the identity that its service account names."""


def _kustomization(wanted: Wanted) -> str:
    image, _, tag = wanted["image"].rpartition(":")
    patches = list(_patches(wanted))
    return _KUSTOMIZATION.format(
        name=wanted.name,
        namespace=NAMESPACE,
        image=image,
        tag=tag,
        components="" if wanted.backend == "vault" else "components: [base/without-vault]\n",
        patches="".join(["patches:\n", *patches]) if patches else "",
    )


def _patches(wanted: Wanted) -> Iterator[str]:
    match wanted.backend:
        case "azure":
            yield _CRON_JOB_PATCH.format(namespace=NAMESPACE, what=_LABELLED)
        case "vault":
            address = f'{{ name: VAULT_ADDR, value: "{wanted["address"]}" }}'
            what = f"{{ spec: {{ containers: [{{ name: rotate, env: [{address}] }}] }} }}"
            yield _CRON_JOB_PATCH.format(namespace=NAMESPACE, what=what)
            port = re.search(r":([0-9]+)$", wanted["address"])
            if port is not None:
                way_out = f"{{ ports: [{{ port: {port[1]}, protocol: TCP }}] }}"
                yield _NETWORK_POLICY_PATCH.format(way_out=way_out)


def _dockerfile(wanted: Wanted) -> str:
    text = shipped_file("examples/kubernetes/Dockerfile")
    ours = f'"cmzon-secrets{BACKENDS[wanted.backend].extra}"'
    return re.sub(r'"cmzon-secrets(\[[^]]*\])?"', ours, text, count=1)  # what pip is told


# ── systemd ─────────────────────────────────────────────────────────────────────────────────────


def _vm(wanted: Wanted, folder: Path) -> dict[str, str]:
    files = {name: shipped_file(f"examples/systemd/{name}") for name in _UNITS}
    files[DROP_IN] = _drop_in(wanted, folder)
    if wanted.backend == "file":
        files[APPLICATION] = _application(wanted, folder)
    return {f"systemd/{name}": text for name, text in files.items()}


def _drop_in(wanted: Wanted, folder: Path) -> str:
    """What this machine has otherwise than the unit says."""
    command = next(
        line.partition("=")[2].split()[1:]
        for line in shipped_file(f"examples/systemd/{_UNITS[0]}").splitlines()
        if line.startswith("ExecStart=")
    )
    program = _program()
    environment = {"CMZON_SECRETS_CONFIG": str(folder / "cmzon-secrets.toml")}
    lines = [
        "# What this machine has otherwise than cmzon-secrets.service says: this folder, its owner,",
        "# and the program. Made by `cmzon-secrets init`.",
        "[Service]",
        "ExecStart=",
        f"ExecStart={' '.join(map(_unit_word, [*program, *command]))}",
        f"User={_user()}",
        "LoadCredential=",
        "UnsetEnvironment=CMZON_SECRETS_KEY CMZON_ADMIN_URI",
    ]
    if wanted.backend == "vault":
        environment["VAULT_SECRET_ID_FILE"] = str(folder / SECRET_ID)
        lines.append(f"EnvironmentFile={_unit_path(folder / VAULT_ENV)}")
    lines += [f"Environment={_unit_word(f'{k}={v}')}" for k, v in environment.items()]
    if wanted.backend == "file":
        lines.append(f"ReadWritePaths={_unit_word(str(folder / 'token'))}")
    if any(path.startswith(_HOMES) for path in (f"{folder}/", program[0])):
        lines.append("ProtectHome=read-only")
    return "\n".join(lines) + "\n"


def _application(wanted: Wanted, folder: Path) -> str:
    """It reads the token; the admin token and its key it does not see, nor the memory of the run that does."""
    hidden = (folder / "admin", folder / "keys" / f"{wanted.name}-admin.key")
    lines = [
        "# /etc/systemd/system/UNIT.service.d/cmzon-secrets.conf: what is added to the unit of a program that sends.",
        "# It runs as the same user, and is shut off from the admin token. Made by `cmzon-secrets init`.",
        "[Service]",
        f"User={_user()}",
        f"ReadOnlyPaths={_unit_word(str(folder))}",
        f"InaccessiblePaths={' '.join(_unit_word(str(path)) for path in hidden)}",
        "PrivateUsers=yes",
        "LimitCORE=0",
    ]
    return "\n".join(lines) + "\n"


def _program() -> list[str]:
    """How to start ourselves; as now, whatever PATH is there."""
    beside = Path(sys.executable).with_name("cmzon-secrets")
    return [str(beside)] if beside.exists() else [sys.executable, "-m", "cmzon_secrets.cli"]


def _user() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def _unit_word(word: str) -> str:
    """A word of a setting; ``%`` and ``$`` have a meaning in units."""
    word = word.replace("\\", "\\\\").replace("%", "%%")
    plain = re.fullmatch(r"[A-Za-z0-9_./:=%@+,\\-]+", word) is not None
    return word if plain else '"{}"'.format(word.replace('"', '\\"'))


def _unit_path(path: Path) -> str:
    """A path that is a whole setting, and may have blanks as it is."""
    return str(path).replace("%", "%%")


# ── Compose ─────────────────────────────────────────────────────────────────────────────────────

_COMPOSE = """\
# What rotates the token of {name}, once an hour: docker compose up --detach --build
# {readers}
services:
  rotator:
    build: ./image
    user: "{uid}:{gid}" # the owner of this folder
    init: true
    read_only: true
    restart: unless-stopped
    cap_drop: [ALL]
    security_opt: ["no-new-privileges:true"]
    # A run with nothing due changes nothing; one that failed is made up for by the next.
    entrypoint: ["sh", "-c", "while :; do cmzon-secrets rotate --all --time-limit 45m; sleep 3600; done"]
{env_file}    environment:
{environment}
    # "unhealthy": a rotation is overdue or stuck, or the token cannot be read.
    healthcheck:
      test: ["CMD", "cmzon-secrets", "status", "--account", "{name}"]
      interval: 10m
      timeout: 1m
    volumes:
{volumes}
"""


_READERS = {
    "file": "A program beside it runs as the same user, and has token/ and keys/{name}.key, no more, read-only at the same paths.",
    "vault": "A program beside it logs in to Vault by itself, as a reader; it needs nothing of this folder.",
}


def _compose(wanted: Wanted, folder: Path) -> dict[str, str]:
    environment = {"CMZON_SECRETS_CONFIG": str(folder / "cmzon-secrets.toml")}
    if wanted.backend == "vault":
        environment["VAULT_SECRET_ID_FILE"] = str(folder / SECRET_ID)
    mounted = ["cmzon-secrets.toml", *private_folders(wanted)]
    text = _COMPOSE.format(
        name=wanted.name,
        readers=_READERS[wanted.backend].format(name=wanted.name),
        uid=os.getuid(),
        gid=os.getgid(),
        env_file=f"    env_file: {VAULT_ENV}\n" if wanted.backend == "vault" else "",
        environment="\n".join(f"      {k}: {_yaml_string(v)}" for k, v in environment.items()),
        volumes="\n".join(_bind(folder / name, writable=name == "token") for name in mounted),
    )
    return {"compose.yaml": text, "image/Dockerfile": _dockerfile(wanted)}


def _bind(path: Path, *, writable: bool) -> str:
    """The same path inside and out: a sealed file is bound to the path it lies at."""
    source = target = _yaml_string(str(path))
    read_only = "" if writable else ", read_only: true"
    return f"      - {{ type: bind, source: {source}, target: {target}{read_only} }}"


def _yaml_string(text: str) -> str:
    """A string of YAML, in which ``$`` stands for itself."""
    return json.dumps(text.replace("$", "$$"), ensure_ascii=False)
