"""What is assumed of CMzon's token API: paths, names, and how its answers are read.

The vendor's page states no such API. Every assumption is one field of ``TokenAPI``, so that an API
that turns out to be named otherwise is a matter of arguments. Answers are read strictly: whatever
is not as expected is an IssuerError that names the field and repeats none of its content.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote, urlencode

from cmzon_secrets.answers import Answer
from cmzon_secrets.clock import seconds
from cmzon_secrets.errors import ConfigurationError, InvalidToken, IssuerError, shielded
from cmzon_secrets.issuer import TokenInfo, TokenRequest
from cmzon_secrets.records import parse_time
from cmzon_secrets.tokens import Token

__all__ = ["TokenAPI", "broken"]

MAX_TEXT = 256
MAX_CURSOR = 2048
"""Characters; a cursor travels back in a URL."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenAPI:
    """Every path and name that is assumed. ``token_path`` must contain ``{id}``."""

    tokens_path: str = "/v1/tokens"
    self_path: str = "/v1/tokens/self"
    token_path: str = "/v1/tokens/{id}"  # noqa: S105  # a path, not a password
    name_parameter: str = "name"
    cursor_parameter: str = "cursor"
    idempotency_header: str = "Idempotency-Key"
    id: str = "id"
    token: str = "token"  # noqa: S105  # a field's name
    name: str = "name"
    scopes: str = "scopes"
    expires_in: str = "expires_in"
    """Seconds, or null for a token that does not expire."""
    allowed_ips: str = "allowed_ips"
    created_at: str = "created_at"
    expires_at: str = "expires_at"
    revoked_at: str = "revoked_at"
    last_used_at: str = "last_used_at"
    last_used_ip: str = "last_used_ip"
    data: str = "data"
    next_cursor: str = "next_cursor"
    manage_scope: str = "tokens:manage"
    """Without it nothing can be issued, listed or revoked."""

    def __post_init__(self) -> None:
        if "{id}" not in self.token_path:
            raise ConfigurationError(f"token_path {self.token_path!r} — it has no {{id}} in it")

    def path_of(self, token_id: str) -> str:
        """The path that names one token. Raises IssuerError for an id that no token can have."""
        if token_id in ("", ".", "..") or token_id.startswith("sha256:"):
            raise IssuerError(f"token {token_id!r} — no id of the issuer looks like that")
        path = self.token_path.replace("{id}", quote(token_id, safe=""))
        if path == self.self_path:
            raise IssuerError(f"token {token_id!r} — at the API that id means the admin token")
        return path

    def page_path(self, name: str, cursor: str | None) -> str:
        """The path of one page of the listing."""
        wanted = {self.name_parameter: name}
        if cursor is not None:
            wanted[self.cursor_parameter] = cursor
        return f"{self.tokens_path}?{urlencode(wanted, quote_via=quote, safe='')}"

    def body_of(self, request: TokenRequest) -> dict[str, object]:
        """The body that asks for a token. Raises ConfigurationError where it cannot be right."""
        for address in request.allowed_ips:
            _network(address)
        return {
            self.name: request.name,
            self.scopes: list(request.scopes),
            self.expires_in: _seconds(request.expires_in),
            self.allowed_ips: list(request.allowed_ips),
        }

    @shielded
    def issued(self, answer: Answer, request: TokenRequest, *, what: str) -> Token:
        """The token in an answer, held against what was asked for. Raises IssuerError."""
        record = _Record(_json(answer, what), what)
        info = self._info(record)
        addresses = record.texts(self.allowed_ips)
        record.require(info.name == request.name, f"{self.name} is not the one asked for")
        record.require(set(info.scopes) == set(request.scopes), f"{self.scopes} are others")
        record.require(_same(addresses, request.allowed_ips), f"{self.allowed_ips} are others")
        record.require(info.created_at is not None, f"{self.created_at} is missing")
        record.require(_lives_as_asked(info, request), f"{self.expires_at} does not fit")
        try:
            return Token(
                record.value(self.token),
                id=info.id,
                scopes=info.scopes,
                issued_at=info.created_at,
                expires_at=info.expires_at,
                allowed_ips=addresses,
            )
        except InvalidToken as error:
            raise broken(what, str(error)) from None

    def info(self, answer: Answer, *, what: str) -> TokenInfo:
        """What an answer says of one token. Raises IssuerError."""
        return self._info(_Record(_json(answer, what), what))

    def page(self, answer: Answer, *, what: str) -> tuple[list[TokenInfo], str | None]:
        """The entries of one page, and the cursor of the next. Raises IssuerError."""
        record = _Record(_json(answer, what), what)
        entries = record.value(self.data)
        record.require(isinstance(entries, list), f"{self.data} is not a list")
        last = record.value(self.next_cursor) is None
        cursor = None if last else record.text(self.next_cursor, longest=MAX_CURSOR)
        return [self._info(_Record(entry, what)) for entry in entries], cursor

    def _info(self, record: _Record) -> TokenInfo:
        unused = record.value(self.last_used_ip) is None
        return TokenInfo(
            id=record.text(self.id),
            name=record.text(self.name),
            scopes=record.texts(self.scopes),
            created_at=record.birth(self.created_at),
            expires_at=record.time(self.expires_at),
            revoked_at=record.time(self.revoked_at),
            last_used_at=record.time(self.last_used_at),
            last_used_ip=None if unused else record.text(self.last_used_ip),
        )


