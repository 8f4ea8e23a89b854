"""The folder in which an emulator keeps what others read: admin token, CA certificate, state.

| file | holds | mode |
|---|---|---|
| ``emulator.db`` | tokens (SHA-256 only) and their audit trail, messages as sent, the record of requests | 0600 |
| ``snapshots/`` | the same, as it was | 0700 |
| ``token-secret`` | 32 bytes in hex from which the tokens' values are derived | 0600 |
| ``admin-token`` | the admin token and a line break | 0600 |
| ``ca.pem``, ``ca-key.pem``, ``server.pem`` | with TLS: the local CA, and today's certificate with its key | 0600 |
"""

from __future__ import annotations

import os
import secrets
import shutil
import ssl
import stat
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from cmzon_secrets.errors import ConfigurationError, missing_extra, without_frames

if TYPE_CHECKING:
    import trustme

__all__ = ["HALF_TAKEN", "Home"]

HALF_TAKEN = ".taking-"
"""How the folder begins in which a snapshot is written before it gets its name."""
SECRET_BYTES = 32
TLS_NAMES = ("127.0.0.1", "::1", "localhost")


class Home:
    """A state folder, or a private temporary one that ``close`` removes.

    Raises ConfigurationError where the folder cannot be used, or others could have put there what
    is read: tokens are derived from it.
    """

    def __init__(self, state: str | os.PathLike[str] | None) -> None:
        self._temporary = state is None
        try:
            self.path = _folder(state)
        except OSError as error:
            raise _unusable(Path(state or tempfile.gettempdir()), error) from error
        _check_ours(self.path, self.path.stat())

    @property
    def database(self) -> Path | None:
        """Where the state lies; None: in memory."""
        if self._temporary:
            return None
        path = self.path / "emulator.db"
        try:
            # One that is there is not opened: closing it would end the lock of an emulator in this
            # process, as POSIX has it.
            with suppress(FileExistsError):
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        except OSError as error:
            raise _unusable(path, error) from error
        _check_ours(path, path.lstat())
        return path

    def snapshots(self) -> Path:
        """Where snapshots lie. Those that were being taken when an emulator was killed are removed.

        To be asked once the database is open: until then another emulator may be taking one.
        """
        path = self.path / "snapshots"
        if path.is_dir() or path.is_symlink():
            _check_ours(path, path.lstat())
            for left in path.glob(f"{HALF_TAKEN}*"):
                shutil.rmtree(left, ignore_errors=True)
        return path

    @property
    def admin_token_file(self) -> Path:
        """Where the admin token is written."""
        return self.path / "admin-token"

    def write_admin_token(self, reveal: Callable[[], str]) -> None:
        """Leave the admin token where only this user can read it."""
        self.write("admin-token", f"{reveal()}\n".encode())

    def token_secret(self) -> bytes:
        """The secret of this state; made on first use."""
        path = self.path / "token-secret"
        if not path.exists():
            self.write(path.name, secrets.token_hex(SECRET_BYTES).encode() + b"\n")
        _check_ours(path, path.lstat())
        try:
            secret = bytes.fromhex(path.read_text(encoding="ascii"))
        except ValueError:
            secret = b""
        except OSError as error:
            raise _unusable(path, error) from error
        if len(secret) != SECRET_BYTES:
            raise ConfigurationError(
                f"emulator state {path} — not {SECRET_BYTES} bytes in hex",
                hint="remove the state folder and start anew",
            )
        return secret

    def tls(self) -> tuple[ssl.SSLContext, Path]:
        """A server context for loopback names, and the CA certificate that clients must trust.

        The CA stays with the state, the certificate is made at each start.
        """
        leaf = self._authority().issue_cert(*TLS_NAMES)
        self.write("server.pem", leaf.private_key_and_cert_chain_pem.bytes())
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.path / "server.pem")
        return context, self.path / "ca.pem"

    def write(self, name: str, content: bytes) -> None:
        """Put a file there, 0600 from birth, whole or not at all."""
        temporary = None
        try:
            descriptor, temporary = tempfile.mkstemp(dir=self.path, prefix=f".{name}.")
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
            Path(temporary).replace(self.path / name)
        except OSError as error:
            del content  # a reporter that prints locals must not find it in this frame
            if temporary is not None:
                Path(temporary).unlink(missing_ok=True)
            raise _unusable(self.path / name, error) from without_frames(error)

    def close(self) -> None:
        """Remove a temporary folder."""
        if self._temporary:
            shutil.rmtree(self.path, ignore_errors=True)

    def _authority(self) -> trustme.CA:
        try:
            import trustme
        except ModuleNotFoundError as error:
            raise missing_extra("emulator", "emulator with TLS") from error
        certificate, key = self.path / "ca.pem", self.path / "ca-key.pem"
        try:
            if certificate.exists() and key.exists():
                return trustme.CA.from_pem(certificate.read_bytes(), key.read_bytes())
        except (OSError, ValueError) as error:
            raise ConfigurationError(
                f"emulator state {certificate} — no CA can be read from it and {key.name}",
                hint="remove both; clients must then trust the new one",
            ) from error
        ca = trustme.CA(organization_name="CMzon emulator")
        self.write(key.name, ca.private_key_pem.bytes())
        self.write(certificate.name, ca.cert_pem.bytes())
        return ca


def _folder(state: str | os.PathLike[str] | None) -> Path:
    if state is None:
        return Path(tempfile.mkdtemp(prefix="cmzon-emulator-"))
    path = Path(state).absolute()
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def _check_ours(path: Path, found: os.stat_result) -> None:
    """Raise where somebody else could have put there what is read. Root may use anybody's."""
    if stat.S_ISLNK(found.st_mode):
        raise _refused(path, "it is a link to another place", "remove the link")
    if os.geteuid() != 0 and found.st_uid not in (os.geteuid(), 0):
        raise _refused(path, "it belongs to another user", "choose a folder of your own")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        mode = 700 if stat.S_ISDIR(found.st_mode) else 600
        why = "other users can write there"
        raise _refused(path, why, f"choose another --state folder, or: chmod {mode} {path}")


def _unusable(path: Path, error: OSError) -> ConfigurationError:
    file = next((p for p in (path, *path.parents) if p.is_file()), None)
    if file is not None and isinstance(error, FileExistsError | NotADirectoryError):
        return _refused(path, f"{file} is a file; a folder is needed", "choose a folder")
    return _refused(path, error.strerror or error, "choose a folder that this user can write")


def _refused(path: Path, why: object, hint: str) -> ConfigurationError:
    return ConfigurationError(f"emulator state {path} — {why}", hint=hint)
