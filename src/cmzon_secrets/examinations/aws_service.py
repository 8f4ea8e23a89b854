"""AWS, whatever is asked of it: as whom, from which credentials, over which TLS, and by which clock."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator
from datetime import timedelta
from typing import Any

from cmzon_secrets.clock import SYSTEM_CLOCK
from cmzon_secrets.clouds.aws import Place, Refused, Service
from cmzon_secrets.errors import AccessDenied, CMzonSecretsError
from cmzon_secrets.examinations.endpoints import clock_finding, tls_finding
from cmzon_secrets.findings import Finding

__all__ = ["DENIALS", "examine_certificate", "examine_service", "granted", "region_of"]

DENIALS = frozenset({"AccessDenied", "AccessDeniedException"})


def examine_certificate(service: Service) -> Finding:
    """Asked for first: it may be why nothing else answers."""
    ca = os.environ.get("AWS_CA_BUNDLE") or os.environ.get("REQUESTS_CA_BUNDLE")
    return tls_finding("tls.backend", service.endpoint, ca=ca or None, now=SYSTEM_CLOCK.now())


def examine_service(service: Service) -> Iterator[Finding]:
    """The caller, and AWS's clock. Asks STS, which needs no permission."""
    skew = service.clock_skew  # as the service asked before told it; STS is another machine
    yield from _caller(service)
    skew = service.clock_skew if skew is None else skew
    if skew is not None:  # how far AWS is ahead of us
        yield clock_finding("clock.backend", "AWS", timedelta(seconds=-skew))


def region_of(place: Place) -> str:
    """The region as far as it is known without the SDK; else a word to be filled in."""
    said = (place.region, *map(os.environ.get, ("AWS_REGION", "AWS_DEFAULT_REGION")))
    return next(filter(None, said), "REGION")


def granted(
    call: Callable[..., Any], operation: str, *, absent: Collection[str], **parameters: Any
) -> bool:
    """Whether the caller has the right to ``operation``, asked about what is not there.

    ``absent``: the codes that say so, which nobody without the right gets to see. Raises as ``Calls``.
    """
    try:
        call(operation, expecting={*DENIALS, *absent}, **parameters)
    except Refused as refusal:
        return refusal.code not in DENIALS
    return True


def _caller(service: Service) -> Iterator[Finding]:
    try:
        source, caller = service.credential_source(), service.whoami()
    except AccessDenied as error:
        yield Finding("credentials.source", "problem", str(error), service.uri, error.hint)
        return
    except CMzonSecretsError as error:
        message = "not known as whom: STS did not tell"
        yield Finding("credentials.source", "note", message, str(error), error.hint)
        return
    evidence = f"from {source}; account {caller.account}, region {service.region}"
    yield Finding("credentials.source", "ok", f"it is {caller.arn}", evidence)
    if caller.arn.endswith(":root"):
        remedy = "delete the root user's access keys, and use a role"
        message = "the account's root user: it may do anything"
        yield Finding("permissions.root", "problem", message, caller.arn, remedy)
    elif ":user/" in caller.arn:
        remedy = "where it runs in AWS, use the role of the machine; elsewhere, sign in for hours"
        message = "an IAM user: its access keys live until somebody deletes them"
        yield Finding("credentials.kind", "note", message, caller.arn, remedy)
