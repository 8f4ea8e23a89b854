"""The steps of Secrets Manager's own rotation, in which the service chooses the version's id.

It calls a function four times with one ``ClientRequestToken``, which is that id. It may have put
AWSPENDING on it before there is a value. What the steps need of a store is here; whoever answers the
events decides (``docs/backends/awssecretsmanager.md``).

Source: AWS Secrets Manager User Guide, "Rotation by Lambda function".
"""

from __future__ import annotations

import re

from cmzon_secrets.errors import ConfigurationError
from cmzon_secrets.providers.aws_secret_calls import SecretCalls
from cmzon_secrets.providers.aws_secret_stages import TRIES, Held, attached, look
from cmzon_secrets.providers.aws_secret_values import CURRENT, PENDING, version_of
from cmzon_secrets.stages import staged
from cmzon_secrets.tokens import Token

__all__ = ["is_current", "pending_as", "stage_as"]

_VERSION = re.compile(r"[\x21-\x7e]{32,64}", re.ASCII)
"""What the service takes for a version's id."""


def stage_as(
    calls: SecretCalls, version: str, token: Token, *, rotation_token: str | None, uri: str
) -> None:
    """As ``AWSSecretsManager.stage_as``."""
    if _VERSION.fullmatch(version) is None:
        raise ConfigurationError(f"{uri} — a version's id is 32 to 64 printable characters")
    text = version_of(token)[1]
    extra = {"rotation_token": rotation_token} if rotation_token is not None else {}
    for _ in range(TRIES):
        held = look(calls)
        if _is_done(calls, held, version, token, uri):
            return
        if held.labels.holders.get(PENDING) == version:
            # The label is where it belongs: a put there takes it from nobody.
            if CURRENT in calls.put(version, token, text, label=PENDING, **extra):
                calls.note_promotion(version, None)
            return
        if attached(calls, held.labels, version, token, text, **extra):
            return
    raise calls.conflict("others keep changing its stages")


def pending_as(calls: SecretCalls, version: str) -> Token | None:
    """As ``AWSSecretsManager.pending_as``."""
    return calls.token(version) if calls.labels().stages.get(PENDING) == version else None


def is_current(calls: SecretCalls, version: str) -> bool:
    """As ``AWSSecretsManager.is_current``."""
    return calls.labels().stages.get(CURRENT) == version


def _is_done(calls: SecretCalls, held: Held, version: str, token: Token, uri: str) -> bool:
    """Whether the version is PENDING or CURRENT with this token. Raises ConflictError where that cannot be."""
    stages = held.labels.stages
    stored = calls.token(version) if version in held.labels.known else None
    if stored is not None and stored != token:
        raise calls.conflict(f"its version {version} has another value already")
    if stored is not None and version in (stages.get(PENDING), stages.get(CURRENT)):
        return True
    if stages.get(PENDING, version) != version:
        raise calls.conflict(f"AWSPENDING is on version {stages[PENDING]}, not on {version}")
    staged(held.versions, token, uri=uri)
    return False
