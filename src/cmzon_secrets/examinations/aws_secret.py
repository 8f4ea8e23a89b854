"""``awssecretsmanager:``: the caller, and what he may do to the secret and beside it.

What IAM says of the caller himself is asked of ``iam:SimulatePrincipalPolicy``, which few may. Else
with requests that find nothing: a version or a name of random digits, of which the service says
that it is not there only to those who have the right.
"""

from __future__ import annotations

import re
import secrets
import uuid
from collections.abc import Iterator
from typing import Any, NamedTuple

from cmzon_secrets import permissions
from cmzon_secrets.clouds.aws import Calls, Place, Refused, Service
from cmzon_secrets.errors import AccessDenied, CMzonSecretsError
from cmzon_secrets.examinations.aws_service import (
    DENIALS,
    examine_certificate,
    examine_service,
    granted,
    region_of,
)
from cmzon_secrets.examinations.rights import Excess, judged, policy_command
from cmzon_secrets.findings import Finding, Role
from cmzon_secrets.providers.aws_secrets_manager import AWSSecretsManager
from cmzon_secrets.uri import Location, split

__all__ = ["examine", "policy"]

_ABSENT = ("ResourceNotFoundException", "InvalidParameterException", "InvalidRequestException")
_ROTATOR = frozenset[Role](["rotator"])
_BOTH = frozenset[Role](["reader", "rotator"])
_NOBODY = frozenset[Role]()
_SUFFIX = re.compile(r"-[A-Za-z0-9]{6}", re.ASCII)


class _Right(NamedTuple):
    """An action, on what, who needs it, and what it means that somebody else has it."""

    action: str
    on: str
    needed_by: frozenset[Role]
    excess: str
    grave: bool = True


_ON_SECRET = (
    _Right("GetSecretValue", "it", _BOTH, ""),
    _Right("DescribeSecret", "it", _ROTATOR, "this reader may see its labels and tags", False),
    _Right("UpdateSecretVersionStage", "it", _ROTATOR, "this reader may change which is CURRENT"),
    _Right("PutSecretValue", "it", _ROTATOR, "this reader may replace the token"),
    _Right("TagResource", "it", _ROTATOR, "this reader may tag the secret", False),
    _Right("DeleteSecret", "it", _NOBODY, "it may delete the secret"),
    _Right("PutResourcePolicy", "it", _NOBODY, "it may let others at the secret"),
)
_OTHERS = "its policy has a wildcard"
_BESIDE = (
    _Right("GetSecretValue", "others", _NOBODY, f"it may read other secrets: {_OTHERS}"),
    _Right("PutSecretValue", "others", _NOBODY, f"it may write other secrets: {_OTHERS}"),
    _Right("DeleteSecret", "others", _NOBODY, f"it may delete other secrets: {_OTHERS}"),
)
_SIMULATED = _ON_SECRET[1:]
"""That it may be read, reading shows."""
_Held = dict[_Right, bool]


def policy(location: Location, role: Role) -> str:
    """The policy for this secret; of its ARNs, what the URI does not say is to be filled in."""
    region = region_of(Place.from_location(location))
    names = {
        "secret_arn": _arn(location.name, region),
        "kms_key_arn": f"arn:aws:kms:{region}:ACCOUNT:key/KEY_ID",
    }
    return permissions.policy("awssecretsmanager", role, names)


def examine(store: AWSSecretsManager, role: Role) -> Iterator[Finding]:
    """The caller, then whether he may just what the role needs, as far as can be asked."""
    yield examine_certificate(store.service)
    name, calls = _name(store), store.service.begin()
    arn, may_describe, findings = _described(calls, name)
    probed = _probed(calls, name) | {_ON_SECRET[1]: may_describe}
    told, untold = _simulated(store.service, arn)
    yield from examine_service(store.service)
    yield from findings
    yield from _held_against(probed, told, role, store.uri)
    if untold:
        unasked = [right.action for right in _SIMULATED if right not in probed]
        message = f"not asked: {', '.join(unasked)} on it, for no probe of them is harmless"
        yield Finding("permissions.unasked", "note", message, untold)


def _described(calls: Calls, name: str) -> tuple[str | None, bool, list[Finding]]:
    """The secret's ARN where there is one, whether we may see it, and what is to be said of it."""
    try:
        answer = calls("describe_secret", expecting={*DENIALS, *_ABSENT}, SecretId=name)
    except Refused as refusal:
        return None, refusal.code not in DENIALS, []
    return str(answer["ARN"]), True, list(_of_secret(answer))


