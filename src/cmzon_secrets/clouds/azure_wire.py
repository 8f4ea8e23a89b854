"""How the clients of Azure's SDK reach Key Vault and whoever gives the tokens: below all their policies.

Nothing is sent for a caller that no longer waits: he was told that the time is up, and may do
something else now. No session key is written to ``$SSLKEYLOGFILE``, no password taken from ``~/.netrc``,
and no answer read that is longer than any can be.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from cmzon_secrets.deadline import stop_if_given_up

if TYPE_CHECKING:
    from azure.core.pipeline.transport import RequestsTransport
    from requests import PreparedRequest, Session
    from requests.adapters import HTTPAdapter

__all__ = ["CONNECT_TIMEOUT", "MAX_ANSWER", "READ_TIMEOUT", "transport"]

CONNECT_TIMEOUT = 3
READ_TIMEOUT = 10
"""Seconds for one connection and for one read; the deadline of a verb bounds them all."""
MAX_ANSWER = 8 * 1024 * 1024
"""Bytes; a page has at most 25 versions, of a few kilobytes each."""


def transport(verify: bool | str) -> RequestsTransport:
    """For clients of the SDK; ``verify``: True, or the path of a CA.

    ``transport(…).session.close()`` gives back its idle connections; it opens new ones when it must.
    """
    from azure.core.pipeline.transport import RequestsTransport

    return RequestsTransport(
        session=_session(),
        connection_verify=verify,
        connection_timeout=CONNECT_TIMEOUT,
        read_timeout=READ_TIMEOUT,
    )


def _session() -> Session:
    from requests import Session

    session = Session()
    session.auth = _as_it_is
    adapter = _adapter()
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    return session


def _as_it_is(request: PreparedRequest) -> PreparedRequest:
    """Else ``requests`` puts a password of ~/.netrc in the place of the bearer token."""
    return request


def _adapter() -> HTTPAdapter:
    from requests import Response
    from requests.adapters import HTTPAdapter
    from urllib3 import HTTPSConnectionPool, PoolManager
    from urllib3.connection import HTTPSConnection

    class Connection(HTTPSConnection):
        def connect(self) -> None:
            super().connect()
            stop_if_given_up()  # name and handshake may have taken long

    class Connections(HTTPSConnectionPool):
        ConnectionCls = Connection

    # Ours, for the one that urllib3 makes writes the session keys to $SSLKEYLOGFILE.
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.minimum_version = ssl.TLSVersion.TLSv1_2

    def ours(manager: PoolManager) -> PoolManager:
        classes = manager.pool_classes_by_scheme
        if classes["https"] is HTTPSConnectionPool:  # a SOCKS proxy has its own
            manager.pool_classes_by_scheme = {**classes, "https": Connections}
        return manager

    class Adapter(HTTPAdapter):
        def init_poolmanager(self, *args: Any, **more: Any) -> None:
            super().init_poolmanager(*args, ssl_context=tls, **more)
            ours(self.poolmanager)

        def proxy_manager_for(self, proxy: str, **more: Any) -> Any:
            return ours(super().proxy_manager_for(proxy, ssl_context=tls, **more))

        def send(self, *args: Any, **more: Any) -> Response:
            stop_if_given_up()
            response = super().send(*args, **more)
            response.raw = _Bounded(response.raw)
            return response

    return Adapter()


class _Bounded:
    """An answer of urllib3, of which no more is read than ``MAX_ANSWER``, decompressed."""

    def __init__(self, raw: Any) -> None:
        self.__dict__["_raw"] = raw

    def __getattr__(self, name: str) -> Any:
        return getattr(self._raw, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._raw, name, value)  # ``enforce_content_length``, which the SDK sets

    def stream(self, *args: Any, **more: Any) -> Iterator[bytes]:
        """Its body. Raises urllib3's DecodeError, which ``requests`` and the SDK know."""
        from urllib3.exceptions import DecodeError

        left = MAX_ANSWER
        for chunk in self._raw.stream(*args, **more):
            left -= len(chunk)
            if left < 0:
                self._raw.close()
                raise DecodeError("longer than any answer can be")
            yield chunk
