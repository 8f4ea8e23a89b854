"""The account's tokens: issued, found by value, listed, revoked.

A value is never stored. It is derived from the token's id with the state's secret, which is how
an idempotent repetition, even after a restart, returns the same value; what is kept is its SHA-256.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import json
import re
import secrets
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count, islice
from typing import Any

from cmzon_secrets.emulator.account.history import Event, History, Origin
from cmzon_secrets.emulator.account.idempotency import INSERT as INSERT_KEY
from cmzon_secrets.emulator.account.idempotency import IdempotencyKeys, Use
from cmzon_secrets.emulator.clock import format_time
from cmzon_secrets.emulator.http.answers import invalid_request
from cmzon_secrets.emulator.http.fields import Fields
from cmzon_secrets.emulator.http.redaction import holds_token
from cmzon_secrets.emulator.storage.journal import Journal

__all__ = [
    "AUDIT",
    "MANAGE",
    "SCOPES",
    "SEEN",
    "SEND",
    "Derive",
    "IssuedToken",
    "TokenWish",
    "Tokens",
    "deriving",
]

SEND = "messages:send"
MANAGE = "tokens:manage"
AUDIT = "audit:read"
MESSAGING = "whatsapp_business"
SCOPES = (SEND, MANAGE, AUDIT, MESSAGING)

LONGEST_NAME = 200
"""Characters."""
SEEN = re.compile(
    "[^\x00-\x20\x7f-\xa0\xad\u034f\u061c\u115f\u1160\u1680\u17b4\u17b5\u180b-\u180f\u2000-\u200f"
    "\u2028-\u202f\u205f-\u206f\u2800\u3000\u3164\ufe00-\ufe0f\ufeff\uffa0\U000e0000-\U000e0fff]"
)
"""A character that can be seen: no control, no space, nothing that only forms what stands beside it.

