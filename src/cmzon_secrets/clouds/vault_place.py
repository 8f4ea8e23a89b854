"""Where a Vault or OpenBao server is, and who we are there: what a URI and the environment say.

Options are ``address namespace ca auth auth_mount role``; variables, each as ``BAO_…`` or ``VAULT_…``,
``ADDR NAMESPACE CACERT CAPATH CLIENT_CERT CLIENT_KEY TLS_SERVER_NAME TOKEN ROLE_ID SECRET_ID
SECRET_ID_FILE WRAPPED_SECRET_ID JWT_FILE``. An option beats a variable, and BAO beats VAULT, as in
``bao``. Variables are read when the place is opened; files that hold a credential (``~/.vault-token``,
``…_FILE``) anew at each login.
"""

from __future__ import annotations

import hmac
import os
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn, SupportsIndex

from cmzon_secrets.clouds.vault_wire import TLSFiles
from cmzon_secrets.errors import AccessDenied, ConfigurationError, InvalidURI
from cmzon_secrets.http import checked_base_url
from cmzon_secrets.tokens import MASK
from cmzon_secrets.uri import Location

__all__ = ["OPTIONS", "Credentials", "Place", "Source", "is_credential"]

MAX_CREDENTIAL = 64 * 1024
"""Characters of a file that are read for one."""

_CREDENTIAL = re.compile(r"[\x21-\x7e]+", re.ASCII)

OPTIONS = frozenset({"address", "namespace", "ca", "auth", "auth_mount", "role"})
"""The options that every ``hashivault…:`` URI takes."""

METHODS = ("token", "approle", "kubernetes", "jwt")
SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount/token"  # where kubelet keeps it


@dataclass(frozen=True, slots=True)
class Place:
    """A server and a namespace, and with which credentials. ``origins`` tells what came from where."""

    address: str
    namespace: str | None
    tls: TLSFiles
    credentials: Credentials
    origins: tuple[tuple[str, str], ...] = field(default=(), compare=False)

    @classmethod
    def from_location(cls, location: Location) -> Place:
        """From a URI's options, then the environment. Nothing is sent or read from a file yet.

        Raises InvalidURI for an option, ConfigurationError for a variable or an address that must
        not be used.
        """
        found = _Settings(location)
        _refuse_skipped_verification()
        address = _checked_address(found.get("address", "ADDR"))
        namespace = found.get("namespace", "NAMESPACE")
        tls = TLSFiles(
            ca=_expanded(found.get("ca", "CACERT") or found.get(None, "CAPATH")),
            cert=_expanded(found.get(None, "CLIENT_CERT")),
            key=_expanded(found.get(None, "CLIENT_KEY")),
            server_name=found.get(None, "TLS_SERVER_NAME"),
        )
        credentials = _credentials(location)
        return cls(address, _namespace(namespace), tls, credentials, tuple(found.origins.items()))


class Hidden:
    """A text that nothing shows, copies into a dict or pickles; equal by value."""

    __slots__ = ("_reveal",)

    def __init__(self, text: str) -> None:
        # A closure, as in Token: nothing that looks at an object's members finds a string.
        self._reveal: Callable[[], str] = lambda: text

    def reveal(self) -> str:
        """The text. Put it where it is needed and nowhere else."""
        return self._reveal()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Hidden):
            return NotImplemented
        return hmac.compare_digest(self.reveal().encode(), other.reveal().encode())

    def __hash__(self) -> int:
        return hash(self.reveal())

    def __repr__(self) -> str:
        return MASK

    def __deepcopy__(self, memo: object) -> Hidden:
        return self

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError("a credential cannot be pickled: open the place in the other process")


@dataclass(frozen=True, slots=True)
class Source:
    """Where a credential is: in a variable (``text``, taken when the place was opened) or in a file
    (``path``, read anew each time it is needed). ``name`` is what people call it; ``absent`` is what
    is said, with the remedy, where there is no such file."""

    name: str
    text: Hidden | None = None
    path: str | None = None
    absent: tuple[str, str] | None = None

    def read(self, uri: str) -> str:
        """The credential. Raises AccessDenied where there is none, or what is there cannot be one."""
        text = self.text.reveal() if self.text else self._from_file(uri)
        text = text.strip()
        if not is_credential(text):
            raise AccessDenied(f"{uri} — {self.name} holds no credential", uri=uri)
        return text

    def _from_file(self, uri: str) -> str:
        try:
            with Path(self.path or "").open(encoding="ascii") as file:
                return file.read(MAX_CREDENTIAL)
        except OSError as error:
            said, hint = f"{self.name}: {(error.strerror or type(error).__name__).lower()}", None
            if self.absent is not None and isinstance(error, FileNotFoundError):
                said, hint = self.absent
            raise AccessDenied(f"{uri} — {said}", uri=uri, hint=hint) from error
        except UnicodeError:
            raise AccessDenied(f"{uri} — {self.name} holds no credential", uri=uri) from None


@dataclass(frozen=True, slots=True)
class Credentials:
    """How to log in. ``secret``: the token, secret ID or JWT; ``role_id``: AppRole's;
    ``wrapped``: ``secret`` is a wrapping token that yields the secret ID once."""

    auth: str
    mount: str = ""
    role: str | None = None
    secret: Source | None = None
    role_id: Source | None = None
    wrapped: bool = False

    def __str__(self) -> str:
        """What messages call them: which method, and where its secret comes from."""
        source = self.secret.name if self.secret else "no secret"
        if self.auth == "token":
            return f"the token in {source}"
        role = f" as {self.role!r}" if self.role else ""
        return f"the login at auth/{self.mount}{role} with {source}"

    @property
    def remedy(self) -> str:
        """What to do where they are refused."""
        return f"{_REMEDIES[self.auth]}{shlex.quote(self.role_path) if self.role_path else ''}"

    @property
    def role_path(self) -> str:
        """Where an administrator finds the role, and makes its secret IDs; "" where there is none."""
        role = f"auth/{self.mount}/role/{self.role or 'ROLE'}"
        return {"token": "", "approle": f"{role}/secret-id"}.get(self.auth, role)


