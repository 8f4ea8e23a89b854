"""What to type after `cmzon-secrets init`, in order."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cmzon_secrets.provisioning.configuration import admin_uri, token_uri, uri_of_the_file
from cmzon_secrets.provisioning.places import (
    APPLICATION,
    DROP_IN,
    SECRET_ID,
    VAULT_CA,
    VAULT_ENV,
)
from cmzon_secrets.provisioning.terraform_root import LAMBDA_ZIP, NAMESPACE, SERVICE_ACCOUNT
from cmzon_secrets.provisioning.wanted import Wanted

__all__ = ["Step", "steps"]


@dataclass(frozen=True, slots=True)
class Step:
    """One command line for ``sh``, and what it is for."""

    why: str
    command: str


_TERRAFORM = "terraform -chdir=terraform"
_UNITS = "/etc/systemd/system"
_ADMIN = "the token with the scope tokens:manage, from CMzon's dashboard; it is asked for, unseen"
_RIGHT = "what is right and what is not"
_ITS_OWN = "; that you may do more than a rotator is no surprise"
_FIRST = "a token to send with, likewise; from here on it is rotated"


def steps(wanted: Wanted, directory: str) -> list[Step]:
    """All of them, from the folder that the command was given in."""
    found: list[Step] = []
    if os.path.normpath(directory) != ".":
        found.append(Step("where all this lies", f"cd {_folder(directory)}"))
    found += _backend_steps(wanted)
    found += _place_steps(wanted)
    why = _RIGHT if wanted.on_machine else _RIGHT + _ITS_OWN
    found.append(Step(why, f"cmzon-secrets doctor --account {wanted.name}"))
    found.append(_application(wanted, Path(directory).absolute()))
    return found


def _folder(directory: str) -> str:
    """One that begins with a dash would be an option of ``cd``."""
    return shlex.quote(f"./{directory}" if directory.startswith("-") else directory)


def _backend_steps(wanted: Wanted) -> Iterator[Step]:
    match wanted.backend:
        case "aws":
            yield from _aws(wanted)
        case "azure":
            yield from _azure(wanted)
        case "vault":
            yield from _vault(wanted)
        case _:
            keygen = f"cmzon-secrets keygen keys/{wanted.name}"
            yield Step("the key; keep a copy elsewhere", f"{keygen}.key")
            yield Step("another, which only what rotates is to have", f"{keygen}-admin.key")
            yield Step(_ADMIN, _put(admin_uri(wanted)))


def _place_steps(wanted: Wanted) -> Iterator[Step]:
    match wanted.runs_on:
        case "lambda":
            name, region = f"{wanted.prefix}-rotation", wanted["region"]
            invoke = f"aws lambda invoke --region {region} --function-name {name} /dev/stdout"
            yield Step("the first rotation now, instead of within the hour", invoke)
        case "function":
            yield from _function(wanted)
        case "kubernetes":
            yield from _kubernetes(wanted)
        case "vm":
            yield _rotate(wanted)
            yield from _systemd()
        case _:
            yield _rotate(wanted)
            yield Step("the container, from now on", "docker compose up --detach --build")
            status = f"docker compose exec rotator cmzon-secrets status --account {wanted.name}"
            yield Step("whether it can do there what it can here", status)


def _applied(why: str) -> Iterator[Step]:
    yield Step("fetches the provider", f"{_TERRAFORM} init")
    yield Step(why, f"{_TERRAFORM} apply")


def _aws(wanted: Wanted) -> Iterator[Step]:
    if wanted.runs_on == "lambda":
        build = f"{_python()} -m cmzon_secrets.provisioning.lambda_zip"
        yield Step("the function's code", f"{build} --output terraform/{LAMBDA_ZIP}")
    yield from _applied("makes everything, and shows it before (with your AWS credentials)")
    yield Step(_ADMIN, _put(admin_uri(wanted)))
    if wanted.runs_on == "vm":
        associate = f"aws ec2 associate-iam-instance-profile --region {wanted['region']}"
        profile = f"--iam-instance-profile Name={wanted.rotator}"
        here = '--instance-id "$(cat /sys/devices/virtual/dmi/id/board_asset_tag)"'
        yield Step("this machine's role; it must have no other", f"{associate} {profile} {here}")


def _azure(wanted: Wanted) -> Iterator[Step]:
    group, location = shlex.quote(wanted["resource_group"]), wanted["location"]
    yield Step(
        "the group, where there is none", f"az group create --name {group} --location {location}"
    )
    account = 'export ARM_SUBSCRIPTION_ID="$(az account show --query id --output tsv)"'
    yield Step("which subscription", account)
    yield from _applied(
        "makes everything, and shows it before; new roles need minutes to take effect"
    )
    yield Step(_ADMIN, _put(admin_uri(wanted), "--create"))
    yield Step(_FIRST, _put(token_uri(wanted), "--create"))


def _function(wanted: Wanted) -> Iterator[Step]:
    packages = "--target function/.python_packages/lib/site-packages"
    built_for = "--platform manylinux2014_x86_64 --python-version 3.12 --only-binary=:all:"
    install = f"{_python()} -m pip install {packages} {built_for} -r function/requirements.txt"
    yield Step("the function's code with what it needs", install)
    pack = f"(cd function && {_python()} -m zipfile -c ../terraform/function.zip .)"
    yield Step("… as a zip", pack)
    name = f'"$({_TERRAFORM} output -raw function_name)"'
    group = shlex.quote(wanted["resource_group"])
    deploy = "az functionapp deployment source config-zip"
    yield Step(
        "… to the function",
        f"{deploy} --resource-group {group} --name {name} --src terraform/function.zip",
    )


def _vault(wanted: Wanted) -> Iterator[Step]:
    yield from _applied("makes everything, and shows it before (with your VAULT_TOKEN)")
    seeder = f"vault token create -address={wanted['address']} -policy={wanted.prefix}-seeder"
    seeding = f'VAULT_TOKEN="$({seeder} -ttl=10m -field=token)"'
    yield Step(_ADMIN, f"{seeding} {_put(admin_uri(wanted), '--create')}")
    write = f"vault write -address={wanted['address']} {wanted['mount']}/data/{wanted.name} -"
    empty = """echo '{"data": {}, "options": {"cas": 0}}'"""
    yield Step(
        "a place for the token, which the first rotation fills", f"{empty} | {seeding} {write}"
    )
    if wanted.runs_on == "kubernetes":
        return
    yield from _approle(wanted)


def _approle(wanted: Wanted) -> Iterator[Step]:
    """The login of this machine, and what it must know of the server besides: a unit has no such shell."""
    copy = f'test -z "${{VAULT_CACERT:-}}" || cp "$VAULT_CACERT" {VAULT_CA}'
    yield Step("Vault's own CA, where VAULT_CACERT names one", copy)
    lines = [
        f'"VAULT_ROLE_ID=$({_TERRAFORM} output -raw approle_role_id)"',
        f'${{VAULT_CACERT:+"VAULT_CACERT=$PWD/{VAULT_CA}"}}',
        '${VAULT_NAMESPACE:+"VAULT_NAMESPACE=$VAULT_NAMESPACE"}',
    ]
    write = f"printf '%s\\n' {' '.join(lines)} > {VAULT_ENV}"
    yield Step("as whom it logs in, and to what", write)
    role = f"auth/approle/role/{wanted.rotator}/secret-id"
    at = f"-address={wanted['address']}"
    wrapped = f"vault write {at} -wrap-ttl=5m -force -field=wrapping_token {role}"
    unwrap = f'VAULT_TOKEN="$({wrapped})" vault unwrap {at} -field=secret_id'
    yield Step(
        "its secret, good for 90 days; then again",
        f"rm -f {SECRET_ID} && (umask 077 && {unwrap} > {SECRET_ID})",
    )
    role_id = f'"$(grep ^VAULT_ROLE_ID= {VAULT_ENV})"'
    export = f'export {role_id} VAULT_SECRET_ID_FILE="$PWD/{SECRET_ID}"'
    yield Step("the same login in this shell", export)


def _kubernetes(wanted: Wanted) -> Iterator[Step]:
    image = wanted["image"]
    yield Step("the image", f"docker build --tag {image} kubernetes && docker push {image}")
    yield Step("the CronJob", "kubectl apply -k kubernetes")
    within = f"--namespace {NAMESPACE}"
    if wanted.backend == "azure":
        identity = f"az identity show --name {wanted.rotator} --resource-group"
        group = shlex.quote(wanted["resource_group"])
        client_id = f'"$({identity} {group} --query clientId --output tsv)"'
        client = f"azure.workload.identity/client-id={client_id}"
        annotate = (
            f"kubectl annotate {within} --overwrite serviceaccount {SERVICE_ACCOUNT} {client}"
        )
        yield Step("as whom it logs in", annotate)
    first = f"kubectl create job {within} --from=cronjob/cmzon-secrets first-run"
    yield Step("the first rotation now, instead of within the hour", first)
    wait = f"kubectl wait {within} --for=condition=complete --timeout=5m job/first-run"
    yield Step("… until it is done", wait)


def _systemd() -> Iterator[Step]:
    other = f"! grep -s CMZON_SECRETS_CONFIG= {_UNITS}/{DROP_IN} | grep -vxFf systemd/{DROP_IN}"
    # In parentheses: `sh -e` goes on after a list whose first part fails, and ends where a subshell does.
    units = f"sudo install -m 644 -D -t {_UNITS} systemd/cmzon-secrets.service systemd/cmzon-secrets.timer"
    drop_in = f"sudo install -m 644 -D systemd/{DROP_IN} {_UNITS}/{DROP_IN}"
    yield Step(
        "the timer; where it is another folder's, that is shown and kept: add this account there",
        f"({other} && {units} && {drop_in})",
    )
    start = "sudo systemctl daemon-reload && sudo systemctl enable --now cmzon-secrets.timer"
    yield Step("… start it", start)
    yield Step(
        "one run as the timer starts it; what it says: journalctl -u cmzon-secrets",
        "sudo systemctl start cmzon-secrets.service",
    )


def _application(wanted: Wanted, folder: Path) -> Step:
    """What the program that sends is to be given; the rest is docs/deploying.md's."""
    output = f"{_TERRAFORM} output"
    from_terraform = f'echo "CMZON_TOKEN_URI=$({output} -raw token_uri)"'
    match wanted.backend, wanted.runs_on:
        case "aws", _:
            why = "for the application: its environment, and the policy for its role"
            return Step(why, f"{from_terraform} && {output} reader_policy_arn")
        case "azure", _:
            why = "for the application: its environment; its identity belongs into readers, terraform/main.tf"
            return Step(why, from_terraform)
        case "vault", "kubernetes":
            why = "for the applications in readers, terraform/main.tf: CMZON_TOKEN_URI by namespace"
            return Step(why, f"{output} reader_uris")
        case "vault", _:
            why = f"for the application: its environment; its own role needs the policy {wanted.prefix}-reader"
            return Step(why, f"echo {shlex.quote(f'CMZON_TOKEN_URI={token_uri(wanted)}')}")
        case _:
            why = "for the application: its environment; it runs as the same user"
            if wanted.runs_on == "vm":
                why += f", and its unit gets systemd/{APPLICATION}"
            uri = uri_of_the_file(wanted, folder)
            return Step(why, f"echo {shlex.quote(f'CMZON_TOKEN_URI={uri}')}")


def _rotate(wanted: Wanted) -> Step:
    why = "issues the first token" if wanted.backend in ("aws", "file") else "the first run"
    return Step(why, "cmzon-secrets rotate --all")


def _put(uri: str, *options: str) -> str:
    return " ".join(["cmzon-secrets put", *options, shlex.quote(uri)])


def _python() -> str:
    """This Python: by its name where that is the one that a shell finds, else by its path."""
    for name in ("python", "python3"):
        if shutil.which(name) == sys.executable:
            return name
    return shlex.quote(sys.executable)
