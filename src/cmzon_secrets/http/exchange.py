"""One request and what came of it, as both sessions see it: bytes out, an Answer or a typed error in.

No I/O here. ``Exchange`` checks and encodes the request, knows whether it can have reached the
server, bounds the answer's body, and turns what an HTTP engine raises into TransportError.
"""

from __future__ import annotations

import ssl
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping

import httpcore2

from cmzon_secrets.answers import CHECK_FIRST, Answer, printable
from cmzon_secrets.errors import TransportError, without_frames
from cmzon_secrets.headers import Headers
from cmzon_secrets.http.addresses import Proxy, encoded_path
from cmzon_secrets.http.encoding import checked_method, encoded_body, encoded_fields
from cmzon_secrets.tokens import Token

__all__ = [
    "CONNECT_TIMEOUT",
    "MAX_ANSWER_BYTES",
    "Exchange",
    "Target",
    "engine_errors",
    "says_more",
]

MAX_ANSWER_BYTES = 1024 * 1024
CONNECT_TIMEOUT = 3.0
"""Seconds to a TCP connection, and then to TLS; longer means trying again is better than waiting."""

_REMEMBERED = 8
"""Paths whose URL is kept: a client sends to one or two."""
_UNTRUSTED = "check the base URL; where the certificate is of a CA of your own, name that: ca=PATH, or --ca FILE"
_CHANGES_NOTHING = frozenset(["GET", "HEAD", "OPTIONS"])  # RFC 9110 §9.2.1


class Target:
    """A checked base URL as the engine wants it, and the headers that every request begins with."""

    def __init__(self, base_url: str, timeout: float, proxy: Proxy | None) -> None:
        from cmzon_secrets import __version__

        self.name = base_url
        self.hint = "check the base URL (CMZON_BASE_URL, --base-url) and the network"
        if proxy is not None:
            self.name += f" through the proxy {proxy.address}"
            self.hint = "check the proxy, with its user and password, and the base URL"
        self._url = httpcore2.URL(base_url)
        self._host = _connected_to(self._url)
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
        }

    def url(self, path: str) -> httpcore2.URL:
        """The URL of one path. Raises ConfigurationError for one that must not be asked."""
        known = self._made.get(path)
        return known if known is not None else self._make(path)

    def _make(self, path: str) -> httpcore2.URL:
        base = self._url
        target = self._base_path + encoded_path(path).encode("ascii")
        made = httpcore2.URL(scheme=base.scheme, host=self._host, port=base.port, target=target)
        if len(self._made) < _REMEMBERED:
            self._made[path] = made
        return made


def _connected_to(base_url: httpcore2.URL) -> bytes:
    """The base URL's host. On [::1], another user of this machine may listen in the place of who has
    the port on 127.0.0.1, and without TLS nothing would tell them apart: so `localhost` is the latter."""
    plain = (base_url.scheme, base_url.host) == (b"http", b"localhost")
    return b"127.0.0.1" if plain else base_url.host


