"""Who we are to Azure: one of five ways to get a token of Microsoft Entra ID, by ``azure-identity``.

``credential=`` in a URI says which; the rest comes from the options or from the variables that
every Azure SDK reads:

    default             DefaultAzureCredential: environment, workload and managed identity, then the
                        tools of a developer (``az login``); AZURE_TOKEN_CREDENTIALS narrows it
    managed             the identity of this VM, App Service or Container App; ``client_id`` for one
                        that is user-assigned
    workload            AZURE_FEDERATED_TOKEN_FILE, with tenant and client id (Kubernetes)
    client-secret       AZURE_CLIENT_SECRET, with tenant and client id
    client-certificate  AZURE_CLIENT_CERTIFICATE_PATH (PEM or PKCS #12), _PASSWORD, with tenant and client id

A tenant and a client id are ``tenant_id`` and ``client_id``, else AZURE_TENANT_ID and AZURE_CLIENT_ID.
Source: https://learn.microsoft.com/python/api/overview/azure/identity-readme
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from cmzon_secrets.clouds.azure_errors import cause_of, outage_of, refusal_of
from cmzon_secrets.clouds.azure_wire import READ_TIMEOUT, transport
from cmzon_secrets.errors import (
    AccessDenied,
    CMzonSecretsError,
    ConfigurationError,
    InvalidURI,
    ProviderUnavailable,
)
from cmzon_secrets.http import is_loopback

if TYPE_CHECKING:
    from azure.core.credentials import AccessTokenInfo, TokenRequestOptions

__all__ = [
    "Credential",
    "Login",
    "environment_now",
]

_CLOUDS = {
    "azure.net": "login.microsoftonline.com",
    "azure.cn": "login.chinacloudapi.cn",
    "usgovcloudapi.net": "login.microsoftonline.us",
}
"""Where to log in for a vault below each of Microsoft's domains."""
_PUBLIC = _CLOUDS["azure.net"]
_AUTHORITIES = frozenset({*_CLOUDS.values(), "login.microsoft.com", "login.windows.net"})
_ID = re.compile(r"[0-9A-Za-z][0-9A-Za-z.-]{0,127}", re.ASCII)
_HOST = re.compile(r"[0-9A-Za-z][0-9A-Za-z.-]{0,252}(?::[0-9]{1,5})?", re.ASCII)
_SEEN = (
    "AZURE_TENANT_ID",
    "AZURE_CLIENT_ID",
    "AZURE_CLIENT_SECRET",
    "AZURE_CLIENT_CERTIFICATE_PATH",
    "AZURE_FEDERATED_TOKEN_FILE",
    "AZURE_AUTHORITY_HOST",
    "AZURE_TOKEN_CREDENTIALS",
    "AZURE_POD_IDENTITY_AUTHORITY_HOST",
    "IDENTITY_ENDPOINT",
    "IDENTITY_HEADER",
    "MSI_ENDPOINT",
)
"""The variables that an error names where they are set."""
_READ = (
    *_SEEN,
    "AZURE_CLIENT_CERTIFICATE_PASSWORD",
    "AZURE_CLIENT_SEND_CERTIFICATE_CHAIN",
    "AZURE_IDENTITY_DISABLE_MULTITENANTAUTH",
    "AZURE_PASSWORD",
    "AZURE_REGIONAL_AUTHORITY_NAME",
    "AZURE_USERNAME",
    "IDENTITY_SERVER_THUMBPRINT",
    "IMDS_ENDPOINT",
    "MSI_SECRET",
)
"""All that azure-identity reads."""
_TRUST = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
"""What ``requests`` reads: a TLS context goes on to trust what it once did."""
_ENDPOINTS = ("AZURE_POD_IDENTITY_AUTHORITY_HOST", "IDENTITY_ENDPOINT", "MSI_ENDPOINT")
_DEPLOYED = frozenset(
    {"EnvironmentCredential", "WorkloadIdentityCredential", "ManagedIdentityCredential"}
)