As OpenAPI takes patterns, it knows no classes of Unicode.
"""
MOST_ADDRESSES = 100
LONGEST_ADDRESS = 64
"""Characters; a network takes 49 at most."""
LONGEST_LIFE = 100 * 366 * 24 * 3600.0
"""Seconds; beyond it ``expires_in`` is a mistake in the unit."""

INSERT = f"INSERT INTO tokens VALUES ({', '.join('?' * 17)})"  # noqa: S608  # only marks
_NOTES = ("last_used_at", "last_used_ip", "verified_at", "first_used_at", "promoted_at")
_COUNTS = ("messages", "refused", "last_refused_at")
_NOTE_USE = f"UPDATE tokens SET {', '.join(f'{n} = ?' for n in (*_NOTES, *_COUNTS))} WHERE id = ?"  # noqa: S608  # our own names
Derive = Callable[[str], str]
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class TokenWish:
    """A checked ``POST /v1/tokens`` body."""

    name: str
    scopes: tuple[str, ...]
    expires_in: float | None = None
    allowed_ips: tuple[str, ...] = ()

    @classmethod
    def parse(cls, body: dict[str, Any], *, strict: bool = True) -> TokenWish:
        """Raises Refusal (400) naming the field, the scope or the address at fault."""
        fields = Fields(body, known=("name", "scopes", "expires_in", "allowed_ips"), strict=strict)
        wish = cls(
            name=fields.text("name", longest=LONGEST_NAME),
            scopes=tuple(fields.texts("scopes", most=len(SCOPES) + 16, longest=LONGEST_NAME)),
            expires_in=fields.number("expires_in", least=1, most=LONGEST_LIFE),
            allowed_ips=tuple(
                fields.texts("allowed_ips", most=MOST_ADDRESSES, longest=LONGEST_ADDRESS)
            ),
        )
        if not SEEN.search(wish.name):
            raise fields.complain("name", "no character of it can be seen")
        if holds_token(wish.name):
            raise fields.complain("name", "a token stands in it, and names are shown to everybody")
        _check_scopes(fields, wish.scopes)
        _networks(wish.allowed_ips)
        return wish


@dataclass(slots=True)
class IssuedToken:
    """What the API knows of a token. Times are Unix seconds.

    ``promoted_at`` is when the first message was accepted with it, ``messages`` how many were;
    ``refused`` counts its uses when it was dead already. ``ended``: its time was ended by hand, and
    no clock that is set back gives it any again.
    """

    seq: int
    id: str
    sha256: str
    name: str
    scopes: tuple[str, ...]
    allowed_ips: tuple[str, ...]
    created_at: float
    expires_at: float | None = None
    revoked_at: float | None = None
    last_used_at: float | None = None
    last_used_ip: str | None = None
    verified_at: float | None = None
    first_used_at: float | None = None
    promoted_at: float | None = None
    messages: int = 0
    refused: int = 0
    last_refused_at: float | None = None
    ended: bool = field(default=False, kw_only=True)
    networks: tuple[_Network, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.networks = _networks(self.allowed_ips)

    @property
    def fingerprint(self) -> str:
        """What is shown of its value, as ``redaction.fingerprint`` has it."""
        return self.sha256[:16]

    def live(self, now: float) -> bool:
        """Neither revoked nor expired."""
        dead = self.ended or self.revoked_at is not None
        return not dead and (self.expires_at is None or now < self.expires_at)

    def allows(self, address: str) -> bool:
        """Whether a request may come from this address; no list allows all."""
        if not self.networks:
            return True
        caller = ipaddress.ip_address(address)
        return any(caller in network for network in self.networks)

    def grants(self, scope: str | None) -> bool:
        """Whether the scopes suffice; ``whatsapp_business`` stands for all of messaging."""
        return scope is None or scope in self.scopes or (scope == SEND and MESSAGING in self.scopes)

    def entry(self) -> dict[str, Any]:
        """The token as listings show it."""
        return {
            "id": self.id,
            "name": self.name,
            "scopes": list(self.scopes),
            "created_at": format_time(self.created_at),
            "expires_at": format_time(self.expires_at),
            "revoked_at": format_time(self.revoked_at),
            "last_used_at": format_time(self.last_used_at),
            "last_used_ip": self.last_used_ip,
        }

    def row(self) -> tuple[Any, ...]:
        """What the journal keeps."""
        return (
            *(self.seq, self.id, self.sha256, self.name),
            *(json.dumps(self.scopes), json.dumps(self.allowed_ips)),
            *(self.created_at, self.expires_at, self.revoked_at),
            *self.notes(),
        )

    def notes(self) -> tuple[Any, ...]:
        """What its use changes."""
        return tuple(getattr(self, name) for name in (*_NOTES, *_COUNTS))


class Tokens:
    """All tokens of the account, in memory, with the journal behind them."""

    def __init__(
        self, journal: Journal, keys: IdempotencyKeys, history: History, derive: Derive
    ) -> None:
        self._journal = journal
        self._keys = keys
        self._history = history
        self._derive = derive
        self._by_id: dict[str, IssuedToken] = {}
        self._by_hash: dict[str, IssuedToken] = {}
        self._by_name: defaultdict[str, list[IssuedToken]] = defaultdict(list)
        for row in journal.rows("SELECT * FROM tokens ORDER BY seq"):
            self._add(_from_row(row))
        for token_id, _ in history.moments("expired_now"):
            if token_id in self._by_id:
                self._by_id[token_id].ended = True
        self._seq = count(1 + max((token.seq for token in self), default=0))

    def __iter__(self) -> Iterator[IssuedToken]:
        return iter(self._by_id.values())

    def value_of(self, token: IssuedToken) -> str:
        """The bearer token itself."""
        return self._derive(token.id)

    def find(self, value: str) -> IssuedToken | None:
        """The token with this value, dead or alive."""
        return self._by_hash.get(_hash(value))

    def get(self, token_id: str) -> IssuedToken | None:
        """The token with this id, dead or alive."""
        return self._by_id.get(token_id)

    def issue(
        self, wish: TokenWish, now: float, origin: Origin, use: Use | None = None
    ) -> IssuedToken:
        """Create a token, or find the one that the same key made; it survives what comes next."""
        before = self._keys.made_by(use)
        if before is not None:  # its value is told once more
            self._history.append(now, "repeated", before, origin)
            return self._by_id[before]
        token = self._new(wish, now)
        key_row = [(INSERT_KEY, use.row(token.id))] if use is not None else []
        line = self._history.line(now, "issued", token.id, origin)
        self._journal.write((INSERT, token.row()), line, *key_row)
        self._add(token)
        if use is not None:
            self._keys.remember(use, token.id)
        return token

    def revoke(self, token_id: str, now: float, origin: Origin) -> bool:
        """Kill a token for good, and say whether that was new; an unknown or dead one is no error."""
        token = self._by_id.get(token_id)
        if token is None or token.revoked_at is not None:
            return False
        self._end(token, "revoked_at", "revoked", now, origin)
        return True

    def expire(self, token_id: str, now: float, origin: Origin) -> bool:
        """End a live token's time for good, and say whether that was new."""
        token = self._by_id.get(token_id)
        if token is None or not token.live(now):
            return False
        self._end(token, "expires_at", "expired_now", now, origin)
        token.ended = True
        return True

    def note_use(self, token: IssuedToken) -> None:
        """Keep what was noticed of a token."""
        self._journal.later(_NOTE_USE, (*token.notes(), token.id), replaces=("use", token.id))

    def page(
        self, name: str | None, cursor: str | None, size: int
    ) -> tuple[list[IssuedToken], str | None]:
        """Up to ``size`` tokens, oldest first, and the cursor of the next page."""
        after = self._position(cursor)
        named = self if name is None else self._by_name.get(name, ())
        found = list(islice((token for token in named if token.seq > after), size + 1))
        return found[:size], found[size - 1].id if len(found) > size else None

    def counts(self, now: float) -> dict[str, int]:
        """How many are live, and how many were revoked."""
        return {
            "live": sum(token.live(now) for token in self),
            "revoked": sum(token.revoked_at is not None for token in self),
        }

    def _position(self, cursor: str | None) -> int:
        if cursor is None:
            return 0
        last = self._by_id.get(cursor)
        if last is None:
            raise invalid_request("cursor — it is not one that this API gave out")
        return last.seq

    def _end(
        self, token: IssuedToken, column: str, event: Event, now: float, origin: Origin
    ) -> None:
        self._journal.write(
            (f"UPDATE tokens SET {column} = ? WHERE id = ?", (now, token.id)),  # noqa: S608  # ours
            self._history.line(now, event, token.id, origin),
        )
        setattr(token, column, now)

    def _new(self, wish: TokenWish, now: float) -> IssuedToken:
        token_id = f"tok_{secrets.token_hex(12)}"
        return IssuedToken(
            seq=next(self._seq),
            id=token_id,
            sha256=_hash(self._derive(token_id)),
            name=wish.name,
            scopes=wish.scopes,
            allowed_ips=wish.allowed_ips,
            created_at=now,
            expires_at=None if wish.expires_in is None else now + wish.expires_in,
        )

    def _add(self, token: IssuedToken) -> None:
        self._by_id[token.id] = self._by_hash[token.sha256] = token
        self._by_name[token.name].append(token)


