"""Roots that use the AWS module as its README says, applied on servers of this machine.

A root is a folder with one `main.tf`, the user's whole configuration.
"""

import json
import os
import signal
import subprocess
import time
from contextlib import contextmanager, suppress

from servers.aws_environment import aws_environment
from servers.terraform import ROOT, Terraform, binary, written_out

MODULE = ROOT / "terraform" / "modules" / "aws"

WITHOUT_A_RESOURCE = [
    *("cloudwatch:DeleteAlarms", "cloudwatch:ListTagsForResource", "cloudwatch:TagResource"),
    *("cloudwatch:DeleteDashboards", "cloudwatch:GetDashboard", "cloudwatch:PutDashboard"),
    *("iam:CreatePolicy", "kms:CreateAlias", "kms:DeleteAlias", "lambda:CreateFunction"),
    *("sns:ListTagsForResource", "sns:TagResource"),
]
"""Actions that the files allow for certain names, and ministack judges without one."""

HEAD = f"""
terraform {{
  required_providers {{
    aws = {{ source = "hashicorp/aws" }}
  }}
}}

provider "aws" {{}}

module "cmzon" {{
  source = "{MODULE}"
"""


PATIENCE = 250
"""Seconds for an apply beside the others, on a machine that is busy; less than what pytest gives them."""


class Root:
    """``arguments``: of the module, in HCL. ``keys``: whose, on the server at ``url``."""

    def __init__(self, folder, arguments, url, keys, more=""):
        text = f'{HEAD}{arguments}\n}}\n\noutput "made" {{\n  value = module.cmzon\n}}\n{more}'
        environment = aws_environment(url, *keys)
        self.terraform = Terraform(written_out(folder, text), environment, patience=PATIENCE)
        self.terraform.init()

    def __getattr__(self, verb):
        return getattr(self.terraform, verb)

    @contextmanager
    def given(self, **variables):
        """As a pipeline does it: secrets by the environment, for these runs alone."""
        names = {f"TF_VAR_{name}": value for name, value in variables.items()}
        self.environment.update(names)
        yield
        for name in names:
            del self.environment[name]

    @property
    def made(self):
        """The module's outputs."""
        return self.output()["made"]

    @property
    def resources(self):
        """Address → attributes of what the state knows."""
        state = self.state() or {"resources": []}
        return {
            f"{kept['type']}.{kept['name']}": kept["instances"][0]["attributes"]
            for kept in state["resources"]
            if kept["mode"] == "managed" and kept["instances"]
        }

    def killed(self, when):
        """Begin an apply, and kill Terraform and its provider with SIGKILL once ``when()``; its end."""
        process = subprocess.Popen(
            [binary(), "apply", "-input=false", "-auto-approve"],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            until(lambda: when() or process.poll() is not None, patience=PATIENCE)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        return process.returncode


def changes(plan):
    """How a plan changes what there is: (type, action) → the attributes that will be others."""
    changed = {}
    for one in plan.get("resource_changes", []):
        for action in one["change"]["actions"]:
            if action != "no-op":
                differing = changed.setdefault((one["type"], action), set())
                differing |= _differing(one["change"])
    return changed


def _differing(change):
    before, after = change["before"] or {}, change["after"] or {}
    names = {*before, *after, *(change["after_unknown"] or {})}
    return {name for name in names if before.get(name) != after.get(name)}


def until(condition, patience=60):
    """Wait for what comes by itself; what came."""
    end = time.monotonic() + patience
    while not (came := condition()):
        assert time.monotonic() < end, f"nothing came within {patience} s"
        time.sleep(0.2)
    return came


def rights(*files, without=()):
    """The policy of whoever applies: the files beside the module, as they are, less some actions."""
    statements = [
        {**statement, "Action": [a for a in _listed(statement["Action"]) if a not in without]}
        for file in files
        for statement in json.loads((MODULE / file).read_text())["Statement"]
    ]
    granted = {action for statement in statements for action in statement["Action"]}
    nameless = [action for action in WITHOUT_A_RESOURCE if action in granted]
    statements.append({"Effect": "Allow", "Action": nameless, "Resource": "*"})
    return json.dumps({"Version": "2012-10-17", "Statement": statements})


def _listed(actions):
    return [actions] if isinstance(actions, str) else actions


def found(root, values):
    """The values that the root's files hold: states, plans' members, everything on the disk."""
    contents = [content for _, content in root.written()]
    return {value for value in values if any(value.encode() in content for content in contents)}