@dataclass(frozen=True, slots=True)
class Login:
    """How to log in: the options of a URI, checked. ``authority``: a host, for clouds of one's own."""

    credential: str = "default"
    client_id: str = ""
    tenant_id: str = ""
    authority: str = ""

    @classmethod
    def from_options(cls, scheme: str, options: Mapping[str, str]) -> Self:
        """Raises InvalidURI, naming the option."""
        login = cls(**{k: v for k, v in options.items() if k in cls.__slots__})
        if login.credential not in _MAKERS:
            raise InvalidURI(f"{scheme}: URI — credential= must be one of {', '.join(_MAKERS)}")
        if login.tenant_id and login.credential in {"default", "managed"}:
            raise InvalidURI(
                f"{scheme}: URI — tenant_id= has no meaning with credential={login.credential}",
                hint="set AZURE_TENANT_ID, or choose another credential=",
            )
        rules = {"client_id": _ID, "tenant_id": _ID, "authority": _HOST}
        for name, rule in rules.items():
            value = getattr(login, name)
            if value and rule.fullmatch(value) is None:
                raise InvalidURI(f"{scheme}: URI — {name}= is no {name.replace('_id', ' id')}")
        return login

    @property
    def options(self) -> dict[str, str]:
        """What a URI must say to log in like this."""
        default = Login()
        named = {name: getattr(self, name) for name in self.__slots__}
        return {k: v for k, v in named.items() if v != getattr(default, k)}

    @property
    def client(self) -> str:
        """The client id, given or of the environment."""
        return self.client_id or os.environ.get("AZURE_CLIENT_ID", "")

    @property
    def tenant(self) -> str:
        """The tenant id, given or of the environment."""
        return self.tenant_id or os.environ.get("AZURE_TENANT_ID", "")

    def authority_for(self, host: str) -> str:
        """The host to log in at, for a vault at ``host``. Raises ConfigurationError for http."""
        given = self.authority or os.environ.get("AZURE_AUTHORITY_HOST", "").strip(" /")
        if not given:
            return next((a for cloud, a in _CLOUDS.items() if host.endswith(f".{cloud}")), _PUBLIC)
        scheme, found, rest = given.rpartition("://")
        if found and scheme.lower() != "https":
            raise ConfigurationError(
                "AZURE_AUTHORITY_HOST — a credential is sent over https only",
                hint="write a host name, or https://HOST",
            )
        return rest.lower()


class Credential:
    """What the SDK's clients ask for tokens: azure-identity, with our errors. Thread-safe.

    Those errors know no URI: whoever raises them adds it.
    """

    def __init__(self, login: Login, *, host: str, verify: bool | str) -> None:
        self._login = login
        self._answered: Any = None
        _refuse_plain_endpoints(login)
        authority = login.authority_for(host)
        self._authority = authority
        self._transport = transport(verify)
        network: dict[str, Any] = {
            "authority": f"https://{authority}",
            "disable_instance_discovery": authority not in _AUTHORITIES,
            "transport": self._transport,
            "retry_total": 2,  # the SDK's own patience (25 s at IMDS) outlasts every deadline of ours
            "retry_backoff_factor": 0.4,
        }
        made = self._made(network)
        self._members: tuple[Any, ...] = made if isinstance(made, tuple) else (made,)

    @property
    def name(self) -> str:
        """Which credential gives the tokens, for people; the kind that was asked for until one does."""
        answered = type(self._answered).__name__ if self._answered is not None else ""
        return f"credential={self._login.credential}" + (f" ({answered})" if answered else "")

    def _made(self, network: Mapping[str, Any]) -> Any:
        try:
            return _MAKERS[self._login.credential](self._login, network)
        except (ValueError, OSError) as error:
            failure = error
        raise self._refused("it cannot be used", failure) from cause_of(failure)

    def release(self) -> None:
        """Give back idle connections."""
        self._transport.session.close()

    def get_token_info(
        self, *scopes: str, options: TokenRequestOptions | None = None
    ) -> AccessTokenInfo:
        """A token (azure-core's SupportsTokenInfo). Raises AccessDenied or ProviderUnavailable."""
        with _as_links() if len(self._members) > 1 else nullcontext():
            return self._first_token(scopes, options)

    def _first_token(
        self, scopes: tuple[str, ...], options: TokenRequestOptions | None
    ) -> AccessTokenInfo:
        from azure.identity import CredentialUnavailableError

        failure: Exception | None = None
        for member in self._members if self._answered is None else (self._answered,):
            try:
                token: AccessTokenInfo = member.get_token_info(*scopes, options=options)
            except Exception as error:  # noqa: BLE001  # file errors and ValueError come as they are
                failure = error
            else:
                self._answered = member
                return token
            absent = isinstance(failure, CredentialUnavailableError)
            if not (absent or self._optional(member)):
                raise self._told(failure) from cause_of(failure)
        raise self._absent(failure) from failure and cause_of(failure)

    def _optional(self, member: Any) -> bool:
        """A developer's tool, whose failure ends nothing: another may be logged in."""
        return len(self._members) > 1 and type(member).__name__ not in _DEPLOYED

    def _told(self, error: Exception) -> CMzonSecretsError:
        why = outage_of(error)
        if why:
            return ProviderUnavailable(
                f"{self.name}: no token from {self._source}: {why}",
                hint="try again; if it stays so, look at the network, the proxy and the status of Entra ID",
            )
        why, hint = refusal_of(error)
        return self._refused(why, error, hint)

    def _absent(self, error: Exception | None) -> CMzonSecretsError:
        if error is not None and len(self._members) == 1 and outage_of(error):
            return self._told(error)
        return self._refused("no such credential was found here", error)

    def _refused(
        self, why: str, error: Exception | None, hint: str | None = None
    ) -> CMzonSecretsError:
        seen = ", ".join(name for name in _SEEN if os.environ.get(name)) or "none"
        kind = f" ({type(error).__name__})" if error is not None and hint is None else ""
        return AccessDenied(
            f"{self.name}: {why}{kind}; Azure variables that are set: {seen}",
            hint=hint or _HINTS[self._login.credential],
        )

    @property
    def _source(self) -> str:
        managed = self._login.credential == "managed"
        return "the managed identity endpoint" if managed else self._authority