def deriving(secret: bytes) -> Derive:
    """The function from a token's id to its value; a closure, so that no object shows the secret."""

    def derive(token_id: str) -> str:
        digest = hmac.digest(secret, token_id.encode(), "sha256")
        return f"cmz_{base64.urlsafe_b64encode(digest).decode().rstrip('=')}"

    return derive


def _check_scopes(fields: Fields, scopes: tuple[str, ...]) -> None:
    if not scopes:
        raise fields.complain("scopes", f"at least one is needed; known: {', '.join(SCOPES)}")
    for scope in scopes:
        if scope not in SCOPES:
            raise fields.complain(
                "scopes", f"unknown scope {scope[:60]!r}; known: {', '.join(SCOPES)}"
            )


def _networks(addresses: tuple[str, ...]) -> tuple[_Network, ...]:
    networks = []
    for address in addresses:
        try:
            if "%" in address:  # ipaddress takes anything at all behind it as the name of a zone
                raise ValueError(address)
            networks.append(ipaddress.ip_network(address))
        except ValueError:
            raise invalid_request(
                f"allowed_ips — {address[:60]!r} is neither an IP address nor a network",
                field="allowed_ips",
            ) from None
    return tuple(networks)


def _from_row(row: tuple[Any, ...]) -> IssuedToken:
    seq, token_id, sha256, name, scopes, allowed_ips, *times = row
    lists = (tuple(json.loads(scopes)), tuple(json.loads(allowed_ips)))
    return IssuedToken(seq, token_id, sha256, name, *lists, *times)


def _hash(value: str) -> str:
    return hashlib.sha256(value.encode()).hexdigest()
