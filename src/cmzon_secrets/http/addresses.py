"""Where a token may be sent: base URLs, paths and proxies, checked before a byte leaves."""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass, field
from urllib.parse import SplitResult, quote, unquote, urlsplit

from cmzon_secrets.errors import ConfigurationError

__all__ = [
    "DEFAULT_BASE_URL",
    "PORTS",
    "Proxy",
    "api_base_url",
    "checked_base_url",
    "checked_proxy",
    "encoded_path",
    "is_loopback",
    "never_leaves_this_machine",
]

DEFAULT_BASE_URL = "https://api.cmzon.com"
PORTS = {"http": 80, "https": 443}
"""Where a URL names none."""

_SPELT_OTHERWISE = re.compile(
    r"//|/\.{1,2}(?:/|$)"  # RFC 3986 §6.2.2.3, and what servers make one slash of
    r"|%(?:2[DE]|3[0-9]|4[1-9A-F]|5[0-9AF]|6[1-9A-F]|7[0-9AE])",  # unreserved: §6.2.2.2
    re.IGNORECASE,
)


def api_base_url(given: str | None) -> str:
    """``given``, else ``$CMZON_BASE_URL``, else the vendor's, checked."""
    return checked_base_url(given or os.environ.get("CMZON_BASE_URL") or DEFAULT_BASE_URL)


def checked_base_url(url: str) -> str:
    """``url`` without a trailing slash. Raises ConfigurationError unless a token may be sent there."""
    parts = _split(url, "base URL")
    if parts.username is not None or parts.password is not None:
        raise ConfigurationError("base URL — it holds a user or password")
    if parts.scheme not in ("https", "http") or not parts.hostname:
        raise ConfigurationError(
            "base URL — it is not an https:// URL (it is not repeated here: it may be a secret)",
            hint=f"for example {DEFAULT_BASE_URL}, or http://127.0.0.1:PORT for the emulator",
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
    _check_host(parts.hostname, "base URL")
    if not parts.path.isascii():
        raise ConfigurationError("base URL — its path is not ASCII", hint="percent-encode it")
    return url.rstrip("/")


@dataclass(frozen=True, slots=True)
class Proxy:
    """Where a proxy is, and its user and password where it wants them."""

    host: str
    port: int
    user: tuple[str, str] | None = field(default=None, repr=False)

    @property
    def address(self) -> str:
        """As a URL, without user and password."""
        return (
            f"http://[{self.host}]:{self.port}"
            if ":" in self.host
            else f"http://{self.host}:{self.port}"
        )


def checked_proxy(url: str) -> Proxy:
    """The proxy that a URL names.

    Only tunnels are made through it (CONNECT, RFC 9110 §9.3.6): it sees the API's name, never a
    token. Raises ConfigurationError, without repeating the URL: it may hold a password.
    """
    parts = _split(url, "proxy")
    if parts.scheme != "http" or not parts.hostname or parts.path.strip("/") or parts.query:
        raise ConfigurationError(
            "proxy — it is not http://host:port (it is not repeated here: it may hold a password)",
            hint="TLS to the API runs through it from end to end, so that the proxy itself needs none",
        )
    _check_host(parts.hostname, "proxy")
    user = None
    if parts.username is not None:
        user = (unquote(parts.username), unquote(parts.password or ""))
    return Proxy(parts.hostname, parts.port or 80, user)


def encoded_path(path: str) -> str:
    """``path`` fit for a request line: percent-encoded where it has to be (RFC 3986 §2.1).

    Raises ConfigurationError for one that leads elsewhere, or has a plainer spelling: what is a
    message, and counts, is told by its path.
    """
    if not path.startswith("/") or path.startswith("//") or "#" in path or not path.isprintable():
        raise ConfigurationError(
            f"request path {path[:80]!r} — it must begin with one / and stay on the API's host"
        )
    if _SPELT_OTHERWISE.search(path.partition("?")[0]):
        raise ConfigurationError(
            f"request path {path[:80]!r} — it has a plainer spelling",
            hint='leave out "//", "/./" and "/../", and encode no letters, digits, "-", ".", "_", "~"',
        )
    return quote(path, safe="/?:@!$&'()*+,;=~%[]")


def never_leaves_this_machine(base_url: str) -> bool:
    """Whether a checked base URL is of this machine itself."""
    return is_loopback(urlsplit(base_url).hostname or "")


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
    if not isinstance(url, str):
        raise ConfigurationError(f"{what} — a text is needed, got {type(url).__name__}")
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


def _check_host(host: str, what: str) -> None:
    if not host.isascii():
        raise ConfigurationError(
            f"{what} — its host {host!r} is not ASCII", hint='write it as "xn--…" (IDNA)'
        )
    labels = host.removesuffix(".").split(".")
    if ":" not in host and not all(0 < len(label) < 64 for label in labels):  # RFC 1035 §2.3.4
        raise ConfigurationError(f"{what} — a label of its host is empty or longer than 63")
