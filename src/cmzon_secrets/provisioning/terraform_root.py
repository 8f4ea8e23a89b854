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
*.zip
"""

_PROVIDERS = {
    "aws": ('provider "aws" {{', '  region = "{region}"', "}}"),
    "azure": (
        'provider "azurerm" {{ # for the subscription of ARM_SUBSCRIPTION_ID',
        "  features {{}}",
        "}}",
    ),
    "vault": ('provider "vault" {{', '  address = "{address}"', "}}"),
}

_OF_A_FUNCTION = (
    'provider "azurerm" {{ # for the subscription of ARM_SUBSCRIPTION_ID',
    "  features {{",
    "    storage {{ data_plane_available = false }} # the function's storage account lets nobody in",
    "  }}",
    "}}",
)

_WHAT = {
    "lambda": "a function that rotates it",
    "function": "a function that rotates it",
    "kubernetes": "the rights of the CronJob that rotates it",
    "vm": "the rights of the machine that rotates it",
    "compose": "the rights of the container that rotates it",
}


def terraform_files(wanted: Wanted) -> dict[str, str]:
    """All files below ``terraform/``: the root, what git shall not keep, and the module."""
    module = shipped_module(wanted.backend)
    return {
        "terraform/main.tf": _root(wanted),
        "terraform/.gitignore": _IGNORED,
        **{f"terraform/modules/{wanted.backend}/{below}": text for below, text in module.items()},
    }


def _root(wanted: Wanted) -> str:
    provider = _OF_A_FUNCTION if wanted.runs_on == "function" else _PROVIDERS[wanted.backend]
    lines = [
        f"# The place of {wanted.name}'s token, and {_WHAT[wanted.runs_on]}. What else the module takes:",
        f"# modules/{wanted.backend}/README.md. Keep the state where your team keeps its own: add a backend block.",
        "",
        *(line.format_map(dict(wanted.details)) for line in provider),
        "",
        *_module(wanted),
        *_more(wanted),
    ]
    return "\n".join(lines) + "\n"


def _module(wanted: Wanted) -> Iterator[str]:
    arguments = [("name", _string(wanted.name)), *_arguments(wanted)]
    width = max(len(name) for name, _ in arguments)
    yield 'module "cmzon" {'
    yield f'  source = "./modules/{wanted.backend}"'
    yield ""
    for name, value in arguments:
        yield f"  {name.ljust(width)} = {value}"
    yield "}"


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
            yield "allowed_cidrs", _strings(*wanted.allowed)
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


def _more(wanted: Wanted) -> Iterator[str]:
    """Resources that join it to what there is, and what the steps ask for."""
    match wanted.backend, wanted.runs_on:
        case "aws", "lambda":
            yield from _output("first_steps")
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
        case "aws", _:
            yield from (
                "",
                'resource "aws_iam_instance_profile" "rotator" {',
                f"  name = {_string(f'cmzon-{wanted.name}-rotator')}",
                '  role = split("/", module.cmzon.rotator_role_arn)[1]',
                "}",
            )
        case "azure", "function":
            yield from _output("function_name")
        case "vault", "vm" | "compose":
            yield from _output("approle_role_id")


def _output(name: str) -> Iterator[str]:
    yield ""
    yield f'output "{name}" {{ value = module.cmzon.{name} }}'


def _string(text: str) -> str:
    return json.dumps(text)  # what may stand in a detail needs no other quoting; see DETAILS


def _strings(*texts: str) -> str:
    return json.dumps(texts)
