"""Which version of a Key Vault secret counts, and how a token lies in one. Pure: no call, no clock.

Key Vault has no compare-and-set: every PUT adds a version, and whoever comes last is current. So each
version of ours says in tags on top of which one it was meant to come. Versions that were put on
top of the same one are rivals; the earliest (server's second, then id) wins, and everybody who
lists them finds the same winner. ``docs/backends/azurekeyvault.md`` tells the whole protocol.

    cmzon-v        1
    cmzon-id, -sha256, -issued, -expires, -scopes.N, -ips.N    the token, without its value
    cmzon-state    empty: no token; the value is ``(empty)``, which no bearer token can be
    cmzon-base     the version it was put on top of, or ``none``
    cmzon-prev     PREVIOUS: the version of the replaced CURRENT, or ``none``
    cmzon-src      the version of NAME-pending that was promoted
    cmzon-copy     the version that this one puts in force again, where that one is not ours
    cmzon-op       a random id: the same request sent twice leaves two versions with the same one
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import MAXYEAR, UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple, Self

from cmzon_secrets.errors import InvalidToken, retold
from cmzon_secrets.records import format_time, parse_time
from cmzon_secrets.tokens import Token

if TYPE_CHECKING:
    from azure.keyvault.secrets import SecretProperties

__all__ = ["EMPTY", "EMPTY_TAGS", "NONE", "Line", "Version", "tags_of", "top_of"]

NONE = "none"
EMPTY = "(empty)"
EMPTY_TAGS = {"cmzon-v": "1", "cmzon-state": "empty"}

MAX_TAGS = 15
MAX_TAG = 256
"""The service's limits; https://learn.microsoft.com/azure/key-vault/secrets/about-secrets"""
PAGE = 25
"""Versions that one answer of a listing shows."""
_KEPT_FREE = ("cmzon-base", "cmzon-prev", "cmzon-src", "cmzon-op")


@dataclass(frozen=True, slots=True)
class Version:
    """One version. ``created``: unix seconds of the service. ``value``: None where it was only listed."""

    id: str
    created: int
    enabled: bool = True
    tags: Mapping[str, str] = field(default_factory=dict)
    value: str | None = field(default=None, repr=False)
    expires_on: datetime | None = None

    @classmethod
    def of(cls, properties: SecretProperties, value: str | None = None) -> Self:
        """What the SDK answered. Raises ValueError, or AttributeError for another type, where it is not
        what every version has."""
        if not properties.version or properties.created_on is None:
            raise ValueError("a version without an id or a date")
        if properties.created_on.year == MAXYEAR:
            raise ValueError("a date after which there may be none")
        tags = dict(properties.tags or {})
        if value is not None and not _fits(tags, value):
            # Somebody gave it another value and kept our tags: they say nothing of this one.
            tags = {k: v for k, v in tags.items() if not k.startswith("cmzon-")}
        created = int(properties.created_on.timestamp())
        enabled = properties.enabled is not False
        return cls(properties.version, created, enabled, tags, value, properties.expires_on)

    @property
    def base(self) -> str | None:
        """The version below, ``none`` where there was none; None for a version that is not ours."""
        return self.tags.get("cmzon-base")

    @property
    def previous(self) -> str:
        """The version that is PREVIOUS while this one is CURRENT."""
        return self.tags.get("cmzon-prev", NONE)

    @property
    def source(self) -> str | None:
        """The pending version it was made from."""
        return self.tags.get("cmzon-src")

    @property
    def request(self) -> str | None:
        """The request that put it: the same one, sent twice, leaves two versions."""
        return self.tags.get("cmzon-op")

    @property
    def claim(self) -> tuple[str | None, ...]:
        """What it makes of the secret: rivals with the same claim want the same and all win."""
        return tuple(self.tags.get(f"cmzon-{name}") for name in ("state", "id", "sha256"))

    @property
    def age(self) -> tuple[int, str]:
        """The earliest is the smallest; the id decides within one second."""
        return (self.created, self.id)

    @property
    def written_at(self) -> datetime:
        """When it was put: up to a second later than the truth, never earlier."""
        return datetime.fromtimestamp(self.created, UTC) + timedelta(seconds=1)

    def token(self, uri: str) -> Token | None:
        """The token it holds, None for an empty or disabled one. Raises InvalidToken, without the value."""
        if self.value is None or self.tags.get("cmzon-state") == "empty":
            return None
        try:
            return _token(self.value, self.tags, self.expires_on)
        except InvalidToken as error:
            raise retold(error, f"{uri} — {error}") from None

    def bare(self) -> Self:
        """The same without its value, as a listing shows it."""
        return replace(self, value=None)

    def put_again(self) -> dict[str, str]:
        """The tags with which its value is put once more, to be in force again."""
        if self.base is not None:
            return dict(self.tags)
        kept = dict(list(self.tags.items())[: MAX_TAGS - 2])
        return {**kept, "cmzon-copy": self.id}


