"""The Python class of the vendor's page, with a token that may be replaced while it is in use.

    from cmzon_secrets.integrations.vendor_example import CMzonAPI

    api = CMzonAPI(os.getenv("CMZON_API_TOKEN"))  # as on the page
    api = CMzonAPI("file:token.sealed?key=keyfile:token.key")  # read just in time
    api.send_message("+1234567890", "Hello from CMzon!")

For code that was copied from the page: nothing but the import changes. Needs the extra ``requests``.
"""

from __future__ import annotations

import sys
import time
from collections import UserDict
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.cookiejar import DefaultCookiePolicy
from typing import Any

from cmzon_secrets.answers import masking_token
from cmzon_secrets.cache import TokenCache
from cmzon_secrets.errors import ConfigurationError, missing_extra, without_frames
from cmzon_secrets.forks import renew_in_child
from cmzon_secrets.http.addresses import api_base_url
from cmzon_secrets.integrations.authorizing import Bearer
from cmzon_secrets.provider import TokenProvider
from cmzon_secrets.registry import open_provider
from cmzon_secrets.tokens import MASK, Token

try:
    import requests

    from cmzon_secrets.integrations.requests_auth import TokenAuth
except ImportError as error:
    raise missing_extra("requests", "CMzonAPI") from error

__all__ = ["CMzonAPI"]

KEPT_FOR = 5.0
"""Seconds since the last message for which connections are kept: a message on one that the server
has closed meanwhile would fail, and the page's class, which opens one for each, knows no such error."""

CONNECTIONS = 100
"""Kept for as many threads; more of them work, but open theirs anew."""

_REFUSALS = {401: "Invalid API token", 429: "Rate limit exceeded"}


class CMzonAPI:
    """Sends as the page's own class does: the same requests, results and exceptions. Thread-safe, fork-safe.

    ``api_token``: the token itself as on the page, a Token, a provider, or the URI of a place; what
    is no token itself is read just in time, and ``close`` closes what a URI opened. ``base_url``
    (without ``/v1``): default ``$CMZON_BASE_URL``, else the page's. ``timeout``: seconds to wait
    for the API, or Requests' ``(connect, read)``; the page's class waits for ever, and so does this
    one unless told.

    Better than on the page: a 401 is answered with one more try where there is a different token by
    then; no exception carries the token, nor does ``.netrc`` replace it; plain HTTP, which is for this
    machine, goes through no proxy; and a redirect to another host is an HTTPError, for it would take
    number and text along.

    It neither paces nor counts messages. A limit kept on this side would refuse a message, or hold
    it up, where the page's class has the API decide; who wants that, and typed errors, and
    idempotency keys, moves on to ``Client``, whose ``send_message`` takes the same arguments.

    Raises ConfigurationError, InvalidURI or InvalidToken for arguments that cannot work.
    """

    def __init__(
        self,
        api_token: str | Token | TokenProvider,
        *,
        base_url: str | None = None,
        timeout: float | tuple[float, float] | None = None,
    ) -> None:
        self.base_url = f"{api_base_url(base_url)}/v1"
        self._opened = ExitStack()
        self._cache = _cache(api_token, self._opened)
        self.headers = _Headers(self._cache)
        self._timeout = timeout
        self._last_use = 0.0
        self._session = self._new_session()
        renew_in_child(self)

    @property
    def api_token(self) -> str:
        """The value of the current token: the string itself, but for its ``repr``."""
        return _Value(self._cache.get().reveal())

    def send_message(self, to: str, message: str) -> dict[str, Any]:
        """Send a text message via WhatsApp Business API; the body of the answer.

        Raises what the page's class raises: ValueError("Invalid API token") for a 401,
        ValueError("Rate limit exceeded") for a 429, and the exceptions of Requests. Besides: what
        the provider raises, and ConfigurationError for a ``base_url`` no token may be sent to.
        """
        handled = sys.exception()
        try:
            return self._send({"to": to, "type": "text", "text": {"body": message}})
        except BaseException as error:  # noqa: BLE001  # a Ctrl-C, too, passes frames that hold the header
            _forget_token(error, self._cache.peek(), until=handled)
            raise without_frames(error, until=handled)  # noqa: B904  # the same error again

    def close(self) -> None:
        """Close the connections, and what a URI opened."""
        self._session.close()
        self._opened.close()

    def after_fork(self) -> None:
        """In a child: new connections, for two processes on one would get each other's answers."""
        self._session = self._new_session()

    def __repr__(self) -> str:
        return f"<CMzonAPI {self.base_url} {self._cache.uri}>"

    def _send(self, data: dict[str, Any]) -> dict[str, Any]:
        response = self._connected().post(
            f"{self.base_url}/messages",
            json=data,
            headers=self.headers,
            auth=TokenAuth(self._cache, base_url=self.base_url.removesuffix("/v1")),
            timeout=self._timeout,
        )
        try:
            response.raise_for_status()
        except requests.exceptions.HTTPError as error:
            if response.status_code in _REFUSALS:
                raise ValueError(_REFUSALS[response.status_code]) from error
            raise
        body: dict[str, Any] = response.json()
        return body

    def _connected(self) -> requests.Session:
        now = time.monotonic()
        if now - self._last_use > KEPT_FOR:
            self._session = self._new_session()  # not closed: another thread may be about to use it
        self._last_use = now
        return self._session

    def _new_session(self) -> requests.Session:
        return _Session(proxied=not self.base_url.startswith("http://"))


