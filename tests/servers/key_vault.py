"""A strict double of Azure Key Vault: what every kind of object shares. Kinds register their routes.

The real SDK speaks to it over HTTPS at the real names (``NAME.vault.azure.net``); only the socket is
led here (``redirected``). Strict means: what the published description does not know is refused, and
what the live service was seen to do to callers (``tests/wire/azure``) happens here too.

Who calls is the managed identity with that client id: ``credential=managed&client_id=NAME``, whose
tokens ``/metadata/identity`` hands out over plain http, as on a virtual machine. ``authenticators``
takes the tokens of other doubles. Rights are role definitions, assigned at their own scopes.
"""

from __future__ import annotations

import functools
import json
import re
import secrets
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from email.utils import formatdate
from fnmatch import fnmatchcase
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest
import trustme

from cmzon_secrets.clock import Clock

TENANT = "72f988bf-86f1-41af-91ab-2d7cd011db47"
API_VERSIONS = frozenset({"7.4", "7.5", "7.6", "2025-07-01", "2026-04-01"})
OWNER = "owner"
"""The principal that may do everything in every vault."""


class SwiftClock(Clock):
    """A clock whose waits are as much shorter as a double's clock runs faster."""

    def __init__(self, speed: float) -> None:
        self._speed = speed

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds / self._speed)


Handler = Callable[["Vault", "Request"], tuple[int, dict[str, Any] | None]]


