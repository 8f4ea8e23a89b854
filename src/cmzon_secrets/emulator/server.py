"""The HTTP server: uvicorn in a thread of its own, started and stopped like any other object."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError
from contextlib import suppress
from email.utils import formatdate
from typing import Any, TypeVar

import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from cmzon_secrets.emulator.account.account import Account
from cmzon_secrets.emulator.api import make_app
from cmzon_secrets.emulator.http.answers import ABORT, HAS_LEFT
from cmzon_secrets.emulator.http.requests import LARGEST_HEAD
from cmzon_secrets.emulator.port_owner import is_emulator, owner_of
from cmzon_secrets.emulator.responder import Responder
from cmzon_secrets.emulator.storage.journal import FLUSH_EVERY
from cmzon_secrets.errors import ConfigurationError

__all__ = ["ServerThread", "listen"]

KEEP_ALIVE = 75
"""Seconds an idle connection stays open; clients that keep theirs shorter never meet a closed one."""
STOP_GRACE = 0.3
"""Seconds that requests under way get when the server stops."""

_LINGER_NONE = struct.pack("ii", 1, 0)  # close() then sends RST and drops what is unsent
_log = logging.getLogger("cmzon_secrets.emulator")
_T = TypeVar("_T")


class ServerThread:
    """Serves an account on a listening socket until ``stop``; ``ca``: the file of its TLS's CA."""

    def __init__(
        self,
        account: Account,
        listener: socket.socket,
        tls: ssl.SSLContext | None,
        ca: str | None = None,
    ) -> None:
        self._account = account
        self._listener = listener
        self._tls = tls
        self._ca = ca
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="cmzon-emulator", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._server: _Server | None = None
        self._failure: BaseException | None = None

    def start(self) -> None:
        """Return when requests are answered. Raises what kept the server from starting."""
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            self._thread.join()
            raise self._failure

    def stop(self) -> None:
        """End every connection and the thread."""
        if self._loop is not None and self._server is not None:
            with suppress(RuntimeError):  # the loop has already ended
                self._loop.call_soon_threadsafe(self._server.stop)
        self._thread.join()

    def run(self, task: Callable[[Account], Coroutine[Any, Any, _T]]) -> _T:
        """Do something with the account where alone that is safe: in the server's thread.

        Raises ConfigurationError where the server is stopped before it is done.
        """
        if self._loop is None:
            raise _not_running()
        doing = task(self._account)
        try:
            done = asyncio.run_coroutine_threadsafe(doing, self._loop)
        except RuntimeError:  # the loop has ended
            doing.close()
            raise _not_running() from None
        try:
            return done.result()
        except CancelledError:
            raise ConfigurationError(
                "emulator — it was stopped meanwhile", hint="stop it when nothing waits for it"
            ) from None
        finally:
            done.cancel()  # who was interrupted waits no longer

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as failure:  # noqa: BLE001  # start() raises it in the caller's thread
            self._failure = failure
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        responder = Responder(self._account)
        app = _Dated(make_app(self._account, responder, self._ca), self._account)
        self._server = _Server(app, self._tls, responder, self._ready)
        flushing = asyncio.create_task(self._keep_flushing())
        try:
            await self._server.serve(sockets=[self._listener])
        finally:
            flushing.cancel()

    async def _keep_flushing(self) -> None:
        chores = (
            _Chore("expired tokens could not be noted", lambda a: a.usage.notice_expiries()),
            _Chore("state could not be written", lambda a: a.journal.write()),
        )
        while True:
            await asyncio.sleep(FLUSH_EVERY)
            for chore in chores:
                chore.do(self._account)


class _Chore:
    """What is done again and again: a failure is logged once, and neither ends it nor the others."""

    def __init__(self, trouble: str, do: Callable[[Account], None]) -> None:
        self._trouble = trouble
        self._do = do
        self._failing = False

    def do(self, account: Account) -> None:
        """Once more."""
        try:
            self._do(account)
            self._failing = False
        except Exception as error:  # noqa: BLE001  # whatever it is, the queue must be written
            if not self._failing:
                _log.error("the emulator's %s: %s", self._trouble, error)  # one line says it
            self._failing = True


