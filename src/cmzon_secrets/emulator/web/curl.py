"""A kept request as a command that sends it again.

What the request said may be hostile: every part is quoted for a POSIX shell and for fish, nothing in
it is taken for the name of a file, and the token goes to this emulator, whatever ``Host`` the request
named.
"""

from __future__ import annotations

import json
import re

from cmzon_secrets.emulator.account.exchanges import Exchange
from cmzon_secrets.emulator.web.visible import UNSEEN

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
_ESCAPES = {n: f"\\u{n:04x}" for n in UNSEEN} | {ord("\r"): " "}
"""How JSON writes what would not be seen. A bare carriage return can only stand between its values."""


def as_curl(exchange: Exchange, url: str, ca: str | None = None) -> str:
    """The command; the token is ``$CMZON_API_TOKEN``. ``ca``: the file of the CA to trust.

    A body that is JSON is written so that everything in it can be seen; it sends the same message.
    """
    trusting = f" --cacert {quoted(ca)}" if ca is not None else ""
    parts = [
        f"curl{trusting} {quoted(url)}",
        *(f"-H {header}" for header in _headers(exchange)),
        f"--data-raw {quoted(_seen(exchange.request_body))}",  # unlike -d, it reads no file for an @
    ]
    return " \\\n  ".join(parts)


def quoted(text: str) -> str:
    """``text`` as one word of a command, the same one in bash, dash and fish."""
    if _WORD.fullmatch(text):
        return text
    escaped = _NOT_WITHIN_QUOTES.sub(lambda found: rf"'\{found[0]}'", str(text))
    return f"'{escaped}'"


def _seen(body: str) -> str:
    try:
        json.loads(body)
    except (ValueError, RecursionError):
        return body
    return body.translate(_ESCAPES)


def _headers(exchange: Exchange) -> list[str]:
    headers = [(name.lower(), name, value) for name, value in exchange.request_headers]
    bearer = [_BEARER] if any(lower == "authorization" for lower, _, _ in headers) else []
    return bearer + [
        quoted(f"{name}: {value}" if value else f"{name};")  # curl's way to send an empty one
        for lower, name, value in headers
        if lower not in _CURLS_OWN | {"authorization"} and not _HIDDEN.search(value)
    ]