class Fault(Exception):
    """An answer that is an error, in the service's shape."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        inner: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = dict(headers or {})
        error: dict[str, Any] = {"code": code, "message": message}
        if inner is not None:
            error["innererror"] = {"code": inner}
        self.body = {"error": error}


@dataclass(frozen=True)
class Route:
    """One operation. ``pattern`` matches the path; its groups, ``name`` among them, become ``names``."""

    method: str
    pattern: str
    action: str
    """The data action that is needed, below ``Microsoft.KeyVault/vaults/``."""
    handler: Handler
    query: frozenset[str] = frozenset()
    """What may stand in the query besides ``api-version``."""


@dataclass(frozen=True)
class Request:
    """A request that passed all checks. ``body``: the JSON object, where there is one."""

    method: str
    path: str
    query: Mapping[str, str]
    names: Mapping[str, str]
    body: dict[str, Any] | None
    principal: str


@dataclass(frozen=True)
class Exchange:
    """What was asked and answered, for those who compare it with the description."""

    method: str
    path: str
    query: Mapping[str, str]
    sent: Any
    status: int
    answered: Any


@dataclass
class Trouble:
    """Something that goes wrong for the next ``times`` requests that ``only`` picks."""

    kind: str
    times: int
    only: Callable[[str, str], bool]
    fault: Fault | None = None
    seconds: float = 0.0


class Vault:
    """One vault. Its clock runs ``speed`` times as fast as ours; objects live in ``kinds``."""

    def __init__(self, host: str, *, speed: float = 1.0, purge_protection: bool = False) -> None:
        self.host = host
        self.name = host.partition(".")[0]
        self.id = f"/subscriptions/{TENANT}/resourceGroups/rg/providers/Microsoft.KeyVault/vaults/{self.name}"
        self.speed = speed
        self.purge_protection = purge_protection
        self.lock = threading.RLock()
        self.kinds: dict[str, Any] = {}
        self.traffic: list[Exchange] = []
        self.skew = 0.0
        self._began = (time.time(), time.monotonic())
        self._assignments: list[tuple[str, str, list[str]]] = []
        self._troubles: list[Trouble] = []
        self.assign(OWNER, json.dumps({"DataActions": ["*"]}))

    def now(self) -> float:
        """Unix seconds by the vault's clock."""
        wall, monotonic = self._began
        return wall + self.skew + (time.monotonic() - monotonic) * self.speed

    def kind(self, name: str, make: Callable[[], Any]) -> Any:
        """The objects of a kind, made at first use."""
        with self.lock:
            if name not in self.kinds:
                self.kinds[name] = make()
            return self.kinds[name]

    # rights

    def assign(self, principal: str, role: str, *objects: str) -> None:
        """Assign a role definition (JSON, as ``az role definition create`` takes it) on these objects
        (``secrets/NAME``), or on the whole vault."""
        actions = json.loads(role)["DataActions"]
        for place in objects or ("",):
            scope = f"{self.id}/{place}".rstrip("/").lower()
            self._assignments.append((principal, scope, actions))

    def unassign(self, principal: str) -> None:
        self._assignments = [a for a in self._assignments if a[0] != principal]

    def authorize(self, principal: str, action: str, resource: str) -> None:
        """Raise ForbiddenByRbac unless ``principal`` may do ``action`` to ``resource`` (``secrets/NAME``)."""
        wanted = f"{self.id}/{resource}".rstrip("/").lower()
        full = f"Microsoft.KeyVault/vaults/{action}"
        for who, scope, actions in self._assignments:
            below = wanted == scope or wanted.startswith(f"{scope}/")
            if who == principal and below and any(fnmatchcase(full, a) for a in actions):
                return
        raise Fault(
            403,
            "Forbidden",
            "Caller is not authorized to perform action on resource.\r\n"
            "If role assignments, deny assignments or role definitions were changed recently,"
            " please observe propagation time.\r\n"
            f"Caller: appid={principal};oid={principal};iss=https://sts.windows.net/{TENANT}/\r\n"
            f"Action: '{full}'\r\nResource: '{wanted}'\r\nAssignment: (not found)\r\n"
            f"DenyAssignmentId: null\r\nDecisionReason: null \r\nVault: {self.name};location=westeurope\r\n",
            inner="ForbiddenByRbac",
        )

    # trouble

    def refuse(
        self, fault: Fault, *, times: int = 1, only: Callable[[str, str], bool] = lambda *_: True
    ) -> None:
        """Answer the next requests with ``fault`` and do nothing."""
        self._troubles.append(Trouble("refuse", times, only, fault))

    def throttle(self, *, times: int = 1, retry_after: int | None = None) -> None:
        headers = {"Retry-After": str(retry_after)} if retry_after is not None else {}
        message = "Request was not processed because too many requests were received. Reason: VaultRequestTypeLimitReached"
        self.refuse(Fault(429, "Throttled", message, headers=headers), times=times)

    def lose(self, *, times: int = 1, only: Callable[[str, str], bool] = lambda *_: True) -> None:
        """Carry out the next requests and let the answer be lost."""
        self._troubles.append(Trouble("lose", times, only))

    def delay(
        self, seconds: float, *, times: int = 1, only: Callable[[str, str], bool] = lambda *_: True
    ) -> None:
        """Answer the next requests later (real seconds)."""
        self._troubles.append(Trouble("delay", times, only, seconds=seconds))

    def mend(self) -> None:
        """No more trouble."""
        self._troubles.clear()

    def trouble(self, method: str, path: str) -> Trouble | None:
        with self.lock:
            for trouble in self._troubles:
                if trouble.times > 0 and trouble.only(method, path):
                    trouble.times -= 1
                    return trouble
        return None


