"""What ``awssecretsmanager:`` writes into a secret and reads out of it; pure, no call is made here.

A version's value is the JSON of ``records.py`` or a bare token that somebody pasted. Stages are the
labels of Secrets Manager. When CURRENT became CURRENT stands in a tag, ``TAG``, as
``VERSION@TIME@REPLACED``: it counts only while VERSION is CURRENT and REPLACED, if anything, is
PREVIOUS; otherwise something else has moved the labels since, and the secret's own ``LastChangedDate``
is the best that is known. It may be later than the truth, never earlier. The tag may be earlier in one
case: where labels were moved by hand away from VERSION and back, so that REPLACED is PREVIOUS again.
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self

from cmzon_secrets.errors import InvalidToken, InvalidURI, ProviderUnavailable, retold, shielded
from cmzon_secrets.records import format_time, from_record, parse_time, to_record
from cmzon_secrets.tokens import Token

__all__ = [
    "CURRENT",
    "MAX_BYTES",
    "NEWEST",
    "PENDING",
    "PREVIOUS",
    "TAG",
    "Labels",
    "check_name",
    "checked_secret",
    "checked_version",
    "promotion",
    "token_in",
    "version_of",
]

CURRENT, PENDING, PREVIOUS = "AWSCURRENT", "AWSPENDING", "AWSPREVIOUS"

NEWEST = "cmzon-secrets-newest"
"""The label of the version that we wrote last: without one it could vanish before it is PENDING."""

TAG = "cmzon-secrets-promoted-at"

MAX_BYTES = 65_536
"""Of a value: a quota of the service."""

_NAME = re.compile(r"[A-Za-z0-9/_+=.@-]{1,512}", re.ASCII)
_ARN = re.compile(r"arn:aws[a-z-]*:secretsmanager:[a-z0-9-]+:[0-9]{12}:secret:(.+)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Labels:
    """What DescribeSecret says: ``holders`` is label → version, ``known`` the versions with labels."""

    arn: str
    name: str
    holders: Mapping[str, str]
    known: frozenset[str]
    promoted_at: datetime | None
    noted: bool
    """Whether ``promoted_at`` is what the tag says."""
    primary_region: str

    @classmethod
    def described(cls, answer: Mapping[str, Any], uri: str) -> Self:
        """From the answer to DescribeSecret. Raises ProviderUnavailable where it is none."""
        checked_secret(answer, uri)
        versions = answer.get("VersionIdsToStages", {})
        holders = {label: version for version, labels in versions.items() for label in labels}
        noted = _noted(answer.get("Tags", ()), holders)
        changed = answer.get("LastChangedDate")
        return cls(
            arn=answer["ARN"],
            name=answer["Name"],
            holders=holders,
            known=frozenset(version for version, labels in versions.items() if labels),
            promoted_at=noted or (changed.astimezone(UTC) if changed is not None else None),
            noted=noted is not None,
            primary_region=answer.get("PrimaryRegion", ""),
        )

    @property
    def stages(self) -> dict[str, str]:
        """Label → version of our stages. PENDING left on CURRENT by a crash is none."""
        stages = {label: self.holders[label] for label in _STAGES if label in self.holders}
        if stages.get(PENDING) == stages.get(CURRENT):
            stages.pop(PENDING, None)
        return stages

    @property
    def is_replica(self) -> bool:
        """Whether the service copies it from another region, and lets nobody write."""
        return self.primary_region not in ("", self.arn.split(":")[3])

    @property
    def identity(self) -> str:
        """``aws:ACCOUNT:REGION:NAME``."""
        _, _, _, region, account, *_ = self.arn.split(":")
        return f"aws:{account}:{region}:{self.name}"


_STAGES = (CURRENT, PENDING, PREVIOUS)


def promotion(version: str, now: datetime, replaced: str | None) -> str:
    """The value of ``TAG``."""
    return f"{version}@{format_time(now)}@{replaced or ''}"


def _noted(tags: Any, holders: Mapping[str, str]) -> datetime | None:
    value = next((tag.get("Value", "") for tag in tags if tag.get("Key") == TAG), "")
    version, _, rest = value.partition("@")
    moment, _, replaced = rest.partition("@")
    if version != holders.get(CURRENT) or holders.get(PREVIOUS, replaced) != replaced:
        return None
    with suppress(InvalidToken):
        return parse_time(moment)
    return None


def checked_secret(answer: Mapping[str, Any], uri: str) -> Mapping[str, Any]:
    """An answer that must say which secret it is about. Raises ProviderUnavailable where it does not:
    a page of some proxy is an empty answer to the SDK."""
    region = answer.get("PrimaryRegion", "")
    sound = _is_text(answer.get("Name")) and _ARN.fullmatch(str(answer.get("ARN"))) is not None
    if not sound or not (region == "" or _is_text(region)):
        raise _no_answer(uri, "a secret")
    return answer


def checked_version(answer: Mapping[str, Any], uri: str) -> Mapping[str, Any]:
    """The same of an answer about a version."""
    checked_secret(answer, uri)
    labels, text = answer.get("VersionStages"), answer.get("SecretString", "")
    named = _is_text(answer.get("VersionId")) and isinstance(labels, list)
    if not named or not isinstance(text, str):
        raise _no_answer(uri, "a version of a secret")
    return answer


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value != "" and value.isprintable()


def _no_answer(uri: str, what: str) -> ProviderUnavailable:
    return ProviderUnavailable(
        f"{uri} — it was answered with something that is not {what}",
        uri=uri,
        hint="is it AWS that answers, or a proxy?",
    )


def check_name(name: str) -> None:
    """Raise InvalidURI unless ``name`` may be that of a secret, or its ARN."""
    arn = _ARN.fullmatch(name)
    if name.startswith("arn:") and arn is None:
        raise InvalidURI(
            "awssecretsmanager: URI — its ARN is not that of a secret",
            hint="write arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME-SUFFIX",
        )
    if _NAME.fullmatch(arn[1] if arn is not None else name) is None:
        raise InvalidURI(
            "awssecretsmanager: URI — a secret's name is 1 to 512 letters, digits and /_+=.@-"
        )


@shielded
def version_of(token: Token) -> tuple[str, str]:
    """The version id of a token and the value to write there. Raises InvalidToken.

    The id follows from the value, so everybody who stages one token names the same version, and a
    version never has to be written twice with different values.
    """
    text = json.dumps(to_record(token), separators=(",", ":"))
    if len(text) > MAX_BYTES:  # ASCII: a byte a character
        raise InvalidToken(
            f"{token.id} — it is {len(text)} bytes with its metadata; AWS takes {MAX_BYTES}"
        )
    digest = hashlib.sha256(b"cmzon-secrets version\0" + text.encode("ascii")).digest()
    return str(uuid.UUID(bytes=digest[:16])), text


@shielded
def token_in(answer: Mapping[str, Any], uri: str) -> Token | None:
    """The token in an answer to GetSecretValue; None: the version has no value. Raises InvalidToken."""
    where = f"{uri} — version {answer.get('VersionId')}"
    if "SecretBinary" in answer:
        raise InvalidToken(f"{where}: its value is binary, not text", hint=_remedy(answer))
    if "SecretString" not in answer:
        return None
    try:
        return _parsed(answer["SecretString"])
    except InvalidToken as error:
        fault = retold(error, f"{where}: {error}")
    fault.hint = _remedy(answer)
    raise fault


def _remedy(answer: Mapping[str, Any]) -> str:
    stages = [label for label in (PENDING, PREVIOUS) if label in answer["VersionStages"]]
    if CURRENT in answer["VersionStages"] or not stages:
        return (
            "the token must be the whole text, or the string `token` of a JSON object; where it is"
            " somebody else's secret, use another name: it is never overwritten"
        )
    return (
        "take its label off: aws secretsmanager update-secret-version-stage"
        f" --secret-id {answer['Name']} --version-stage {stages[0]}"
        f" --remove-from-version-id {answer['VersionId']}"
    )


def _parsed(text: str) -> Token:
    if not text.lstrip().startswith("{"):
        return Token(text)
    record = None
    with suppress(ValueError, RecursionError):  # such an error quotes the text
        record = json.loads(text)
    if record is None:
        raise InvalidToken("stored token — it begins like JSON, and is none")
    return from_record(record)
