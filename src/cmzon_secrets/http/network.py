"""Blocking sockets that keep one deadline for a whole exchange.

An engine's timeouts bound each read and write. A server that sends a byte a second, or ``100
Continue`` for ever, never runs into them, and a name server that is silent is not bounded at all.
Here everything is bounded by what is left until ``until(ends)``, as well as by its own timeout.

Source: HTTPCore's network backends, the interface that this implements.
"""

from __future__ import annotations

import select
import socket
import ssl
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any

import httpcore2

from cmzon_secrets.http.addresses import Proxy
from cmzon_secrets.http.outgoing import Outgoing
from cmzon_secrets.http.resolving import found, look_up, numeric, shares
from cmzon_secrets.http.tunnel import READ_SIZE, is_open, tunnel_request

__all__ = ["Network", "until"]

_ENDS: ContextVar[float] = ContextVar("ends", default=float("inf"))


@contextmanager
def until(ends: float) -> Iterator[None]:
    """What this thread asks of the network must be over at ``ends``, in seconds of ``time.monotonic``."""
    before = _ENDS.set(ends)
    try:
        yield
    finally:
        _ENDS.reset(before)


class Network(httpcore2.NetworkBackend):
    """TCP connections whose every step is bounded; through ``proxy`` where there is one."""

    def __init__(self, proxy: Proxy | None = None) -> None:
        self._proxy = proxy

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,  # noqa: ARG002  # the interface's
        socket_options: Iterable[Any] | None = None,  # noqa: ARG002
    ) -> httpcore2.NetworkStream:
        """Connect to the first of the host's addresses that answers, or to the proxy's."""
        proxy = self._proxy
        if proxy is None:
            return _dialled(host, port, timeout)
        stream = _dialled(proxy.host, proxy.port, timeout)
        try:
            _tunnel(stream, tunnel_request(proxy, host, port), timeout)
        except BaseException:
            stream.close()
            raise
        return stream


class _Stream(httpcore2.NetworkStream):
    """One connection, with TLS or without. A request's head leaves together with its body."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._outgoing = Outgoing()

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        head = self._outgoing.rest()
        if head:
            with suppress(httpcore2.WriteError):  # as the engine does: there may be an answer
                self._send(head, timeout)
        with _errors_as(httpcore2.ReadTimeout, httpcore2.ReadError):
            self._socket.settimeout(_left(timeout))
            return self._socket.recv(max_bytes)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._send(self._outgoing.add(buffer), timeout)

    def _send(self, data: bytes, timeout: float | None) -> None:
        with _errors_as(httpcore2.WriteTimeout, httpcore2.WriteError):
            left, rest = _left(timeout), memoryview(data)  # even what is kept has a deadline
            while rest:
                self._socket.settimeout(left)
                rest = rest[self._socket.send(rest) :]
                left = _left(timeout) if rest else left

    def close(self) -> None:
        with suppress(OSError):
            # It wakes a thread that waits in it. Not by SSLSocket's own, which first puts TLS aside:
            # what another thread sends in that moment would go out in the clear.
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
        self._socket.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore2.NetworkStream:
        """The same connection, with TLS: its handshake as a whole takes no longer than ``timeout``."""
        with _errors_as(httpcore2.ConnectTimeout, httpcore2.ConnectError):
            try:
                self._socket.settimeout(_left(timeout))
                return _Stream(
                    ssl_context.wrap_socket(self._socket, server_hostname=server_hostname)
                )
            except BaseException:
                self.close()
                raise

    def get_extra_info(self, info: str) -> Any:
        """What the engine asks: whether an idle connection has something to say, so was closed."""
        if info == "is_readable":
            return _is_readable(self._socket)
        if info == "ssl_object" and isinstance(self._socket, ssl.SSLSocket):
            return self._socket
        return None


def _left(timeout: float | None) -> float:
    """Seconds that the next step may take. Raises TimeoutError where there are none."""
    left = _ENDS.get() - time.monotonic()
    if left <= 0:
        raise TimeoutError("the deadline has passed")
    return left if timeout is None else min(timeout, left)


def _dialled(host: str, port: int, timeout: float | None) -> _Stream:
    with _errors_as(httpcore2.ConnectTimeout, httpcore2.ConnectError):
        left = _left(timeout)
        ends = time.monotonic() + left
        connection = _connect(numeric(host, port) or _resolved(host, port, left), ends)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return _Stream(connection)


def _tunnel(stream: _Stream, request: bytes, timeout: float | None) -> None:
    ends = time.monotonic() + _left(timeout)
    stream.write(request, timeout)
    head = bytearray()
    while not is_open(head, stream.read(READ_SIZE, max(ends - time.monotonic(), 0.001))):
        pass


def _resolved(host: str, port: int, left: float) -> list[Any]:
    try:
        outcome = look_up(host, port).result(left)
    except TimeoutError:
        raise TimeoutError(f"no address of {host} within {left:.3g} s") from None
    return found(outcome)


def _connect(addresses: list[Any], ends: float) -> socket.socket:
    problem: OSError = TimeoutError("no time was left to connect")
    for (family, kind, protocol, _, address), seconds in shares(addresses, ends):
        connection = socket.socket(family, kind, protocol)
        try:
            connection.settimeout(seconds)
            connection.connect(address)
        except OSError as error:
            connection.close()
            problem = error
        except BaseException:
            connection.close()
            raise
        else:
            return connection
    raise problem


def _is_readable(connection: socket.socket) -> bool:
    if connection.fileno() < 0:
        return True
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    return bool(poll.poll(0))


@contextmanager
def _errors_as(timeout: type[Exception], other: type[Exception]) -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        raise timeout(error) from error
    except OSError as error:
        raise other(error) from error