class _Dated:
    """What an account answers, with ``Date`` by its own clock, which a rehearsal may have moved."""

    def __init__(self, app: ASGIApp, account: Account) -> None:
        self._app = app
        self._account = account

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def dated(message: Message) -> None:
            if message["type"] == "http.response.start":
                date = formatdate(self._account.clock.timestamp(), usegmt=True).encode()
                message["headers"] = [(b"date", date), *message["headers"]]
            await send(message)

        await self._app(scope, receive, dated)


class _Server(uvicorn.Server):
    """uvicorn's server: tells when it is ready, and stops within ``STOP_GRACE``."""

    def __init__(
        self,
        app: ASGIApp,
        tls: ssl.SSLContext | None,
        responder: Responder,
        ready: threading.Event,
    ) -> None:
        config = uvicorn.Config(
            app,
            http=_Connection,
            loop="asyncio",
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,  # logging is the host program's
            proxy_headers=False,  # allowed_ips must see the socket's address
            server_header=False,
            h11_max_incomplete_event_size=LARGEST_HEAD,
            date_header=False,  # see _Dated
            timeout_keep_alive=KEEP_ALIVE,
        )
        config.load()
        config.ssl = tls
        super().__init__(config)
        self._responder = responder
        self._ready = ready

    def stop(self) -> None:
        """Begin to stop; called in the server's thread."""
        self._responder.stopping.set()
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then say so."""
        await super().startup(sockets)
        self._ready.set()

    async def main_loop(self) -> None:
        """Until ``stop``."""
        await self._responder.stopping.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close the listener; give connections ``STOP_GRACE``, then cut them."""
        for server in self.servers:
            server.close()
        for listener in sockets or []:
            listener.close()
        state = self.server_state
        for connection in list(state.connections):
            connection.shutdown()
        if state.tasks:
            await asyncio.wait(state.tasks, timeout=STOP_GRACE)
        for connection in list(state.connections):
            connection.transport.abort()
        if state.tasks:
            await asyncio.wait(state.tasks, timeout=STOP_GRACE)
        await asyncio.sleep(0)  # lets the transports close their sockets


class _Connection(H11Protocol):
    """uvicorn's protocol, with functions in each request's scope that tell of its connection."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.access_log = False
        app = self.app

        async def connected(scope: Scope, receive: Receive, send: Send) -> None:
            ours = {ABORT: self._abort, HAS_LEFT: self._has_left}
            scope["extensions"] = {**scope.get("extensions", {}), **ours}
            await app(scope, receive, send)

        self.app = connected

    def _has_left(self) -> bool:
        return self.transport.is_closing()

    def _abort(self) -> None:
        if not self.transport.is_closing():
            connection = self.transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NONE)
            self.transport.abort()


def _not_running() -> ConfigurationError:
    return ConfigurationError("emulator — it is not running", hint="use it in a with block")


def listen(host: str, port: int) -> socket.socket:
    """A socket bound to a loopback address. Raises ConfigurationError where that can't be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol spelled out: asyncio turns Nagle's algorithm off only where it is, and every
    # answer would otherwise wait 40 ms for the client's delayed ACK.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen()
    except (OSError, OverflowError) as error:
        listener.close()
        raise _no_port(host, port, error) from error
    return listener


def _no_port(host: str, port: int, error: OSError | OverflowError) -> ConfigurationError:
    """What to say of an address that can't be had, and by whom it is taken."""
    reason = getattr(error, "strerror", None) or error
    hint = "choose another port from 1 to 65535; 0 takes a free one"
    if getattr(error, "errno", None) == errno.EADDRINUSE:
        owner = owner_of(host, port)
        if is_emulator(host, port):
            owner = f"a CMzon emulator, {owner}" if owner else "a CMzon emulator"
            hint = "use that one, or take a free port with --port 0"
        reason = f"in use by {owner}" if owner else reason
    return ConfigurationError(f"emulator port {port} on {host} — {reason}", hint=hint)
