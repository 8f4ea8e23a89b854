"""The blocking session: a connection pool for any number of threads."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from cmzon_secrets.answers import Answer
from cmzon_secrets.errors import ConfigurationError, TransportError, without_frames
from cmzon_secrets.forks import renew_in_child
from cmzon_secrets.http.addresses import DEFAULT_BASE_URL, checked_base_url, checked_proxy
from cmzon_secrets.http.exchange import KEEPALIVE, Exchange, Target, engine_errors
from cmzon_secrets.tokens import Token

if TYPE_CHECKING:
    import httpcore2

__all__ = ["DEFAULT_DEADLINE", "Session", "SessionSettings"]

DEFAULT_DEADLINE = 30.0
"""Seconds in which a whole answer must have come, where the caller does not say."""


class SessionSettings:
    """Where a session connects and how: what the blocking one and the other have in common.

    ``base_url``: default ``$CMZON_BASE_URL``, else the vendor's. ``ca``: path of a PEM file to trust
    instead of the system's store. ``timeout``: seconds to wait for each read or write. ``proxy``:
    ``http://host:port`` to tunnel through, default ``$CMZON_PROXY``; never used for this machine
    itself. Raises ConfigurationError for what cannot be used.
    """

    def __init__(
        self,
        base_url: str | None = None,
        *,
        ca: str | None = None,
        timeout: float = 10.0,
        proxy: str | None = None,
    ) -> None:
        self.base_url = checked_base_url(
            base_url or os.environ.get("CMZON_BASE_URL") or DEFAULT_BASE_URL
        )
        self._ca = ca
        self._timeout = timeout
        given = proxy or os.environ.get("CMZON_PROXY")
        self._proxy = checked_proxy(given) if given else None

    def pool_options(self) -> dict[str, object]:
        """What the engine's pool is made with. Raises ConfigurationError for a CA that cannot be used."""
        import httpcore2

        from cmzon_secrets.http.log_guard import guard_logs
        from cmzon_secrets.http.tls import tls_context

        guard_logs()
        proxy = None
        if self._proxy is not None and self.base_url.startswith("https:"):
            address, user = self._proxy
            proxy = httpcore2.Proxy(address, auth=user)
        return {
            "ssl_context": tls_context(self._ca),
            "proxy": proxy,
            "max_connections": None,
            "max_keepalive_connections": 100,
            "keepalive_expiry": KEEPALIVE,
        }

    def target(self) -> Target:
        """The base URL and timeouts for this session's requests."""
        return Target(self.base_url, self._timeout)

    def closed(self) -> ConfigurationError:
        """The error for using a session after its end."""
        return ConfigurationError(f"connection to {self.base_url} — it is closed")


class Session(SessionSettings):
    """A connection pool to one base URL. Thread-safe and fork-safe; see SessionSettings."""

    def __init__(
        self,
        base_url: str | None = None,
        *,
        ca: str | None = None,
        timeout: float = 10.0,
        proxy: str | None = None,
    ) -> None:
        super().__init__(base_url, ca=ca, timeout=timeout, proxy=proxy)
        self._opened: tuple[httpcore2.ConnectionPool, Target] | None = None
        self._opening = threading.Lock()
        self._closed = False
        renew_in_child(self)

    def open(self) -> None:
        """Load the HTTP engine and the CA now, not with the first request.

        Raises ConfigurationError for a CA that cannot be used.
        """
        self._pool()

    def send(
        self,
        method: str,
        path: str,
        *,
        token: Token | None = None,
        json: object = None,
        headers: Mapping[str, str] | None = None,
        within: float = DEFAULT_DEADLINE,
    ) -> Answer:
        """One request, one answer, whatever its status, within so many seconds in all.

        Raises TransportError where no usable answer came; ``may_have_been_sent`` tells whether
        the server can have acted on it. Raises ConfigurationError for a path or header that must
        not be sent, RequestRejected for a body that is not JSON. A refusal whose body did not
        come whole is still that refusal.
        """
        from cmzon_secrets.http.log_guard import hidden
        from cmzon_secrets.http.network import time_is_up, until

        handled = sys.exception()
        pool, target = self._pool()
        exchange = Exchange(target, method, path, token=token, json=json, headers=headers)
        try:
            with until(time.monotonic() + within), hidden(token):
                try:
                    _perform(pool, exchange)
                    return exchange.answer()
                except (TransportError, *engine_errors()) as error:
                    refusal = exchange.refusal()
                    if refusal is not None:
                        return refusal
                    late = within if time_is_up() else None
                    problem = exchange.problem(error, handled, late=late)
        except BaseException as error:  # noqa: BLE001  # a Ctrl-C, too, passes frames that hold the header
            raise without_frames(error, until=handled)  # noqa: B904  # the same error again
        raise problem  # out here, so that there is no other context

    def close(self) -> None:
        """Close the pool."""
        self._closed = True
        if self._opened is not None:
            self._opened[0].close()

    def after_fork(self) -> None:
        """In a child: new connections, for two processes on one would get each other's answers."""
        self._opened = None
        self._opening = threading.Lock()

    def _pool(self) -> tuple[httpcore2.ConnectionPool, Target]:
        if self._closed:
            raise self.closed()
        opened = self._opened
        if opened is None:
            with self._opening:
                opened = self._opened
                if opened is None:
                    opened = self._opened = self._open()
        return opened

    def _open(self) -> tuple[httpcore2.ConnectionPool, Target]:
        import httpcore2

        from cmzon_secrets.http.network import Network

        options: dict[str, object] = self.pool_options()
        pool = httpcore2.ConnectionPool(network_backend=Network(), **options)  # type: ignore[arg-type]  # a table
        return pool, self.target()


def _perform(pool: httpcore2.ConnectionPool, exchange: Exchange) -> None:
    response = pool.handle_request(exchange.request)
    exchange.began(response)
    try:
        for chunk in response.iter_stream():
            exchange.take(chunk)
    finally:
        response.close()
