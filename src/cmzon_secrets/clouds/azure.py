"""Azure Key Vault: one client per process and vault, one deadline per verb.

A URI is ``azurekeyvault://VAULT/secrets/NAME`` or ``azurekeyvault://VAULT/keys/NAME``. ``VAULT`` is a
vault's name (``contoso`` is ``contoso.vault.azure.net``) or its host. How to log in is said in
``azure_credentials.py``, what the answers mean in ``azure_errors.py``. The SDK's own retries are off:
it would send a write again whose answer was lost, and two versions would be left.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import datetime
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

from cmzon_secrets.clock import SYSTEM_CLOCK, Clock
from cmzon_secrets.clouds.azure_credentials import (
    Credential,
    Login,
    environment_now,
)
from cmzon_secrets.clouds.azure_errors import Answer, Asked, cause_of, fault_of
from cmzon_secrets.clouds.azure_wire import transport
from cmzon_secrets.clouds.pool import Pool
from cmzon_secrets.deadline import DEFAULT_DEADLINE, Deadline
from cmzon_secrets.errors import (
    CMzonSecretsError,
    InvalidURI,
    ProviderError,
    missing_extra,
    retold,
)
from cmzon_secrets.headers import date_in
from cmzon_secrets.uri import Location

if TYPE_CHECKING:
    from azure.keyvault.keys import KeyClient
    from azure.keyvault.secrets import SecretClient

__all__ = ["OPTIONS", "Calls", "Refused", "Vault", "name_of"]

OPTIONS = frozenset({"credential", "client_id", "tenant_id", "authority"})

_T = TypeVar("_T")

_PUBLIC = ".vault.azure.net"
_SUFFIXES = {
    "secrets": (_PUBLIC, ".vault.azure.cn", ".vault.usgovcloudapi.net"),
    "keys": (_PUBLIC, ".vault.azure.cn", ".vault.usgovcloudapi.net", ".managedhsm.azure.net"),
}
_VAULT = re.compile(r"(?=.{3,24}$)[a-z](?:-?[0-9a-z])+", re.ASCII)
_HOST = re.compile(r"[0-9a-z](?:[0-9a-z.-]{0,251}[0-9a-z])?", re.ASCII)
_NAME = re.compile(r"[0-9a-zA-Z-]{1,127}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Vault:
    """One vault as one caller. ``verify``: True, or the path of the CA to trust alone."""

    host: str
    login: Login = field(default_factory=Login)
    verify: bool | str = True

    @classmethod
    def from_location(cls, location: Location, kind: str, *, verify: bool | str = True) -> Vault:
        """The vault in ``azurekeyvault://VAULT/KIND/NAME``. Raises InvalidURI."""
        vault = _parts(location, kind)[0].lower()
        login = Login.from_options(location.scheme, location.options)
        known = vault.endswith(_SUFFIXES[kind])
        host = vault if "." in vault else f"{vault}{_PUBLIC}"
        if not (_VAULT.fullmatch(host.partition(".")[0]) and _HOST.fullmatch(host)):
            raise InvalidURI(
                f"{location.scheme}: URI — a vault's name has 3 to 24 letters, digits and single hyphens,"
                " and begins with a letter"
            )
        if "." in vault and not known and not login.authority:
            raise InvalidURI(
                f"{location.scheme}: URI — the host is not below {', '.join(_SUFFIXES[kind])}",
                hint="in a private cloud, say where to log in: authority=HOST",
            )
        return cls(host, login, verify)

    def uri(self, kind: str, name: str) -> str:
        """``azurekeyvault://VAULT/KIND/NAME`` with the options that are not the defaults."""
        vault = self.host.removesuffix(_PUBLIC)
        return str(Location("azurekeyvault", f"{vault}/{kind}/{name}", self.login.options, True))

    def begin(
        self,
        uri: str,
        *,
        role: str = "rotator",
        timeout: float = DEFAULT_DEADLINE,
        clock: Clock = SYSTEM_CLOCK,
    ) -> Calls:
        """The calls of one verb, ``timeout`` seconds for all of them; ``uri`` begins their errors, and
        ``role`` (of ``permissions/``) is what they name where a right is missing.

        Raises ConfigurationError where the SDK is missing, AccessDenied where a credential is.
        """
        try:
            session = _SESSIONS.of((self, environment_now()), lambda: _Session(self))
        except CMzonSecretsError as error:
            raise retold(error, f"{uri} — {error}", uri=uri) from error
        except ImportError as error:
            raise missing_extra("azure", uri) from error
        return Calls(Asked(uri, self.host, role), session, Deadline(timeout, uri=uri, clock=clock))


def name_of(location: Location, kind: str) -> str:
    """The name in ``azurekeyvault://VAULT/KIND/NAME``. Raises InvalidURI, saying which names are valid."""
    name = _parts(location, kind)[1]
    if _NAME.fullmatch(name) is None:
        raise InvalidURI(
            f"{location.scheme}: URI — a name in Key Vault has 1 to 127 letters, digits and hyphens,"
            " and nothing else"
        )
    return name


