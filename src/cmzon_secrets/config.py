"""``cmzon-secrets.toml``: named accounts, where their tokens live and how they rotate. Data only.

Nothing is guessed: an unknown key is refused with its line and the nearest valid name. Paths in
``file:`` and ``keyfile:`` URIs are relative to the file they stand in. No secret belongs in it.
"""

from __future__ import annotations

import os
import re
import shlex
import stat
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn

from cmzon_secrets.durations import parse_duration
from cmzon_secrets.errors import ConfigurationError, InvalidURI
from cmzon_secrets.typed import quoted, shown
from cmzon_secrets.uri import split

__all__ = [
    "DEFAULT_NAME",
    "FILE_NAME",
    "Account",
    "Config",
    "account_from_environment",
    "find_config",
    "load_config",
]

FILE_NAME = "cmzon-secrets.toml"
DEFAULT_NAME = "cmzon-secrets"
"""The name of tokens issued for a place without a name; what tells two stores apart is added by rotation."""
MAX_CONFIG_BYTES = 16 * 1024 * 1024
"""Longest file read; tens of thousands of accounts fit in."""


@dataclass(frozen=True, slots=True)
class Account:
    """One named token. ``policy`` holds the fields of RotationPolicy that were written down.

    ``token`` is a URI, or several in their order of trust: a chain, which is for reading only.
    ``on_outage`` is the chain's.
    """

    name: str
    token: str | tuple[str, ...]
    issuer: str
    admin: str | None
    base_url: str | None
    policy: Mapping[str, Any]
    on_outage: bool = False

    @property
    def place(self) -> str:
        """What was written down of where the token is, for people."""
        return self.token if isinstance(self.token, str) else ", then ".join(self.token)


@dataclass(frozen=True, slots=True)
class Config:
    """A configuration file: where it lies and the accounts in it, in its own order."""

    path: Path
    accounts: Mapping[str, Account]
    text: str = field(default="", repr=False, compare=False)

    def where(self, name: str) -> str:
        """``FILE:LINE`` of the account of this name."""
        return f"{self.path}:{_Reader(self.path, self.text).line(('accounts', name))}"

    def account(self, name: str) -> Account:
        """The account of this name. Raises ConfigurationError."""
        if name in self.accounts:
            return self.accounts[name]
        known = ", ".join(map(shown, self.accounts)) or "none"
        raise ConfigurationError(
            f"{self.path} — it has no account {quoted(name)}", hint=f"accounts there: {known}"
        )


def find_config(start: Path | None = None) -> Path | None:
    """``$CMZON_SECRETS_CONFIG``, else the first file found from ``start`` (here) upward, else None.

    Raises ConfigurationError for a found file that another user owns or anybody may write: it
    decides where tokens are sent. A file named by the variable is taken as it is.
    """
    named = os.environ.get("CMZON_SECRETS_CONFIG")
    if named:
        return Path(named)
    folder = (start or Path.cwd()).absolute()
    for parent in (folder, *folder.parents):
        path = parent / FILE_NAME
        if path.is_file():
            _refuse_foreign(path)
            return path
    return None


def load_config(path: Path) -> Config:
    """Read and check a configuration file. Raises ConfigurationError, with the line."""
    text = _read(path)
    document = _parse(path, text)
    return _Reader(path, text).config(document)


def _as(value: Any, fits: bool, what: str) -> Any:
    if not fits:
        raise ValueError(what)
    return value


def _strings(value: object) -> tuple[str, ...]:
    strings = isinstance(value, list) and all(isinstance(v, str) and v for v in value)
    return tuple(_as(value, strings, "a list of strings"))


def _string(value: object) -> str:
    return str(_as(value, isinstance(value, str) and value != "", "a string"))


def _uri(value: object) -> str:
    text = _string(value)
    location = split(text)
    key = location.options.get("key", "")
    if location.scheme == "file":  # here, for made absolute its ~ is not in front any more
        location.refuse_tilde()
    if key.startswith("keyfile:"):
        split(key).refuse_tilde()
    return text


def _place(value: object) -> str | tuple[str, ...]:
    if not isinstance(value, list):
        return _uri(value)
    uris = tuple(map(_uri, _strings(value)))
    return _as(uris, 0 < len(uris) == len(set(uris)), "a URI, or a list of different URIs")  # type: ignore[no-any-return]  # what it was given


def _boolean(value: object) -> bool:
    return bool(_as(value, isinstance(value, bool), "true or false"))


