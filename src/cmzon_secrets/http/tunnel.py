"""How a proxy is asked for a tunnel (CONNECT, RFC 9110 §9.3.6), without I/O.

The engine has a way of its own, which keeps every tunnel whose TLS failed, and logs what the proxy
says, be it the password.
"""

from __future__ import annotations

import base64
import re

import httpcore2

from cmzon_secrets.http.addresses import Proxy

__all__ = ["READ_SIZE", "is_open", "tunnel_request"]

MAX_HEAD_BYTES = 16 * 1024
READ_SIZE = 4096
"""Bytes to ask for at once: a proxy says little, and what belongs to TLS comes only when it is asked."""


def tunnel_request(proxy: Proxy, host: str, port: int) -> bytes:
    """What to say to the proxy; the password goes as RFC 7617 has it."""
    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    lines = [f"CONNECT {place} HTTP/1.1", f"Host: {place}"]
    if proxy.user is not None:
        credentials = base64.b64encode(":".join(proxy.user).encode()).decode("ascii")
        lines.append(f"Proxy-Authorization: Basic {credentials}")
    return "\r\n".join([*lines, "", ""]).encode("ascii")


def is_open(head: bytearray, more: bytes) -> bool:
    """Whether the tunnel is there, now that the proxy has said ``more``, which is added to ``head``.

    Raises ProxyError, in words of ours, where it never will be.
    """
    head += more
    if not more:
        raise httpcore2.ProxyError("it hung up")
    if len(head) > MAX_HEAD_BYTES:
        raise httpcore2.ProxyError("its answer does not end")
    if b"\r\n\r\n" not in head:
        return False
    status = re.match(rb"HTTP/1\.[01] ([0-9]{3})[ \r]", head)
    if status is None:
        raise httpcore2.ProxyError("it does not speak HTTP")
    if not status[1].startswith(b"2"):
        raise httpcore2.ProxyError(f"it answers {status[1].decode('ascii')}")
    if not head.endswith(b"\r\n\r\n"):
        raise httpcore2.ProxyError("it says more than that it tunnels")
    return True