_HINTS = {
    "default": "az login on a workstation; credential=managed, workload or client-secret on a server",
    "managed": "assign an identity to this host; for a user-assigned one, give its client_id=",
    "workload": "label the pod azure.workload.identity/use=true and annotate its service account with the client id",
    "client-secret": "set AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET",
    "client-certificate": "set AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_CERTIFICATE_PATH (and _PASSWORD)",
}


@contextmanager
def _as_links() -> Iterator[None]:
    """Let azure-identity know that another link may follow: it then warns of none that is missing."""
    try:
        from azure.identity._internal import within_credential_chain
    except ImportError:  # it is no promise of theirs, and all that is lost is silence
        yield
        return
    before = within_credential_chain.set(True)
    try:
        yield
    finally:
        within_credential_chain.reset(before)


def _default(login: Login, network: Mapping[str, Any]) -> tuple[Any, ...]:
    """The links of the chain. We walk it ourselves: the SDK's own walk hides an outage as a refusal."""
    from azure.identity import DefaultAzureCredential, WorkloadIdentityCredential

    given = {"managed_identity_client_id": login.client} if login.client else {}
    chain = DefaultAzureCredential(process_timeout=READ_TIMEOUT, **given, **network)
    return tuple(
        _workload(login, network) if isinstance(link, WorkloadIdentityCredential) else link
        for link in chain.credentials
    )


def _managed(login: Login, network: Mapping[str, Any]) -> Any:
    from azure.identity import ManagedIdentityCredential

    return ManagedIdentityCredential(client_id=login.client_id or None, **network)


def _workload(login: Login, network: Mapping[str, Any]) -> Any:
    """Made anew in the chain too: there the SDK forgets which authority was asked for."""
    from azure.identity import WorkloadIdentityCredential

    path = _needed(login, "AZURE_FEDERATED_TOKEN_FILE")
    return WorkloadIdentityCredential(
        tenant_id=login.tenant, client_id=login.client, token_file_path=path, **network
    )


def _client_secret(login: Login, network: Mapping[str, Any]) -> Any:
    from azure.identity import ClientSecretCredential

    secret = _needed(login, "AZURE_CLIENT_SECRET")
    return ClientSecretCredential(login.tenant, login.client, secret, **network)


def _client_certificate(login: Login, network: Mapping[str, Any]) -> Any:
    from azure.identity import CertificateCredential

    path = _needed(login, "AZURE_CLIENT_CERTIFICATE_PATH")
    password = os.environ.get("AZURE_CLIENT_CERTIFICATE_PASSWORD")
    return CertificateCredential(login.tenant, login.client, path, password=password, **network)


_MAKERS: dict[str, Callable[[Login, Mapping[str, Any]], Any]] = {
    "default": _default,
    "managed": _managed,
    "workload": _workload,
    "client-secret": _client_secret,
    "client-certificate": _client_certificate,
}


def environment_now() -> int:
    """Another number where a variable has changed that azure-identity reads, or that says which CAs to
    trust. Tells no value."""
    return hash(tuple(map(os.environ.get, (*_READ, *_TRUST))))


def _needed(login: Login, variable: str) -> str:
    """The value of ``variable``. Raises AccessDenied where it, the tenant or the client id is missing."""
    found = {
        "AZURE_TENANT_ID": login.tenant,
        "AZURE_CLIENT_ID": login.client,
        variable: os.environ.get(variable, ""),
    }
    missing = ", ".join(name for name, value in found.items() if not value)
    if missing:
        raise AccessDenied(
            f"credential={login.credential}: not set: {missing}", hint=_HINTS[login.credential]
        )
    return found[variable]


def _refuse_plain_endpoints(login: Login) -> None:
    """Azure's own endpoints speak plain http, but never to another machine."""
    for name in _ENDPOINTS if login.credential in {"default", "managed"} else ():
        url = urlsplit(os.environ.get(name, ""))
        if url.scheme == "http" and not _local(url.hostname or ""):
            raise ConfigurationError(
                f"{name} — tokens are asked for over plain http from this host only",
                hint="it is set by Azure; unset it elsewhere",
            )


def _local(host: str) -> bool:
    try:
        address = ip_address(host)
    except ValueError:
        return is_loopback(host)
    return is_loopback(host) or address.is_link_local
