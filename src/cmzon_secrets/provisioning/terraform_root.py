"""The Terraform root of an account: the provider, the module beside it, and what the steps ask it for."""

from __future__ import annotations

import json
from collections.abc import Iterator

from cmzon_secrets.provisioning.shipped import shipped_module
from cmzon_secrets.provisioning.wanted import Wanted

__all__ = ["LAMBDA_ZIP", "NAMESPACE", "SERVICE_ACCOUNT", "terraform_files"]

LAMBDA_ZIP = "cmzon-secrets-lambda.zip"
NAMESPACE = "cmzon"
SERVICE_ACCOUNT = "cmzon-secrets"

_IGNORED = """\
# The lock file .terraform.lock.hcl is to be committed; these are not.
.terraform/
*.tfplan
*.tfstate
*.tfstate.*
*.tfvars
*.tfvars.json
crash*.log
*.zip
"""

_PROVIDERS = {
    "aws": 'provider "aws" {{\n  region = "{region}"\n}}',
    "azure": 'provider "azurerm" {{ # for the subscription of ARM_SUBSCRIPTION_ID\n  {features}\n}}',
    "vault": 'provider "vault" {{\n  address = "{address}"\n}}',
}
_FEATURES = "features {}"
_FEATURES_OF_A_FUNCTION = """features {
    storage { data_plane_available = false } # the function's storage account lets nobody in
  }"""

_WHAT = {
    "lambda": "a function that rotates it",
    "function": "a function that rotates it",
    "kubernetes": "the rights of the CronJob that rotates it",
    "vm": "the rights of the machine that rotates it",
    "compose": "the rights of the container that rotates it",
}


def terraform_files(wanted: Wanted) -> dict[str, str]:
    """All files below ``terraform/``: the root, what it tells, what git shall not keep, and the module."""
    module = shipped_module(wanted.backend)
    return {
        "terraform/main.tf": _root(wanted),
        "terraform/outputs.tf": _outputs(wanted),
        "terraform/.gitignore": _IGNORED,
        **{f"terraform/modules/{wanted.backend}/{below}": text for below, text in module.items()},
    }


def _root(wanted: Wanted) -> str:
    features = _FEATURES_OF_A_FUNCTION if wanted.runs_on == "function" else _FEATURES
    lines = [
        f"# The place of {wanted.name}'s token, and {_WHAT[wanted.runs_on]}. What else the module takes:",
        f"# modules/{wanted.backend}/README.md. Keep the state where your team keeps its own: add a backend block.",
        "",
        _PROVIDERS[wanted.backend].format_map({**wanted.details, "features": features}),
        "",
        *_module(wanted),
        *_more(wanted),
    ]
    return "\n".join(lines) + "\n"


def _module(wanted: Wanted) -> Iterator[str]:
    yield 'module "cmzon" {'
    yield f'  source = "./modules/{wanted.backend}"'
    yield ""
    yield from _aligned([("name", _string(wanted.name)), *_arguments(wanted)], "  ")
    yield from _aligned(list(_offered(wanted)), "  # ")
    yield "}"


def _aligned(arguments: list[tuple[str, str]], indented: str) -> Iterator[str]:
    width = max((len(name) for name, _ in arguments), default=0)
    for name, value in arguments:
        yield f"{indented}{name.ljust(width)} = {value}"