_REMEDIES = {
    "token": "get a new token (bao login, or vault login) and put it there",
    "approle": "the role ID or secret ID is wrong, expired or used up; make a new one:"
    " bao write -force ",
    "jwt": "check the role's bound claims and the token's issuer, audience and expiry: bao read ",
    "kubernetes": "check the role's bound service accounts and namespaces: bao read ",
}


def is_credential(text: str) -> bool:
    """Fit for a header: printable ASCII without spaces."""
    return _CREDENTIAL.fullmatch(text) is not None


# what a URI and the environment say


class _Settings:
    """Options of a URI first, then ``BAO_…``, then ``VAULT_…``; remembers which it was."""

    def __init__(self, location: Location) -> None:
        self._options = location.options
        self.origins: dict[str, str] = {}

    def get(self, option: str | None, variable: str) -> str | None:
        if option and option in self._options:
            self.origins[option] = f"{option}= in the URI"
            return self._options[option]
        name, value = _variable(variable)
        if value is not None:
            self.origins[option or variable.lower()] = name
        return value


def _variable(name: str) -> tuple[str, str | None]:
    """Its full name and value; an empty one counts as not set, as in ``bao``."""
    for prefix in ("BAO_", "VAULT_"):
        if value := os.environ.get(prefix + name):
            return prefix + name, value
    return f"VAULT_{name}", None


def _refuse_skipped_verification() -> None:
    name, value = _variable("SKIP_VERIFY")
    if value is not None and value.lower() not in ("0", "f", "false"):
        raise ConfigurationError(
            f"{name} — a token is not sent to a server whose certificate nobody checks",
            hint=f"unset {name}, and name the CA: export VAULT_CACERT=PATH",
        )


def _checked_address(address: str | None) -> str:
    if address is None:
        raise ConfigurationError(
            "Vault address — there is none",
            hint="export VAULT_ADDR=https://HOST:8200, or put address= into the URI",
        )
    try:
        return checked_base_url(address)
    except ConfigurationError as error:
        told = error.message.removeprefix("base URL").strip()
        hint = "for example https://vault.example:8200, without /v1"
        raise ConfigurationError(f"Vault address {told}", hint=hint) from None


def _namespace(name: str | None) -> str | None:
    if name and re.fullmatch(r"[\x21-\x7e]+", name, re.ASCII) is None:
        raise ConfigurationError("Vault namespace — it holds a space or a character beyond ASCII")
    return (name or "").strip("/") or None


def _expanded(path: str | None) -> str | None:
    # Absolute, for a daemon may change its folder; and unlike Path's, this expanduser never raises.
    return os.path.abspath(os.path.expanduser(path)) if path else None  # noqa: PTH100, PTH111


def _credentials(location: Location) -> Credentials:
    options = location.options
    auth = options.get("auth", "token")
    if auth not in METHODS:
        raise InvalidURI(
            f"{location.scheme}: URI — auth={auth[:40]!r} is not known; valid: {', '.join(METHODS)}"
        )
    if auth == "token":
        for name in ("auth_mount", "role"):
            if name in options:
                raise InvalidURI(f"{location.scheme}: URI — {name}= has no meaning for auth=token")
        return Credentials(auth, secret=_token_source())
    mount, role = options.get("auth_mount", auth).strip("/"), options.get("role")
    _refuse_odd_names(location, auth_mount=mount, role=role)
    if auth == "approle":
        return _approle(mount, role)
    if auth == "kubernetes" and role is None:
        raise InvalidURI(f"{location.scheme}: URI — auth=kubernetes needs role=")
    return Credentials(auth, mount, role, _jwt_source(auth))


def _refuse_odd_names(location: Location, **names: str | None) -> None:
    for option, name in names.items():
        parts = (name or option).split("/")
        if not all(part.isprintable() and part not in ("", ".", "..") for part in parts):
            raise InvalidURI(f"{location.scheme}: URI — {option}= is not a name in Vault")


def _token_source() -> Source:
    name, token = _variable("TOKEN")
    if token is not None:
        return Source(name, Hidden(token))
    return Source("~/.vault-token", path=_expanded("~/.vault-token"), absent=_NO_TOKEN)


_NO_TOKEN = (
    "no credentials: neither VAULT_TOKEN nor BAO_TOKEN is set, and there is no ~/.vault-token",
    "export VAULT_TOKEN, or: bao login; or log in otherwise: auth=approle, kubernetes or jwt",
)


def _approle(mount: str, role: str | None) -> Credentials:
    role_name, role_id = _variable("ROLE_ID")
    role_source = Source(role_name, Hidden(role_id)) if role_id else None
    for variable, in_file, wrapped in (
        ("SECRET_ID", False, False),
        ("SECRET_ID_FILE", True, False),
        ("WRAPPED_SECRET_ID", False, True),
    ):
        name, value = _variable(variable)
        if value is not None:
            named = f"{name} ({value})" if in_file else name
            source = Source(named, path=value) if in_file else Source(named, Hidden(value))
            return Credentials("approle", mount, role, source, role_source, wrapped)
    return Credentials("approle", mount, role, None, role_source)


def _jwt_source(auth: str) -> Source | None:
    name, path = _variable("JWT_FILE")
    if path is not None:
        return Source(f"{name} ({path})", path=path)
    return Source(SERVICE_ACCOUNT, path=SERVICE_ACCOUNT) if auth == "kubernetes" else None
