"""The emulator as an object, and as a program in the foreground."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Coroutine, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import Any, Self, TypedDict, TypeVar, Unpack

from cmzon_secrets.clock import SYSTEM_CLOCK, Clock
from cmzon_secrets.emulator.account.account import UNREADABLE, Account
from cmzon_secrets.emulator.account.exchanges import Exchange
from cmzon_secrets.emulator.account.history import Origin
from cmzon_secrets.emulator.account.limits import ACCOUNT, NEW_ACCOUNT, UNLIMITED, Quota
from cmzon_secrets.emulator.account.tokens import SEND, TokenWish, deriving
from cmzon_secrets.emulator.account.waiting import wait_for
from cmzon_secrets.emulator.api import issued, routes_of
from cmzon_secrets.emulator.controls.rehearsing import expire, parse_quota, parse_shift
from cmzon_secrets.emulator.controls.watching import WAIT, parse_listing, parse_wait
from cmzon_secrets.emulator.http.answers import Refusal
from cmzon_secrets.emulator.http.guard import is_loopback
from cmzon_secrets.emulator.server import ServerThread, listen
from cmzon_secrets.emulator.storage.home import Home
from cmzon_secrets.emulator.storage.journal import Journal
from cmzon_secrets.errors import ConfigurationError

__all__ = ["Emulator", "ReadyLine", "serve"]

HOST = "127.0.0.1"
_PROGRAM = Origin("control")
"""Who does what Python asks for."""
_STOP_SIGNALS = frozenset({signal.SIGINT, signal.SIGTERM})
_T = TypeVar("_T")


class Wanted(TypedDict, total=False):
    """Which messages are wanted; what is left out wants all.

    ``to`` is the recipient, ``text`` is found anywhere in the text in any case, ``status`` is
    "accepted", "failed", one like 429, a class like "4xx", or "none" for no answer, ``after`` a
    ``seq`` of which later ones are wanted.
    """

    to: str
    text: str
    token_id: str
    status: int | str
    idempotency_key: str
    message_id: str
    after: int


class LimitsWish(TypedDict, total=False):
    """Messages in any sliding second and in a UTC day; None lifts one, what is left out stays."""

    per_second: int | None
    per_day: int | None


class Listed(Wanted, total=False):
    """The same, with a ``seq`` of which earlier ones are wanted, and how many at most: 1 to 1,000."""

    before: int
    limit: int


@dataclass(frozen=True, slots=True)
class ReadyLine:
    """What a program needs to use a running emulator; ``ca`` is None without TLS."""

    base_url: str
    dashboard_url: str
    admin_token_file: str
    ca: str | None


class Emulator:
    """The CMzon API on a loopback address, in a thread of this process.

        with Emulator() as emulator:
            Client(…, base_url=emulator.base_url)

    ``port`` 0 takes a free one. ``tls``: HTTPS with a certificate of a local CA, whose path is
    ``ca``. ``state``: a folder in which tokens, messages and the CA survive; without it everything
    is forgotten and removed at the end. ``new_account``: 1,000 messages a day instead of 10,000.
    ``limits`` False: as many messages as come, at any rate, for load tests. ``strict``: fields and
    query parameters that the API does not know are refused instead of ignored. ``clock``: the time
    before any shift; everything but injected delays follows it.

    Raises ConfigurationError for arguments that contradict each other, and on entering where the
    port, the host or the folder cannot be used.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        tls: bool = False,
        state: str | os.PathLike[str] | None = None,
        new_account: bool = False,
        limits: bool = True,
        strict: bool = False,
        host: str = HOST,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._port = port
        self._tls = tls
        self._state = state
        self._quota = _quota(limits=limits, new_account=new_account)
        self._strict = strict
        self._host = _checked_host(host)
        self._clock = clock
        self._running: _Running | None = None

    def start(self) -> None:
        """Return when requests are answered."""
        if self._running is not None:
            raise ConfigurationError("emulator — it is already running")
        with ExitStack() as undo:
            home = Home(self._state)
            undo.callback(home.close)
            journal = Journal(home.database)
            undo.callback(journal.close)
            account = self._open_account(journal, home)
            home.write_admin_token(account.admin_token)
            context, ca_file = home.tls() if self._tls else (None, None)
            ca = str(ca_file) if ca_file is not None else None
            listener = listen(self._host, self._port)
            undo.callback(listener.close)
            server = ServerThread(account, listener, context, ca)
            base_url = _url("https" if self._tls else "http", self._host, listener.getsockname()[1])
            ready = ReadyLine(
                base_url=base_url,
                dashboard_url=f"{base_url}/dashboard",
                admin_token_file=str(home.admin_token_file),
                ca=ca,
            )
            server.start()
            undo.callback(server.stop)
            self._running = _Running(server, ready, account.admin_token, undo.pop_all())

    def stop(self) -> None:
        """End every connection, write the state, remove what was only temporary."""
        running, self._running = self._running, None
        if running is not None:
            running.undo.close()

    def stats(self) -> dict[str, Any]:
        """What ``GET /_emulator/stats`` answers."""
        return self._ask(lambda account: account.stats())

    def messages(self, **wanted: Unpack[Listed]) -> list[dict[str, Any]]:
        """The requests to send and their answers, oldest first, as ``GET /_emulator/messages``.

        Without arguments the first 100 of all. Raises ConfigurationError naming the argument at
        fault.
        """

        def found(account: Account) -> list[Exchange]:
            return account.exchanges.oldest(*parse_listing(wanted))

        return [exchange.entry() for exchange in self._ask(found)]

    def wait_for_message(
        self, timeout: timedelta | float = WAIT, **wanted: Unpack[Wanted]
    ) -> dict[str, Any]:
        """The oldest accepted message that is like this, be it there or come in ``timeout`` seconds.

        It is found though its answer was lost; one that failed, by its ``status`` only. Raises
        TimeoutError saying what came instead, and ConfigurationError naming the argument at fault.
        """

        async def waited(account: Account) -> Exchange:
            return await wait_for(account, *parse_wait({**wanted, "timeout": _seconds(timeout)}))

        return self._await(waited).entry()

    def reset(self) -> None:
        """As new; snapshots stay."""
        self._ask(lambda account: account.reset())

    def advance(self, span: timedelta | float) -> None:
        """Shift the clock; a negative span (or number of seconds) sets it back. Raises ConfigurationError."""
        shift = {"advance": _seconds(span)}
        self._ask(lambda a: a.advance(parse_shift(shift, a.clock.shift)))

    def snapshot(self, name: str) -> None:
        """Keep everything as it is now. Raises ConfigurationError."""
        self._ask(lambda account: account.snapshot(name))

    def restore(self, name: str) -> None:
        """Everything as it was at a snapshot. Raises ConfigurationError, and nothing has changed."""
        self._ask(lambda account: account.restore(name))

    def fault(self, **fields: Any) -> dict[str, Any]:
        """Put a fault in force, with the fields of ``POST /_emulator/faults``, and return it.

        Raises ConfigurationError naming the field at fault.
        """
        return self._ask(lambda account: account.add_fault(fields, routes_of(account)).entry())

    def clear_faults(self) -> None:
        """End every fault."""
        self._ask(lambda account: account.clear_faults())

    def set_limits(self, **limits: Unpack[LimitsWish]) -> None:
        """Other limits, until a reset. Raises ConfigurationError."""
        self._ask(lambda a: a.set_quota(parse_quota({**limits}, a.messages.limits.quota)))

    def issue(
        self,
        name: str,
        *,
        scopes: Sequence[str] = (SEND,),
        expires_in: timedelta | float | None = None,
        allowed_ips: Sequence[str] = (),
    ) -> dict[str, Any]:
        """Make a token; what ``POST /v1/tokens`` answers, the value as ``token`` included.

        ``expires_in`` is a timedelta or seconds; without it the token does not end by itself. Raises
        ConfigurationError naming the argument at fault.
        """
        body = {
            "name": name,
            "scopes": [*scopes],
            "expires_in": _seconds(expires_in),
            "allowed_ips": [*allowed_ips],
        }

        def made(account: Account) -> dict[str, Any]:
            return issued(account, account.issue(TokenWish.parse(body, strict=True), _PROGRAM))

        return self._ask(made)

    def revoke(self, token_id: str) -> None:
        """Kill a token for good; an unknown or dead one is no error, as with the API."""
        self._ask(lambda account: account.revoke(token_id, _PROGRAM))

    def expire(self, token_id: str) -> None:
        """End a token's time now. Raises ConfigurationError where there is no such token."""
        self._ask(lambda account: expire(account, token_id, _PROGRAM))

    @property
    def ready_line(self) -> ReadyLine:
        """Where it is and what to read."""
        return self._now.ready

    @property
    def base_url(self) -> str:
        """Scheme, host and port."""
        return self._now.ready.base_url

    @property
    def dashboard_url(self) -> str:
        """Where its pages are, for a browser on this machine."""
        return self._now.ready.dashboard_url

    @property
    def ca(self) -> str | None:
        """Path of the CA certificate to trust; None without TLS."""
        return self._now.ready.ca

    @property
    def admin_token(self) -> str:
        """The bare value of a token with every scope."""
        return self._now.admin_token()

    def _ask(self, question: Callable[[Account], _T]) -> _T:
        """Put a question to the account between two requests."""

        async def asked(account: Account) -> _T:
            return question(account)

        return self._await(asked)

    def _await(self, task: Callable[[Account], Coroutine[Any, Any, _T]]) -> _T:
        try:
            return self._now.server.run(task)
        except Refusal as refusal:
            raise ConfigurationError(f"emulator {refusal.details}") from None

    @property
    def _now(self) -> _Running:
        if self._running is None:
            raise ConfigurationError("emulator — it is not running", hint="use it in a with block")
        return self._running

    def _open_account(self, journal: Journal, home: Home) -> Account:
        try:
            return Account(
                journal,
                deriving(home.token_secret()),
                quota=self._quota,
                strict=self._strict,
                snapshots=home.snapshots(),
                clock=self._clock,
            )
        except UNREADABLE as error:
            raise journal.give_up(error) from error

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        where = self._running.ready.base_url if self._running is not None else "not running"
        return f"<Emulator {where}>"