class KeyVault:
    """The server: all vaults of a test run at one address, and the identity endpoint beside it."""

    def __init__(self, folder: Path) -> None:
        from servers.key_vault_secrets import ROUTES

        self.routes: list[Route] = list(ROUTES)
        self.authenticators: list[Callable[[str], str | None]] = [self._principal]
        self.authorization = f"https://login.microsoftonline.com/{TENANT}"
        """Where the challenge sends callers."""
        self._vaults: dict[str, Vault] = {}
        self._tokens: dict[str, str] = {}
        authority = trustme.CA()
        certificate = authority.issue_cert("*.vault.azure.net", "*.vault.azure.cn")
        self.ca = str(folder / "key-vault-ca.pem")
        authority.cert_pem.write_to_path(self.ca)
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(tls)
        self._servers = [
            _Server(functools.partial(_VaultHandler, self), tls),
            _Server(functools.partial(_IdentityHandler, self), None),
        ]
        self.port, identity = (server.server_address[1] for server in self._servers)
        self.identity = f"http://127.0.0.1:{identity}"
        for server in self._servers:
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()

    def vault(
        self, name: str | None = None, *, suffix: str = "vault.azure.net", **options: Any
    ) -> Vault:
        """A new vault, or the one of this name."""
        host = f"{name or f'v{secrets.token_hex(6)}'}.{suffix}"
        return self._vaults.setdefault(host, Vault(host, **options))

    @property
    def environment(self) -> dict[str, str]:
        """What callers need besides ``redirected``."""
        return {
            "AZURE_POD_IDENTITY_AUTHORITY_HOST": self.identity,
            "REQUESTS_CA_BUNDLE": self.ca,
            "NO_PROXY": "*",
        }

    def close(self) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def token_for(self, principal: str) -> str:
        """A token, which no vault accepts where it is for ``expired``."""
        token = f"bearer-{secrets.token_urlsafe(24)}"
        if principal != "expired":
            self._tokens[token] = principal
        return token

    def _principal(self, token: str) -> str | None:
        return self._tokens.get(token)

    def find(self, host: str) -> Vault:
        return self._vaults[host.partition(":")[0].lower()]

    def authenticate(self, authorization: str | None, host: str) -> str:
        """The caller. Raises 401 with the challenge that the SDK learns everything from."""
        kind, _, token = (authorization or "").partition(" ")
        for known in self.authenticators if kind == "Bearer" and token else ():
            principal = known(token)
            if principal is not None:
                return principal
        message = (
            "AKV10000: Request is missing a Bearer or PoP token."
            if authorization is None
            else "AKV10046: Unable to resolve the key used for signature validation."
        )
        cloud = host.partition(":")[0].partition(".")[2]
        challenge = f'Bearer authorization="{self.authorization}", resource="https://{cloud}"'
        raise Fault(401, "Unauthorized", message, headers={"WWW-Authenticate": challenge})

    def answer(
        self, vault: Vault, method: str, target: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, dict[str, Any] | None]:
        """Check a request as the service does, in its order, and carry it out."""
        url = urlsplit(target)
        query = dict(parse_qsl(url.query, keep_blank_values=True))
        principal = self.authenticate(headers.get("Authorization"), headers["Host"])
        if query.get("api-version") not in API_VERSIONS:
            raise Fault(
                400, "BadParameter", "AKV10012: The api-version is missing or not supported."
            )
        for route in self.routes:
            match = re.fullmatch(route.pattern, url.path)
            if match is None or route.method != method:
                continue
            unknown = set(query) - route.query - {"api-version"}
            if unknown:
                raise Fault(400, "BadParameter", f"Unknown query parameter: {sorted(unknown)}")
            names = {k: unquote(v or "") for k, v in match.groupdict().items()}
            kind = url.path.split("/")[1].removeprefix("deleted")
            vault.authorize(principal, route.action, f"{kind}/{names.get('name', '')}")
            request = Request(method, url.path, query, names, _object(body), principal)
            with vault.lock:
                status, answer = route.handler(vault, request)
            vault.traffic.append(Exchange(method, url.path, query, request.body, status, answer))
            return status, answer
        raise Fault(405, "MethodNotAllowed", f"There is no {method} {url.path}")


def _object(body: bytes) -> dict[str, Any] | None:
    if not body:
        return None
    try:
        found = json.loads(body)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise Fault(400, "BadParameter", "The request body is not a JSON object.")
    return found


