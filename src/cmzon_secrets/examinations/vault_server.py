"""Vault and OpenBao, whatever is asked of them: the server, the token we have there, and its rights.

Rights are asked for with ``sys/capabilities-self``, which every token may (policy ``default``) and
which touches nothing. Source: https://openbao.org/api-docs/system/capabilities-self/
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

from cmzon_secrets.clock import SYSTEM_CLOCK
from cmzon_secrets.clouds import vault
from cmzon_secrets.durations import format_duration
from cmzon_secrets.examinations.endpoints import clock_finding, tls_finding
from cmzon_secrets.examinations.rights import Excess, judged, policy_command
from cmzon_secrets.findings import Finding, Role

__all__ = [
    "Rule",
    "VaultSubject",
    "examine_rights",
    "examine_server",
    "examine_token",
    "examine_wrapped",
    "leave",
]

SHORT = timedelta(hours=24)
"""A token that was handed over and ends sooner than this, ends while nobody looks."""

_ALL = frozenset({"create", "read", "update", "patch", "delete", "list", "sudo", "root"})


class VaultSubject(Protocol):
    """A store or a key there."""

    @property
    def uri(self) -> str: ...

    @property
    def place(self) -> vault.Place: ...

    def begin(self) -> vault.Calls: ...


@dataclass(frozen=True, slots=True)
class Rule:
    """``needed`` capabilities on a path, and what it means to have any of ``harmful``."""

    path: str
    needed: frozenset[str] = frozenset()
    harmful: frozenset[str] = _ALL
    meaning: str = ""


def examine_server(subject: VaultSubject) -> Iterator[Finding]:
    """Sealed or not, its certificate, and its clock."""
    calls, place = subject.begin(), subject.place
    yield _tls(place)  # first: it may be why nothing else answers
    body = calls.request(
        "GET",
        "sys/health",
        params={"sealedcode": "200", "uninitcode": "200", "standbyok": "true"},
        authenticated=False,
    )
    now = SYSTEM_CLOCK.now()
    evidence = f"{place.address}: version {body.get('version')}, namespace {place.namespace or '—'}"
    if body.get("sealed") is not False:
        yield Finding(
            "reachability.server", "problem", "it is sealed", evidence, "bao operator unseal"
        )
    else:
        yield Finding("reachability.server", "ok", "it is unsealed", evidence)
    if calls.server_date is not None:
        yield clock_finding("clock.backend", "the server", now - calls.server_date)


def examine_wrapped(subject: VaultSubject) -> Iterator[Finding]:
    """What may be said of a secret ID that can be unwrapped once: all but what is in it.

    Nothing where the credentials are of another kind. A read after this would use it up.
    """
    credentials = subject.place.credentials
    if not credentials.wrapped or credentials.secret is None:
        return
    wrapping = credentials.secret.read(subject.uri)
    yield Finding(
        "reachability.read",
        "note",
        "not read: its secret ID is wrapped and can be unwrapped once, by the program that uses it",
        f"not unwrapped: {credentials}",
    )
    yield from examine_server(subject)
    try:
        body = subject.begin().request(
            "POST",
            "sys/wrapping/lookup",
            json={"token": wrapping},
            expecting=(400, 403),
            repeatable=True,
            authenticated=False,
        )
    except vault.Refused as refused:
        message = "the wrapped secret ID is not valid: it is expired, or was unwrapped already"
        evidence = f"sys/wrapping/lookup: {refused.said}"
        yield Finding("credentials.wrapped", "problem", message, evidence, credentials.remedy)
        return
    data = body.get("data")
    yield _wrapped(data if isinstance(data, dict) else {}, credentials)


def _wrapped(data: Mapping[str, Any], credentials: vault.Credentials) -> Finding:
    made = str(data.get("creation_path"))[:80]
    evidence = f"made at {made}, {data.get('creation_time')}, for {data.get('creation_ttl')} s"
    if made != credentials.role_path and credentials.role:
        message = f"what is wrapped is no secret ID of the role {credentials.role}"
        remedy = "somebody may have put another in its place: find out who, and make a new one"
        return Finding("credentials.wrapped", "problem", message, evidence, remedy)
    return Finding("credentials.wrapped", "ok", "the wrapped secret ID is valid", evidence)


def leave(subject: VaultSubject) -> None:
    """Revoke the token that was got for the examination, where it was a login."""
    vault.session(subject.place).log_out(uri=subject.uri)


def examine_token(subject: VaultSubject, role: Role) -> Iterator[Finding]:
    """Where the credentials came from, what the token may at most, and when it ends."""
    place = subject.place
    origins = ", ".join(f"{name} from {origin}" for name, origin in place.origins)
    yield Finding(
        "credentials.source", "ok", str(place.credentials), origins or "no option, no variable"
    )
    try:
        body = subject.begin().read("auth/token/lookup-self", expecting=(403,))
    except vault.Refused as refused:
        evidence = f"auth/token/lookup-self: {refused.said}"
        yield Finding(
            "credentials.token", "note", "not known: the server does not tell of it", evidence
        )
        return
    data = body.get("data")
    yield from _token(
        data if isinstance(data, dict) else {},
        place.credentials.auth,
        policy_command(role, subject.uri),
    )


def examine_rights(subject: VaultSubject, role: Role, rules: Iterable[Rule]) -> Iterator[Finding]:
    """What is missing and what is too much, by the rules."""
    rules = list(rules)
    paths = [rule.path for rule in rules]
    try:
        body = subject.begin().write(
            "sys/capabilities-self", {"paths": paths}, expecting=(403,), repeatable=True
        )
    except vault.Refused as refused:
        evidence = f"sys/capabilities-self: {refused.said}"
        yield Finding(
            "permissions.unknown",
            "note",
            "not checked: the server does not tell of its rights",
            evidence,
        )
        return
    yield from _held_against(rules, _capabilities(body), subject.uri, role)


def _tls(place: vault.Place) -> Finding:
    ca = place.tls.ca
    if ca is not None and Path(ca).is_dir():
        return Finding("tls.backend", "note", "not checked: the CA is a folder", ca)
    return tls_finding(
        "tls.backend",
        place.address,
        ca=ca,
        now=SYSTEM_CLOCK.now(),
        server_name=place.tls.server_name,
    )


def _token(data: Mapping[str, Any], auth: str, policy: str) -> Iterator[Finding]:
    policies = [str(name) for name in data.get("policies") or ()]
    ttl = data.get("ttl") if isinstance(data.get("ttl"), int) else 0
    evidence = f"policies {', '.join(policies)}; {data.get('type')}"
    if isinstance(data.get("renewable"), bool):  # of a root token nothing is said
        evidence += "; renewable" if data["renewable"] else "; not renewable"
    if "root" in policies:
        remedy = f"make a token with the policy that `{policy}` prints"
        yield Finding(
            "permissions.root", "problem", "a root token: it may do anything", evidence, remedy
        )
    elif not ttl:
        remedy = "use auth=approle, kubernetes or jwt, or a token with a period"
        yield Finding(
            "credentials.token", "warning", "the token never ends by itself", evidence, remedy
        )
    elif auth == "token" and timedelta(seconds=ttl) < SHORT and not data.get("renewable"):
        message = (
            f"the token ends in {format_duration(timedelta(seconds=ttl))}, and cannot be renewed"
        )
        remedy = "use auth=approle, kubernetes or jwt: then a new one is fetched in time"
        yield Finding("credentials.token", "warning", message, evidence, remedy)
    else:
        message = f"the token lives {format_duration(timedelta(seconds=ttl))} more"
        yield Finding("credentials.token", "ok", message, evidence)


def _capabilities(body: Mapping[str, Any]) -> dict[str, frozenset[str]]:
    found = body.get("data")
    found = found if isinstance(found, dict) else body
    return {
        path: frozenset(map(str, names)) for path, names in found.items() if isinstance(names, list)
    }


def _held_against(
    rules: Iterable[Rule], held: Mapping[str, frozenset[str]], uri: str, role: Role
) -> Iterator[Finding]:
    missing: list[str] = []
    excess: list[Excess] = []
    for rule in rules:
        has = held.get(rule.path, frozenset())
        if "root" in has:
            return  # told of already, and then the rest says nothing
        missing += [f"{name} on {rule.path}" for name in sorted(rule.needed - has)]
        if too_much := sorted(has & rule.harmful - rule.needed):
            excess.append(Excess(rule.meaning, f"{', '.join(too_much)} on {rule.path}"))
    yield from judged(
        role,
        missing,
        excess,
        denied="asked of sys/capabilities-self",
        asked="sys/capabilities-self, for it and its neighbours",
        remedy=f"{policy_command(role, uri)} | bao policy write NAME -",
    )