def serve(
    on_ready: Callable[[ReadyLine], None],
    *,
    host: str = HOST,
    port: int = 0,
    tls: bool = False,
    state: str | os.PathLike[str] | None = None,
    new_account: bool = False,
    limits: bool = True,
    strict: bool = False,
) -> None:
    """Run an emulator until SIGINT, SIGTERM or SIGHUP; ``on_ready`` is called once it answers.

    To be called in the main thread. Raises ConfigurationError like ``Emulator``.
    """
    if threading.current_thread() is not threading.main_thread():
        raise ConfigurationError(
            "emulator — it serves in the main thread only", hint="use Emulator"
        )
    emulator = Emulator(
        host=host,
        port=port,
        tls=tls,
        state=state,
        new_account=new_account,
        limits=limits,
        strict=strict,
    )
    # Blocked before any thread exists: every thread inherits that, so a signal at any moment waits
    # for sigwait and never interrupts half a start or half a stop.
    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN  # as nohup has it
    stops = _STOP_SIGNALS if ignored else _STOP_SIGNALS | {signal.SIGHUP}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, stops)
    try:
        with emulator:
            on_ready(emulator.ready_line)
            signal.sigwait(stops)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@dataclass(frozen=True, slots=True)
class _Running:
    server: ServerThread
    ready: ReadyLine
    admin_token: Callable[[], str]  # no repr or vars() shows it
    undo: ExitStack


def _quota(*, limits: bool, new_account: bool) -> Quota:
    if limits:
        return NEW_ACCOUNT if new_account else ACCOUNT
    if new_account:
        raise ConfigurationError(
            "emulator limits — off, and those of a new account, cannot both be meant",
            hint="leave one of the two out",
        )
    return UNLIMITED


def _checked_host(host: str) -> str:
    if not is_loopback(host):
        raise ConfigurationError(
            f"emulator host {host!r} — only loopback addresses are served",
            hint="use 127.0.0.1 or ::1",
        )
    return HOST if host == "localhost" else host


def _url(scheme: str, host: str, port: int) -> str:
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def _seconds(span: timedelta | float | None) -> float | None:
    return span.total_seconds() if isinstance(span, timedelta) else span
