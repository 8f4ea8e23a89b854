"""The blocking session: a connection pool for any number of threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from cmzon_secrets.answers import Answer
from cmzon_secrets.errors import shielded
from cmzon_secrets.forks import renew_in_child
from cmzon_secrets.http.settings import Settings
from cmzon_secrets.tokens import Token

if TYPE_CHECKING:
    import httpcore2

    from cmzon_secrets.http.exchange import Exchange

__all__ = ["Session"]


class Session(Settings):
    __doc__ = (
        f"""A connection pool to one base URL. Thread-safe and fork-safe. {Settings.__doc__}"""
    )

    @shielded
    def __init__(
        self,
        base_url: str | None = None,
        *,
        ca: str | None = None,
        timeout: float = 10.0,
        proxy: str | None = None,
    ) -> None:
        super().__init__(base_url, ca=ca, timeout=timeout, proxy=proxy)
        self._pool: httpcore2.ConnectionPool | None = None
        self._opening = threading.Lock()
        renew_in_child(self)

    def open(self) -> None:
        """Load the HTTP engine and the CA now, not with the first request.

        Raises ConfigurationError for a CA that cannot be used.
        """
        self._opened()

    @shielded
    def send(
        self,
        method: str,
        path: str,
        *,
        token: Token | None = None,
        json: object = None,
        headers: Mapping[str, str] | None = None,
        within: float | None = None,
        leaving: Callable[[], None] | None = None,
    ) -> Answer:
        """One request, one answer, whatever its status, within so many seconds in all.

        ``within``: default the session's ``timeout``. ``leaving`` is called when it leaves: with a
        connection open, and all of the request but its body written. Raises TransportError where no usable answer
        came; ``may_have_been_sent`` tells whether the server can have acted on it. Raises
        ConfigurationError for a path or header that must not be sent, RequestRejected for a body
        that is not JSON. A refusal whose body did not come whole is still that refusal.
        """
        from cmzon_secrets.http.exchange import Exchange, engine_errors
        from cmzon_secrets.http.log_guard import hidden
        from cmzon_secrets.http.network import until

        pool = self._opened()
        exchange = Exchange(
            self._target, method, path, token=token, json=json, headers=headers, leaving=leaving
        )
        seconds = self._timeout if within is None else within
        ends = time.monotonic() + seconds
        with until(ends), hidden(token):
            try:
                _perform(pool, exchange)
            except engine_errors() as error:
                exchange.failed(error, late=seconds if time.monotonic() >= ends else None)
        return exchange.answer()

    def close(self) -> None:
        """Close the pool. Requests under way end with a TransportError."""
        self._closed = True
        if self._pool is not None:
            self._pool.close()

    def after_fork(self) -> None:
        """In a child: new connections, for two processes on one would get each other's answers."""
        self._pool = None
        self._opening = threading.Lock()

    def _opened(self) -> httpcore2.ConnectionPool:
        self._refuse_if_closed()
        pool = self._pool
        if pool is None:
            with self._opening:
                pool = self._pool
                if pool is None:
                    pool = self._pool = self._open()
        return pool

    def _open(self) -> httpcore2.ConnectionPool:
        import httpcore2

        from cmzon_secrets.http.network import Network

        return httpcore2.ConnectionPool(network_backend=Network(self._proxy), **self._prepare())


def _perform(pool: httpcore2.ConnectionPool, exchange: Exchange) -> None:
    from cmzon_secrets.http.exchange import says_more

    response = pool.handle_request(exchange.request)
    exchange.began(response)
    try:
        for chunk in response.iter_stream():
            if not exchange.take(chunk):
                break
        if says_more(response):
            response.extensions["network_stream"].close()
    finally:
        response.close()
