"""One secure way to speak HTTP, blocking or not: a request goes out with a token, bytes come back or
a typed error does.

Clients and issuers share it, so the rules stand here once: HTTPS only (plain HTTP to loopback
addresses), the system's trust store or one given CA, TLS 1.2 at least, no redirects followed, no
proxies or netrc taken from the environment, bounded answers, one deadline for the whole exchange,
and no token in any exception or debug log.

=================  ================================================================================
``addresses``      where a token may be sent
``encoding``       what a caller may send
``exchange``       one request and what came of it, without I/O
``settings``       what both sessions have in common
``session``        the blocking one, on ``network``: sockets with one deadline
``async_session``  the one for asyncio, on ``async_network``
``tls``            which certificates are trusted
``log_guard``      the engine's debug logs without secrets
=================  ================================================================================

The engine is HTTPCore2, imported on first use; docs/dependencies.md says why. ``async_session`` is
imported by who awaits: asyncio costs as much as all of this.
"""

from __future__ import annotations

from cmzon_secrets.http.addresses import DEFAULT_BASE_URL, checked_base_url, is_loopback
from cmzon_secrets.http.session import Session
from cmzon_secrets.http.tls import tls_context

__all__ = [
    "DEFAULT_BASE_URL",
    "Session",
    "checked_base_url",
    "is_loopback",
    "tls_context",
]
