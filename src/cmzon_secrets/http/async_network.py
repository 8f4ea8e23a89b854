"""Connections for asyncio, to names that are looked up where nobody else is held up.

asyncio looks names up in its pool of a few threads. A resolver that is silent would fill that pool,
which reads tokens too, and whoever ends the loop would have to wait for it.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
import httpcore2

from cmzon_secrets.http.addresses import Proxy
from cmzon_secrets.http.outgoing import Outgoing
from cmzon_secrets.http.resolving import found, look_up, numeric, shares
from cmzon_secrets.http.tunnel import READ_SIZE, is_open, tunnel_request

__all__ = ["AsyncNetwork"]


class AsyncNetwork(httpcore2.AnyIOBackend):
    """TCP connections of the engine's own backend, through ``proxy`` where there is one. The deadline
    is the caller's ``asyncio.timeout``."""

    def __init__(self, proxy: Proxy | None = None) -> None:
        self._proxy = proxy

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  # the interface's
        local_address: str | None = None,  # noqa: ARG002
        socket_options: Iterable[Any] | None = None,  # noqa: ARG002
    ) -> httpcore2.AsyncNetworkStream:
        """Connect to the first of the host's addresses that answers, or to the proxy's."""
        proxy = self._proxy
        if proxy is None:
            return await self._dialled(host, port, timeout)
        stream = await self._dialled(proxy.host, proxy.port, timeout)
        async with _closed_on_failure(stream):
            await _tunnel(stream, tunnel_request(proxy, host, port), timeout)
        return stream

    async def _dialled(self, host: str, port: int, seconds: float | None) -> _Stream:
        ends = time.monotonic() + (seconds if seconds is not None else float("inf"))
        problem: Exception = httpcore2.ConnectTimeout("no time was left to connect")
        for address, share in shares(await _addresses(host, port, seconds), ends):
            try:
                return _Stream(await super().connect_tcp(address[4][0], port, timeout=share))
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                problem = error
        raise problem


class _Stream(httpcore2.AsyncNetworkStream):
    """The engine's own, which leaves open what is cancelled in its TLS handshake. A request's head
    leaves together with its body."""

    def __init__(self, stream: httpcore2.AsyncNetworkStream) -> None:
        self._stream = stream
        self._outgoing = Outgoing()

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
        head = self._outgoing.rest()
        if head:
            with suppress(httpcore2.WriteError):  # as the engine does: there may be an answer
                await self._stream.write(head, timeout)
        return await self._stream.read(max_bytes, timeout)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        data = self._outgoing.add(buffer)
        if data:
            await self._stream.write(data, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109  # the interface's
    ) -> httpcore2.AsyncNetworkStream:
        async with _closed_on_failure(self._stream):
            return _Stream(await self._stream.start_tls(ssl_context, server_hostname, timeout))


@asynccontextmanager
async def _closed_on_failure(stream: httpcore2.AsyncNetworkStream) -> AsyncIterator[None]:
    try:
        yield
    except BaseException:
        with anyio.CancelScope(shield=True):
            await stream.aclose()
        raise


async def _tunnel(
    stream: httpcore2.AsyncNetworkStream, request: bytes, seconds: float | None
) -> None:
    head = bytearray()
    try:
        async with asyncio.timeout(seconds):
            await stream.write(request)
            while not is_open(head, await stream.read(READ_SIZE)):
                pass
    except TimeoutError as error:
        raise httpcore2.ReadTimeout(error) from error


async def _addresses(host: str, port: int, seconds: float | None) -> list[Any]:
    try:
        async with asyncio.timeout(seconds):
            return numeric(host, port) or found(await asyncio.wrap_future(look_up(host, port)))
    except TimeoutError as error:
        raise httpcore2.ConnectTimeout(error) from error
    except OSError as error:
        raise httpcore2.ConnectError(error) from error