_Check = Callable[[object], object]
_POLICY: Mapping[str, _Check] = {
    "scopes": _strings,
    "rotate_every": parse_duration,
    "expires_in": parse_duration,
    "grace": parse_duration,
    "renew_before": parse_duration,
    "reader_ttl": parse_duration,
    "request_deadline": parse_duration,
    "revoke_limit": parse_duration,
    "orphan_age": parse_duration,
    "allowed_ips": _strings,
    "allow_gap": _boolean,
}
_PLACE: Mapping[str, _Check] = {
    "token": _place,
    "on_outage": _boolean,
    "issuer": _string,
    "admin": _uri,
    "base_url": _string,
}
_ACCOUNT: Mapping[str, _Check] = {**_PLACE, "name": _string, **_POLICY}
_TOP: Mapping[str, _Check] = {"base_url": _string, "admin": _uri}


PREFIX = "CMZON_ROTATION_"
"""What the variables of ``account_from_environment`` begin with."""


def account_from_environment(environ: Mapping[str, str] = os.environ) -> Account:
    """The one account of a function or container that has no file, from its environment.

    ``CMZON_TOKEN_URI`` (may be absent: then the place has to come from elsewhere, and ``token`` is
    empty), ``CMZON_ADMIN_URI``, ``CMZON_BASE_URL``, ``CMZON_ISSUER``, and ``CMZON_ROTATION_*``: the
    policy's fields in capitals, durations as in the file, lists separated by commas. Raises
    ConfigurationError, naming the variable.
    """
    checks = {"name": _string, **_POLICY}
    policy: dict[str, Any] = {"name": DEFAULT_NAME}
    for variable in sorted(environ):
        if not variable.startswith(PREFIX):
            continue
        field_name = variable.removeprefix(PREFIX).lower()
        if field_name not in checks:
            valid = [PREFIX + name.upper() for name in checks]
            raise ConfigurationError(
                f"{shown(variable)} — there is no such setting{_nearest(variable, valid)}",
                hint=_valid(valid),
            )
        policy[field_name] = _from_text(variable, environ[variable], checks[field_name])
    return Account(
        name=policy["name"],
        token=environ.get("CMZON_TOKEN_URI", ""),
        issuer=environ.get("CMZON_ISSUER") or "cmzon",
        admin=environ.get("CMZON_ADMIN_URI") or None,
        base_url=environ.get("CMZON_BASE_URL") or None,
        policy=policy,
    )


def _from_text(variable: str, text: str, check: _Check) -> object:
    value: object = text
    if check is _strings:
        value = [part.strip() for part in text.split(",")]
    elif check is _boolean:
        value = {"true": True, "false": False}.get(text.lower(), text)
    try:
        return check(value)
    except ValueError as error:
        raise ConfigurationError(f"{variable} — it must be {error}") from None


