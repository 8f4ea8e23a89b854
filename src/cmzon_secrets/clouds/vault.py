"""Vault and OpenBao: the one session of this process at each place, and calls within one deadline.

``session(place).begin(uri=…)`` makes the ``Calls`` of one verb. ``vault_place.py`` says where a place
and its credentials come from, ``vault_login.py`` how a token is had and kept (its life:
``vault_lease.py``), ``vault_wire.py`` how a request goes out (over ``vault_connections.py``), and
``vault_errors.py`` what each answer and each failure means.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import Any

from cmzon_secrets.clock import SYSTEM_CLOCK, Clock
from cmzon_secrets.clouds.pool import Pool
from cmzon_secrets.clouds.vault_errors import Answer, OutcomeUnknown, Refused, reason
from cmzon_secrets.clouds.vault_login import Lease, Logins
from cmzon_secrets.clouds.vault_place import OPTIONS, Credentials, Place
from cmzon_secrets.clouds.vault_wire import Request, Wire
from cmzon_secrets.deadline import DEFAULT_DEADLINE, Deadline
from cmzon_secrets.errors import (
    AccessDenied,
    CMzonSecretsError,
    ConfigurationError,
    ProviderError,
    TokenNotFound,
    retold,
    shielded,
)
from cmzon_secrets.forks import renew_in_child

__all__ = [
    "OPTIONS",
    "Calls",
    "Credentials",
    "OutcomeUnknown",
    "Place",
    "Refused",
    "Session",
    "session",
]


def session(place: Place) -> Session:
    """The session of this process for ``place``: made at its first use, then the same
    until it was not used for long (``pool.py``)."""
    return _SESSIONS.of(place, lambda: Session(place))


class Session:
    """Connections to one place and the token there. Thread-safe, and made anew in a forked child.

    Use ``session(place)``, so that all share one login.
    """

    def __init__(self, place: Place, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self.place = place
        self._clock = clock
        self._wire: Wire | None = None
        self._opening = threading.Lock()
        self.logins = Logins(place.credentials, self.exchange, clock=clock)
        renew_in_child(self)

    def begin(self, *, uri: str, timeout: float = DEFAULT_DEADLINE) -> Calls:
        """The calls of one verb, ``timeout`` seconds in all. ``uri`` begins their errors."""
        return Calls(self, Deadline(timeout, uri=uri, clock=self._clock), uri)

    def exchange(self, request: Request, deadline: Deadline, uri: str) -> Answer:
        """``Wire.exchange`` over the connections of this process, opened when first needed."""
        return self._opened().exchange(request, deadline, uri)

    def log_out(self, *, uri: str) -> None:
        """Revoke the token of our own login; one that was handed over is left, and so is one that the
        server does not revoke (a batch token). Raises ProviderUnavailable."""
        lease = self.logins.surrendered()
        if lease is not None:
            deadline = Deadline(uri=uri, clock=self._clock)
            request = Request("POST", "auth/token/revoke-self", json={}, token=lease.token)
            with suppress(Refused):
                self.exchange(request, deadline, uri)

    def close(self) -> None:
        """Give back idle connections; new ones are opened when needed."""
        self._wire = None  # whoever is at work with it holds it, and no longer

    def after_fork(self) -> None:
        """In a child: connections of its own; the token is good for both."""
        self._wire = None
        self._opening = threading.Lock()
        self.logins.after_fork()

    def _opened(self) -> Wire:
        if self._wire is None:
            with self._opening:
                if self._wire is None:
                    place = self.place
                    self._wire = Wire(place.address, place.namespace, place.tls)
        return self._wire


class Calls:
    """What one verb asks of the server; all of it shares one deadline."""

    def __init__(self, at: Session, deadline: Deadline, uri: str) -> None:
        self._session = at
        self._uri = uri
        self.deadline = deadline
        self.server_date: datetime | None = None
        """The server's clock as of the last answer."""

    @shielded
    def read(
        self,
        path: str,
        *,
        expecting: Collection[int] = (),
        params: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """GET ``path`` (below ``/v1/``, not quoted): the decoded answer."""
        return self.request("GET", path, expecting=expecting, params=params)

    @shielded
    def write(
        self,
        path: str,
        data: Mapping[str, Any],
        *,
        expecting: Collection[int] = (),
        repeatable: bool = False,
    ) -> dict[str, Any]:
        """POST ``data``: the decoded answer, {} where there is none (204).

        Raises OutcomeUnknown where the answer was lost, unless it is ``repeatable`` (encrypting,
        looking up): then it is sent again.
        """
        return self.request("POST", path, json=data, expecting=expecting, repeatable=repeatable)

    @shielded
    def request(
        self,
        method: str,
        path: str,
        *,
        json: Mapping[str, Any] | None = None,
        params: Mapping[str, str] | None = None,
        expecting: Collection[int] = (),
        repeatable: bool = False,
        authenticated: bool = True,
    ) -> dict[str, Any]:
        """Any other request: the decoded answer. GET and LIST are always repeatable.

        Raises ``Refused`` for the statuses in ``expecting`` (403: at once, without a new login),
        else TokenNotFound (404; a mount that is missing always), AccessDenied (403, after one new
        login), ConfigurationError (any other 4xx), ProviderUnavailable or OutcomeUnknown.
        """
        request = Request(
            method,
            path,
            json=json,
            params=params,
            repeatable=repeatable or method in ("GET", "LIST"),
        )
        try:
            if authenticated:
                return self._authenticated(request, expecting)
            return self._sent(request, None)
        except Refused as refusal:
            if refusal.status in expecting:
                raise
            error = self._refused(refusal, request)
        raise error

    def _authenticated(self, request: Request, expecting: Collection[int]) -> dict[str, Any]:
        used = self._session.logins.current(self.deadline, self._uri)
        try:
            return self._sent(request, used)
        except Refused as refusal:
            if refusal.status != 403 or 403 in expecting:
                raise
        return self._after_denial(request, used)

    def _after_denial(self, request: Request, used: Lease) -> dict[str, Any]:
        """Once more with another token, for it cannot be told from a 403 whether this one is dead."""
        logins, what = self._session.logins, f"{request.method} {request.path}"
        fresh = self._another_token(request, used, what)
        if fresh is not None:
            try:
                return self._sent(request, fresh)
            except Refused as refusal:
                if refusal.status != 403:
                    raise
        if logins.is_known(fresh or used, what, self.deadline, self._uri):
            raise self._denied(request)
        raise self._dead()

    def _another_token(self, request: Request, used: Lease, what: str) -> Lease | None:
        try:
            return self._session.logins.after_denial(used, what, self.deadline, self._uri)
        except AccessDenied as error:
            told = f"{self._uri} — permission denied for {request.path}, and a new login failed"
            raise retold(error, f"{told}: {reason(error)}") from None

    def _sent(self, request: Request, lease: Lease | None) -> dict[str, Any]:
        if lease is not None:
            request = replace(request, token=lease.token)
        answer = self._session.exchange(request, self.deadline, self._uri)
        self.server_date = answer.date
        return answer.body

    def _refused(self, refusal: Refused, request: Request) -> CMzonSecretsError:
        if refusal.status == 404:
            return TokenNotFound(f"{self._uri} — nothing is at {request.path}", uri=self._uri)
        if refusal.status == 403:
            return self._denied(request)
        return ConfigurationError(
            f"{self._uri} — the server refuses {request.method} {request.path}:"
            f" {refusal.status}, {refusal.said}"
        )

    def _denied(self, request: Request) -> ProviderError:
        capability = _CAPABILITIES[request.method]
        return AccessDenied(
            f"{self._uri} — permission denied: {self._session.place.credentials}"
            f" has no right to {capability} {request.path}",
            uri=self._uri,
            hint=f'a policy of it needs: path "{request.path}" {{ capabilities = ["{capability}"] }}',
        )

    def _dead(self) -> ProviderError:
        credentials = self._session.place.credentials
        return AccessDenied(
            f"{self._uri} — permission denied: {credentials} is expired, revoked or unknown at"
            f" {self._session.place.address}",
            uri=self._uri,
            hint=credentials.remedy,
        )


_CAPABILITIES = {
    "GET": "read",
    "LIST": "list",
    "POST": "update",
    "PUT": "update",
    "PATCH": "patch",
    "DELETE": "delete",
}


_SESSIONS: Pool[Session] = Pool(inherited=True)
