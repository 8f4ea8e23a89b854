"""``awskms:``, as a token's ciphertext and as the key of a sealed file: the caller, and what he may."""

from __future__ import annotations

import re
from collections.abc import Iterator

from cmzon_secrets import permissions
from cmzon_secrets.clouds.aws_kms import KeyName
from cmzon_secrets.errors import CMzonSecretsError
from cmzon_secrets.examinations.aws_service import examine_certificate, examine_service, region_of
from cmzon_secrets.examinations.rights import policy_command
from cmzon_secrets.examinations.sealing import examine_sealing
from cmzon_secrets.findings import Finding, Role
from cmzon_secrets.providers.aws_kms import AWSKMSCiphertext
from cmzon_secrets.sealing_keys.aws_kms import AWSKMSKey
from cmzon_secrets.uri import Location

__all__ = ["examine", "policy"]

_ID = re.compile(r"(key/)?(?P<id>[0-9a-f-]{36}|mrk-[0-9a-f]{32})", re.ASCII)


def policy(location: Location, role: Role) -> str:
    """The policy for this key; of its ARN, what the URI does not say is to be filled in."""
    scheme = "awskms" if "ciphertext" in location.options else "awskms-key"
    arn = _key_arn(KeyName.from_location(location))
    return permissions.policy(scheme, role, {"kms_key_arn": arn})


def examine(subject: AWSKMSKey | AWSKMSCiphertext, role: Role) -> Iterator[Finding]:
    """The caller, then whether he may seal. (That he may open, reading shows.)"""
    yield examine_certificate(subject.kms.service)
    if isinstance(subject, AWSKMSKey):
        yield from examine_sealing(subject, role)
    else:
        yield from _stored(subject)
    yield from examine_service(subject.kms.service)


def _key_arn(named: KeyName) -> str:
    """The key's ARN: policies name keys by it, never by an alias."""
    name, region = named.key, region_of(named.place)
    if name.startswith("arn:") and ":key/" in name:
        return name
    found = _ID.fullmatch(name)
    return f"arn:aws:kms:{region}:ACCOUNT:key/{found['id'] if found else 'KEY_ID'}"


def _stored(provider: AWSKMSCiphertext) -> Iterator[Finding]:
    """Whoever can encrypt for this key and write where the ciphertext is, can replace the token."""
    try:
        provider.kms.encrypt(b"cmzon-secrets doctor")
    except CMzonSecretsError:
        yield Finding("permissions.least", "ok", "it cannot encrypt with the key", provider.uri)
    else:
        remedy = f"grant what `{policy_command('reader', provider.uri)}` prints, and no more"
        message = "it may also encrypt with the key, which a reader need not"
        yield Finding("permissions.excess", "note", message, provider.uri, remedy)
