"""The one table of what Azure Key Vault's answers mean, and whether asking again can help.

The service's text is not shown, for it may repeat what was sent: only its codes, and the right that is
missing. At the end, the same for Entra ID. Source: https://learn.microsoft.com/azure/key-vault/general/rest-error-codes
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

from cmzon_secrets.deadline import backoff
from cmzon_secrets.errors import (
    AccessDenied,
    CMzonSecretsError,
    ConfigurationError,
    ProviderError,
    ProviderUnavailable,
    TokenNotFound,
)
from cmzon_secrets.headers import retry_after

__all__ = [
    "Answer",
    "Asked",
    "Fault",
    "SDKError",
    "cause_of",
    "fault_of",
    "outage_of",
    "refusal_of",
]


class Answer(NamedTuple):
    """What an error of the SDK says of the service's answer; 0 and empty where there was none."""

    status: int
    code: str
    message: str
    retry_after: float

    @classmethod
    def of(cls, error: Exception) -> Answer:
        response = getattr(error, "response", None)
        status = getattr(response, "status_code", 0)
        body = getattr(error, "error", None)
        inner = getattr(body, "innererror", None)
        code = _innermost_code(inner) or str(getattr(body, "code", None) or "")
        headers = getattr(response, "headers", None) or {}
        seconds = retry_after(headers.get("Retry-After"))
        return cls(status, code, str(getattr(body, "message", "")), seconds)


class Asked(NamedTuple):
    """What was asked of the vault at ``host``: for the place ``uri``, with the rights of ``role``."""

    uri: str
    host: str
    role: str


class SDKError(Exception):
    """What the SDK raised: the names of its errors, for their texts may repeat what was sent."""


def cause_of(error: Exception) -> SDKError:
    """To be the cause of ours, raised outside of ``except``: a context would be kept, too."""
    return SDKError(" < ".join(dict.fromkeys(type(link).__name__ for link in _causes(error))))


def _innermost_code(innererror: Any) -> str:
    """However deep it lies: the innermost is the most specific."""
    code = ""
    while isinstance(innererror, dict):
        code = str(innererror.get("code") or code)
        innererror = innererror.get("innererror")
    return code


UNTRUSTED = (
    "its TLS certificate is not accepted; a company's own CA belongs into REQUESTS_CA_BUNDLE"
)
UNKNOWN = "its name is not known here"
UNCONNECTED = "no connection"
UNANSWERED = "no answer"


def failed_connection(error: BaseException) -> str:
    """Why there was no answer: one of the four texts above; empty where there was one."""
    kinds = {type(link).__name__ for link in _causes(error)}
    if "SSLCertVerificationError" in kinds:
        return UNTRUSTED
    if kinds & {"NameResolutionError", "gaierror"}:
        return UNKNOWN
    if kinds & {"ServiceRequestError", "ServiceRequestTimeoutError"}:
        return UNANSWERED if "SSLError" in kinds else UNCONNECTED
    return UNANSWERED if any(kind.startswith("ServiceResponse") for kind in kinds) else ""


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """``error`` and all it was raised from."""
    seen: set[int] = set()
    pending: list[BaseException | None] = [error]
    while pending:
        link = pending.pop()
        if link is not None and id(link) not in seen:
            seen.add(id(link))
            yield link
            pending += [link.__cause__, link.__context__]
            pending += [e for e in _carried(link) if isinstance(e, BaseException)]


def _carried(error: BaseException) -> tuple[object, ...]:
    """Where azure-core, requests and urllib3 keep the error below theirs."""
    below = (getattr(error, "inner_exception", None), getattr(error, "reason", None))
    return (*below, *error.args[:1])


_ATTEMPTS = 3
_BACKOFF = (0.25, 4.0)
"""Seconds of the first and of the longest wait before another try."""

_Again = Literal["always", "unsent", "read", "never"]
"""When to ask once more. ``always``: until the time is up, for nothing was done. ``unsent``: a few
times, for nothing was sent. ``read``: a few times, where asking twice does no harm."""


