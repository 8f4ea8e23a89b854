"""The ``cmzon-secrets.toml`` of one account, for people, for pods and for machines."""

from __future__ import annotations

import tempfile
from pathlib import Path

from cmzon_secrets.config import FILE_NAME, load_config
from cmzon_secrets.provisioning.wanted import Wanted
from cmzon_secrets.uri import Location

__all__ = ["admin_uri", "configuration", "token_uri", "uri_of_the_file"]

ROTATE_EVERY, GRACE = "30d", "24h"
"""As in the modules."""


def token_uri(wanted: Wanted, *, login: bool = False) -> str:
    """Where the token is; with ``login`` as whoever rotates logs in, else as a person does."""
    return _uri(wanted, "", login=login)


def admin_uri(wanted: Wanted, *, login: bool = False) -> str:
    """Where the token is with which tokens are issued."""
    return _uri(wanted, "-admin", login=login)


def uri_of_the_file(wanted: Wanted, folder: Path) -> str:
    """The token's place where it is a sealed file, as a program names it that runs anywhere on the machine."""
    key = Location("keyfile", f"{folder}/keys/{wanted.name}.key", {})
    return str(Location("file", f"{folder}/token/{wanted.name}.sealed", {"key": str(key)}))


def configuration(wanted: Wanted, *, login: bool) -> str:
    """The file as text. It has been read by those who will read it."""
    text = _TEXT.format(
        name=wanted.name,
        token=token_uri(wanted, login=login),
        admin=admin_uri(wanted, login=login),
        rotate_every=ROTATE_EVERY,
        grace=GRACE,
        policy=_POLICY_OF.get(wanted.runs_on, ""),
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / FILE_NAME
        path.write_text(text, encoding="utf-8")
        load_config(path).account(wanted.name)
    return text


_TEXT = """\
# Where the token of {name} is and how it rotates. No secret stands here.
# `cmzon-secrets status --account {name}` says what is due, `cmzon-secrets doctor` what is wrong.

[defaults]{policy}
rotate_every = "{rotate_every}"
grace = "{grace}" # so long the old token stays valid: longer than any program keeps one
scopes = ["messages:send"]

[accounts.{name}]
token = "{token}"
admin = "{admin}" # a token with the scope tokens:manage
"""
_FOR_PEOPLE = """
# For `cmzon-secrets` on a workstation. The {what} has its own, in {where}."""
_POLICY_OF = {
    "lambda": _FOR_PEOPLE.format(what="function", where="terraform/main.tf: rotation = {}"),
    "function": _FOR_PEOPLE.format(what="function", where="terraform/main.tf: rotation = {}"),
}


def _uri(wanted: Wanted, end: str, *, login: bool) -> str:
    name, runs_on = wanted.name, wanted.runs_on
    match wanted.backend:
        case "aws":
            return f"awssecretsmanager://cmzon/{name}{end}?region={wanted['region']}"
        case "azure":
            credential = {"kubernetes": "workload", "vm": "managed"}.get(runs_on)
            options = f"?credential={credential}" if login and credential else ""
            return f"azurekeyvault://{wanted['vault_name']}/secrets/cmzon-{name}{end}{options}"
        case "vault":
            mount = wanted["mount"]
            auth = "kubernetes" if runs_on == "kubernetes" else "approle"
            options = "&".join(
                [
                    f"address={wanted['address']}",
                    *([f"mount={mount}"] if "/" in mount else []),
                    *([f"auth={auth}", f"role={wanted.rotator}"] if login else []),
                ]
            )
            return f"hashivault://{mount}/{name}{end}?{options}"
        case _:
            folder = "admin" if end else "token"
            return f"file:{folder}/{name}.sealed?key=keyfile:keys/{name}{end}.key"
