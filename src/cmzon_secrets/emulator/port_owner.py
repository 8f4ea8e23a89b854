"""Whose a port or a file is that cannot be had, as far as this machine tells.

Linux lists listening sockets with their inodes in ``/proc/net/tcp`` and ``tcp6``, what each process
has open in ``/proc/*/fd``, and who locks which file in ``/proc/locks``. Of a process only its name
is told, never its command line: that may hold secrets.
"""

from __future__ import annotations

import os
import pwd
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

__all__ = ["Listener", "conflicting", "is_emulator", "listeners", "owner_of", "process_locking"]

PATIENCE = 0.3
"""Seconds in which an emulator has to answer to be known as one."""
LONGEST_ANSWER = 64 * 1024

_PROC = Path("/proc")
_LISTENING = "0A"
_ASK = b"GET /_emulator/stats HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
_OURS = b'"max_per_sliding_second"'


@dataclass(frozen=True, slots=True)
class Listener:
    """A socket that listens: where, which user opened it, and its inode."""

    address: IPv4Address | IPv6Address
    port: int
    uid: int
    inode: int


def owner_of(host: str, port: int, proc: Path = _PROC) -> str | None:
    """Who keeps an address from being had: a process, or at least its user; None: it can't be known."""
    for listener in _all_listeners(proc):
        if conflicting(listener, host, port):
            return _process_with(listener.inode, proc) or f"a process of user {_user(listener.uid)}"
    return None


def process_locking(path: Path, proc: Path = _PROC) -> str | None:
    """Who holds a lock on a file; None: it can't be known."""
    with suppress(OSError, ValueError):
        found = path.stat()
        device = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}"
        for line in (proc / "locks").read_text(encoding="ascii").splitlines():
            *_, process, file, _, _ = line.split()  # …, its id, device:inode, from, to
            if file == f"{device}:{found.st_ino}":
                return "this process" if int(process) == os.getpid() else _told(proc / process)
    return None


def is_emulator(host: str, port: int) -> bool:
    """Whether a CMzon emulator answers there, over plain HTTP, within ``PATIENCE``."""
    end, answer = time.monotonic() + PATIENCE, b""
    with suppress(OSError), socket.create_connection((host, port), timeout=PATIENCE) as connection:
        connection.sendall(_ASK)
        while (left := end - time.monotonic()) > 0 and len(answer) < LONGEST_ANSWER:
            connection.settimeout(left)
            received = connection.recv(4096)
            if not received:
                break
            answer += received
    return answer.startswith(b"HTTP/1.1 200 ") and _OURS in answer


def listeners(table: str) -> Iterator[Listener]:
    """The listening sockets in the text of ``/proc/net/tcp`` or ``tcp6``; other lines are passed over."""
    for line in table.splitlines():
        fields = line.split()
        with suppress(ValueError, IndexError, struct.error):
            if fields[3] == _LISTENING:
                address, _, port = fields[1].partition(":")
                yield Listener(_address(address), int(port, 16), int(fields[7]), int(fields[9]))


def conflicting(listener: Listener, host: str, port: int) -> bool:
    """Whether a listener keeps ``host`` and ``port`` from being bound.

    One on all IPv6 addresses mostly has all of IPv4 too.
    """
    wanted, has = ip_address(host), listener.address
    if isinstance(has, IPv6Address):
        has = has.ipv4_mapped or has
    everywhere = has.is_unspecified and has.version >= wanted.version
    return listener.port == port and (has == wanted or everywhere)


def _all_listeners(proc: Path) -> Iterator[Listener]:
    for name in ("tcp", "tcp6"):
        with suppress(OSError):
            yield from listeners((proc / "net" / name).read_text(encoding="ascii"))


def _address(digits: str) -> IPv4Address | IPv6Address:
    """The kernel prints an address as 32-bit words in the machine's byte order."""
    words = struct.unpack(f">{len(digits) // 8}I", bytes.fromhex(digits))
    return ip_address(struct.pack(f"={len(words)}I", *words))


def _process_with(inode: int, proc: Path) -> str | None:
    """The first process that has a socket open; those of other users do not let themselves be asked."""
    wanted = f"socket:[{inode}]"
    for process in sorted((p for p in proc.iterdir() if p.name.isdecimal()), key=_number):
        with suppress(OSError):  # it has ended, or is not ours
            if any(_target(descriptor) == wanted for descriptor in (process / "fd").iterdir()):
                return _told(process)
    return None


def _told(process: Path) -> str:
    return f"{_name(process)} (process {process.name})"


def _number(process: Path) -> int:
    return int(process.name)


def _target(descriptor: Path) -> str | None:
    with suppress(OSError):  # closed in the meantime
        return str(descriptor.readlink())
    return None


def _name(process: Path) -> str:
    """Any program can set its own: nothing in it may move the terminal's cursor."""
    name = (process / "comm").read_text(encoding="utf-8", errors="replace").removesuffix("\n")
    return "".join(c if c.isprintable() else "?" for c in name) or "a process"


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
