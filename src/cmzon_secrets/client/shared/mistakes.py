"""What a Redis that never answered says of a mistake of ours, which waiting does not mend."""

from __future__ import annotations

import socket
import ssl
from contextlib import suppress
from urllib.parse import SplitResult, urlsplit

__all__ = ["mistake_in"]

_DENIED_INSIDE = ("ACL failure", "user executing the script")
"""What Redis says, with no code of its own, of a command that a script may not run."""
_NO_DATABASE = ("DB index is out of range", "SELECT is not allowed in cluster mode")


def mistake_in(place: str, error: Exception, *, within: float) -> tuple[str, str] | None:
    """Why waiting does not help, and the remedy; None where it may.

    ``error``: what came of a question to ``place``, a URL without password. It may knock there
    once more, for ``within`` seconds.
    """
    from redis.exceptions import AuthenticationError, NoPermissionError

    said, parts = str(error), urlsplit(place)
    if isinstance(error, AuthenticationError):
        return "Redis does not accept the user or the password", (
            "both belong into the URL: redis://user:password@host:6379/0"
        )
    if isinstance(error, NoPermissionError) or any(denied in said for denied in _DENIED_INSIDE):
        return "Redis does not let this user run a command that is needed", (
            "docs/shared-limits.md lists them"
        )
    if any(missing in said for missing in _NO_DATABASE):
        return "Redis has no such database", "the number at the end of the URL; /0 is always there"
    if isinstance(error.__context__, ssl.SSLCertVerificationError):
        return "its certificate is not trusted", (
            "ca= is the PEM file of the authority that signed it; it must name this host"
        )
    if parts.scheme == "rediss" and _is_plain(parts, error, within):
        return "no TLS is spoken there", "redis:// is without TLS; or name the port that has it"
    if parts.scheme == "redis" and _is_tls(parts, error, within):
        return "TLS is spoken there", "rediss:// is with TLS"
    return None


def _is_plain(parts: SplitResult, error: Exception, within: float) -> bool:
    """Redis takes a TLS greeting for a line that has not ended yet, and says nothing."""
    refused = error.__context__
    if isinstance(refused, ssl.SSLError):
        return refused.reason == "WRONG_VERSION_NUMBER"
    if isinstance(refused, TimeoutError):
        with suppress(OSError), _connected(parts, within) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(1) in (b"+", b"-")
    return False


def _is_tls(parts: SplitResult, error: Exception, within: float) -> bool:
    """Redis hangs up on who does not greet it."""
    from redis.exceptions import ConnectionError as NoConnection

    if type(error) is not NoConnection or not _was_hung_up(error):
        return False
    context = ssl.create_default_context()
    with suppress(OSError), _connected(parts, within) as connection:
        with suppress(ssl.SSLCertVerificationError):  # whoever it is, TLS it is
            context.wrap_socket(connection, server_hostname=parts.hostname).close()
        return True
    return False


def _was_hung_up(error: Exception) -> bool:
    return error.__context__ is None or isinstance(error.__context__, ConnectionResetError)


def _connected(parts: SplitResult, within: float) -> socket.socket:
    return socket.create_connection((parts.hostname, parts.port or 6379), within)
