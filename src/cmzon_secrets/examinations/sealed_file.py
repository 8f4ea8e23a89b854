"""``file:PATH?key=KEYURI``: modes, owners, what lies beside it, and where its key is."""

from __future__ import annotations

import os
import re
import shlex
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from cmzon_secrets.errors import CMzonSecretsError, ConfigurationError
from cmzon_secrets.findings import Finding, Role
from cmzon_secrets.private_files import TEMPORARY
from cmzon_secrets.providers.sealed_file import SealedFile
from cmzon_secrets.sealing import MAGIC, SealingKey
from cmzon_secrets.sealing_keys.environment import EnvironmentKey
from cmzon_secrets.sealing_keys.key_file import KeyFile
from cmzon_secrets.sealing_keys.passphrase import VARIABLE, PassphraseKey
from cmzon_secrets.uri import Location

__all__ = ["examine", "policy"]

MOST_NEIGHBOURS = 10_000
"""Files of the folder that are looked at."""

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def policy(location: Location, role: Role) -> str:
    """Raises ConfigurationError: modes and owners are all there is. (Its key may have one.)"""
    raise ConfigurationError(
        f"{location} — what a {role} needs are modes and owners of files, and there is no policy",
        hint="docs/backends/file.md says which; without --policy they are examined",
    )


def examine(store: SealedFile, role: Role) -> Iterator[Finding]:
    """The file, its folder, its neighbours and its key, as this user finds them."""
    path, key = store.path, store.key
    if path.exists():
        yield _private("permissions.file", path, "the sealed file")
        yield from _opens(store)
    if store.address.is_symlink():
        yield _link(store.address, path)
    if path.parent.is_dir():
        yield _folder(path.parent)
        yield _writing(path.parent, role)
        yield from _lock(path.with_name(f"{path.name}.lock"), role)
        yield from _neighbours(path)
    yield from _key(key, path)


def _private(check: str, path: Path, what: str) -> Finding:
    found = path.stat()
    mode = stat.S_IMODE(found.st_mode)
    evidence = f"{path}: mode {mode:04o}, owner uid {found.st_uid}, this process is {os.geteuid()}"
    name = shlex.quote(str(path))
    if mode & _OTHERS:
        return Finding(check, "problem", f"{what} is open to others", evidence, f"chmod 600 {name}")
    if found.st_uid not in {os.geteuid(), 0}:
        remedy = f"run as that user, or: chown {os.geteuid()} {name}"
        return Finding(check, "problem", f"{what} is another user's", evidence, remedy)
    return Finding(check, "ok", f"{what} is readable by its owner only", evidence)


def _opens(store: SealedFile) -> Iterator[Finding]:
    with suppress(CMzonSecretsError):  # reading has told why
        store.versions()
        evidence = f"key={store.key.uri}; the seal, the path and every byte are checked"
        yield Finding("key.opens", "ok", "its key opens it", evidence)


def _link(link: Path, path: Path) -> Finding:
    owners = {link.lstat().st_uid, path.parent.stat().st_uid if path.parent.is_dir() else 0}
    evidence = f"{link} → {path}"
    if owners <= {os.geteuid(), 0}:
        return Finding("permissions.link", "note", "the path is a symbolic link", evidence)
    message = "the path is a symbolic link that another user may turn elsewhere"
    return Finding("permissions.link", "warning", message, evidence, "name the file itself")


def _folder(folder: Path) -> Finding:
    found = folder.stat()
    mode, check = stat.S_IMODE(found.st_mode), "permissions.folder"
    evidence = f"{folder}: mode {mode:04o}, owner uid {found.st_uid}"
    name = shlex.quote(str(folder))
    if found.st_uid not in {os.geteuid(), 0}:
        message = "another user owns the folder, and may replace what is in it"
        return Finding(check, "warning", message, evidence, f"chown {os.geteuid()} {name}")
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        message = "anybody may replace what is in the folder"
        return Finding(check, "problem", message, evidence, f"chmod go-w {name}")
    if mode & (stat.S_IWGRP | stat.S_IWOTH) and not mode & stat.S_ISVTX:
        message = "the folder's group may replace what is in it"
        return Finding(check, "warning", message, evidence, f"chmod go-w {name}")
    return Finding(check, "ok", "only its owner may replace what is in the folder", evidence)


