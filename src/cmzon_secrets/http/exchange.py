"""One request and what came of it, as both sessions see it: bytes out, an Answer or a typed error in.

No I/O here. ``Exchange`` checks and encodes the request, knows whether it can have reached the
server, bounds the answer's body, and turns what an HTTP engine raises into TransportError.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import TYPE_CHECKING

from cmzon_secrets.answers import Answer, printable
from cmzon_secrets.errors import (
    ConfigurationError,
    RequestRejected,
    TransportError,
    without_frames,
)
from cmzon_secrets.headers import Headers
from cmzon_secrets.http.addresses import encoded_path
from cmzon_secrets.tokens import Token

if TYPE_CHECKING:
    import httpcore2

__all__ = ["CONNECT_TIMEOUT", "KEEPALIVE", "MAX_ANSWER_BYTES", "Exchange", "Target"]

MAX_ANSWER_BYTES = 1024 * 1024
CONNECT_TIMEOUT = 3.0
"""Seconds to a TCP and TLS connection; longer means trying again is better than waiting."""
KEEPALIVE = 4.0
"""Seconds for which an idle connection is kept: less than the 5 s after which common servers close
theirs, for a request that meets such a close may or may not have arrived."""


class Target:
    """A checked base URL as the engine wants it, and the headers that every request begins with."""

    def __init__(self, base_url: str, timeout: float) -> None:
        import httpcore2

        from cmzon_secrets import __version__

        self.base_url = base_url
        self._url = httpcore2.URL(base_url)
        self._base_path = self._url.target.rstrip(b"/")
        self._made: dict[str, httpcore2.URL] = {}
        self.headers = [
            (b"Host", base_url.partition("://")[2].partition("/")[0].encode("ascii")),
            (b"User-Agent", f"cmzon-secrets/{__version__}".encode()),
            (b"Accept", b"*/*"),
            # An answer that cannot be a decompression bomb.
            (b"Accept-Encoding", b"identity"),
        ]
        self.timeouts = {
            "connect": min(CONNECT_TIMEOUT, timeout),
            "read": timeout,
            "write": timeout,
            "pool": timeout,
        }

    def url(self, path: str) -> httpcore2.URL:
        """The URL of one path. Raises ConfigurationError for one that must not be asked."""
        known = self._made.get(path)
        return known if known is not None else self._make(path)

    def _make(self, path: str) -> httpcore2.URL:
        import httpcore2

        base = self._url
        target = self._base_path + encoded_path(path).encode("ascii")
        made = httpcore2.URL(scheme=base.scheme, host=base.host, port=base.port, target=target)
        if len(self._made) < _REMEMBERED:
            self._made[path] = made
        return made


_REMEMBERED = 8
"""Paths whose URL is kept: a client sends to one or two."""


class Exchange:
    """One request on its way. Raises ConfigurationError for a method, path or header that must not
    be sent, RequestRejected for a body that is not JSON."""

    __slots__ = ("_body", "_content", "_response", "_target", "_token", "left", "request")

    def __init__(
        self,
        target: Target,
        method: str,
        path: str,
        *,
        token: Token | None,
        json: object,
        headers: Mapping[str, str] | None,
    ) -> None:
        import httpcore2

        if not isinstance(method, str) or _HEADER_NAME.fullmatch(method) is None:
            raise ConfigurationError("request method — it is not an HTTP method")
        self._target = target
        self._token = token
        self.left = False
        """Whether its head has been written: from then on the server may have got it."""
        self._response: httpcore2.Response | None = None
        self._body = bytearray()
        fields, self._content = _encoded(json, headers or {}, method)
        if token is not None:
            fields.append((b"Authorization", b"Bearer " + token.reveal().encode("ascii")))
        self.request = httpcore2.Request(
            method.encode("ascii"),
            target.url(path),
            headers=[*target.headers, *fields],
            content=self,
            extensions={"timeout": target.timeouts},
        )

    # The engine asks for the body once the head is written.
    def __iter__(self) -> Iterator[bytes]:
        self.left = True
        if self._content:
            yield self._content

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self.left = True
        if self._content:
            yield self._content

    def began(self, response: httpcore2.Response) -> None:
        """The head of the answer is here."""
        self._response = response

    def take(self, chunk: bytes) -> None:
        """One more piece of the answer's body. Raises TransportError for one that is too long."""
        self._body += chunk
        if len(self._body) > MAX_ANSWER_BYTES:
            del self._body[MAX_ANSWER_BYTES:]
            raise self._problem(f"the answer is longer than {MAX_ANSWER_BYTES} bytes")

    def answer(self) -> Answer:
        """What the server said; the token masked where a refusal repeats it."""
        response = self._response
        assert response is not None  # noqa: S101  # asked for when it has begun
        headers = Headers({_text(name): _text(value) for name, value in response.headers})
        answer = Answer(response.status, headers, bytes(self._body))
        return answer if self._token is None else answer.without_echo(self._token.reveal())

    def refusal(self) -> Answer | None:
        """The answer, where what has come of it is a refusal: its status holds without its end."""
        refused = self._response is not None and self._response.status >= 300
        return self.answer() if refused else None

    def problem(
        self, error: BaseException, handled: BaseException | None, *, late: float | None
    ) -> TransportError:
        """What went wrong, as ours. ``late``: the seconds it was given, where those are over."""
        if isinstance(error, TransportError):
            return error
        self._forget()  # the engine's error may keep the request alive
        if late is not None:
            return self._problem(f"no answer: none was whole within {late:.3g} s")
        return self._failed(error, handled)

    def _failed(self, error: BaseException, handled: BaseException | None) -> TransportError:
        import httpcore2

        # One about the protocol quotes what the server sent, and that may be the token.
        quotes = isinstance(error, httpcore2.ProtocolError)
        reason = None if quotes else _root_cause(error, handled)
        problem = self._problem(
            f"no answer: {type(error).__name__}" + (f" ({reason})" if reason else "")
        )
        problem.__cause__ = None if quotes else without_frames(error, until=handled)
        problem.__suppress_context__ = True
        return problem

    def _problem(self, reason: str) -> TransportError:
        problem = TransportError(
            f"{self._target.base_url} — {reason}",
            status=self._response.status if self._response is not None else None,
            hint="the request may have taken effect: check before sending it again"
            if self.left
            else "check the base URL, the network, and the server's certificate",
        )
        problem.may_have_been_sent = self.left
        return problem

    def _forget(self) -> None:
        self._token = None
        self.request.headers = []


