"""What to type after `cmzon-secrets init`, in order."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from cmzon_secrets.provisioning.configuration import admin_uri, token_uri
from cmzon_secrets.provisioning.places import SECRET_ID, VAULT_ENV
from cmzon_secrets.provisioning.terraform_root import LAMBDA_ZIP, NAMESPACE, SERVICE_ACCOUNT
from cmzon_secrets.provisioning.wanted import Wanted

__all__ = ["Step", "steps"]


@dataclass(frozen=True, slots=True)
class Step:
    """One command line for ``sh``, and what it is for."""

    why: str
    command: str


_TERRAFORM = "terraform -chdir=terraform"
_ADMIN = "the token with the scope tokens:manage, from CMzon's dashboard; it is asked for, unseen"
_RIGHT = "what is right and what is not"
_ITS_OWN = "; that you may do more than a rotator is no surprise"
_FIRST = "a token to send with, likewise; from here on it is rotated"


def steps(wanted: Wanted, directory: str) -> list[Step]:
    """All of them, from the folder that the command was given in."""
    found: list[Step] = []
    if os.path.normpath(directory) != ".":
        found.append(Step("where all this lies", f"cd {shlex.quote(directory)}"))
    found += _of_backend(wanted)
    found += _of_place(wanted)
    as_a_person = wanted.runs_on in ("lambda", "function", "kubernetes")
    why = _RIGHT + _ITS_OWN if as_a_person else _RIGHT
    found.append(Step(why, f"cmzon-secrets doctor --account {wanted.name}"))
    return found


def _of_backend(wanted: Wanted) -> Iterator[Step]:
    match wanted.backend:
        case "aws":
            yield from _aws(wanted)
        case "azure":
            yield from _azure(wanted)
        case "vault":
            yield from _vault(wanted)
        case _:
            yield Step(
                "the key; keep a copy elsewhere", f"cmzon-secrets keygen keys/{wanted.name}.key"
            )
            yield Step(_ADMIN, _put(admin_uri(wanted)))


def _of_place(wanted: Wanted) -> Iterator[Step]:
    match wanted.runs_on:
        case "lambda":
            name, region = f"cmzon-{wanted.name}-rotation", wanted["region"]
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
        profile = f"--iam-instance-profile Name=cmzon-{wanted.name}-rotator"
        here = '--instance-id "$(cat /sys/devices/virtual/dmi/id/board_asset_tag)"'
        yield Step("this machine's role; it must have no other", f"{associate} {profile} {here}")


def _azure(wanted: Wanted) -> Iterator[Step]:
    group, location = shlex.quote(wanted["resource_group"]), wanted["location"]
    yield Step(
        "the group, where there is none", f"az group create --name {group} --location {location}"
    )
    account = 'export ARM_SUBSCRIPTION_ID="$(az account show --query id --output tsv)"'
    yield Step("which subscription", account)
    yield from _applied("makes everything, and shows it before (roles take minutes to arrive)")
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
    seeder = f"vault token create -address={wanted['address']} -policy=cmzon-{wanted.name}-seeder"
    seeding = f'VAULT_TOKEN="$({seeder} -ttl=10m -field=token)"'
    yield Step(_ADMIN, f"{seeding} {_put(admin_uri(wanted), '--create')}")
    write = f"vault write -address={wanted['address']} {wanted['mount']}/data/{wanted.name} -"
    empty = """echo '{"data": {}, "options": {"cas": 0}}'"""
    yield Step(
        "a place for the token, which the first rotation fills", f"{empty} | {seeding} {write}"
    )
    if wanted.runs_on == "kubernetes":
        return
    role_id = f"{_TERRAFORM} output -raw approle_role_id"
    yield Step("as whom it logs in", f'echo "VAULT_ROLE_ID=$({role_id})" > {VAULT_ENV}')
    role = f"auth/approle/role/cmzon-{wanted.name}-rotator/secret-id"
    write = f"vault write -address={wanted['address']} -force -field=secret_id {role}"
    yield Step("its secret, good for 90 days; then again", f"(umask 077 && {write} > {SECRET_ID})")
    export = f'export "$(cat {VAULT_ENV})" VAULT_SECRET_ID_FILE="$PWD/{SECRET_ID}"'
    yield Step("the same login in this shell", export)


def _kubernetes(wanted: Wanted) -> Iterator[Step]:
    image = wanted["image"]
    yield Step("the image", f"docker build --tag {image} kubernetes && docker push {image}")
    yield Step("the CronJob", "kubectl apply -k kubernetes")
    within = f"--namespace {NAMESPACE}"
    if wanted.backend == "azure":
        identity = f"az identity show --name cmzon-{wanted.name}-rotator --resource-group"
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
    yield Step("the timer", "sudo cp -R systemd/. /etc/systemd/system/")
    start = "sudo systemctl daemon-reload && sudo systemctl enable --now cmzon-secrets.timer"
    yield Step("… and its beginning", start)


def _rotate(wanted: Wanted) -> Step:
    why = "issues the first token" if wanted.backend in ("aws", "file") else "as it will go on"
    return Step(why, "cmzon-secrets rotate --all")


def _put(uri: str, *options: str) -> str:
    return " ".join(["cmzon-secrets put", *options, shlex.quote(uri)])


def _python() -> str:
    """This Python: by its name where that is the one that a shell finds, else by its path."""
    for name in ("python", "python3"):
        if shutil.which(name) == sys.executable:
            return name
    return shlex.quote(sys.executable)