class Fault(NamedTuple):
    """One row: what an answer means. ``code`` is a regular expression; empty fits all."""

    status: int
    code: str
    kind: type[ProviderError] | type[ConfigurationError]
    why: str
    hint: str | None = None
    again: _Again = "never"

    def fits(self, answer: Answer) -> bool:
        right = self.status in (answer.status, answer.status // 100)
        return right and (not self.code or re.fullmatch(self.code, answer.code) is not None)

    def wait(self, answer: Answer, attempt: int, *, repeat: bool) -> float | None:
        """Seconds before the next try; None where there is none."""
        allowed = {
            "always": True,
            "unsent": attempt + 1 < _ATTEMPTS,
            "read": attempt + 1 < _ATTEMPTS and repeat,
            "never": False,
        }
        if not allowed[self.again]:
            return None
        return max(answer.retry_after, backoff(attempt + 1, *_BACKOFF, least=0.5))

    def error(self, asked: Asked, answer: Answer) -> CMzonSecretsError:
        """The error to raise. Of the service's own text it shows the missing action only."""
        uri, host, role = asked
        action = _ACTION.search(answer.message)
        code = answer.code if _PLAIN.fullmatch(answer.code) else ""
        names = {
            "vault": host.partition(".")[0],
            "host": host,
            "code": f"{answer.status} {code}".strip(),
            "action": f" {action[1]}" if action else "",
            "policy": f"cmzon-secrets doctor --policy {role} {shlex.quote(uri)}",
        }
        message = f"{uri} — {self.why.format_map(names)}"
        hint = self.hint.format_map(names) if self.hint else None
        if issubclass(self.kind, ProviderError):
            return self.kind(message, uri=uri, hint=hint)
        return self.kind(message, hint=hint)


_ACTION = re.compile(r"Action: '(Microsoft\.KeyVault(?:/[A-Za-z]{1,30}){1,5})'", re.ASCII)
_PLAIN = re.compile(r"(?=.{1,60}$)(?:[A-Z][a-z]+)+", re.ASCII)
"""Words, as all of Azure's codes are: a token that is repeated in the place of one is none."""

_ROLES = "the role it needs: {policy} (a new role assignment takes up to ten minutes to arrive)"
_POLICY = "the vault uses access policies: az keyvault set-policy --name {vault} …"
_NETWORK = (
    "az keyvault network-rule add --name {vault} --ip-address …, or come by its private endpoint"
)
_ENABLE = "az keyvault {kind} set-attributes --vault-name {{vault}} --name NAME --enabled true"
_OUTAGE = "try again; if it stays so, look at the network and at Azure's status page"

_TABLE = (
    Fault(
        403, "SecretDisabled", AccessDenied, "the secret is disabled", _ENABLE.format(kind="secret")
    ),
    Fault(
        403,
        "KeyDisabled",
        AccessDenied,
        "the key is disabled, or that version of it",
        _ENABLE.format(kind="key"),
    ),
    Fault(
        403,
        "Key(Expired|NotYetValid).*",
        AccessDenied,
        "the key is outside its dates, so it is disabled for wrapping ({code})",
        "az keyvault key rotate --vault-name {vault} --name NAME",
    ),
    Fault(
        403, "ForbiddenByRbac", AccessDenied, "the caller lacks a right{action} ({code})", _ROLES
    ),
    Fault(
        403,
        "AccessDenied|ForbiddenByPolicy",
        AccessDenied,
        "no access policy gives the caller this right{action} ({code})",
        _POLICY,
    ),
    Fault(
        403,
        "ForbiddenByFirewall|ForbiddenByConnection",
        AccessDenied,
        "the vault's network rules refuse this address ({code})",
        _NETWORK,
    ),
    Fault(403, "", AccessDenied, "Key Vault refuses the caller{action} ({code})", _ROLES),
    Fault(
        401,
        "",
        AccessDenied,
        "Key Vault does not accept the token of this credential ({code})",
        "is it of the vault's own tenant, and is this machine's clock right?",
    ),
    Fault(
        404,
        "SecretNotFound",
        TokenNotFound,
        "there is no such secret",
        "a deleted one comes back with: az keyvault secret recover --vault-name {vault} --name NAME",
    ),
    Fault(
        404,
        "KeyNotFound",
        ConfigurationError,
        "there is no such key",
        "az keyvault key create --vault-name {vault} --name NAME --kty RSA --ops wrapKey unwrapKey; a deleted one comes back with: az keyvault key recover --vault-name {vault} --name NAME",
    ),
    Fault(
        409,
        "ObjectIsDeletedButRecoverable",
        TokenNotFound,
        "it was deleted, and can be recovered",
        "az keyvault secret recover --vault-name {vault} --name NAME",
    ),
    Fault(
        409,
        "ObjectIsBeing(Recovered|Deleted)",
        ProviderUnavailable,
        "it is still being deleted or recovered ({code})",
        "try again in a minute",
        "always",
    ),
    Fault(
        429,
        "",
        ProviderUnavailable,
        "Key Vault throttles: too many requests to this vault ({code})",
        "read through a TokenCache, and share one vault among fewer callers",
        "always",
    ),
    Fault(408, "", ProviderUnavailable, "Key Vault waited too long ({code})", _OUTAGE, "read"),
    Fault(5, "", ProviderUnavailable, "Key Vault failed ({code})", _OUTAGE, "read"),
    Fault(
        2,
        "",
        ProviderUnavailable,
        "what answers is not Key Vault, or its answer was cut short ({code})",
        _OUTAGE,
        "read",
    ),
    Fault(
        3,
        "",
        ProviderUnavailable,
        "a redirect, which is not followed with a token ({code})",
        "is there a proxy that wants a login?",
    ),
    Fault(
        4,
        "",
        ConfigurationError,
        "Key Vault does not accept the request ({code})",
        "is {host} the right vault, and the name the right one?",
    ),
)
"""Status (or its first digit), code → our error; the first that fits."""

_BROKEN: dict[str, _Again] = {
    UNTRUSTED: "never",
    UNKNOWN: "unsent",
    UNCONNECTED: "unsent",
    UNANSWERED: "read",
}


def fault_of(answer: Answer, error: Exception) -> Fault:
    """The row for what the SDK raised."""
    why = failed_connection(error)
    if why:
        hint = "is the vault's name right?" if why == UNKNOWN else _OUTAGE
        return Fault(0, "", ProviderUnavailable, f"{{host}}: {why}", hint, _BROKEN[why])
    if isinstance(error, ValueError) and "challenge" in str(error):
        return _ANOTHER_SERVICE
    return next((row for row in _TABLE if row.fits(answer)), _UNREADABLE)


_ANOTHER_SERVICE = Fault(
    0, "", AccessDenied, "{host} asks for a token of another service, and was given none"
)
_UNREADABLE = Fault(0, "", ProviderUnavailable, "the answer cannot be read", _OUTAGE, "read")


# Entra ID, which gives the tokens

_FAILED = re.compile(r"HTTP Error: (?:429|5[0-9]{2})|\b(?:server_error|temporarily_unavailable)\b")
"""How msal and OAuth (RFC 6749 §5.2) tell a failure of the server from a refusal."""
_TENANT = re.compile(r"not configured to acquire tokens for tenant ([0-9A-Za-z.-]{1,64})")
_CODE = re.compile(r"AADSTS[0-9]{4,8}", re.ASCII)
_RENEWALS = {
    "AADSTS7000215": "AZURE_CLIENT_SECRET is not a secret of this application (its value is needed, not its id)",
    "AADSTS7000222": "the client secret has expired: az ad app credential reset --id CLIENT_ID, then set AZURE_CLIENT_SECRET",
    "AADSTS700016": "this tenant has no application with this client id; compare AZURE_TENANT_ID and AZURE_CLIENT_ID",
    "AADSTS700027": "the certificate is not one of this application, or has expired: az ad app credential reset --cert",
    "AADSTS700211": "no federated credential of the application has this issuer",
    "AADSTS700213": "no federated credential of the application has this subject",
    "AADSTS70021": "no federated credential of the application matches the token in AZURE_FEDERATED_TOKEN_FILE",
    "AADSTS700024": "the assertion is outside its time: compare this machine's clock",
    "AADSTS90002": "there is no such tenant; look at AZURE_TENANT_ID",
}
"""https://learn.microsoft.com/entra/identity-platform/reference-error-codes"""


def outage_of(error: Exception) -> str:
    """Why whoever gives the tokens is not to be had at present; empty where it was a refusal."""
    failed = _FAILED.search(str(error))
    return failed_connection(error) or (f"it answers {failed[0]}" if failed else "")


def refusal_of(error: Exception) -> tuple[str, str | None]:
    """Why it gives no token, and how to mend that where its code says so."""
    theirs, code = _TENANT.search(str(error)), _CODE.search(str(error))
    if theirs is not None:
        why = f"the vault is of another tenant, {theirs[1]}"
        return why, "set AZURE_TENANT_ID, or tenant_id=, to that one"
    if code is not None:
        return f"Entra ID refused it ({code[0]})", _RENEWALS.get(code[0])
    return "no token was given", None