class _Reader:
    """Turns the parsed document into accounts; knows the text, so that errors can name lines."""

    def __init__(self, path: Path, text: str) -> None:
        self._path = path
        self._lines = text.splitlines(keepends=True)

    def config(self, document: Mapping[str, Any]) -> Config:
        tables = ("defaults", "accounts")
        top = self._checked(
            {k: v for k, v in document.items() if k not in tables}, _TOP, (), also=tables
        )
        defaults = self._checked(self._table(document, "defaults"), _POLICY, ("defaults",))
        accounts = self._table(document, "accounts")
        read = {n: self._account(n, accounts, top, defaults) for n in accounts}
        return Config(self._path, read, "".join(self._lines))

    def _account(
        self,
        name: str,
        accounts: Mapping[str, Any],
        top: Mapping[str, Any],
        defaults: Mapping[str, Any],
    ) -> Account:
        where = ("accounts", name)
        given = self._checked(self._table(accounts, name, where), _ACCOUNT, where)
        if "token" not in given:
            self._refuse(
                where, f"account {quoted(name)} has no token", 'add token = "URI of its store"'
            )
        if given.get("on_outage") and isinstance(given["token"], str):
            self._refuse((*where, "on_outage"), "on_outage needs a list of URIs as token")
        admin = given.get("admin", top.get("admin"))
        return Account(
            name=name,
            token=_all_anchored(given["token"], self._path.absolute().parent),
            on_outage=given.get("on_outage", False),
            issuer=given.get("issuer", "cmzon"),
            admin=_anchored(admin, self._path.absolute().parent) if admin else None,
            base_url=given.get("base_url", top.get("base_url")),
            policy={
                "name": name,
                **defaults,
                **{k: v for k, v in given.items() if k not in _PLACE},
            },
        )

    def _table(
        self, parent: Mapping[str, Any], key: str, where: tuple[str, ...] | None = None
    ) -> Mapping[str, Any]:
        table = parent.get(key, {})
        if not isinstance(table, dict):
            self._refuse(where or (key,), f"{quoted(key)} must be a table")
        return table

    def _checked(
        self,
        table: Mapping[str, Any],
        checks: Mapping[str, _Check],
        where: tuple[str, ...],
        also: Iterable[str] = (),
    ) -> dict[str, Any]:
        result = {}
        for key, value in table.items():
            if key not in checks:
                valid = sorted([*checks, *also])
                self._refuse(
                    (*where, key), f"unknown key {quoted(key)}{_nearest(key, valid)}", _valid(valid)
                )
            try:
                result[key] = checks[key](value)
            except ValueError as error:
                self._refuse((*where, key), f"{key} must be {error}")
            except InvalidURI as error:
                self._refuse(
                    (*where, key), f"{key}: {error.message.partition(' — ')[2]}", error.hint
                )
        return result

    def _refuse(self, where: tuple[str, ...], why: str, hint: str | None = None) -> NoReturn:
        raise ConfigurationError(f"{self._path}:{self.line(where)} — {why}", hint=hint)

    def line(self, where: tuple[str, ...]) -> int:
        """The line on which ``where`` begins: that of the shortest beginning that holds it."""
        counts = range(len(self._lines))
        return max(1, bisect_left(counts, True, key=lambda count: self._holds(count, where)))

    def _holds(self, count: int, where: tuple[str, ...]) -> bool:
        document = self._prefix(count)
        while document is None:  # cut within a value: take it whole
            count += 1
            document = self._prefix(count)
        table: Any = document
        for key in where:
            if not isinstance(table, dict) or key not in table:
                return False
            table = table[key]
        return True

    def _prefix(self, count: int) -> dict[str, Any] | None:
        import tomllib

        try:
            return tomllib.loads("".join(self._lines[:count]))
        except tomllib.TOMLDecodeError:
            return None


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_CONFIG_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(
            f"{shown(str(path))} — it cannot be read: {error.strerror}",
            hint="CMZON_SECRETS_CONFIG names the configuration file",
        ) from error
    if len(data) > MAX_CONFIG_BYTES:
        raise ConfigurationError(f"{path} — it is longer than {MAX_CONFIG_BYTES} bytes")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path} — it is not UTF-8 text") from None


def _parse(path: Path, text: str) -> dict[str, Any]:
    import tomllib

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"at line (\d+)", str(error))
        number = int(found[1]) if found else text.count("\n") + 1
        line = text.split("\n")[number - 1 : number]
        begins_table = line and line[0].lstrip().startswith("[")
        # Not the parser's own words: they may quote what was typed, and that may be a secret.
        raise ConfigurationError(
            f"{path}:{number} — it is not valid TOML",
            hint="write [accounts.NAME], with both brackets"
            if begins_table
            else 'write NAME = "value", with the quotes',
        ) from None


def _refuse_foreign(path: Path) -> None:
    status, link = path.stat(), path.lstat()  # a link decides too, and may be another's
    if not {status.st_uid, link.st_uid} <= {os.getuid(), 0}:
        why, remedy = "another user owns it", f"export CMZON_SECRETS_CONFIG={path} to use it anyway"
    elif status.st_mode & stat.S_IWOTH:
        why, remedy = "anybody may write to it", f"chmod go-w {shlex.quote(str(path))}"
    else:
        return
    raise ConfigurationError(f"{path} — {why}, and it decides where tokens are sent", hint=remedy)


def _all_anchored(token: str | tuple[str, ...], folder: Path) -> str | tuple[str, ...]:
    if isinstance(token, str):
        return _anchored(token, folder)
    return tuple(_anchored(uri, folder) for uri in token)


def _anchored(uri: str, folder: Path) -> str:
    """``uri`` with its relative file paths made absolute from ``folder``."""
    try:
        location = split(uri)
    except InvalidURI:  # a key's: whoever opens it says what is wrong
        return uri
    path, options = location.path, dict(location.options)
    if location.scheme in ("file", "keyfile") and path and not location.authority:
        path = os.path.join(folder, path)  # noqa: PTH118  # Path would drop a slash at the end
    if "key" in options:
        options["key"] = _anchored(options["key"], folder)
    return str(replace(location, path=path, options=options))


def _nearest(key: str, valid: list[str]) -> str:
    from difflib import get_close_matches

    near = get_close_matches(key, valid, n=1)
    return f", did you mean {near[0]!r}?" if near else ""


def _valid(names: Iterable[str]) -> str:
    return f"valid here: {', '.join(names)}"
