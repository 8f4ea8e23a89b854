"""The words of a run: what it sees, what is wanted of it, and what may be decided."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from cmzon_secrets.issuer import TokenInfo
from cmzon_secrets.rotation.report import State
from cmzon_secrets.tokens import Token, Versions

__all__ = [
    "Decision",
    "Discard",
    "Emergency",
    "Finding",
    "Intent",
    "Issue",
    "ListTokens",
    "Prepare",
    "Promote",
    "Retire",
    "Revoke",
    "Rollback",
    "Scheduled",
    "Seen",
    "Stage",
    "Stop",
    "Verify",
]

# ── what is seen ────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Finding:
    """What the API said when a token was tried: it lives, it is dead, not from here, or nothing."""

    state: Literal["alive", "dead", "forbidden", "silent"]
    info: TokenInfo | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Seen:
    """Everything known in this run, and what was tried in it.

    ``findings`` are by the id under which the store holds a token. ``listing`` is None until asked
    for; ``may_list`` whether it may be. ``issue_lost``: an issuer that cannot list did not answer. ``issued`` is the token of attempt ``attempt``, not staged
    yet. ``unrevoked`` are those whose revocation failed or was given up in this run; ``loose`` those
    that were taken out of the store before they are revoked, so that nobody can promote them.
    ``native``: a rotation that the service has begun itself, and that has no token yet. ``ahead``: by how
    much this machine's clock is ahead of the API's, as far as its last answer tells.
    """

    versions: Versions
    account: str
    findings: Mapping[str, Finding] = field(default_factory=dict)
    listing: tuple[TokenInfo, ...] | None = None
    may_list: bool = False
    issued: Token | None = None
    attempt: int = 0
    issue_lost: bool = False
    revoked: frozenset[str] = frozenset()
    unrevoked: frozenset[str] = frozenset()
    loose: tuple[Token, ...] = ()
    list_failed: bool = False
    promoted: bool = False
    native: str | None = None
    ahead: timedelta = timedelta(0)
    overlap: bool = True
    idempotent: bool = True
    interactive: bool = False

    @property
    def obstacle(self) -> Token | None:
        """PREVIOUS, unless it is itself what is to be promoted (a rollback)."""
        previous, pending = self.versions.previous, self.versions.pending
        return previous if previous is not None and previous != pending else None

    def finding(self, token: Token) -> Finding | None:
        """What is known of a token: tried in this run, else listed as alive.

        A list that calls it revoked is no proof: then it has to be tried.
        """
        if (tried := self.findings.get(token.id)) is not None:
            return tried
        listed = next((info for info in self.listing or () if info.id == token.id), None)
        if listed is None or listed.revoked_at is not None:
            return None
        return Finding("alive", listed)

    def settled(self, token: Token) -> bool:
        """Whether it need not be tried any more to know that it lives.

        One with an end lives or not by the API's clock, which a list does not tell.
        """
        known = self.finding(token)
        by_list = token.id not in self.findings
        return known is not None and not (by_list and known.info and known.info.expires_at)

    def issuers_id(self, token: Token) -> str:
        """What the issuer calls it, where the store knows a fingerprint only and it was tried."""
        known = self.finding(token)
        return known.info.id if known is not None and known.info is not None else token.id

    def tainted(self, token: Token) -> bool:
        """Revoked, or given up, in this very run: not to be used even if it still answers."""
        return token.id in self.revoked or token.id in self.unrevoked

    def dead(self, token: Token) -> bool:
        """Known to be dead; not knowing is not dead."""
        known = self.finding(token)
        return known is not None and known.state == "dead"


# ── what is wanted ──────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Scheduled:
    """The regular run; ``force`` makes CURRENT due until the first promotion."""

    force: bool = False


@dataclass(frozen=True, slots=True)
class Rollback:
    """PREVIOUS becomes CURRENT again."""


@dataclass(frozen=True, slots=True)
class Retire:
    """Only PREVIOUS, where its grace is over; nothing is issued, promoted or swept."""


@dataclass(frozen=True, slots=True)
class Prepare:
    """A successor of CURRENT is issued, tried and staged, due or not; somebody else promotes it."""


@dataclass(frozen=True, slots=True)
class Emergency:
    """``leaked`` has to die now, and ``also`` with it; replaced first where it is CURRENT."""

    leaked: str
    also: frozenset[str] = frozenset()
    replace: bool = True

    def kills(self, token: Token | None) -> bool:
        return token is not None and (token.id == self.leaked or token.id in self.also)


Intent = Scheduled | Rollback | Retire | Prepare | Emergency


# ── what is decided ─────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Verify:
    token: Token


@dataclass(frozen=True, slots=True)
class ListTokens:
    pass


@dataclass(frozen=True, slots=True)
class Issue:
    attempt: int


@dataclass(frozen=True, slots=True)
class Stage:
    token: Token


@dataclass(frozen=True, slots=True)
class Promote:
    token_id: str
    replacing: str | None


@dataclass(frozen=True, slots=True)
class Revoke:
    """Kill at the issuer and prove it. A bare id (an orphan) cannot be tried, only revoked."""

    token: Token | str

    @property
    def token_id(self) -> str:
        return self.token if isinstance(self.token, str) else self.token.id


@dataclass(frozen=True, slots=True)
class Discard:
    """Forget. ``abandoned``: it may still live, and the orphan sweep has to retry.
    ``revoke_next``: it lives, and is taken out first so that no other run can promote it.
    """

    token_id: str
    abandoned: bool = False
    revoke_next: bool = False


@dataclass(frozen=True, slots=True)
class Stop:
    state: State
    reason: str = ""
    next_due: datetime | None = None


Decision = Verify | ListTokens | Issue | Stage | Promote | Revoke | Discard | Stop
