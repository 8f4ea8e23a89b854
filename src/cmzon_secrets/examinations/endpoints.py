"""What an https endpoint shows to whoever connects: its certificate, and what time it has."""

from __future__ import annotations

import socket
import ssl
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

from cmzon_secrets.findings import Finding, Severity
from cmzon_secrets.http import tls_context

__all__ = ["clock_finding", "tls_finding"]

RENEW = timedelta(days=7)
"""A certificate that lives shorter than this, and than a quarter of its life, should be renewed."""
SKEW = timedelta(seconds=30)
"""Signed requests are refused from about five minutes on; half a minute is a clock nobody sets."""
WRONG = timedelta(minutes=4)


def tls_finding(
    check: str,
    url: str,
    *,
    ca: str | None = None,
    server_name: str | None = None,
    now: datetime,
    timeout: float = 5.0,
) -> Finding:
    """The handshake with ``url``: verified, by which protocol, for how long.

    ``ca``: a PEM file to trust instead of the system's store. An endpoint that cannot be reached
    directly is a note: there may be a proxy on the way, which is its own matter.
    """
    parts = urlsplit(url)
    if parts.scheme != "https":
        return Finding(check, "note", "plain http, which never leaves this machine", url)
    host, port = parts.hostname or "", parts.port or 443
    name = server_name or host
    try:
        with (
            socket.create_connection((host, port), timeout) as plain,
            tls_context(ca).wrap_socket(plain, server_hostname=name) as secure,
        ):
            return _verified(check, name, secure, now)
    except ssl.SSLError as error:
        why = getattr(error, "verify_message", None) or error.reason or type(error).__name__
        remedy = "name the CA that signed it; where there is none, somebody may be in between"
        return Finding(check, "problem", f"its certificate is refused: {why}", host, remedy)
    except OSError as error:
        why = (error.strerror or type(error).__name__).lower()
        return Finding(check, "note", f"not checked: no direct connection ({why})", host)


def clock_finding(check: str, who: str, skew: timedelta) -> Finding:
    """``skew``: how far this machine's clock is ahead of ``who``'s."""
    seconds = skew.total_seconds()
    evidence = f"measured by its Date header, to the second: {seconds:+.0f} s"
    if abs(skew) <= SKEW:
        return Finding(check, "ok", f"this machine's clock agrees with that of {who}", evidence)
    direction = "ahead of" if seconds > 0 else "behind"
    message = f"this machine's clock is {abs(seconds):.0f} s {direction} that of {who}"
    severity: Severity = "problem" if abs(skew) >= WRONG else "warning"
    remedy = "set the clock: timedatectl set-ntp true"
    return Finding(check, severity, message, evidence, remedy)


def _verified(check: str, host: str, secure: ssl.SSLSocket, now: datetime) -> Finding:
    certificate = secure.getpeercert() or {}
    born, until = (_moment(certificate[name]) for name in ("notBefore", "notAfter"))
    evidence = f"{host}: {secure.version()}, certificate valid until {until:%Y-%m-%d %H:%M} UTC"
    if until - now < min(RENEW, (until - born) / 4):
        message = f"its certificate ends in {max(0, (until - now).days)} days"
        return Finding(check, "warning", message, evidence, "renew it, or ask whoever runs it")
    return Finding(check, "ok", "its certificate is verified", evidence)


def _moment(text: object) -> datetime:
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(str(text)), UTC)