def _writing(folder: Path, role: Role) -> Finding:
    may = os.access(folder, os.W_OK | os.X_OK)
    evidence = f"this process may {'' if may else 'not '}make files in {folder}"
    if role == "rotator" and not may:
        remedy = f"run as its owner, or: chown {os.geteuid()} {shlex.quote(str(folder))}"
        message = "a rotator must make files in the folder, and may not"
        return Finding("permissions.write", "problem", message, evidence, remedy)
    if role == "reader" and may:
        remedy = "where readers shall only read, give them the folder read-only"
        return Finding("permissions.excess", "note", "this reader may also write", evidence, remedy)
    return Finding("permissions.write", "ok", f"as a {role} needs it", evidence)


def _lock(lock: Path, role: Role) -> Iterator[Finding]:
    if role == "rotator" and lock.exists() and not os.access(lock, os.R_OK | os.W_OK):
        found = lock.stat()
        evidence = f"{lock}: mode {stat.S_IMODE(found.st_mode):04o}, owner uid {found.st_uid}"
        remedy = f"run as that user, or: chown {os.geteuid()} {shlex.quote(str(lock))}"
        yield Finding("permissions.lock", "problem", "the lock is another user's", evidence, remedy)


def _neighbours(path: Path) -> Iterator[Finding]:
    leftover = re.compile(re.escape(f".{path.name}.") + "[0-9a-f]{16}" + re.escape(TEMPORARY))
    with suppress(OSError), os.scandir(path.parent) as entries:
        for entry, _ in zip(entries, range(MOST_NEIGHBOURS), strict=False):
            if leftover.fullmatch(entry.name):
                evidence = f"{entry.path}: the next write removes it"
                yield Finding("permissions.leftover", "note", "a write was killed", evidence)
            elif _is_exposed_copy(entry, path):
                yield Finding(
                    "permissions.backup",
                    "warning",
                    "a copy of a sealed file is open to others: whoever has its key reads it",
                    f"{entry.path}: mode {stat.S_IMODE(entry.stat().st_mode):04o}",
                    f"chmod 600 {shlex.quote(entry.path)}",
                )


def _is_exposed_copy(entry: os.DirEntry[str], path: Path) -> bool:
    if entry.name == path.name or path.name not in entry.name:
        return False
    with suppress(OSError):
        if entry.is_file(follow_symlinks=False) and entry.stat().st_mode & _OTHERS:
            with Path(entry.path).open("rb") as file:
                return file.read(len(MAGIC)) == MAGIC
    return False


def _key(key: SealingKey, path: Path) -> Iterator[Finding]:
    if isinstance(key, KeyFile):
        yield from _key_file(Path(key.path), path)
    if isinstance(key, PassphraseKey) and os.environ.get(VARIABLE):
        yield _visible(f"the passphrase stands in {VARIABLE}")
    if isinstance(key, EnvironmentKey):
        yield _visible(f"the key stands in an environment variable ({key.uri})")


def _key_file(key: Path, path: Path) -> Iterator[Finding]:
    if not key.exists():
        return  # reading has told
    yield _private("key.file", key, "the key file")
    together = os.path.realpath(key.parent) == str(path.parent)
    evidence = f"the key is {key}, the sealed file {path}"
    if together:
        yield Finding(
            "key.place",
            "warning",
            "the key lies in the folder of what it opens: a backup of one is a backup of both",
            evidence,
            "cmzon-secrets keygen on another disk or mount, then cmzon-secrets rekey",
        )
    else:
        yield Finding("key.place", "ok", "the key lies elsewhere than what it opens", evidence)


def _visible(what: str) -> Finding:
    evidence = "programs started from here inherit it, and /proc/PID/environ shows it to the user"
    remedy = "where a file can be mounted, prefer key=keyfile:PATH"
    return Finding("key.visible", "note", what, evidence, remedy)
