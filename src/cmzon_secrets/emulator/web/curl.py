"""A kept request as a command that sends it again.

What the request said may be hostile: every part is quoted for a POSIX shell, nothing in it is taken
for the name of a file, and the token goes to this emulator, whatever ``Host`` the request named.
"""

from __future__ import annotations

from shlex import quote

from cmzon_secrets.emulator.account.exchanges import Exchange

__all__ = ["as_curl"]

_CURLS_OWN = {
    *("host", "content-length", "connection", "transfer-encoding", "expect"),
    *("accept", "accept-encoding", "user-agent"),
}
"""Headers that curl sets itself, or that belong to the connection."""
_HIDDEN = "<hidden "
"""How a value begins of which only a fingerprint was kept: it cannot be sent again."""
_BEARER = '"Authorization: Bearer $CMZON_API_TOKEN"'


def as_curl(exchange: Exchange, url: str) -> str:
    """The command; the token is ``$CMZON_API_TOKEN``."""
    parts = [
        f"curl {quote(url)}",
        *(f"-H {header}" for header in _headers(exchange)),
        f"--data-raw {quote(exchange.request_body)}",  # unlike -d, it reads no file for an @
    ]
    return " \\\n  ".join(parts)


def _headers(exchange: Exchange) -> list[str]:
    headers = [(name.lower(), name, value) for name, value in exchange.request_headers]
    bearer = [_BEARER] if any(lower == "authorization" for lower, _, _ in headers) else []
    return bearer + [
        quote(f"{name}: {value}" if value else f"{name};")  # curl's way to send an empty one
        for lower, name, value in headers
        if lower not in _CURLS_OWN | {"authorization"} and not value.startswith(_HIDDEN)
    ]