def _text(field: bytes) -> str:
    return field.decode("latin-1")


_OURS = frozenset(
    ["authorization", "connection", "content-length", "host", "te", "transfer-encoding"]
)
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", re.ASCII)  # RFC 9110 §5.6.2
_HEADER_VALUE = re.compile(r"[\x21-\x7e]([\x20-\x7e\t]*[\x21-\x7e])?", re.ASCII)
_MAY_HAVE_NO_BODY = frozenset(["GET", "HEAD", "DELETE", "OPTIONS", "TRACE"])

_Fields = list[tuple[bytes, bytes]]


def _encoded(json_value: object, given: Mapping[str, str], method: str) -> tuple[_Fields, bytes]:
    fields: _Fields = []
    content = b""
    if json_value is not None:
        content = _json_body(json_value)
        if not any(name.lower() == "content-type" for name in given):
            fields.append((b"Content-Type", b"application/json"))
    if content or method.upper() not in _MAY_HAVE_NO_BODY:
        fields.append((b"Content-Length", str(len(content)).encode("ascii")))
    for name, value in given.items():
        _check_header(name, value)
        fields.append((name.encode("ascii"), value.encode("ascii")))
    return fields, content


def _check_header(name: str, value: str) -> None:
    if _HEADER_NAME.fullmatch(name) is None:
        raise ConfigurationError("request header — its name is not a header name")
    if name.lower() in _OURS:
        raise ConfigurationError(
            f"request header {name} — it is set here and nowhere else", hint="leave it out"
        )
    if _HEADER_VALUE.fullmatch(value) is None:
        raise ConfigurationError(f"request header {name} — its value is not printable ASCII")


def _json_body(value: object) -> bytes:
    try:
        return _ENCODER.encode(value).encode()
    except (TypeError, ValueError, RecursionError):
        # Without the cause: it quotes what it could not encode.
        raise RequestRejected("request body — it cannot be written as JSON") from None


_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _root_cause(error: BaseException, handled: BaseException | None) -> str:
    """The innermost reason ("Connection refused"), which libraries bury; not what ``handled`` says."""
    while (inner := error.__cause__ or error.__context__) is not None and inner is not handled:
        error = inner
    return printable(str(error)) or ""


def engine_errors() -> tuple[type[Exception], ...]:
    """What an engine raises where no usable answer came."""
    import httpcore2

    return (
        httpcore2.TimeoutException,
        httpcore2.NetworkError,
        httpcore2.ProtocolError,
        httpcore2.ProxyError,
    )
