"""Secrets of the Key Vault double.

Evidence for what is strict here: the published description (``tests/wire/azure``), recordings of the live
service in Microsoft's own SDKs, and issues with traces. What nobody has seen is marked "assumed".
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, field
from typing import Any

from servers.key_vault import Fault, Request, Route, Vault

PAGE = 25
MAX_VALUE = 25 * 1024
MAX_TAGS, MAX_TAG, MAX_CONTENT_TYPE = 15, 256, 255
RETENTION_DAYS = 90
NAME = re.compile(r"[0-9a-zA-Z-]{1,127}", re.ASCII)
SETTABLE = {"enabled", "nbf", "exp"}


@dataclass
class Version:
    id: str
    value: str
    content_type: str | None
    tags: dict[str, str]
    attributes: dict[str, Any]
    created: int
    updated: int

    def described(self, vault: Vault, name: str, *, with_version: bool = True) -> dict[str, Any]:
        """As a listing shows it."""
        tail = f"/{self.id}" if with_version else ""
        level = "Recoverable" if vault.purge_protection else "Recoverable+Purgeable"
        attributes = {
            **self.attributes,
            "created": self.created,
            "updated": self.updated,
            "recoveryLevel": level,
            "recoverableDays": RETENTION_DAYS,
        }
        shown: dict[str, Any] = {
            "id": f"https://{vault.host}/secrets/{name}{tail}",
            "attributes": attributes,
        }
        if self.content_type is not None:
            shown["contentType"] = self.content_type
        if self.tags:
            shown["tags"] = dict(self.tags)
        return shown


@dataclass
class Secret:
    """``state``: live, deleting, deleted or recovering; ``until``: when a transition ends (vault's clock)."""

    name: str
    versions: list[Version] = field(default_factory=list)
    state: str = "live"
    until: float = 0.0
    deleted: int = 0

    def settle(self, now: float) -> Secret:
        if now >= self.until:
            self.state = {"deleting": "deleted", "recovering": "live"}.get(self.state, self.state)
        return self

    @property
    def latest(self) -> Version:
        return self.versions[-1]


class Secrets:
    """All secrets of a vault. ``transition``: how long deleting and recovering take, in seconds."""

    def __init__(self) -> None:
        self.by_name: dict[str, Secret] = {}
        self.transition = 4.0


def secrets_of(vault: Vault) -> Secrets:
    """The state of a vault, for tests that look or meddle."""
    found: Secrets = vault.kind("secrets", Secrets)
    return found


def paste(
    vault: Vault, name: str, value: str, *, tags: dict[str, str] | None = None, **more: Any
) -> Version:
    """What somebody does in the portal: a new version, without this package."""
    with vault.lock:
        secret = secrets_of(vault).by_name.setdefault(name.lower(), Secret(name))
        secret.versions.append(
            _new(vault, value, more.get("content_type"), tags or {}, {"enabled": True})
        )
        return secret.latest


def disable(vault: Vault, name: str, enabled: bool = False) -> None:
    """What somebody does in the portal: disable the current version."""
    secrets_of(vault).by_name[name.lower()].latest.attributes["enabled"] = enabled


# operations


def set_secret(vault: Vault, request: Request) -> tuple[int, dict[str, Any]]:
    name = _valid(request.names["name"])
    body = _fields(request, {"value", "tags", "contentType", "attributes"})
    if not isinstance(body.get("value"), str) or not body["value"]:
        raise _bad("Property  has invalid value")  # assumed for the empty string
    if len(body["value"].encode()) > MAX_VALUE:
        raise _bad("The value is larger than 25k bytes.")  # assumed wording
    attributes = {"enabled": True, **_attributes(body)}
    secret = _find(vault, name)
    if secret is None:
        secret = secrets_of(vault).by_name[name.lower()] = Secret(name)
    elif secret.state != "live":
        raise _conflict(secret)
    version = _new(vault, body["value"], _content_type(body), _tags(body) or {}, attributes)
    secret.versions.append(version)
    return 200, {**version.described(vault, secret.name), "value": version.value}


def get_secret(vault: Vault, request: Request) -> tuple[int, dict[str, Any]]:
    secret, version = _version(vault, request)
    if not version.attributes["enabled"]:
        raise _disabled()
    return 200, {**version.described(vault, secret.name), "value": version.value}


def update_secret(vault: Vault, request: Request) -> tuple[int, dict[str, Any]]:
    secret, version = _version(vault, request)
    body = _fields(request, {"tags", "contentType", "attributes"})
    version.attributes |= _attributes(body)
    tags, content_type = _tags(body), _content_type(body)
    version.tags = version.tags if tags is None else tags
    version.content_type = version.content_type if content_type is None else content_type
    version.updated = int(vault.now())
    return 200, version.described(vault, secret.name)


def list_versions(vault: Vault, request: Request) -> tuple[int, dict[str, Any]]:
    secret = _find(vault, _valid(request.names["name"]))
    live = secret.versions if secret is not None and secret.state == "live" else []
    ordered = sorted(live, key=lambda v: v.id)  # the service's order says nothing of time
    items = [v.described(vault, request.names["name"]) for v in ordered]
    return 200, _paged(vault, request, items)


def list_secrets(vault: Vault, request: Request) -> tuple[int, dict[str, Any]]:
    live = [s.settle(vault.now()) for s in secrets_of(vault).by_name.values()]
    items = [
        s.latest.described(vault, s.name, with_version=False) for s in live if s.state == "live"
    ]
    return 200, _paged(vault, request, sorted(items, key=lambda i: i["id"]))


def delete_secret(vault: Vault, request: Request) -> tuple[int, dict[str, Any]]:
    secret = _live(vault, request)
    now = vault.now()
    secret.state, secret.until = "deleting", now + secrets_of(vault).transition
    secret.deleted = int(now)
    return 200, _deleted(vault, secret)


def get_deleted(vault: Vault, request: Request) -> tuple[int, dict[str, Any]]:
    secret = _in_state(vault, request, "deleted")
    if not secret.latest.attributes["enabled"]:
        raise _disabled()
    return 200, _deleted(vault, secret)


def list_deleted(vault: Vault, request: Request) -> tuple[int, dict[str, Any]]:
    found = [s.settle(vault.now()) for s in secrets_of(vault).by_name.values()]
    items = [_deleted(vault, s) for s in found if s.state == "deleted"]
    return 200, _paged(vault, request, sorted(items, key=lambda i: i["id"]))


def recover(vault: Vault, request: Request) -> tuple[int, dict[str, Any]]:
    secret = _in_state(vault, request, "deleted")
    secret.state, secret.until = "recovering", vault.now() + secrets_of(vault).transition
    return 200, secret.latest.described(vault, secret.name)


def purge(vault: Vault, request: Request) -> tuple[int, None]:
    secret = _find(vault, request.names["name"])
    if secret is not None and secret.state == "deleting":
        raise _conflict(secret)
    secret = _in_state(vault, request, "deleted")
    if vault.purge_protection:
        message = 'Operation "purge" is not enabled for this vault.'  # assumed wording
        raise Fault(403, "Forbidden", message)
    del secrets_of(vault).by_name[secret.name.lower()]
    return 204, None


_N, _V = "(?P<name>[^/]+)", "(?P<version>[^/]+)"
_LISTED = frozenset({"maxresults", "$skiptoken"})
ROUTES = (
    Route("PUT", f"/secrets/{_N}", "secrets/setSecret/action", set_secret),
    Route(
        "GET", f"/secrets/{_N}/versions/?", "secrets/readMetadata/action", list_versions, _LISTED
    ),
    Route(
        "GET",
        f"/secrets/{_N}(/{_V}?)?",
        "secrets/getSecret/action",
        get_secret,
        frozenset({"outContentType"}),
    ),
    Route("PATCH", f"/secrets/{_N}(/{_V}?)?", "secrets/update/action", update_secret),
    Route("DELETE", f"/secrets/{_N}", "secrets/delete", delete_secret),
    Route("GET", "/secrets/?", "secrets/readMetadata/action", list_secrets, _LISTED),
    # which right a deleted secret's description needs under roles is not documented: assumed
    Route("GET", f"/deletedsecrets/{_N}", "secrets/readMetadata/action", get_deleted),
    Route("GET", "/deletedsecrets/?", "secrets/readMetadata/action", list_deleted, _LISTED),
    Route("POST", f"/deletedsecrets/{_N}/recover", "secrets/recover/action", recover),
    Route("DELETE", f"/deletedsecrets/{_N}", "secrets/purge/action", purge),
)


# parts


def _new(
    vault: Vault,
    value: str,
    content_type: str | None,
    tags: dict[str, str],
    attributes: dict[str, Any],
) -> Version:
    now = int(vault.now())
    return Version(secrets.token_hex(16), value, content_type, tags, attributes, now, now)


def _find(vault: Vault, name: str) -> Secret | None:
    secret = secrets_of(vault).by_name.get(name.lower())
    return secret.settle(vault.now()) if secret is not None else None


def _live(vault: Vault, request: Request) -> Secret:
    name = _valid(request.names["name"])
    secret = _find(vault, name)
    if secret is None or secret.state != "live":
        raise _not_found(name)
    return secret


def _in_state(vault: Vault, request: Request, state: str) -> Secret:
    secret = _find(vault, request.names["name"])
    if secret is None or secret.state != state:
        raise Fault(404, "SecretNotFound", f"Deleted Secret not found: {request.names['name']}")
    return secret


def _version(vault: Vault, request: Request) -> tuple[Secret, Version]:
    secret = _live(vault, request)
    wanted = request.names.get("version")
    if not wanted:
        return secret, secret.latest
    for version in secret.versions:
        if version.id == wanted:
            return secret, version
    raise _not_found(f"{secret.name}/{wanted}")


def _deleted(vault: Vault, secret: Secret) -> dict[str, Any]:
    return {
        "recoveryId": f"https://{vault.host}/deletedsecrets/{secret.name}",
        "deletedDate": secret.deleted,
        "scheduledPurgeDate": secret.deleted + RETENTION_DAYS * 86_400,
        **secret.latest.described(vault, secret.name),
    }


def _paged(vault: Vault, request: Request, items: list[dict[str, Any]]) -> dict[str, Any]:
    size = int(request.query.get("maxresults", PAGE))
    if not 1 <= size <= PAGE:
        raise _bad("maxresults must be between 1 and 25.")
    start = int(request.query.get("$skiptoken", 0))
    following = start + size
    link = None
    if following < len(items):
        version = request.query["api-version"]
        link = f"https://{vault.host}:443{request.path}?api-version={version}&$skiptoken={following}&maxresults={size}"
    return {"value": items[start:following], "nextLink": link}


def _fields(request: Request, known: set[str]) -> dict[str, Any]:
    body = request.body
    if body is None:
        raise _bad("The request body is missing.")
    if set(body) - known:
        raise _bad(f"Unknown property: {sorted(set(body) - known)}")
    return body


def _attributes(body: dict[str, Any]) -> dict[str, Any]:
    given: dict[str, Any] = body.get("attributes") or {}
    if set(given) - SETTABLE:
        raise _bad(f"Unknown or read-only attribute: {sorted(set(given) - SETTABLE)}")
    if not isinstance(given.get("enabled", True), bool):
        raise _bad("enabled must be a boolean.")
    if any(not isinstance(given.get(n, 0), int) for n in ("nbf", "exp")):
        raise _bad("nbf and exp must be whole seconds.")
    return dict(given)


def _tags(body: dict[str, Any]) -> dict[str, str] | None:
    tags = body.get("tags")
    if tags is None:
        return None
    if len(tags) > MAX_TAGS:
        raise _bad(f"Maximum number of tags is {MAX_TAGS}.")
    if any(len(text) > MAX_TAG for pair in tags.items() for text in pair):
        raise _bad(f"A tag's name and value have at most {MAX_TAG} characters.")
    return dict(tags)


def _content_type(body: dict[str, Any]) -> str | None:
    content_type: str | None = body.get("contentType")
    if content_type is not None and len(content_type) > MAX_CONTENT_TYPE:
        raise _bad("contentType is too long.")
    return content_type


def _valid(name: str) -> str:
    if NAME.fullmatch(name) is None:
        raise _bad(f"The request URI contains an invalid name: {name}")
    return name


def _bad(message: str) -> Fault:
    return Fault(400, "BadParameter", message)


def _disabled() -> Fault:
    message = "Operation get is not allowed on a disabled secret."
    return Fault(403, "Forbidden", message, inner="SecretDisabled")


def _not_found(name: str) -> Fault:
    return Fault(
        404,
        "SecretNotFound",
        f"A secret with (name/id) {name} was not found in this key vault. If you recently deleted this"
        " secret you may be able to recover it using the correct recovery command. For help resolving"
        " this issue, please see https://go.microsoft.com/fwlink/?linkid=2125182",
    )


def _conflict(secret: Secret) -> Fault:
    inner, message = {
        "deleting": (
            "ObjectIsBeingDeleted",
            "is currently being deleted and cannot be re-created; retry later.",
        ),
        "deleted": (
            "ObjectIsDeletedButRecoverable",
            "is currently in a deleted but recoverable state, and its name cannot be reused; in this state,"
            " the secret can only be recovered or purged.",
        ),
        "recovering": (
            "ObjectIsBeingRecovered",
            "is currently being recovered and cannot be modified; retry later.",
        ),
    }[secret.state]
    return Fault(409, "Conflict", f"Secret {secret.name} {message}", inner=inner)
