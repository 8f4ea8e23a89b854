"""The folder in which an emulator keeps what others read: admin token, CA certificate, state.

| file | holds | mode |
|---|---|---|
| ``emulator.db`` | tokens (SHA-256 only), messages, audit trail | 0600 |
| ``token-secret`` | 32 bytes in hex from which the tokens' values are derived | 0600 |
| ``admin-token`` | the admin token and a line break | 0600 |
| ``ca.pem``, ``ca-key.pem``, ``server.pem`` | with TLS: the local CA, and today's certificate with its key | 0600 |
"""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from cmzon_secrets.errors import ConfigurationError, without_frames

__all__ = ["Home"]

SECRET_BYTES = 32


class Home:
    """A state folder, or a private temporary one that ``close`` removes.

    Raises ConfigurationError where the folder cannot be used.
    """

    def __init__(self, state: str | os.PathLike[str] | None) -> None:
        self._temporary = state is None
        try:
            self.path = _folder(state)
        except OSError as error:
            raise _unusable(Path(state or tempfile.gettempdir()), error) from error

    @property
    def database(self) -> Path | None:
        """Where the state lies; None: in memory."""
        if self._temporary:
            return None
        path = self.path / "emulator.db"
        try:
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        except OSError as error:
            raise _unusable(path, error) from error
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


def _folder(state: str | os.PathLike[str] | None) -> Path:
    if state is None:
        return Path(tempfile.mkdtemp(prefix="cmzon-emulator-"))
    path = Path(state).absolute()
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def _unusable(path: Path, error: OSError) -> ConfigurationError:
    return ConfigurationError(
        f"emulator state {path} — {error.strerror or error}",
        hint="choose a folder that this user can write",
    )
