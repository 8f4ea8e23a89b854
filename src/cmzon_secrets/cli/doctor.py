"""``cmzon-secrets doctor``: what is wrong, what is missing, what is too much, and what mends it."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import click

from cmzon_secrets.cli.failures import ATTENTION, UsageFailure, repeatable
from cmzon_secrets.cli.options import account_option, issuer_options, json_option, uri_argument
from cmzon_secrets.cli.output import folded, paint, print_json, say
from cmzon_secrets.cli.targets import Target, find_target
from cmzon_secrets.findings import Finding, Role, Severity
from cmzon_secrets.typed import shown

__all__ = ["command"]

_MARKS: dict[Severity, str] = {"ok": "✓", "note": "·", "warning": "▲", "problem": "✗"}
_COLOURS: Mapping[Severity, str] = {"warning": "yellow", "problem": "red"}
_ROLES = click.Choice(["reader", "rotator"])


@click.command()
@uri_argument
@account_option
@click.option(
    "--role",
    type=_ROLES,
    help="What this machine is meant to do; default rotator where an admin token is configured.",
)
@click.option(
    "--policy",
    "policy_role",
    type=_ROLES,
    help="Print the least permissions of this role for the URI (a key's, too), and nothing else.",
)
@issuer_options
@click.option("--offline", is_flag=True, help="Do not ask the API.")
@json_option
def command(
    *,
    uri: str | None,
    account: str | None,
    role: Role | None,
    policy_role: Role | None,
    offline: bool,
    as_json: bool,
    **options: Any,
) -> int:
    """Check all that can be wrong, and say what mends it.

    Looks at configuration, reachability, credentials, permissions (missing ones and too many), key,
    TLS, clocks, token and API. Changes nothing, and shows no value; but a login with a secret ID of
    Vault counts as one use of it (a wrapped one is not unwrapped). Each finding has its evidence
    and, where something is to be mended, the remedy. Exit code 0 where all is well, 3 where there
    is a warning or a problem.
    """
    target = find_target(uri, account)
    if policy_role is not None:
        from cmzon_secrets.cli.policies import policy_of

        say(policy_of(target, policy_role).rstrip("\n"))
        return 0
    from cmzon_secrets.cli.checkup import Checkup

    role, why = _role(target, role, options)
    findings = Checkup(target, role, why, options, offline).findings()
    if as_json:
        items = [_record(finding) for finding in findings]
        print_json({"items": items, "uri": shown(target.place), "role": role})
    else:
        _show(findings, shown(target.place), account)
    return ATTENTION if any(f.severity in ("warning", "problem") for f in findings) else 0


def _role(target: Target, given: Role | None, options: Mapping[str, Any]) -> tuple[Role, str]:
    """What this machine is to be held against, and why."""
    chained = len(target.uris) > 1
    if chained and given == "rotator":
        raise UsageFailure(
            "a chain is for reading", hint="name the link to rotate: URI --account NAME"
        )
    if given is not None:
        return given, "--role says so"
    if chained:
        return "reader", "a chain is for reading"
    if target.admin_uri(options) is not None:
        return "rotator", "an admin token is configured; give --role reader where it only reads"
    return "reader", "no admin token is configured; give --role rotator where it rotates"


def _record(finding: Finding) -> dict[str, Any]:
    return {
        "check": finding.check,
        "severity": finding.severity,
        "message": repeatable(finding.message),
        "evidence": repeatable(finding.evidence),
        "remedy": finding.remedy and repeatable(finding.remedy),
    }


def _show(findings: Sequence[Finding], place: str, account: str | None) -> None:
    name = f"{paint(f'{account}  ', sys.stdout, bold=True)}" if account else ""
    say(f"{name}{place}")
    for finding in findings:
        head = f"{_MARKS[finding.severity]} {finding.severity:<8}"
        line = folded(f"{head} {finding.check}: {repeatable(finding.message)}", indent="")
        say(line.replace(head, _painted(head, finding.severity), 1))
        say(folded(repeatable(finding.evidence), indent="    "))
        if finding.remedy:
            say(folded(f"remedy: {repeatable(finding.remedy)}", indent="    "))
    counts = Counter(finding.severity for finding in findings)
    say(", ".join(_counted(counts[severity], severity) for severity in reversed(_MARKS)))


def _painted(text: str, severity: Severity) -> str:
    colour = _COLOURS.get(severity)
    return paint(text, sys.stdout, fg=colour, bold=True) if colour else text


def _counted(count: int, severity: Severity) -> str:
    return f"{count} {severity}" if count == 1 or severity == "ok" else f"{count} {severity}s"
