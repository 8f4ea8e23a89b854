"""The Redis that processes share their limits through: where it is, and what it is asked.

All that is decided there is in ``script.lua``, one script that Redis runs as a whole. No token,
number or text ever goes there.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from importlib.resources import files
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from cmzon_secrets.client.shared.mistakes import mistake_in
from cmzon_secrets.errors import ConfigurationError, missing_extra, shielded
from cmzon_secrets.http.tls import tls_context

__all__ = [
    "WITHIN",
    "Server",
    "Told",
    "Unreachable",
    "Verdict",
    "checked",
    "connect",
    "place_of",
]

WITHIN = 0.5
"""Seconds for connecting, and for each answer."""
SECOND, DAY = 10**6, 86_400
HOLD = 3 * SECOND  # as in script.lua

_SCHEMES = ("redis", "rediss", "unix")
_ACCOUNT = re.compile(r"[A-Za-z0-9._-]{1,128}")


class Unreachable(Exception):  # it never leaves the limits
    """Redis gave no answer that could be used; ``reason`` is safe to log."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Verdict(IntEnum):
    """What the script decided: its own numbers."""

    GRANTED = 0
    LATER = 1
    SHARE = 2
    """Everybody keeps to his share until ``at``."""
    DAY_OVER = 3
    NOTED = 4
    """No slot was wanted."""
    VOID = 5
    """The question came too late, and nothing was done."""


@dataclass(frozen=True, slots=True)
class Told:
    """An answer. Times are microseconds of the server's clock; ``ends``, the day's end, is in seconds."""

    now: int
    verdict: Verdict
    at: int
    sent: int
    limit: int | None
    ends: int
    epoch: int
    processes: int
    paused_until: int

    @classmethod
    def from_reply(cls, reply: Sequence[int]) -> Told:
        """The script's answer, in its order."""
        now, verdict, at, sent, limit, ends, epoch, processes, paused_until = reply
        limited = limit if limit >= 0 else None
        told = cls(now, Verdict(verdict), at, sent, limited, ends, epoch, processes, paused_until)
        if not told._makes_sense:
            raise Unreachable("its answer makes no sense")
        return told

    @property
    def is_new(self) -> bool:
        """Whether the server found itself without figures, or another than before, just now."""
        return self.now - self.epoch < HOLD

    @property
    def _makes_sense(self) -> bool:
        """Whether the script can have said so: whoever can write there could halt us for years."""
        farthest = SECOND if self.verdict is Verdict.GRANTED else DAY * SECOND
        return self.verdict is Verdict.VOID or (
            self.at - self.now <= farthest
            and self.paused_until - self.now <= DAY * SECOND
            and abs(self.ends - self.now // SECOND) <= 3 * DAY
        )


class Server:
    """One account's figures on the Redis at ``url``. Thread-safe, fork-safe; it connects when asked.

    ``ca``: a PEM file to trust besides the system's store. Raises ConfigurationError for a URL,
    an account or a file that cannot be used, and where the extra ``redis`` is not installed.
    """

    def __init__(self, url: str, account: str, *, ca: str | None = None) -> None:
        parts = checked(url)
        if not isinstance(account, str) or _ACCOUNT.fullmatch(account) is None:
            raise ConfigurationError(
                "account — 1 to 128 letters, digits, dots, dashes, underscores"
            )
        self.place = place_of(parts)
        """The URL without user and password."""
        self.account = account
        self._redis = connect(
            parts, ca
        )  # it never tries again: we know better what to do meanwhile
        name = f"cmzon-secrets:{{{account}}}"
        self._keys = (name, f"{name}:processes", f"{name}:arrivals")
        self._answered = False

    @shielded
    def ask(self, question: Mapping[str, Any]) -> Told:
        """Run the script once.

        Raises Unreachable; ConfigurationError where Redis never answered yet and cannot, as things are.
        """
        import redis

        try:
            told = Told.from_reply(self._run(json.dumps(question)))
        except (redis.RedisError, OSError, ValueError, TypeError) as error:
            reason, mistake = type(error).__name__, self._mistake(error)
        else:
            self._answered = True
            return told
        # Out here: redis-py's frames hold the password, and would be this error's context.
        if mistake is not None:
            why, hint = mistake
            raise ConfigurationError(f"{self.place} — {why}", hint=hint)
        raise Unreachable(reason)

    def _mistake(self, error: Exception) -> tuple[str, str] | None:
        return None if self._answered else mistake_in(self.place, error, within=WITHIN)

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()

    def _run(self, question: str) -> Any:
        from redis.exceptions import NoScriptError

        script, digest = _script()
        try:
            return self._redis.evalsha(digest, len(self._keys), *self._keys, question)
        except NoScriptError:  # a server that started anew
            return self._redis.eval(script, len(self._keys), *self._keys, question)


@cache
def _script() -> tuple[str, str]:
    text = files("cmzon_secrets.client.shared").joinpath("script.lua").read_text("utf-8")
    return text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


def checked(url: str) -> SplitResult:
    """The parts of a URL that can be used. Raises ConfigurationError; never with the URL itself."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ConfigurationError("Redis URL — host or port cannot be read") from None
    if parts.scheme not in _SCHEMES:
        raise ConfigurationError(f"Redis URL — unknown scheme; valid: {', '.join(_SCHEMES)}")
    if parts.query or parts.fragment:
        raise ConfigurationError("Redis URL — it takes no options; ca= is an argument")
    if parts.scheme == "unix":
        if not parts.path.startswith("/"):
            raise ConfigurationError("Redis URL — unix:// needs the absolute path of a socket")
    elif not parts.hostname or port == 0:
        raise ConfigurationError("Redis URL — a host is missing, or the port is 0")
    elif re.fullmatch(r"(/\d{0,4})?", parts.path) is None:
        raise ConfigurationError("Redis URL — its path is the number of a database: /0")
    return parts


def place_of(parts: SplitResult) -> str:
    if parts.scheme == "unix":
        return f"unix://{parts.path}"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"


def connect(parts: SplitResult, ca: str | None, *, retries: int = 0, **options: Any) -> Any:
    """A client of redis-py that connects when it is used. Raises ConfigurationError."""
    try:
        import redis
        from redis.backoff import ExponentialBackoff
        from redis.retry import Retry
    except ImportError:
        raise missing_extra("redis", "what processes share through a Redis") from None
    if ca is not None and parts.scheme != "rediss":
        raise ConfigurationError("ca — it is for rediss:// only")
    return redis.Redis(
        **_where(parts, ca),
        credential_provider=_credentials(parts),  # a client's repr may show what it was given
        socket_connect_timeout=WITHIN,
        socket_timeout=WITHIN,
        retry=Retry(ExponentialBackoff(cap=0.5, base=0.05), retries),
        protocol=2,
        **options,
    )


def _credentials(parts: SplitResult) -> Any:
    if not parts.password:
        return None
    from redis.credentials import UsernamePasswordCredentialProvider

    user = unquote(parts.username) if parts.username else None
    return UsernamePasswordCredentialProvider(user, unquote(parts.password))


def _where(parts: SplitResult, ca: str | None) -> dict[str, Any]:
    if parts.scheme == "unix":
        return {"unix_socket_path": unquote(parts.path)}
    where: dict[str, Any] = {
        "host": parts.hostname,
        "port": parts.port or 6379,
        "db": int(parts.path.strip("/") or 0),
    }
    if parts.scheme == "rediss":
        tls_context(ca)  # a file that cannot be used is told of now
        where |= {"ssl": True, "ssl_check_hostname": True, "ssl_ca_certs": ca}
    return where
