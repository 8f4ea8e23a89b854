"""A kept request as a command that sends it again.

What the request said may be hostile: every part is quoted for a POSIX shell and for fish, nothing in
it is taken for the name of a file, and the token goes to this emulator, whatever ``Host`` the request
named.
"""

from __future__ import annotations

import re

from cmzon_secrets.emulator.account.exchanges import Exchange

__all__ = ["as_curl", "quoted"]

_CURLS_OWN = {
    *("host", "content-length", "connection", "transfer-encoding", "expect"),
    *("accept", "accept-encoding", "user-agent"),
}
"""Headers that curl sets itself, or that belong to the connection."""
_HIDDEN = re.compile(r"<(hidden|token) [0-9a-f]{16}>")
"""What stands in a value of which only a fingerprint was kept: it cannot be sent again."""
_BEARER = '"Authorization: Bearer $CMZON_API_TOKEN"'
_WORD = re.compile(r"[A-Za-z0-9_:,./@+-]+", re.ASCII)
"""What no shell reads as anything else."""
_NOT_WITHIN_QUOTES = re.compile(r"'|\\(?=[\\']|\Z)")
"""Between single quotes fish reads ``\\\\`` and ``\\'`` as escapes, which a POSIX shell does not."""


def as_curl(exchange: Exchange, url: str) -> str:
    """The command; the token is ``$CMZON_API_TOKEN``."""
    parts = [
        f"curl {quoted(url)}",
        *(f"-H {header}" for header in _headers(exchange)),
        f"--data-raw {quoted(exchange.request_body)}",  # unlike -d, it reads no file for an @
    ]
    return " \\\n  ".join(parts)


def quoted(text: str) -> str:
    """``text`` as one word of a command, the same one in bash, dash and fish."""
    if _WORD.fullmatch(text):
        return text
    escaped = _NOT_WITHIN_QUOTES.sub(lambda found: rf"'\{found[0]}'", str(text))
    return f"'{escaped}'"


def _headers(exchange: Exchange) -> list[str]:
    headers = [(name.lower(), name, value) for name, value in exchange.request_headers]
    bearer = [_BEARER] if any(lower == "authorization" for lower, _, _ in headers) else []
    return bearer + [
        quoted(f"{name}: {value}" if value else f"{name};")  # curl's way to send an empty one
        for lower, name, value in headers
        if lower not in _CURLS_OWN | {"authorization"} and not _HIDDEN.search(value)
    ]