class _Value(str):
    """A token's value for code of the page, which uses it as a string; masked where its ``repr`` is shown."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"'{MASK}'"


class _Headers(UserDict[str, str]):
    """The page's ``headers``, to be read and added to; the token is looked up, not kept."""

    def __init__(self, cache: TokenCache) -> None:
        super().__init__({"Authorization": f"Bearer {MASK}", "Content-Type": "application/json"})
        self._cache = cache

    def __getitem__(self, name: str) -> str:
        return (
            Bearer.of(self._cache.get()) if name == "Authorization" else super().__getitem__(name)
        )


class _Given(TokenProvider):
    """A token that was given as it is, and is never another."""

    def __init__(self, token: Token) -> None:
        self._token = token

    @property
    def uri(self) -> str:
        return f"sha256:{self._token.fingerprint}"

    def get(self) -> Token:
        return self._token


def _cache(given: object, opened: ExitStack) -> TokenCache:
    if isinstance(given, TokenCache):
        return given
    return opened.enter_context(TokenCache(_provider(given, opened)))


def _provider(given: object, opened: ExitStack) -> TokenProvider:
    match given:
        case TokenProvider():
            return given
        case Token():
            return _Given(given)
        case str() if ":" in given:  # as no token has, and every URI
            return opened.enter_context(open_provider(given))
        case str():
            return _Given(Token(given))
    raise ConfigurationError(
        f"api_token — a token, its URI or a provider is needed, got {type(given).__name__}",
        hint="is CMZON_API_TOKEN set?",
    )


class _Session(requests.Session):
    """One that remembers nothing between two messages, like the page's ``requests.post``."""

    def __init__(self, *, proxied: bool) -> None:
        super().__init__()
        self.trust_env = proxied
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        for scheme in ("https://", "http://"):
            self.mount(scheme, requests.adapters.HTTPAdapter(pool_maxsize=CONNECTIONS))

    def rebuild_auth(
        self, prepared_request: requests.PreparedRequest, response: requests.Response
    ) -> None:
        """Where Requests takes the token off, the message stays here as well."""
        if self.should_strip_auth(str(response.request.url), str(prepared_request.url)):
            raise requests.exceptions.HTTPError(
                f"{response.status_code} — a redirect to another host, which was not followed",
                response=response,
            )
        super().rebuild_auth(prepared_request, response)


def _forget_token(
    error: BaseException, current: Token | None, *, until: BaseException | None
) -> None:
    """The errors of Requests carry request and answers, and these the token, which a server may repeat."""
    chain = list(_chain(error, until))
    tokens = {current.reveal()} if current is not None else set()
    for request in (request for one in chain for request in _requests_of(one)):
        if "Authorization" in request.headers:
            tokens.add(str(request.headers["Authorization"]).removeprefix("Bearer "))
            request.headers["Authorization"] = f"Bearer {MASK}"
    for token in tokens:
        for one in chain:
            _mask(one, masking_token(token))


def _chain(error: BaseException | None, until: BaseException | None) -> Iterator[BaseException]:
    while error is not None and error is not until:
        yield error
        error = error.__cause__ or error.__context__


def _answers_of(error: BaseException) -> list[requests.Response]:
    response = getattr(error, "response", None)
    return [response, *response.history] if response is not None else []


def _requests_of(error: BaseException) -> list[requests.PreparedRequest]:
    answers = _answers_of(error)
    sent = [getattr(error, "request", None), *(answer.request for answer in answers)]
    # The next step of a redirect is prepared before it is known that it will not be taken.
    return [request for request in [*sent, *(answer.next for answer in answers)] if request]


def _mask(error: BaseException, mask: Callable[[str], str]) -> None:
    """In its texts, of which a status line that cannot be read is one, and in the answers it carries."""
    error.args = tuple(_masked(part, mask) for part in error.args)
    vars(error).update({name: _masked(part, mask) for name, part in vars(error).items()})
    for answer in _answers_of(error):
        answer.reason = mask(answer.reason or "")
        answer.headers.update({name: mask(text) for name, text in answer.headers.items()})
        body = mask(answer.content.decode("utf-8", "surrogateescape"))
        answer._content = body.encode("utf-8", "surrogateescape")  # noqa: SLF001
        answer.raw = None  # read to its end; it has all of this once more


def _masked(part: Any, mask: Callable[[str], str]) -> Any:
    if isinstance(part, BaseException):
        _mask(part, mask)
    return mask(part) if isinstance(part, str) else part