def _of_secret(answer: dict[str, Any]) -> Iterator[Finding]:
    arn = str(answer["ARN"])
    if answer.get("RotationEnabled"):
        yield Finding(
            "configuration.rotation",
            "note",
            "AWS begins rotations too; keep the schedule beside it, which revokes what these replace",
            f"{arn}: {answer.get('RotationLambdaARN', 'by a managed rotation')}"
            f", {_interval(answer.get('RotationRules', {}))}",
        )
    evidence = f"{arn}: {answer.get('KmsKeyId', 'aws/secretsmanager, the key of the account')}"
    yield Finding("key.at_rest", "ok", "it is encrypted at rest by KMS", evidence)


def _interval(rules: dict[str, Any]) -> str:
    days = rules.get("AutomaticallyAfterDays")
    return (
        f"every {days} days" if days else str(rules.get("ScheduleExpression", "no schedule told"))
    )


def _probed(calls: Calls, name: str) -> _Held:
    """What requests that find nothing tell. (That it may be read, reading shows.)"""

    def may(operation: str, of: str, **parameters: Any) -> bool:
        return granted(calls, operation, absent=_ABSENT, SecretId=of, **parameters)

    beside = _neighbour(name)
    nowhere = {"VersionStage": "cmzon-doctor", "MoveToVersionId": str(uuid.uuid4())}
    return {
        _ON_SECRET[2]: may("update_secret_version_stage", name, **nowhere),
        _BESIDE[0]: may("get_secret_value", beside),
        _BESIDE[1]: may("put_secret_value", beside, SecretString="cmzon-secrets doctor"),
        _BESIDE[2]: may("delete_secret", beside, RecoveryWindowInDays=30),
    }


def _simulated(service: Service, arn: str | None) -> tuple[_Held, str]:
    """What IAM says of our own policies; else why it says nothing."""
    if arn is None:
        return (
            {},
            "IAM could tell by the secret's ARN, which is unknown: DescribeSecret did not tell",
        )
    actions = {f"secretsmanager:{right.action}": right for right in _SIMULATED}
    try:
        principal = service.whoami().arn
        if principal.endswith(":root"):
            return {}, f"IAM simulates nothing for {principal}"
        answer = Service("iam", service.place, uri=service.uri, clock=service.clock).begin()(
            "simulate_principal_policy",
            PolicySourceArn=_principal(principal),
            ActionNames=list(actions),
            ResourceArns=[arn],
        )
    except AccessDenied:
        return {}, "iam:SimulatePrincipalPolicy would tell, and is refused"
    except CMzonSecretsError as error:
        return {}, f"iam:SimulatePrincipalPolicy would tell, and did not: {error}"
    results = answer.get("EvaluationResults", ())
    return {actions[r["EvalActionName"]]: r["EvalDecision"] == "allowed" for r in results}, ""


def _principal(arn: str) -> str:
    """Of a session the role, whose path no session tells."""
    session = re.fullmatch(r"(arn:[^:]+):sts::(\d{12}):assumed-role/([^/]+)/.*", arn)
    return f"{session[1]}:iam::{session[2]}:role/{session[3]}" if session else arn


def _held_against(probed: _Held, told: _Held, role: Role, uri: str) -> Iterator[Finding]:
    """What was answered counts for more than what is simulated, which knows no resource policy."""
    held = told | probed
    lacking = [right for right, has in held.items() if not has and role in right.needed_by]
    doubted = sorted(right.action for right in lacking if right not in probed)
    remedy = f"grant what `{policy_command(role, uri)}` prints, and no more"
    if doubted:
        message = f"as a {role} it may lack, where no other policy grants it: {', '.join(doubted)}"
        evidence = "simulation of the caller's own policies"
        yield Finding("permissions.simulated", "warning", message, evidence, remedy)
    found = judged(
        role,
        sorted(right.action for right in lacking if right in probed),
        [
            Excess(r.excess, f"secretsmanager:{r.action} on {r.on}", r.grave)
            for r, has in held.items()
            if has and role not in r.needed_by
        ],
        denied="AWS answers AccessDenied",
        asked=", ".join(f"{right.action} on {right.on}" for right in held),
        remedy=remedy,
    )
    yield from (f for f in found if not doubted or f.check != "permissions.least")


def _name(store: AWSSecretsManager) -> str:
    return split(store.uri).path


def _arn(name: str, region: str) -> str:
    """The secret's ARN, with the six characters that AWS adds where they are not given."""
    if not name.startswith("arn:"):
        return f"arn:aws:secretsmanager:{region}:ACCOUNT:secret:{name}-??????"
    return name if _SUFFIX.fullmatch(name[-7:]) else f"{name}-??????"


def _neighbour(name: str) -> str:
    """A secret in the same folder whose name nobody gave."""
    folder = name[: max(name.rfind("/"), name.rfind(":")) + 1]
    return f"{folder}neighbour-{secrets.token_hex(6)}"