def _arguments(wanted: Wanted) -> Iterator[tuple[str, str]]:
    account = _strings(f"{NAMESPACE}:{SERVICE_ACCOUNT}")
    match wanted.backend, wanted.runs_on:
        case "aws", "lambda":
            yield "lambda_zip", f'"${{path.module}}/{LAMBDA_ZIP}"'
        case "aws", place:
            who = "pods.eks.amazonaws.com" if place == "kubernetes" else "ec2.amazonaws.com"
            yield "create_function", "false"
            yield "rotators", f"{{ services = {_strings(who)} }}"
        case "azure", place:
            yield "resource_group_name", _string(wanted["resource_group"])
            yield "location", _string(wanted["location"])
            yield "key_vault_name", _string(wanted["vault_name"])
            yield "operators", f"{{ platform = {_string(wanted['operator'])} }}"
            yield "allowed_cidrs", _strings(*(r for r in wanted["allow"].split(",") if r != "none"))
            if place != "function":
                yield "create_function", "false"
            if place == "kubernetes":
                issuer = _string(wanted["oidc_issuer"])
                oidc = f"{{ issuer_url = {issuer}, service_accounts = {account} }}"
                yield "rotators", f"{{ oidc = {oidc} }}"
            if place == "vm":
                machine = f"{{ machine = {_string(wanted['principal_id'])} }}"
                yield "rotators", f"{{ principal_ids = {machine} }}"
        case "vault", place:
            yield "mount", _string(wanted["mount"])
            yield "address", _string(wanted["address"])
            if place == "kubernetes":
                yield "rotators", f"{{ service_accounts = {account} }}"
            else:
                yield (
                    "approle",
                    "{ create_mount = true } # false where auth/approle is there already",
                )


def _offered(wanted: Wanted) -> Iterator[tuple[str, str]]:
    """Arguments that most will want soon, and only the owner knows: they are comments."""
    reads = " # an application; it can do nothing else"
    match wanted.backend, wanted.runs_on:
        case "aws", place:
            service = {"kubernetes": "pods.eks", "vm": "ec2"}.get(place, "ecs-tasks")
            yield "readers", f"{{ services = {_strings(f'{service}.amazonaws.com')} }}{reads}"
        case "azure", "kubernetes":
            issuer = _string(wanted["oidc_issuer"])
            oidc = f'{{ issuer_url = {issuer}, service_accounts = ["shop:shop"] }}'
            yield "readers", f"{{ oidc = {oidc} }}{reads}"
        case "azure", _:
            shop = '{ shop = "00000000-0000-0000-0000-000000000000" }'
            yield "readers", f"{{ principal_ids = {shop} }}{reads}"
        case "vault", "kubernetes":
            yield "readers", f'{{ service_accounts = ["shop:shop"] }}{reads}'
    if wanted.backend == "azure":
        subnet = "/subscriptions/…/virtualNetworks/NAME/subnets/NAME"
        yield "allowed_subnet_ids", f"{_strings(subnet)} # where it reads from"
    if wanted.runs_on in ("lambda", "function"):
        yield "alarm_emails", '["oncall@example.com"]'


def _more(wanted: Wanted) -> Iterator[str]:
    """Resources that join it to what there is."""
    match wanted.backend, wanted.runs_on:
        case "aws", "kubernetes":
            yield from (
                "",
                'resource "aws_eks_pod_identity_association" "rotator" {',
                f"  cluster_name    = {_string(wanted['cluster'])}",
                f"  namespace       = {_string(NAMESPACE)}",
                f"  service_account = {_string(SERVICE_ACCOUNT)}",
                "  role_arn        = module.cmzon.rotator_role_arn",
                "}",
            )
        case "aws", "vm":
            yield from (
                "",
                'resource "aws_iam_instance_profile" "rotator" {',
                f"  name = {_string(wanted.rotator)}",
                '  role = split("/", module.cmzon.rotator_role_arn)[1]',
                "}",
            )


def _outputs(wanted: Wanted) -> str:
    """What an application needs, and what the steps ask for."""
    match wanted.backend, wanted.runs_on:
        case "aws", _:
            names = ["token_uri", "reader_policy_arn"]
        case "azure", "function":
            names = ["token_uri", "function_name"]
        case "azure", _:
            names = ["token_uri"]
        case _, "kubernetes":
            names = ["reader_uris"]  # the module's token_uri is how the rotator logs in
        case _:
            names = ["approle_role_id"]
    return "\n".join(f'output "{name}" {{ value = module.cmzon.{name} }}\n' for name in names)


def _string(text: str) -> str:
    return json.dumps(text)  # what may stand in a detail needs no other quoting; see DETAILS


def _strings(*texts: str) -> str:
    return json.dumps(texts, ensure_ascii=False)
