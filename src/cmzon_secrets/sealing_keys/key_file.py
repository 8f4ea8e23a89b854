"""``keyfile:PATH``: a key that is 32 bytes as one line of base64 in a file of its own.

``cmzon-secrets keygen PATH`` makes one. Like ssh's keys it must be a regular file, owned by us or
root, that grants nothing to group or others (0600 or 0400), else AccessDenied. Keep it where the
sealed file is not: whoever has both has the token. Symbolic links are followed.
"""

from __future__ import annotations

import os
import shlex
from typing import Self

from cmzon_secrets.errors import ConfigurationError, shielded
from cmzon_secrets.key_wrapping import LocalKey, decode_key, encode_bytes, new_key
from cmzon_secrets.private_files import create_durably, read_private
from cmzon_secrets.uri import Location

__all__ = ["KeyFile", "generate_key_file"]

_LIMIT = 64  # bytes; 32 in base64 and a line break are 46


class KeyFile(LocalKey):
    """The key in the file ``path``, read at each use so that it is never kept in memory."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._given = os.fspath(path)
        self._path = os.path.abspath(self._given)  # noqa: PTH100  # Path.absolute keeps ".."

    @classmethod
    def from_location(cls, location: Location) -> Self:
        """``keyfile:PATH``."""
        return cls(location.file_path)

    @property
    def uri(self) -> str:
        """``keyfile:PATH``, as it was given."""
        return str(Location("keyfile", self._given, {}))

    @property
    def path(self) -> str:
        """Where it is, from the root."""
        return self._path

    @shielded
    def read_key(self) -> bytes:
        """The 32 bytes. Raises ConfigurationError, AccessDenied or ProviderUnavailable."""
        hint = f"make one with: cmzon-secrets keygen {shlex.quote(self._given)}"
        content = read_private(self._path, limit=_LIMIT, uri=self.uri)
        if content is None:
            raise ConfigurationError(f"{self.uri} — there is no such key file", hint=hint)
        return decode_key(content.decode("ascii", "replace"), name=self.uri, hint=hint)


@shielded
def generate_key_file(path: str | os.PathLike[str]) -> None:
    """Make a new key file, mode 0600, whole or not at all.

    Raises ConfigurationError where something of that name exists (a key overwritten is a token
    lost) or the folder is missing, AccessDenied or ProviderUnavailable where it cannot be written.
    """
    name = os.fspath(path)
    uri = str(Location("keyfile", name, {}))
    create_durably(name, encode_bytes(new_key()).encode() + b"\n", uri=uri)