def broken(what: str, fault: str) -> IssuerError:
    """The error for an answer that does not keep the API's promise."""
    return IssuerError(
        f"{what} — the API's answer is not as expected: {fault}",
        hint="where the API names things otherwise, say so with api=TokenAPI(…)",
    )


class _Record:
    """One JSON object of an answer; each reader raises IssuerError naming the field at fault."""

    def __init__(self, content: object, what: str) -> None:
        self._what = what
        self.require(isinstance(content, dict), "there is no JSON object where one belongs")
        self._content: Mapping[str, Any] = content  # type: ignore[assignment]  # required above

    def require(self, kept: bool, fault: str) -> None:
        if not kept:
            raise broken(self._what, fault)

    def value(self, field: str) -> Any:
        return self._content.get(field)

    def text(self, field: str, longest: int = MAX_TEXT) -> str:
        text = self.value(field)
        fits = isinstance(text, str) and text.isprintable() and 0 < len(text) <= longest
        self.require(fits, f"{field} is not a string of 1 to {longest} printable characters")
        return str(text)

    def texts(self, field: str) -> tuple[str, ...]:
        texts = self.value(field)
        listed = isinstance(texts, list)
        fits = listed and all(isinstance(t, str) and t.isprintable() for t in texts)
        self.require(fits, f"{field} is not a list of printable strings")
        return tuple(texts)

    def time(self, field: str) -> datetime | None:
        try:
            return parse_time(self.value(field))
        except InvalidToken:
            fault = f"{field} is not an RFC 3339 time with an offset"
            raise broken(self._what, fault) from None

    def birth(self, field: str) -> datetime | None:
        """A time from which others are counted: it must leave room for them."""
        moment = self.time(field)
        self.require(moment is None or moment.year < 2200, f"{field} is in a far future")
        return moment


def _json(answer: Answer, what: str) -> object:
    try:
        return answer.json()
    except ValueError:
        pass  # raised below, outside: the parser's error holds the whole text
    raise broken(what, "it is not JSON")


def _lives_as_asked(info: TokenInfo, request: TokenRequest) -> bool:
    if info.expires_at is None:
        return request.expires_in is None
    return info.created_at is not None and info.expires_at > info.created_at


def _same(answered: tuple[str, ...], asked: tuple[str, ...]) -> bool:
    """Whether two lists mean the same networks: 10.0.0.1 is 10.0.0.1/32."""
    try:
        return set(map(_network, answered)) == set(map(_network, asked))
    except ConfigurationError:
        return False


def _network(address: object) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        return ipaddress.ip_network(address if isinstance(address, str) else "")
    except ValueError as error:
        raise ConfigurationError(
            f"allowed_ips {address!r} — not an IP address or network: {error}",
            hint="write for example 203.0.113.7 or 203.0.113.0/24",
        ) from None


def _seconds(duration: timedelta | float | None) -> float | None:
    if duration is None:
        return None
    lifetime = seconds("expires_in", duration)
    if lifetime == 0:
        raise ConfigurationError("expires_in — a token that lives for 0 seconds is of no use")
    return int(lifetime) if lifetime.is_integer() else lifetime
