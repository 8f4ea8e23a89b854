"""What of a request its caller chooses, as bytes: method, headers and JSON body, or why not."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress

from cmzon_secrets.errors import ConfigurationError, RequestRejected

__all__ = ["checked_method", "encoded_body", "encoded_fields"]

_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", re.ASCII)  # RFC 9110 §5.6.2
_VALUE = re.compile(r"[\x21-\x7e]([\x20-\x7e\t]*[\x21-\x7e])?", re.ASCII)
_OURS = frozenset(
    ["authorization", "connection", "content-length", "host", "te", "transfer-encoding"]
)
_NEVER = frozenset(["CONNECT", "TRACE"])
"""One asks for a tunnel, the other to be told its own headers, and with them the token."""
_MAY_HAVE_NO_BODY = frozenset(["GET", "HEAD", "DELETE", "OPTIONS"])
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def checked_method(method: object) -> str:
    """An HTTP method in capitals. Raises ConfigurationError for anything else."""
    if not isinstance(method, str) or _NAME.fullmatch(method) is None:
        raise ConfigurationError("request method — it is not an HTTP method")
    if method.upper() in _NEVER:
        raise ConfigurationError(f"request method {method.upper()} — it is not for calls of an API")
    return method.upper()


def encoded_body(value: object) -> bytes:
    """``value`` as JSON; nothing for None. Raises RequestRejected where there is no such JSON."""
    if value is None:
        return b""
    with suppress(TypeError, ValueError, RecursionError):
        return _ENCODER.encode(value).encode()
    # Out here, without a context: that quotes what could not be encoded.
    raise RequestRejected("request body — it cannot be written as JSON")


def encoded_fields(
    method: str, content: bytes, given: Mapping[str, str]
) -> list[tuple[bytes, bytes]]:
    """The header fields that tell of the body, and those given.

    Raises ConfigurationError for a field that must not be sent.
    """
    fields = []
    if content and not any(name.lower() == "content-type" for name in given):
        fields.append((b"Content-Type", b"application/json"))
    if content or method not in _MAY_HAVE_NO_BODY:
        fields.append((b"Content-Length", str(len(content)).encode("ascii")))
    for name, value in given.items():
        _check_field(name, value)
        fields.append((name.encode("ascii"), value.encode("ascii")))
    return fields


def _check_field(name: str, value: str) -> None:
    if _NAME.fullmatch(name) is None:
        raise ConfigurationError("request header — its name is not a header name")
    if name.lower() in _OURS:
        raise ConfigurationError(
            f"request header {name} — it is set here and nowhere else", hint="leave it out"
        )
    if _VALUE.fullmatch(value) is None:
        raise ConfigurationError(f"request header {name} — its value is not printable ASCII")
