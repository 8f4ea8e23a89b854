"""One secure HTTP session: a request goes out with a token, bytes come back or a typed error does.

Client and issuers share it, so the rules stand here once: HTTPS only (plain HTTP to loopback
addresses), system trust store or one given CA, TLS 1.2 at least, no redirects followed, no
proxies or netrc taken from the environment, bounded answers, no token in any exception.

The HTTP library is HTTPX2, imported on first use; docs/dependencies.md says why.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit

from cmzon_secrets.answers import Answer, printable
from cmzon_secrets.errors import (
    ConfigurationError,
    RequestRejected,
    TransportError,
    without_frames,
)
from cmzon_secrets.forks import renew_in_child
from cmzon_secrets.headers import Headers
from cmzon_secrets.tokens import Token

if TYPE_CHECKING:
    import httpx2

__all__ = ["DEFAULT_BASE_URL", "Session", "checked_base_url", "is_loopback", "tls_context"]

DEFAULT_BASE_URL = "https://api.cmzon.com"
MAX_ANSWER_BYTES = 1024 * 1024
CONNECT_TIMEOUT = 3.0
"""Seconds to a TCP and TLS connection; longer means trying again is better than waiting."""


class Session:
    """A connection pool to one base URL. Thread-safe and fork-safe.

    ``ca``: path of a PEM file to trust instead of the system's store. ``timeout``: seconds to wait
    for each read or write. Raises ConfigurationError for a base URL or CA that cannot be used.
    """

    def __init__(
        self, base_url: str | None = None, *, ca: str | None = None, timeout: float = 10.0
    ) -> None:
        self.base_url = checked_base_url(
            base_url or os.environ.get("CMZON_BASE_URL") or DEFAULT_BASE_URL
        )
        self._ca = ca
        self._timeout = timeout
        self._http: httpx2.Client | None = None
        self._opening = threading.Lock()
        self._closed = False
        renew_in_child(self)

    def open(self) -> None:
        """Load the HTTP library and the CA now, not with the first request.

        Raises ConfigurationError for a CA that cannot be used.
        """
        self._client()

    def send(
        self,
        method: str,
        path: str,
        *,
        token: Token | None = None,
        json: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One request, one answer, whatever its status.

        Raises TransportError where no usable answer came; ``may_have_been_sent`` tells whether
        the server can have acted on it. Raises ConfigurationError for a path or header that must
        not be sent, RequestRejected for a body that is not JSON.
        """
        import httpx2

        if not isinstance(method, str) or _HEADER_NAME.fullmatch(method) is None:
            raise ConfigurationError("request method — it is not an HTTP method")
        _check_headers(headers or {})
        content, content_type = _json_body(json)
        handled = sys.exception()
        try:
            with self._client().stream(
                method,
                self.base_url + _checked_path(path),
                content=content,
                headers={**content_type, **(headers or {}), **_authorization(token)},
            ) as response:
                answer = Answer(
                    response.status_code,
                    Headers(response.headers),
                    _bounded(response, self.base_url),
                )
            return answer if token is None else answer.without_echo(token.reveal())
        except httpx2.RequestError as error:
            _forget_authorization(error)
            problem = self._transport_error(error, handled)
            # One about the protocol quotes what the server sent, and that may be the token.
            quotes = isinstance(error, httpx2.ProtocolError)
            cause = None if quotes else without_frames(error, until=handled)
        except httpx2.InvalidURL as error:
            raise ConfigurationError(
                f"request path — {printable(str(error))}", hint="percent-encode it"
            ) from without_frames(error, until=handled)
        except BaseException as error:  # noqa: BLE001  # a Ctrl-C, too, passes frames that hold the header
            raise without_frames(error, until=handled)  # noqa: B904  # the same error again
        raise problem from cause  # out here, so that there is no other context

    def close(self) -> None:
        """Close the pool."""
        self._closed = True
        if self._http is not None:
            self._http.close()

    def after_fork(self) -> None:
        """In a child: new connections, for two processes on one would get each other's answers."""
        self._http = None
        self._opening = threading.Lock()

    def _client(self) -> httpx2.Client:
        if self._closed:
            raise ConfigurationError(f"connection to {self.base_url} — it is closed")
        if self._http is None:
            with self._opening:
                if self._http is None:
                    self._http = self._open()
        return self._http

    def _open(self) -> httpx2.Client:
        from http.cookiejar import CookieJar, DefaultCookiePolicy

        import httpx2

        from cmzon_secrets import __version__

        return httpx2.Client(
            verify=tls_context(self._ca),
            trust_env=False,
            follow_redirects=False,
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),  # nothing is remembered
            timeout=httpx2.Timeout(self._timeout, connect=min(CONNECT_TIMEOUT, self._timeout)),
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=100),
            headers={
                "User-Agent": f"cmzon-secrets/{__version__}",
                # An answer that cannot be a decompression bomb.
                "Accept-Encoding": "identity",
            },
        )

    def _transport_error(
        self, error: httpx2.RequestError, handled: BaseException | None
    ) -> TransportError:
        import httpx2

        never_left = (httpx2.ConnectError, httpx2.ConnectTimeout)
        protocol = isinstance(error, httpx2.ProtocolError)
        reason = None if protocol else _root_cause(error, handled)
        problem = TransportError(
            f"{self.base_url} — no answer: {type(error).__name__}"
            + (f" ({reason})" if reason else ""),
            hint="check CMZON_BASE_URL, the network, and the server's certificate",
        )
        problem.may_have_been_sent = not isinstance(error, never_left)
        if problem.may_have_been_sent:
            problem.hint = "the request may have taken effect: check before sending it again"
        return problem


