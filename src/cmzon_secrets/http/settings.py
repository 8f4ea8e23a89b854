"""Where a session connects and how: what the blocking one and the other have in common."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from cmzon_secrets.errors import ConfigurationError, shielded
from cmzon_secrets.http.addresses import (
    Proxy,
    api_base_url,
    checked_proxy,
    never_leaves_this_machine,
)

if TYPE_CHECKING:
    from cmzon_secrets.http.exchange import Target

__all__ = ["Settings"]

KEEPALIVE = 4.0
"""Seconds for which an idle connection is kept: less than the 5 s after which common servers close
theirs, for a request that meets such a close may or may not have arrived."""


class Settings:
    """``base_url``: default ``$CMZON_BASE_URL``, else the vendor's. ``ca``: path of a PEM file to trust
    instead of the system's store. ``timeout``: seconds to wait for each read or write, and for a
    whole answer where ``send`` is not told otherwise. ``proxy``: ``http://host:port`` to tunnel
    through, default ``$CMZON_PROXY``; never used for this machine itself.

    Raises ConfigurationError for what cannot be used.
    """

    _target: Target

    @shielded  # a proxy's URL may hold a password
    def __init__(
        self,
        base_url: str | None = None,
        *,
        ca: str | None = None,
        timeout: float = 10.0,
        proxy: str | None = None,
    ) -> None:
        self.base_url = api_base_url(base_url)
        self._ca = ca
        self._timeout = timeout
        self._proxy = _proxy_for(self.base_url, proxy or os.environ.get("CMZON_PROXY"))
        self._closed = False

    def _prepare(self) -> dict[str, Any]:
        """What the engine's pool is made with; ``_target`` is there from now on.

        Raises ConfigurationError for a CA that cannot be used.
        """
        from cmzon_secrets.http.exchange import Target
        from cmzon_secrets.http.log_guard import guard_logs
        from cmzon_secrets.http.tls import tls_context

        guard_logs()
        self._target = Target(self.base_url, self._timeout, self._proxy)
        plain = self.base_url.startswith("http:") and self._ca is None
        return {
            "ssl_context": None if plain else tls_context(self._ca),
            "max_connections": None,
            "max_keepalive_connections": 100,
            "keepalive_expiry": KEEPALIVE,
        }

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise ConfigurationError(
                f"connection to {self.base_url} — it was closed, and is not opened again",
                hint="make a new client, and close it after the last call",
            )


def _proxy_for(base_url: str, given: str | None) -> Proxy | None:
    proxy = checked_proxy(given) if given else None
    return None if never_leaves_this_machine(base_url) else proxy
