"""Connections that do nothing more for a caller who was told that the time is up.

Name lookup, connecting and handshake may take longer than a verb: what was not sent by then stays
unsent. And a server that sends one byte at a time would keep a thread for ever: each is a reason to look.
"""

from __future__ import annotations

import http.client
import io
import socket
from typing import TYPE_CHECKING, Any

from cmzon_secrets.deadline import stop_if_given_up

if TYPE_CHECKING:
    from requests.adapters import HTTPAdapter

__all__ = ["transport"]


def transport(connections: int, **tls: Any) -> HTTPAdapter:
    """For a session of ``requests``, with this many connections kept; ``tls``: options of urllib3."""
    from requests.adapters import HTTPAdapter
    from urllib3 import HTTPConnectionPool, HTTPSConnectionPool

    adapter = HTTPAdapter(connections, connections)
    adapter.init_poolmanager(connections, connections, **tls)
    adapter.poolmanager.pool_classes_by_scheme = {
        "http": _stoppable_pool(HTTPConnectionPool),
        "https": _stoppable_pool(HTTPSConnectionPool),
    }
    return adapter


def _stoppable_pool(pool: Any) -> Any:
    class Connection(pool.ConnectionCls):  # type: ignore[misc]  # urllib3's, for this scheme
        response_class = _StoppableResponse

        def send(self, data: Any) -> None:
            if self.sock is None:
                self.connect()
            stop_if_given_up()  # the last moment at which nothing has been sent
            super().send(data)

    class Pool(pool):  # type: ignore[misc]
        ConnectionCls = Connection

    return Pool


class _StoppableResponse(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp.close()
        self.fp = io.BufferedReader(_StoppableFile(sock))


class _StoppableFile(io.RawIOBase):
    """What the server sends, as long as somebody waits for it."""

    def __init__(self, sock: socket.socket) -> None:
        self._file = sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        stop_if_given_up()
        return self._file.readinto(buffer)

    def close(self) -> None:
        self._file.close()
        super().close()