def _parts(location: Location, kind: str) -> tuple[str, str]:
    """Vault and name."""
    parts = location.path.split("/")
    if not location.authority or len(parts) != 3 or parts[1] != kind or not all(parts):
        raise InvalidURI(f"{location.scheme}: URI — write {location.scheme}://VAULT/{kind}/NAME")
    return parts[0], parts[2]


class Refused(Exception):
    """An answer that the caller expected: ``code`` is the service's most specific one."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(f"{status} {code}")
        self.status = status
        self.code = code


class Calls:
    """What one verb asks of one vault, with one deadline."""

    def __init__(self, asked: Asked, session: _Session, deadline: Deadline) -> None:
        self._asked = asked
        self._session = session
        self._deadline = deadline
        self._uri = asked.uri
        self.server_time: datetime | None = None
        """The ``Date`` of the newest answer, UTC, in whole seconds."""

    @property
    def secrets(self) -> SecretClient:
        """The SDK's client for secrets, shared in this process: pass its methods to ``ask``."""
        return self._client("azure.keyvault.secrets", "SecretClient")  # type: ignore[no-any-return]  # made by name

    @property
    def keys(self) -> KeyClient:
        """The SDK's client for keys, likewise."""
        return self._client("azure.keyvault.keys", "KeyClient")  # type: ignore[no-any-return]  # made by name

    @property
    def credential(self) -> str:
        """Which credential is used, for people."""
        return self._session.credential.name

    def ask(
        self,
        request: Callable[..., _T],
        *args: Any,
        expecting: Collection[str] = (),
        repeat: bool = True,
        **kwargs: Any,
    ) -> _T:
        """What ``request(*args, **kwargs)`` returns; it must pass on the keyword that is added here.

        Raises Refused where the answer's code is in ``expecting``; else an error of ours. Throttling
        and states of transition are waited out. What may have been carried out is asked again only
        with ``repeat``: for reads, and for writes that carry an id of their own.
        """
        told: CMzonSecretsError | None = None
        attempt = 0
        while True:
            try:
                return self._deadline.call(
                    request, *args, raw_response_hook=self._note_date, **kwargs
                )
            except CMzonSecretsError as error:
                if told is None or not repeat or self._deadline.remaining:
                    raise self._naming(error) from error.__cause__
                raise told from told.__cause__  # "throttled" says more than that the time was up then
            except Exception as error:  # noqa: BLE001  # an SDK raises anything at a hostile answer
                answer, cause = Answer.of(error), cause_of(error)
                fault = fault_of(answer, error)
            if answer.code and answer.code in expecting:
                raise Refused(answer.status, answer.code) from cause
            told = fault.error(self._asked, answer)
            told.__cause__ = cause
            wait = fault.wait(answer, attempt, repeat=repeat)
            if wait is None or wait >= self._deadline.remaining:
                raise told
            self._deadline.pause(wait)
            attempt += 1

    def pause(self, seconds: float) -> None:
        """Wait within the deadline. Raises ProviderUnavailable where there is no time for it."""
        self._deadline.pause(seconds)

    def _client(self, package: str, name: str) -> Any:
        try:
            return self._session.client(package, name)
        except ImportError as error:
            raise missing_extra("azure", self._uri) from error

    def _naming(self, error: CMzonSecretsError) -> CMzonSecretsError:
        """An error of the deadline, or of the credential, which knows no URI and may be renewed."""
        if not isinstance(error, ProviderError) or error.uri:
            return error
        _SESSIONS.forget(self._session)
        return retold(error, f"{self._uri} — {error}", uri=self._uri)

    def _note_date(self, response: Any) -> None:
        date = date_in(response.http_response.headers.get("Date"))
        self.server_time = date or self.server_time


class _Session:
    """The SDK's clients for one vault, made on use."""

    def __init__(self, vault: Vault) -> None:
        self.credential = Credential(vault.login, host=vault.host, verify=vault.verify)
        self._lock = threading.Lock()
        self._clients: dict[str, Any] = {}
        self._transport = transport(vault.verify)
        self._settings: dict[str, Any] = {
            "vault_url": f"https://{vault.host}",
            "credential": self.credential,
            "retry_total": 0,
            "permit_redirects": False,
            "transport": self._transport,
        }

    def client(self, package: str, name: str) -> Any:
        """The one client of this class. Raises ImportError where the SDK is missing."""
        with self._lock:
            if name not in self._clients:
                self._clients[name] = getattr(import_module(package), name)(**self._settings)
            return self._clients[name]

    def close(self) -> None:
        """Give back idle connections; the clients go on and open new ones."""
        self._transport.session.close()
        self.credential.release()


_SESSIONS: Pool[_Session] = Pool()