def checked_base_url(url: str) -> str:
    """``url`` without a trailing slash. Raises ConfigurationError unless a token may be sent there."""
    parts = _split(url)
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
    return url.rstrip("/")


def _split(url: str) -> SplitResult:
    """``urlsplit``, which would drop line feeds and leave what it cannot read to others."""
    if not url.isprintable() or " " in url or "\\" in url:
        raise ConfigurationError("base URL — it contains a space, backslash or control character")
    try:
        parts = urlsplit(url)
        _ = parts.port
        if parts.netloc.startswith("[") and not re.fullmatch(r"\[[^]]*\](:[0-9]*)?", parts.netloc):
            raise ValueError
    except ValueError:
        raise ConfigurationError("base URL — its host or port is malformed") from None
    return parts


def _authorization(token: Token | None) -> dict[str, str]:
    return {"Authorization": f"Bearer {token.reveal()}"} if token is not None else {}


def _checked_path(path: str) -> str:
    if not path.startswith("/") or path.startswith("//") or "#" in path or not path.isprintable():
        raise ConfigurationError(
            f"request path {path[:80]!r} — it must begin with one / and stay on the API's host"
        )
    return path


_OURS = frozenset(
    ["authorization", "connection", "content-length", "host", "te", "transfer-encoding"]
)
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", re.ASCII)  # RFC 9110 §5.6.2
_HEADER_VALUE = re.compile(r"[\x21-\x7e]([\x20-\x7e\t]*[\x21-\x7e])?", re.ASCII)


def _check_headers(headers: Mapping[str, str]) -> None:
    for name, value in headers.items():
        if _HEADER_NAME.fullmatch(name) is None:
            raise ConfigurationError("request header — its name is not a header name")
        if name.lower() in _OURS:
            raise ConfigurationError(
                f"request header {name} — it is set here and nowhere else", hint="leave it out"
            )
        if _HEADER_VALUE.fullmatch(value) is None:
            raise ConfigurationError(f"request header {name} — its value is not printable ASCII")


def _json_body(value: object) -> tuple[bytes | None, dict[str, str]]:
    if value is None:
        return None, {}
    try:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        return text.encode(), {"Content-Type": "application/json"}
    except (TypeError, ValueError, RecursionError):
        # Without the cause: it quotes what it could not encode.
        raise RequestRejected("request body — it cannot be written as JSON") from None


def _forget_authorization(error: httpx2.RequestError) -> None:
    """An HTTP library's error carries its request, and that the token."""
    with suppress(RuntimeError):  # it has none where it never was one
        error.request.headers.pop("Authorization", None)


def _bounded(response: httpx2.Response, base_url: str) -> bytes:
    body = bytearray()
    for chunk in response.iter_bytes():
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            raise TransportError(
                f"{base_url} — the answer is longer than {MAX_ANSWER_BYTES} bytes",
                status=response.status_code,
            )
    return bytes(body)


def tls_context(ca: str | None = None) -> Any:
    """An ``ssl.SSLContext`` that trusts the system's store, or one CA (PEM) instead.

    TLS 1.2 at least. Raises ConfigurationError for a CA that cannot be used.
    """
    import ssl

    import httpx2

    if ca is None:
        context = httpx2.create_ssl_context(trust_env=False)
    else:
        try:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # which heeds no SSLKEYLOGFILE
            context.load_verify_locations(cafile=ca)
        except (OSError, ssl.SSLError) as error:
            raise ConfigurationError(f"CA file {ca!r} — {error.strerror or 'not PEM'}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def is_loopback(host: str) -> bool:
    """Whether a host name is this machine itself, without asking any resolver."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _root_cause(error: BaseException, handled: BaseException | None) -> str:
    """The innermost reason ("Connection refused"), which libraries bury; not what ``handled`` says."""
    while (inner := error.__cause__ or error.__context__) is not None and inner is not handled:
        error = inner
    return printable(str(error)) or ""
