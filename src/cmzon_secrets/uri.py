"""Provider, key and issuer URIs: parsed and validated once, then handed on as a typed Location.

A URI names a place and never holds a credential. Error messages name the faulty part and do not
repeat the rest: what was typed in the wrong place may be a token.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import quote, unquote

from cmzon_secrets.errors import InvalidURI

__all__ = ["Location", "parse"]

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,31}", re.ASCII)
_PERCENT_FAULT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_CREDENTIAL_NAMES = frozenset(
    [
        "token",
        "password",
        "passwd",
        "passphrase",
        "secret",
        "secret_id",
        "client_secret",
        "access_key",
        "access_key_id",
        "secret_access_key",
        "session_token",
        "api_key",
        "apikey",
        "api_token",
        "bearer",
        "authorization",
    ]
)
_USER_AND_PASSWORD = re.compile(r"(?!arn:)[^/?@:]*:[^/?@]*@")


@dataclass(frozen=True, slots=True)
class Location:
    """``scheme:path?options``; ``authority`` says whether ``//`` stood before the path.

    ``path`` and option values are percent-decoded.
    """

    scheme: str
    path: str
    options: Mapping[str, str]
    authority: bool = False

    def __str__(self) -> str:
        """The URI again, safe to log: a URI never holds a credential."""
        slashes = "//" if self.authority else ""
        query = "&".join(
            f"{quote(k, safe='.')}={quote(v, safe=':/@,.~')}" for k, v in self.options.items()
        )
        path = quote(self.path, safe=":/@,.~ +=")
        return f"{self.scheme}:{slashes}{path}" + (f"?{query}" if query else "")

    def refuse_unknown_options(self, known: Collection[str]) -> None:
        """Raise InvalidURI for an option that is not in ``known``; a trailing dot is a prefix."""
        exact = {k for k in known if not k.endswith(".")}
        prefixes = tuple(k for k in known if k.endswith("."))
        for name in self.options:
            if name not in exact and not (prefixes and name.startswith(prefixes)):
                valid = ", ".join(sorted([*exact, *(f"{p}NAME" for p in prefixes)])) or "none"
                raise InvalidURI(
                    f"{self.scheme}: URI — unknown option {_printable(name)!r}; valid: {valid}"
                )


def parse(uri: str, *, schemes: Iterable[str], what: str = "provider") -> Location:
    """Split and validate a URI whose scheme must be one of ``schemes``.

    Raises InvalidURI: no or unknown scheme, empty path, doubled or malformed option, or a
    credential, which belongs into the environment or a prompt.
    """
    known = sorted(schemes)
    scheme, colon, rest = uri.partition(":")
    if not colon or _SCHEME.fullmatch(scheme) is None:
        raise InvalidURI(
            f"{what} URI — it does not begin with a scheme (it is not repeated here: it may be a secret)",
            hint=f"write SCHEME:…, one of: {', '.join(known)}",
        )
    if scheme not in known:
        raise InvalidURI(
            f"{what} URI — unknown scheme {scheme!r}", hint=f"valid: {', '.join(known)}"
        )
    if any(ord(c) < 0x20 or ord(c) == 0x7F for c in uri):
        raise InvalidURI(f"{scheme}: URI — it contains a control character")
    path, question, query = rest.partition("?")
    authority = path.startswith("//")
    path = path.removeprefix("//")
    if _USER_AND_PASSWORD.match(path):
        raise InvalidURI(
            f"{scheme}: URI — it holds a user and password",
            hint="credentials come from the environment or the SDK's own configuration, never from a URI",
        )
    options = _options(scheme, query) if question else {}
    decoded = _decode(scheme, "path", path)
    if not decoded and not _allows_empty_path(scheme):
        raise InvalidURI(f"{scheme}: URI — nothing stands after {scheme}:")
    return Location(scheme, decoded, options, authority)


def _allows_empty_path(scheme: str) -> bool:
    return scheme == "passphrase"


def _options(scheme: str, query: str) -> dict[str, str]:
    options: dict[str, str] = {}
    for part in query.split("&"):
        raw_name, equals, raw_value = part.partition("=")
        name = _decode(scheme, "option name", raw_name)
        if name.lower() in _CREDENTIAL_NAMES:
            raise InvalidURI(
                f"{scheme}: URI — {name!r} is a credential, and a URI ends up in logs and process lists",
                hint="put it into the environment or a prompt; docs/backends say which variable",
            )
        if not equals or not name:
            raise InvalidURI(f"{scheme}: URI — an option must be NAME=VALUE")
        if name in options:
            raise InvalidURI(f"{scheme}: URI — option {_printable(name)!r} is given twice")
        value = _decode(scheme, f"option {_printable(name)!r}", raw_value)
        if not value:
            raise InvalidURI(f"{scheme}: URI — option {_printable(name)!r} is empty")
        options[name] = value
    return options


def _decode(scheme: str, part: str, text: str) -> str:
    malformed = _PERCENT_FAULT.search(text) is not None
    try:
        decoded = unquote(text, errors="strict")
    except UnicodeDecodeError:
        decoded, malformed = "", True
    if malformed or "\0" in decoded:
        raise InvalidURI(
            f"{scheme}: URI — the {part} is not valid percent-encoding", hint="write % as %25"
        )
    return decoded


def _printable(name: str) -> str:
    return name if name.isprintable() and len(name) <= 40 else "(not shown)"
