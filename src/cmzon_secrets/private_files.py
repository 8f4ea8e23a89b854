"""Files that hold secrets: read only where private, replaced whole and durably, under a lock.

* ``read_private`` refuses what others could read or replace, the way ssh does with its keys.
* ``replace_durably``: temporary file in the same folder (0600 from birth), write, fsync, rename,
  fsync of the folder. Killed at any instant, the old file or the new one is there, whole.
* ``exclusive_lock``: ``flock`` on a file beside it, which stays there: removing a lock file would
  let two processes hold two locks of the same name.

Every ``OSError`` leaves as one of ours; ``os_errors_as_ours`` says which.
"""

from __future__ import annotations

import errno
import fcntl
import io
import os
import random
import re
import shlex
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cmzon_secrets.errors import (
    AccessDenied,
    CMzonSecretsError,
    ConfigurationError,
    ProviderUnavailable,
    without_frames,
)

__all__ = [
    "LOCK_TIMEOUT",
    "TEMPORARY",
    "create_durably",
    "exclusive_lock",
    "os_errors_as_ours",
    "read_private",
    "replace_durably",
]

LOCK_TIMEOUT = 10.0
"""Seconds to wait for a lock: as long as any call to a backend may take."""

_POLL = (
    0.001,
    0.02,
)  # seconds between tries, drawn anew each time so that waiters don't march in step
TEMPORARY = ".cmzon-tmp"

_DENIED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ELOOP})
_MISPLACED = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG})


