"""AWS: what every request of the SDK passes on its way out, and its answer on the way in.

The SDK makes clients of its own, to assume the role of a profile or to trade a web identity or an SSO
login for keys. ``guard`` is put on the SDK's session, so these are bound by the same rules as ours:

- Nothing is sent over plain http, except to this machine itself, and that goes through no proxy.
- Nothing is sent for a caller who was told that the time is up.
- ``SSLKEYLOGFILE`` is not obeyed: whoever has that file can read all that was sent.
- An answer may have 1 MiB; the largest secret has 64 KiB.

Not bound by them: the SDK's requests to the services that hand out the credentials of a machine or a
container, plain http to fixed addresses by design. They carry no token of ours.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from cmzon_secrets.deadline import stop_if_given_up
from cmzon_secrets.errors import ConfigurationError
from cmzon_secrets.http import is_loopback

__all__ = ["checked_address", "guard", "is_local"]

_MAX_ANSWER = 2**20
"""Bytes."""


class AnswerTooLong(Exception):
    """It is no answer of AWS."""


def guard(core: Any) -> None:
    """Bind every client that the SDK's session ``core`` makes from now on."""
    core.register("before-send", _last_look)
    core.create_client = partial(_guarded_client, core.create_client)


def checked_address(url: str | None, what: str) -> str | None:
    """The address, which must be https, or http on this machine. Raises ConfigurationError."""
    if url is None or re.fullmatch(r"https://[^/?#@\s]+(/[^?#@\s]*)?", url) or is_local(url):
        return url
    if url.startswith("http://") and "@" not in url:
        raise ConfigurationError(
            f"{what} — a token is never sent over plain http, except to this machine itself",
            hint="use https://; AWS_ENDPOINT_URL* and endpoint_url in a profile count, too",
        )
    raise ConfigurationError(f"{what} — it is not an https:// address (it is not repeated here)")


def is_local(url: str) -> bool:
    """Whether it is an address of this machine itself, with nothing after the port."""
    match = re.fullmatch(r"https?://(\[[^/?#@\s]+\]|[^/?#@\s:]+)(:[0-9]+)?/?", url)
    return match is not None and is_loopback(match[1].strip("[]"))


def _last_look(request: Any, event_name: str, **_: Any) -> None:
    """Runs right before each request. Raises ConfigurationError, GivenUp."""
    if not request.url.startswith("https://"):
        address = re.split(r"(?<=[^:/])[/?#]", request.url, maxsplit=1)[0]
        service = event_name.split(".")[1].lower()
        checked_address(address, f"the address configured for AWS {service}")
    stop_if_given_up()


def _guarded_client(make: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    from botocore.config import Config

    client = make(*args, **kwargs)
    if client.meta.endpoint_url.startswith("http:"):  # a proxy would see it all
        config = (kwargs.get("config") or Config()).merge(Config(proxies={}))
        client = make(*args, **{**kwargs, "config": config})
    endpoint = client._endpoint  # noqa: SLF001  # the SDK offers no other way to its connections
    endpoint.http_session = _Connections(endpoint.http_session)
    return client


class _Connections:
    """The SDK's connections, without a key log, and with a limit to what is read."""

    def __init__(self, session: Any) -> None:
        self._session = session
        make = session._get_ssl_context  # noqa: SLF001  # as above
        session._get_ssl_context = partial(_without_key_log, make)  # noqa: SLF001  # for proxies, made later
        session._manager.connection_pool_kw["ssl_context"].keylog_filename = None  # noqa: SLF001  # as above

    def send(self, request: Any) -> Any:
        """The answer, read to its end. Raises AnswerTooLong, or an error of the SDK."""
        from botocore.exceptions import HTTPClientError
        from urllib3.exceptions import HTTPError

        request.stream_output = True  # else the SDK reads all that comes
        answer = self._session.send(request)
        answer.raw = _Bounded(answer.raw)
        try:
            answer.content  # noqa: B018  # reads it
        except (HTTPError, OSError) as error:
            raise HTTPClientError(error=error) from error
        return answer

    def close(self) -> None:
        """As the SDK does."""
        self._session.close()


class _Bounded:
    """A body of which no more is read than an answer may have."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw

    def stream(self) -> Iterator[bytes]:
        """Raises AnswerTooLong, GivenUp."""
        read = 0
        try:
            for chunk in self._chunks():
                stop_if_given_up()
                read += len(chunk)
                if read > _MAX_ANSWER:
                    raise AnswerTooLong
                yield chunk
        except BaseException:
            self._raw.close()
            raise

    def _chunks(self) -> Iterator[bytes]:
        if not hasattr(self._raw, "read1"):  # urllib3 1
            return self._raw.stream()  # type: ignore[no-any-return]
        return iter(partial(self._raw.read1, 2**16), b"")  # what has come, without waiting for more


def _without_key_log(make: Callable[[], Any]) -> Any:
    context = make()
    context.keylog_filename = None
    return context
