"""Where a token may be sent: base URLs, paths and proxies, checked before a byte leaves."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import SplitResult, quote, unquote, urlsplit

from cmzon_secrets.errors import ConfigurationError

__all__ = [
    "DEFAULT_BASE_URL",
    "checked_base_url",
    "checked_proxy",
    "encoded_path",
    "is_loopback",
    "origin_of",
]

DEFAULT_BASE_URL = "https://api.cmzon.com"


def checked_base_url(url: str) -> str:
    """``url`` without a trailing slash. Raises ConfigurationError unless a token may be sent there."""
    parts = _split(url, "base URL")
    if parts.username is not None or parts.password is not None:
        raise ConfigurationError("base URL — it holds a user or password")
    if parts.scheme not in ("https", "http") or not parts.hostname:
        raise ConfigurationError(
            "base URL — it is not an https:// URL (it is not repeated here: it may be a secret)",
            hint=f"for example {DEFAULT_BASE_URL}",
        )
    if "?" in url or "#" in url:
        raise ConfigurationError("base URL — it must not have a query or fragment")
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise ConfigurationError(
            f"base URL {url!r} — a token is never sent over plain http, except to this machine itself",
            hint=f"use https://{parts.netloc}",
        )
    if parts.path.rstrip("/").endswith("/v1"):
        raise ConfigurationError(
            f"base URL {url!r} — /v1 is part of each request's path", hint="leave it out here"
        )
    _ascii_host(parts.hostname)
    return url.rstrip("/")


def checked_proxy(url: str) -> tuple[str, tuple[str, str] | None]:
    """A proxy's ``http://host:port``, and its user and password where the URL has them.

    Only tunnels are made through it (CONNECT, RFC 9110 §9.3.6): it sees the API's name, never a
    token. Raises ConfigurationError, without repeating the URL: it may hold a password.
    """
    parts = _split(url, "proxy")
    if parts.scheme != "http" or not parts.hostname or parts.path.strip("/") or parts.query:
        raise ConfigurationError(
            "proxy — it is not http://host:port (it is not repeated here: it may hold a password)",
            hint="TLS to the API runs through it from end to end, so that the proxy itself needs none",
        )
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    address = f"http://{host}:{parts.port or 80}"
    if parts.username is None:
        return address, None
    return address, (unquote(parts.username), unquote(parts.password or ""))


def encoded_path(path: str) -> str:
    """``path`` fit for a request line: percent-encoded where it has to be (RFC 3986 §2.1)."""
    if not path.startswith("/") or path.startswith("//") or "#" in path or not path.isprintable():
        raise ConfigurationError(
            f"request path {path[:80]!r} — it must begin with one / and stay on the API's host"
        )
    return quote(path, safe="/?:@!$&'()*+,;=~%[]")


def origin_of(base_url: str) -> tuple[str, str, int | None]:
    """Scheme, host (without brackets) and port of a checked base URL; port None: the scheme's own."""
    parts = urlsplit(base_url)
    return parts.scheme, parts.hostname or "", parts.port


def is_loopback(host: str) -> bool:
    """Whether a host name is this machine itself, without asking any resolver."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _split(url: str, what: str) -> SplitResult:
    """``urlsplit``, which would drop line feeds and leave what it cannot read to others."""
    if not url.isprintable() or " " in url or "\\" in url:
        raise ConfigurationError(f"{what} — it contains a space, backslash or control character")
    try:
        parts = urlsplit(url)
        _ = parts.port
        netloc = parts.netloc.rpartition("@")[2]
        if netloc.startswith("[") and not re.fullmatch(r"\[[^]]*\](:[0-9]*)?", netloc):
            raise ValueError
    except ValueError:
        raise ConfigurationError(f"{what} — its host or port is malformed") from None
    return parts


def _ascii_host(host: str) -> None:
    if not host.isascii():
        raise ConfigurationError(
            f"base URL — its host {host!r} is not ASCII", hint='write it as "xn--…" (IDNA)'
        )