def read_private(path: str, *, limit: int, uri: str) -> bytes | None:
    """Up to ``limit`` + 1 bytes of the file, symlinks followed; None where there is none.

    Raises AccessDenied where it is no regular file, belongs to someone else than us or root, or
    grants anything to group or others (to its group, a credential of systemd's may show);
    ConfigurationError or ProviderUnavailable as in ``os_errors_as_ours``. ``uri`` begins the message.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK  # a FIFO must not block us
    with os_errors_as_ours(uri):
        try:
            descriptor = os.open(path, flags)
        except FileNotFoundError:
            return None
        try:
            _refuse_unless_private(os.fstat(descriptor), path, uri)
            return _read(descriptor, limit + 1)
        finally:
            os.close(descriptor)


def replace_durably(path: str, data: bytes, *, uri: str, mode: int = 0o600) -> None:
    """Put ``data`` in place of the file, by default private. Call it under the file's lock.

    Raises as ``os_errors_as_ours`` says; then the old file is untouched and nothing is left behind.
    Only where the last step fails, the fsync of the folder, is the new file already in place.
    """
    target = Path(path)
    with os_errors_as_ours(uri):
        _remove_leftovers(target)
        temporary = _temporary_name(target)
        try:
            _write_new(temporary, data, mode)
            temporary.replace(target)
        except BaseException:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        _sync_folder(target)


def create_durably(path: str, data: bytes, *, uri: str) -> None:
    """A new file, mode 0600, whole or not at all. Raises ConfigurationError where one is there."""
    target = Path(path)
    with os_errors_as_ours(uri):
        temporary = _temporary_name(target)
        try:
            _write_new(temporary, data, 0o600)
            target.hardlink_to(temporary)  # unlike a rename, this never replaces
        except FileExistsError:
            raise ConfigurationError(
                f"{uri} — it exists already and is not overwritten", hint="choose another path"
            ) from None
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
        _sync_folder(target)


@contextmanager
def exclusive_lock(path: str, *, uri: str, timeout: float = LOCK_TIMEOUT) -> Iterator[None]:
    """Hold the lock file ``path`` (made where missing) against every other thread and process.

    Raises ProviderUnavailable after ``timeout`` seconds, else as ``os_errors_as_ours`` says.
    """
    deadline = time.monotonic() + timeout
    while True:
        with _opened_lock(path, uri) as lock:
            _wait_for(lock, path, deadline, uri)
            if _still_there(lock, path):
                yield
                return


@contextmanager
def os_errors_as_ours(uri: str) -> Iterator[None]:
    """Permissions become AccessDenied, a place that cannot be ConfigurationError, the rest (a disk
    that is full or broken, too many open files) ProviderUnavailable. ``uri`` begins the message.
    """
    try:
        yield
    except OSError as error:
        raise _from_os_error(error, uri) from without_frames(error)


def _from_os_error(error: OSError, uri: str) -> CMzonSecretsError:
    message = f"{uri} — {(error.strerror or type(error).__name__).lower()}"
    if error.errno in _DENIED:
        hint = "check the owner and mode of the file and of its folder, and that the disk is not mounted read-only"
        return AccessDenied(message, uri=uri, hint=hint)
    if error.errno in _MISPLACED:
        return ConfigurationError(message, hint="the folder must exist: mkdir -p, or mend the path")
    if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
        hint = "make room on the disk; what was stored before is untouched"
        return ProviderUnavailable(message, uri=uri, hint=hint)
    return ProviderUnavailable(message, uri=uri)


def _refuse_unless_private(found: os.stat_result, path: str, uri: str) -> None:
    name = shlex.quote(path)
    if not stat.S_ISREG(found.st_mode):
        raise AccessDenied(f"{uri} — {path} is not a regular file", uri=uri)
    if found.st_uid not in {os.geteuid(), 0}:
        raise AccessDenied(
            f"{uri} — {path} belongs to another user (uid {found.st_uid})",
            uri=uri,
            hint=f"run as that user, or: chown {os.geteuid()} {name}",
        )
    mode = stat.S_IMODE(found.st_mode)
    if mode & 0o077 and not _is_credential(found, path):
        raise AccessDenied(
            f"{uri} — {path} is open to other users (mode {mode:04o})",
            uri=uri,
            hint=f"chmod 600 {name}",
        )


def _is_credential(found: os.stat_result, path: str) -> bool:
    """Whether systemd handed it to this service (``LoadCredential=``).

    Nobody else can enter that folder. An ACL lets the service's user read the file of root, and
    its mask is shown as the rights of the group.
    """
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    if not folder or found.st_uid != 0 or stat.S_IMODE(found.st_mode) & 0o037:
        return False
    return Path(path).resolve().parent == Path(folder).resolve()


def _read(descriptor: int, limit: int) -> bytes:
    data = b""
    while len(data) < limit and (chunk := os.read(descriptor, limit - len(data))):
        data += chunk
    return data


def _temporary_name(target: Path) -> Path:
    return target.with_name(f".{target.name}.{os.urandom(8).hex()}{TEMPORARY}")


_SEARCHED = 64 * 1024
"""Bytes that a folder itself may have, a thousand names or so, to be searched at each write."""


def _remove_leftovers(target: Path) -> None:
    if target.parent.stat().st_size > _SEARCHED:
        return  # it would cost more than the write; `doctor` names what is left over
    # All writers hold the lock we hold, so a temporary file found now is a killed one's.
    ours = re.compile(re.escape(f".{target.name}.") + r"[0-9a-f]{16}" + re.escape(TEMPORARY))
    for name in os.listdir(target.parent):  # noqa: PTH208  # it needs no Path objects
        if ours.fullmatch(name):
            target.with_name(name).unlink(missing_ok=True)


def _write_new(path: Path, data: bytes, mode: int) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with io.FileIO(os.open(path, flags, 0o600), "w") as file:
        os.fchmod(file.fileno(), mode)  # whatever umask or the folder's default ACL made of it
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(file.fileno(), rest) :]
        os.fsync(file.fileno())


def _sync_folder(target: Path) -> None:
    descriptor = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


_open_locks: set[io.FileIO] = set()


@contextmanager
def _opened_lock(path: str, uri: str) -> Iterator[io.FileIO]:
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    with os_errors_as_ours(uri):
        lock = io.FileIO(os.open(path, flags, 0o600), "r+")
    try:
        _open_locks.add(lock)
        yield lock
    finally:
        _open_locks.discard(lock)
        lock.close()  # which lets go


def _wait_for(lock: io.FileIO, path: str, deadline: float, uri: str) -> None:
    while not _locked(lock, uri):
        if time.monotonic() >= deadline:
            raise ProviderUnavailable(
                f"{uri} — another process holds its lock {path}",
                uri=uri,
                hint="try again; a lock ends with the process that holds it, so look for one that hangs",
            )
        time.sleep(random.uniform(*_POLL))  # noqa: S311  # jitter, not cryptography


def _locked(lock: io.FileIO, uri: str) -> bool:
    with os_errors_as_ours(uri):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def _still_there(lock: io.FileIO, path: str) -> bool:
    """False where somebody removed the lock file after we had opened it: others lock a new one."""
    try:
        return os.path.samestat(os.fstat(lock.fileno()), os.lstat(path))
    except FileNotFoundError:
        return False


def _let_go_in_child() -> None:
    # A flock lasts until parent and child alike have closed the file, and a child has no business
    # with a lock that a thread of its parent holds. (Not forks.py: its weak references end in a
    # callback, in which Python drops a Ctrl-C, and a lock lives too short for that.)
    for lock in _open_locks:
        lock.close()
    _open_locks.clear()


os.register_at_fork(after_in_child=_let_go_in_child)
