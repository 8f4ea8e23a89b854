"""Azure Key Vault, whatever is asked of it: certificate, clock, credential, and what a probe tells.

Key Vault tells nobody his rights, so they are asked for with requests that find nothing: a version
or a name of random digits. 404 means that the right is there, 403 that it is not.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from typing import Any

from cmzon_secrets.clock import SYSTEM_CLOCK
from cmzon_secrets.clouds.azure import Calls, Refused, Vault
from cmzon_secrets.examinations.endpoints import clock_finding, tls_finding
from cmzon_secrets.findings import Finding

__all__ = ["GROUP", "examine_certificate", "examine_vault", "granted", "nowhere", "vault_id"]

_DENIALS = ("ForbiddenByRbac", "AccessDenied", "ForbiddenByPolicy", "Forbidden")
_ABSENT = ("SecretNotFound", "KeyNotFound")

GROUP = "/subscriptions/SUBSCRIPTION/resourceGroups/GROUP"
"""What no URI knows: to be filled in."""


def vault_id(vault: Vault) -> str:
    """The vault's resource id, as far as it is known."""
    return f"{GROUP}/providers/Microsoft.KeyVault/vaults/{vault.host.partition('.')[0]}"


def nowhere() -> str:
    """An id that no version has, and the end of a name that nobody gave."""
    return secrets.token_hex(16)


def granted(calls: Calls, request: Callable[..., Any], *args: Any, **more: Any) -> bool:
    """Whether the caller has the right that ``request`` needs; what it asks for is not there.

    Raises as ``Calls.ask`` where the answer says something else.
    """
    try:
        calls.ask(request, *args, expecting=(*_DENIALS, *_ABSENT), **more)
    except Refused as refused:
        return refused.code in _ABSENT
    return True


def examine_certificate(vault: Vault) -> Finding:
    """Asked for first: it may be why nothing else answers."""
    ca = vault.verify if isinstance(vault.verify, str) else os.environ.get("REQUESTS_CA_BUNDLE")
    now = SYSTEM_CLOCK.now()
    return tls_finding("tls.backend", f"https://{vault.host}", ca=ca or None, now=now)


def examine_vault(vault: Vault, calls: Calls) -> Iterator[Finding]:
    """What is known after the first answer: as whom, and whose clock is wrong."""
    now = SYSTEM_CLOCK.now()
    evidence = f"{vault.host}; client id {vault.login.client or 'not given'}"
    yield Finding("credentials.source", "ok", f"a token was given to {calls.credential}", evidence)
    if calls.server_time is not None:
        yield clock_finding("clock.backend", "Key Vault", now - calls.server_time)
