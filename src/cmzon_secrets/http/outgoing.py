"""Head and body of a request in one write: one system call, one packet, one TLS record instead of two.

The engine writes the head by itself. It is kept until more is written, or until an answer is read.
"""

from __future__ import annotations

__all__ = ["Outgoing"]


class Outgoing:
    """What was written to one connection and has not left yet."""

    __slots__ = ("_head", "_is_head")

    def __init__(self) -> None:
        self._head = b""
        self._is_head = True

    def add(self, data: bytes) -> bytes:
        """One more piece; what is to leave now."""
        if self._is_head and data:
            self._head, self._is_head = data, False
            return b""
        head, self._head = self._head, b""
        return head + data

    def rest(self) -> bytes:
        """The answer is about to be read: what is to leave before. The next piece is a head."""
        self._is_head = True
        head, self._head = self._head, b""
        return head