# a token as tags


def tags_of(token: Token) -> dict[str, str]:
    """All of the token but its value. Raises InvalidToken where that does not fit into tags."""
    tags = {"cmzon-v": "1", "cmzon-id": token.id, "cmzon-sha256": token.fingerprint}
    if token.issued_at is not None:
        tags["cmzon-issued"] = format_time(token.issued_at)
    if token.expires_at is not None:
        tags["cmzon-expires"] = format_time(token.expires_at)
    tags.update(_split("cmzon-scopes", token.scopes))
    tags.update(_split("cmzon-ips", token.allowed_ips))
    if len(tags) + len(_KEPT_FREE) > MAX_TAGS:
        raise InvalidToken(
            f"token — its scopes and allowed_ips do not fit into the {MAX_TAGS} tags of"
            f" {MAX_TAG} characters that Key Vault has",
            hint="issue a token with fewer scopes or addresses",
        )
    return tags


def _split(name: str, words: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    text = json.dumps(words, separators=(",", ":")) if words else ""
    for number, start in enumerate(range(0, len(text), MAX_TAG)):
        yield f"{name}.{number}", text[start : start + MAX_TAG]


def _token(value: str, tags: Mapping[str, str], expires_on: datetime | None) -> Token:
    if tags.get("cmzon-sha256") is None:  # put there by hand: a bare token
        return Token(_bare(value), expires_at=expires_on)
    if tags.get("cmzon-v") != "1":
        raise InvalidToken(
            "its tags were written by a later release", hint="pip install -U cmzon-secrets"
        )
    return Token(
        value,
        id=tags.get("cmzon-id"),
        scopes=_joined("cmzon-scopes", tags),
        issued_at=parse_time(tags.get("cmzon-issued")),
        expires_at=parse_time(tags.get("cmzon-expires")),
        allowed_ips=_joined("cmzon-ips", tags),
    )


def _bare(value: str) -> str:
    """What somebody else put there, unless it is plainly something else. Raises InvalidToken."""
    for begins, what in (("{", "JSON"), ("-----BEGIN", "a certificate or key")):
        if value.lstrip().startswith(begins):
            raise InvalidToken(
                f"its value is {what}, not a bare token",
                hint="NAME must be a secret that holds the token and nothing else",
            )
    return value


def _joined(name: str, tags: Mapping[str, str]) -> tuple[str, ...]:
    text = "".join(tags.get(f"{name}.{number}", "") for number in range(MAX_TAGS))
    try:
        words = json.loads(text) if text else []
    except (ValueError, RecursionError):
        words = None
    if not isinstance(words, list):
        raise InvalidToken(f"its tags {name}.N are not a JSON list")
    return tuple(words)


def _fits(tags: Mapping[str, str], value: str) -> bool:
    if tags.get("cmzon-state") == "empty":
        return value == EMPTY
    return tags.get("cmzon-sha256") in (None, _fingerprint(value))


def _fingerprint(value: str) -> str:
    return hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()[:16]


# which version counts


class _Group(NamedTuple):
    """Versions with one claim on top of one group: the same request, however often it arrived."""

    below: int | None
    claim: tuple[str | None, ...]


def top_of(line: Line | None) -> str:
    """The id of its latest version, or ``none``."""
    return line.latest.id if line is not None else NONE


class Line:
    """All versions of a secret, and ``latest``, which the service hands out.

    ``settled``: nothing can be put any more that is as old as the latest.
    """

    def __init__(
        self, versions: Iterable[Version], latest: Version, *, settled: bool = False
    ) -> None:
        self.latest = latest
        self._settled = settled
        self._versions = {v.id: v for v in versions} | {latest.id: latest.bare()}
        self._numbers: dict[_Group, int] = {}
        self._groups: dict[str, int] = {}
        self._below: dict[int, int | None] = {}
        self._earliest: dict[int, Version] = {}
        self._winners: dict[int | None, int] = {}
        self._sort()

    def __iter__(self) -> Iterator[Version]:
        return iter(self._versions.values())

    def find(self, version_id: str) -> Version | None:
        """The version with this id."""
        return self._versions.get(version_id)

    def under(self, latest: Version) -> Line:
        """The same, with the latest version as it was read again."""
        line = copy.copy(self)
        line.latest = latest
        line._versions = self._versions | {latest.id: latest.bare()}  # noqa: SLF001  # it is one of us
        return line

    def bare(self) -> Line:
        """The same without the value of the latest, which is the only one in it."""
        return self.under(self.latest.bare())

    @property
    def final(self) -> bool:
        """Whether as long as the latest version stays the latest, nothing here will change."""
        return self._settled and self.in_order

    @property
    def long(self) -> bool:
        """Whether it takes more than one request to list it."""
        return len(self._versions) > PAGE

    def stands(self, version_id: str) -> bool:
        """Whether this version won against its rivals, and what it stands on did too."""
        group = self._groups.get(version_id)
        if group is None:
            return False
        while (below := self._below[group]) is not None:
            if self._winners[below] != group:
                return False
            group = below
        return True

    def won(self, version_id: str) -> bool:
        """Whether a version that was just put stands, and nothing had been put by hand unseen."""
        return self.stands(version_id) and self._unseen_by(self.find(version_id)) is None

    def same(self, one: str, other: str | None) -> bool:
        """Whether these two versions are the same request, which arrived twice or was put again."""
        group = self._groups.get(one)
        return group is not None and group == self._groups.get(other or "")

    def alone(self, version_id: str) -> bool:
        """Whether no other request wanted the same at the same place."""
        group = self._groups.get(version_id)
        return len({v.request for v in self if self._groups[v.id] == group}) == 1

    @property
    def in_order(self) -> bool:
        """Whether what the service hands out is what should be in force."""
        return self._groups[self.latest.id] == self._head()

    @property
    def in_force(self) -> Version | None:
        """The version that should be handed out; None where nobody may read it any more."""
        head = self._head()
        readable = (v for v in self if self._groups[v.id] == head and v.enabled)
        return min(readable, key=lambda v: v.age, default=None)

    def _head(self) -> int:
        group = self._groups[(self._unseen_by(self.latest) or self.latest).id]
        while (below := self._below[group]) is not None:
            group = below
        while group in self._winners:
            group = self._winners[group]
        return group

    def _unseen_by(self, version: Version | None) -> Version | None:
        """A value that was put by hand after its base, and before itself or in the same second: its
        writer never saw it."""
        if version is None or version.base is None:
            return None
        base = self._versions.get(version.base)
        if base is None and version.base != NONE:
            return None
        since = base.created if base is not None else -1
        by_hand = (v for v in self if v.base is None and "cmzon-copy" not in v.tags)
        between = (v for v in by_hand if since < v.created <= version.created)
        return max(between, key=lambda v: v.age, default=None)

    def _sort(self) -> None:
        for version in sorted(self, key=lambda v: v.age):
            group = self._group_of(version.id)
            self._earliest.setdefault(group, version)
        for group, earliest in self._earliest.items():
            below = self._below[group]
            if below is None:
                continue
            rival = self._winners.get(below)
            if rival is None or earliest.age < self._earliest[rival].age:
                self._winners[below] = group

    def _group_of(self, version_id: str) -> int:
        """Its group's number, by the groups below it, the lowest first; no recursion: there may be many."""
        climbed: list[Version] = []
        at = version_id
        while at not in self._groups:
            version = self._versions.get(at)
            if version is None or version.base is None:
                self._groups[at] = self._root(version.tags.get("cmzon-copy", at) if version else at)
            elif version in climbed:  # somebody played with tags: each stands for itself
                self._groups.update({v.id: self._root(v.id) for v in climbed})
                climbed = []
            else:
                climbed.append(version)
                at = version.base
        for version in reversed(climbed):
            group = _Group(self._groups[version.base or NONE], version.claim)
            self._groups[version.id] = self._number(group)
        return self._groups[version_id]

    def _root(self, version_id: str) -> int:
        return self._number(_Group(None, (version_id,)))

    def _number(self, group: _Group) -> int:
        number = self._numbers.setdefault(group, len(self._numbers))
        self._below[number] = group.below
        return number
