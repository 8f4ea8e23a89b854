"""Provider and key URIs: parsed and validated once, then handed on as a typed Location.

A URI names a place and never holds a credential. Error messages name the faulty part and do not
repeat the rest: what was typed in the wrong place may be a token.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from urllib.parse import quote, unquote

from cmzon_secrets.errors import InvalidURI

__all__ = ["Location", "parse", "shown_variable", "split"]

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,31}", re.ASCII)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_PLAIN_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]{0,63}", re.ASCII)
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
_OPTION_IN_PATH = re.compile(r"&[a-z_]{2,}=", re.ASCII)
_USER_AND_PASSWORD = re.compile(r"(?!arn:)[^/?@:]*:[^/?@]*@")


@dataclass(frozen=True, slots=True)
class Location:
    """``scheme:path?options``; ``authority`` says whether ``//`` stood before the path.

    ``path`` and option values are percent-decoded. ``path`` may be empty; ``name``, ``file_path``
    and ``variable`` are for schemes that need one of these, and raise InvalidURI where it is not.
    """

    scheme: str
    path: str
    options: Mapping[str, str]
    authority: bool = False

    def __str__(self) -> str:
        """The URI again."""
        slashes = "//" if self.authority else ""
        query = "&".join(
            f"{quote(k, safe='.')}={quote(v, safe=':/@,.~')}" for k, v in self.options.items()
        )
        path = quote(self.path, safe=":/@,.~ +=")
        return f"{self.scheme}:{slashes}{path}" + (f"?{query}" if query else "")

    @property
    def name(self) -> str:
        """The path, which may be any text."""
        if not self.path:
            raise InvalidURI(f"{self.scheme}: URI — nothing stands after {self.scheme}:")
        return self.path

    @property
    def file_path(self) -> str:
        """The path of a file on this machine: ``PATH``, or ``///PATH`` for an absolute one."""
        if self.authority and not self.name.startswith("/"):
            raise InvalidURI(
                f"{self.scheme}: URI — a host after // has no meaning here",
                hint=f"write {self.scheme}:PATH, or {self.scheme}:///PATH for an absolute one",
            )
        self.refuse_tilde()
        return self.name

    @property
    def variable(self) -> str:
        """The name of an environment variable."""
        if _VARIABLE.fullmatch(self.name) is None or self.authority:
            raise InvalidURI(
                f"{self.scheme}: URI — what follows is no variable name"
                " (not repeated: it may be a secret)",
                hint=f"put the secret into a variable and write {self.scheme}:NAME",
            )
        return self.name

    def refuse_tilde(self) -> None:
        """Raise InvalidURI for a path that only a shell could understand, and a quoted one does not."""
        if self.path.startswith("~"):
            raise InvalidURI(
                f"{self.scheme}: URI — a ~ in front is not your home here, but would be a folder of that name",
                hint=f'write the whole path, or "{self.scheme}:$HOME/…" for a shell; a name with ~ is ./~…',
            )

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


def shown_variable(name: str) -> str:
    """``name`` where it looks like a variable's: a token may be a valid name too, but not like this."""
    return name if _PLAIN_VARIABLE.fullmatch(name) else "(not shown: it may be a secret)"


def parse(uri: str, *, schemes: Collection[str], what: str = "provider") -> Location:
    """``split``, where the scheme must be one of ``schemes``. Raises InvalidURI, naming them."""
    valid = ", ".join(sorted(schemes))
    hint = f"write SCHEME:…, one of: {valid}"
    if ":" not in uri:
        hint = _meant(uri, schemes) or hint
    location = split(uri, what=what, hint=hint)
    if location.scheme not in schemes:
        from difflib import get_close_matches

        near = get_close_matches(location.scheme, schemes, n=1)
        hint = f"did you mean {near[0]}:? valid: {valid}" if near else f"valid: {valid}"
        raise InvalidURI(f"{what} URI — unknown scheme {location.scheme!r}", hint=hint)
    return location


def split(uri: str, *, what: str = "provider", hint: str = "write SCHEME:…") -> Location:
    """The parts of any URI, its scheme known or not.

    Raises InvalidURI: no scheme, a doubled or malformed option, or a credential, which belongs
    into the environment or a prompt. ``what`` and ``hint`` are for a text without a scheme.
    """
    scheme, colon, rest = uri.partition(":")
    if not colon or _SCHEME.fullmatch(scheme) is None:
        raise InvalidURI(
            f"{what} URI — it does not begin with a scheme (it is not repeated here: it may be a secret)",
            hint=hint,
        )
    if any(ord(c) < 0x20 or ord(c) == 0x7F for c in uri):
        raise InvalidURI(f"{scheme}: URI — it contains a control character")
    if "#" in uri:
        raise InvalidURI(f"{scheme}: URI — a fragment has no meaning here", hint="write # as %23")
    path, question, query = rest.partition("?")
    authority = path.startswith("//")
    path = path.removeprefix("//")
    if _OPTION_IN_PATH.search(path):
        raise InvalidURI(
            f"{scheme}: URI — an option follows & where none follows ?",
            hint=f"write {scheme}:…?NAME=VALUE, and & between two of them; a & of the path itself is %26",
        )
    if _USER_AND_PASSWORD.match(path):
        raise InvalidURI(
            f"{scheme}: URI — it holds a user and password",
            hint="credentials come from the environment or the SDK's own configuration, never from a URI",
        )
    options = _options(scheme, query) if question else {}
    return Location(scheme, _decode(scheme, "path", path), options, authority)


def _meant(text: str, schemes: Collection[str]) -> str | None:
    """What a text without a scheme may be meant for. It is not repeated: it may be a secret all the same."""
    if not text.isprintable():  # no name; a lone surrogate even breaks looking for one
        return None
    if "env" in schemes and text in os.environ:
        return "a variable has that name: write env:NAME"
    of_file = [s for s in ("file", "keyfile") if s in schemes]
    if of_file and os.path.isfile(text):  # noqa: PTH113  # any text, which Path may refuse
        options = "?key=KEYURI" if of_file[0] == "file" else ""
        return f"a file has that name: write {of_file[0]}:PATH{options}"
    return None


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