class Exchange:
    """One request on its way. Raises ConfigurationError for a method, path or header that must not
    be sent, RequestRejected for a body that is not JSON."""

    __slots__ = (
        "_body",
        "_handled",
        "_method",
        "_problem",
        "_received",
        "_response",
        "_target",
        "_token",
        "request",
    )

    def __init__(
        self,
        target: Target,
        method: str,
        path: str,
        *,
        token: Token | None,
        json: object,
        headers: Mapping[str, str] | None,
        leaving: Callable[[], None] | None = None,
    ) -> None:
        self._handled = sys.exception()
        self._method = checked_method(method)
        self._target = target
        self._token = token
        self._body = _Body(encoded_body(json), leaving)
        self._response: httpcore2.Response | None = None
        self._received = bytearray()
        self._problem: TransportError | None = None
        fields = encoded_fields(self._method, self._body.content, headers or {})
        if token is not None:
            fields.append((b"Authorization", b"Bearer " + token.reveal().encode("ascii")))
        self.request = httpcore2.Request(
            self._method,
            target.url(path),
            headers=[*target.headers, *fields],
            content=self._body,
            extensions={"timeout": target.timeouts},
        )

    def began(self, response: httpcore2.Response) -> None:
        """The head of the answer is here."""
        self._response = response

    def take(self, chunk: bytes) -> bool:
        """One more piece of the answer's body; whether there is room for more."""
        self._received += chunk
        if len(self._received) <= MAX_ANSWER_BYTES:
            return True
        del self._received[MAX_ANSWER_BYTES:]
        self._problem = self._no_answer(f"the answer is longer than {MAX_ANSWER_BYTES} bytes")
        return False

    def failed(self, error: Exception, *, late: float | None) -> None:
        """The engine raised this. ``late``: the seconds that it was given, where those are over."""
        if late is not None:
            # Whether the head had left when time was up, nobody saw; without a body it is all there is.
            self._body.asked_for = self._body.asked_for or not self._body.content
            self._problem = self._no_answer(f"no answer: none was whole within {late:.3g} s")
        else:
            self._problem = self._no_answer(f"no answer: {_reason(error, self._handled)}")
            if isinstance(_innermost(error, self._handled), ssl.SSLCertVerificationError):
                self._problem.retryable = False  # it will not be mended in time
                self._problem.hint = _UNTRUSTED
        if not isinstance(error, httpcore2.ProtocolError):  # it quotes what the server sent
            self._problem.__cause__ = without_frames(error, until=self._handled)

    def answer(self) -> Answer:
        """What the server said, masked where it repeats the token. Raises TransportError where it
        said nothing, or only the beginning of a success; the status of a refusal holds without its end."""
        response, problem = self._response, self._problem
        if problem is not None and (response is None or response.status < 300):
            raise problem
        assert response is not None  # noqa: S101  # the engine raises, or it answers
        headers = Headers({_text(name): _text(value) for name, value in response.headers})
        answer = Answer(response.status, headers, bytes(self._received))
        return answer if self._token is None else answer.without_echo(self._token.reveal())

    def _no_answer(self, reason: str) -> TransportError:
        left = self._body.asked_for
        problem = TransportError(
            f"{self._target.name} — {reason}",
            status=self._response.status if self._response is not None else None,
            hint=CHECK_FIRST
            if left and self._method not in _CHANGES_NOTHING
            else self._target.hint,
        )
        problem.may_have_been_sent = left
        return problem


class _Body:
    """The request's body. The engine asks for it once the head is written: from then on the server
    may have got the whole."""

    __slots__ = ("_leaving", "asked_for", "content")

    def __init__(self, content: bytes, leaving: Callable[[], None] | None) -> None:
        self.content = content
        self.asked_for = False
        self._leaving = leaving

    def __iter__(self) -> Iterator[bytes]:
        self._asked()
        if self.content:
            yield self.content

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self._asked()
        if self.content:
            yield self.content

    def _asked(self) -> None:
        self.asked_for = True
        if self._leaving is not None:
            self._leaving()


def says_more(response: httpcore2.Response) -> bool:
    """Whether the server has sent more than this answer, which the engine would take for the next
    request's: a body where none belongs, or one that is longer than it says.

    The engine keeps what it has not used to itself. Where it cannot be found, it is safe to say yes.
    """
    try:
        connection = response.stream._stream._connection  # type: ignore[union-attr]  # noqa: SLF001
        return bool(connection._h11_state.trailing_data[0])  # noqa: SLF001
    except AttributeError:
        return True


def engine_errors() -> tuple[type[Exception], ...]:
    """What an engine raises where no usable answer came."""
    return (
        httpcore2.TimeoutException,
        httpcore2.NetworkError,
        httpcore2.ProtocolError,
        httpcore2.ProxyError,
    )


def _text(field: bytes) -> str:
    return field.decode("latin-1")


def _reason(error: Exception, handled: BaseException | None) -> str:
    """Why, in words of ours or this machine's: what a server sent may be the token."""
    if isinstance(error, httpcore2.ProxyError):
        return f"the proxy does not tunnel, {error}"
    name = type(error).__name__
    quotes = isinstance(error, httpcore2.ProtocolError)
    cause = None if quotes else printable(str(_innermost(error, handled)))
    return f"{name} ({cause})" if cause else name


def _innermost(error: BaseException, handled: BaseException | None) -> BaseException:
    """The reason ("Connection refused"), which libraries bury; not what ``handled`` says."""
    while (inner := error.__cause__ or error.__context__) is not None and inner is not handled:
        error = inner
    return error