# the wire


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, handler: Any, tls: ssl.SSLContext | None) -> None:
        self.tls = tls
        super().__init__(("127.0.0.1", 0), handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Callers that hang up are no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def __init__(self, double: KeyVault, *args: Any) -> None:
        self.double = double
        super().__init__(*args)

    def setup(self) -> None:
        tls = self.server.tls  # type: ignore[attr-defined]
        if tls is not None:
            self.request = tls.wrap_socket(self.request, server_side=True)
        super().setup()

    def finish(self) -> None:
        with suppress(OSError):
            super().finish()
        if self.server.tls is not None:  # type: ignore[attr-defined]
            self.request.close()  # the server closes what it accepted, not what was wrapped around it

    def log_message(self, *_: Any) -> None:
        """Nothing on stderr."""

    def send(self, status: int, body: dict[str, Any] | None, headers: Mapping[str, str]) -> None:
        content = b"" if body is None else json.dumps(body).encode()
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if body is not None:
            self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        self.wfile.flush()


class _VaultHandler(_Handler):
    def handle_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        vault = self.double.find(self.headers["Host"])
        trouble = (
            vault.trouble(self.command, self.path) if self.headers.get("Authorization") else None
        )
        headers: dict[str, str] = {
            "x-ms-keyvault-service-version": "1.9.0",
            "Cache-Control": "no-cache",
        }
        try:
            if trouble is not None and trouble.kind == "delay":
                time.sleep(trouble.seconds)
            if trouble is not None and trouble.fault is not None:
                raise trouble.fault
            status, answer = self.double.answer(vault, self.command, self.path, self.headers, body)
        except Fault as fault:
            status, answer = fault.status, fault.body
            headers |= fault.headers
        headers["Date"] = formatdate(vault.now(), usegmt=True)
        if trouble is not None and trouble.kind == "lose":
            self.close_connection = True
            return
        self.send(status, answer, headers)

    do_GET = do_PUT = do_PATCH = do_POST = do_DELETE = handle_any  # noqa: N815


class _IdentityHandler(_Handler):
    """The metadata service of a virtual machine, for as many identities as are asked for."""

    def do_GET(self) -> None:
        query = dict(parse_qsl(urlsplit(self.path).query))
        if self.headers.get("Metadata") != "true" or "resource" not in query:
            self.send(400, {"error": "invalid_request"}, {})
            return
        expires = int(time.time()) + 86_400
        answer = {
            "access_token": self.double.token_for(query.get("client_id", OWNER)),
            "expires_in": "86400",
            "expires_on": str(expires),
            "resource": query["resource"],
            "token_type": "Bearer",
        }
        self.send(200, answer, {})


# how callers get here


@contextmanager
def redirected(port: int) -> Iterator[None]:
    """Connections to any vault of Microsoft's clouds go to this port; those to ``down-…`` nowhere."""
    import urllib3.util.connection as urllib3_connection

    original = urllib3_connection.create_connection

    def create_connection(address: tuple[str, int], *args: Any, **kwargs: Any) -> Any:
        host, _ = address
        if host.endswith((".vault.azure.net", ".vault.azure.cn")):
            address = ("127.0.0.1", 9 if host.startswith("down-") else port)
        return original(address, *args, **kwargs)

    urllib3_connection.create_connection = create_connection
    try:
        yield
    finally:
        urllib3_connection.create_connection = original


_FOR_GOOD = ExitStack()


def open_there(port: int, opener: Callable[[], Any]) -> Any:
    """``opener()`` in a process of its own, which is led to the double for good. Picklable."""
    _FOR_GOOD.enter_context(redirected(port))
    return opener()


@pytest.fixture(scope="session")
def key_vault_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KeyVault]:
    """One server for the whole run."""
    pytest.importorskip("azure.keyvault.secrets", reason="not run: Key Vault (no azure SDK)")
    server = KeyVault(tmp_path_factory.mktemp("key-vault"))
    with redirected(server.port):
        yield server
    with suppress(OSError):
        server.close()


@pytest.fixture
def key_vault(key_vault_server: KeyVault, monkeypatch: pytest.MonkeyPatch) -> KeyVault:
    """The server, and an environment in which nothing but the double is to be found."""
    import os

    for name in list(os.environ):
        if (
            name.startswith(("AZURE_", "IDENTITY_", "MSI_", "REQUESTS_", "CURL_"))
            or "PROXY" in name.upper()
        ):
            monkeypatch.delenv(name)
    for name, value in key_vault_server.environment.items():
        monkeypatch.setenv(name, value)
    return key_vault_server


__all__ = [
    "Exchange",
    "Fault",
    "KeyVault",
    "Request",
    "Route",
    "SwiftClock",
    "Vault",
    "key_vault",
    "key_vault_server",
    "open_there",
    "redirected",
]
